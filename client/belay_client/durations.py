"""Durations as people write them on a command line."""

import re
from datetime import timedelta

from belay_client.errors import UsageError

_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_FORM = re.compile(r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?")


def seconds_of(text: str) -> int:
    """Whole seconds of e.g. `90s`, `10m` or `1h30m`. Raises UsageError for anything else, and for nothing."""
    match = _FORM.fullmatch(text)
    total = sum(int(n or 0) * size for n, size in zip(match.groups(), _SECONDS.values(), strict=True)) if match else 0
    if total == 0:
        raise UsageError(f"{text!r} is not a duration: write it like 90s, 10m or 1h30m")
    return total


def age(elapsed: timedelta) -> str:
    """A time gone by as people read it, two parts at most: `12s`, `4m12s`, `3h5m`, `2d1h`; never below `0s`."""
    left, parts = max(0, int(elapsed.total_seconds())), list[str]()
    for unit, size in _SECONDS.items():
        count, left = divmod(left, size)
        if parts or count:
            parts.append(f"{count}{unit}" if count else "")
    return "".join(parts[:2]) or "0s"
