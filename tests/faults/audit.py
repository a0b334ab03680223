"""What Belay's own accounts asked the API server to write in one namespace, from its audit log, and I6: that is bounded
when nothing happens (RELIABILITY.md)."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from belay_api.meta import GROUP
from belay_kube.client import DELEGATIONS, Json
from installation import GATEWAY, OPERATOR

_WRITES = frozenset({"create", "update", "patch", "delete"})
MOST_FOR_NOTHING = 10
"""So often an object may be written, and its writes be refused twice as often, before anything is asked of why."""
MOST_FOR_EACH = 4
"""Writes for each thing that happened to a delegation, and refusals for each write."""

_Object = tuple[str, str]
"""Plural and name."""


@dataclass(frozen=True)
class Asked:
    """One write that was asked for, and whether it was done."""

    plural: str
    name: str
    done: bool


def asked(log: Path, namespace: str) -> list[Asked]:
    """Every write of the operator and the gateways to objects of ours in a namespace, whatever the answer was."""
    lines = (line for path in sorted(log.parent.glob(f"{log.stem}*{log.suffix}")) for line in _lines(path, namespace))
    return [read for line in lines if (read := _read(json.loads(line), namespace))]


def _lines(path: Path, namespace: str) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from (line for line in file if namespace.encode() in line)


def _read(entry: Json, namespace: str) -> Asked | None:
    about = entry.get("objectRef") or {}
    ours = (about.get("apiGroup"), about.get("namespace")) == (GROUP, namespace)
    # A dry run writes nothing: it is how a test asks whether a policy is in force, as often as that takes.
    mine = entry["user"]["username"] in (OPERATOR, GATEWAY) and "dryRun=" not in entry.get("requestURI", "")
    if not (ours and mine and entry["stage"] == "ResponseComplete" and entry["verb"] in _WRITES):
        return None
    return Asked(about["resource"], about.get("name", ""), entry["responseStatus"]["code"] < 300)


def restless(writes: Iterable[Asked], happened: Mapping[str, int], seconds: float) -> list[str]:
    """I6, in sentences; `happened`: to each delegation, so often, in a run of so many `seconds`.

    Rows are renewed and agents told anew by time, at most once a second each; a delegation only when something happens
    to it.
    """
    done: Counter[_Object] = Counter()
    refused: defaultdict[_Object, int] = defaultdict(int)
    for write in writes:
        (done if write.done else refused)[write.plural, write.name] += 1
    most = {key: MOST_FOR_NOTHING + _allowed(key, happened, seconds) for key in done}
    tries = {key: 2 * MOST_FOR_NOTHING + MOST_FOR_EACH * done[key] for key in refused}
    return [
        *(
            f"I6: {_of(key)} was written {n} times, {most[key]:.0f} would do"
            for key, n in done.items()
            if n > most[key]
        ),
        *(f"I6: {n} writes to {_of(key)} were refused" for key, n in refused.items() if n > tries[key]),
    ]


def _allowed(key: _Object, happened: Mapping[str, int], seconds: float) -> float:
    plural, name = key
    return MOST_FOR_EACH * happened.get(name, 0) if plural == DELEGATIONS.plural else seconds


def _of(key: _Object) -> str:
    return " ".join(key)
