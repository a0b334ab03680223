"""Durations as people write them on a command line."""

import re

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
