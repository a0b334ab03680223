"""What must be so after each run, whatever went wrong in it (RELIABILITY.md): every version of every delegation of a
namespace is recorded by a watch while the run goes on, and judged at its end.
"""

import asyncio
import copy
from collections import defaultdict
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import dropwhile, pairwise
from pathlib import Path

from belay_api.meta import GROUP
from belay_api.names import subscription_name
from belay_api.reasons import Reason
from belay_api.times import from_wire
from belay_api.transitions import HELD, TERMINAL, Phase, phase_of
from belay_kube.client import AGENTS, DELEGATIONS, LEASES, SESSIONS, SUBSCRIPTIONS, Json, Kube
from belay_kube.client import Collection as Kinds
from belay_kube.clock import Clock, SystemClock
from belay_kube.reader import Reader
from faults.audit import asked, restless

OPERATOR_NAMESPACE = "belay"
_FINAL = ("phase", "reason", "result", "completionTime")
_LOST = frozenset({Reason.AGENT_OFFLINE, Reason.AGENT_LOST})
_SECOND = timedelta(seconds=1)
"""creationTimestamp is told in whole seconds."""
_HAPPENINGS = ("phase", "attempt", "sessionId", "gateway", "progress", "lastHeartbeatTime")


@dataclass(frozen=True)
class Excused:
    """What a run did on purpose, by the names of delegations."""

    lost: Collection[str] = ()
    """Their agent really was lost, or gave an attempt up."""
    late: Collection[str] = ()
    """Nothing could be written of them while they were due."""


NOTHING = Excused()


class History:
    """Every version of every object, in order, by uid; the sink of a reader. It begins `at` a time."""

    def __init__(self, at: datetime) -> None:
        self.versions: defaultdict[str, list[Json]] = defaultdict(list)
        self._began = at

    def seconds(self, clock: Clock) -> float:
        """How long it has been going on."""
        return (clock.now() - self._began).total_seconds()

    def changed(self, obj: Json) -> None:
        """One more version."""
        self.versions[obj["metadata"]["uid"]].append(copy.deepcopy(obj))

    def deleted(self, obj: Json) -> None:
        """Its last version stays."""

    def synced(self) -> None:
        """Nothing waits for it."""

    def lost(self) -> None:
        """The reader lists again, and goes on."""

    def caught_up(self, there: list[Json]) -> bool:
        """Whether the last version of each of these has been recorded."""
        return all(obj["metadata"]["resourceVersion"] == self._last_version(obj["metadata"]["uid"]) for obj in there)

    def _last_version(self, uid: str) -> str | None:
        versions = self.versions[uid]
        return versions[-1]["metadata"]["resourceVersion"] if versions else None


@asynccontextmanager
async def recorded(kube: Kube, namespace: str, of: Kinds = DELEGATIONS) -> AsyncIterator[History]:
    """Record from here on what becomes of the namespace's delegations, or of other objects in it."""
    history = History(SystemClock().now())
    reader = Reader(kube, of, history, SystemClock(), namespace=namespace)
    running = asyncio.create_task(reader.run())
    try:
        await reader.has_synced.wait()
        yield history
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def broken(
    kube: Kube, namespace: str, history: History, audit: Path, clock: Clock, excused: Excused = NOTHING
) -> list[str]:
    """What is not as it must be, in sentences; `clock` is the run's, `audit` the log of its API server.

    Raises KubeError.
    """
    there = (await kube.list(DELEGATIONS, namespace))["items"]
    if not history.caught_up(there):
        return ["the recording is behind"]
    runs = list(history.versions.values())
    found = [*judged(runs, clock.now(), excused), *_visible(there), *await _orphans(kube, namespace, there)]
    # The log is long: it is read once all else is well.
    return found or restless(await asyncio.to_thread(asked, audit, namespace), happened(runs), history.seconds(clock))


def judged(runs: list[list[Json]], now: datetime, excused: Excused = NOTHING) -> list[str]:
    """What is wrong with what became of each delegation, in sentences. Pure."""
    alone = [sentence for run in runs for check in (_one_holder, _absorbing) for sentence in check(run)]
    blind = [sentence for run in runs for sentence in _blind(run, excused.lost)]
    return [*alone, *blind, *(sentence for run in runs for sentence in _overdue(run, now, excused.late))]


def happened(runs: list[list[Json]]) -> dict[str, int]:
    """How often something happened to each delegation that is worth a write. Pure."""
    counts: defaultdict[str, int] = defaultdict(int)
    for run in runs:
        states = [(obj["metadata"].get("generation"), *(_status(obj).get(name) for name in _HAPPENINGS)) for obj in run]
        counts[_name(run)] += 1 + sum(old != new for old, new in pairwise(states))
    return counts


def _name(run: list[Json]) -> str:
    return str(run[-1]["metadata"]["name"])


def _status(obj: Json) -> Json:
    return obj.get("status") or {}


def _one_holder(run: list[Json]) -> list[str]:
    """I1: at most one session holds an attempt."""
    holders: defaultdict[int, set[str]] = defaultdict(set)
    for status in map(_status, run):
        if status.get("sessionId"):
            holders[status.get("attempt", 0)].add(status["sessionId"])
    return [f"I1: {_name(run)}, attempt {n}, was held by {who}" for n, who in holders.items() if len(who) > 1]


def _absorbing(run: list[Json]) -> list[str]:
    """I2: a terminal phase never changes, nor what was said with it."""
    ended = list(dropwhile(lambda status: phase_of(status.get("phase")) not in TERMINAL, map(_status, run)))
    changed = [s for s in ended if any(s.get(field) != ended[0].get(field) for field in _FINAL)]
    return [f"I2: {_name(run)} ended as {ended[0].get('phase')} and was changed"] if changed else []


def _overdue(run: list[Json], now: datetime, late: Collection[str]) -> list[str]:
    """I4: nothing that has not ended is older than twice its deadline, nor was when it ended."""
    last = run[-1]
    status, created = _status(last), from_wire(last["metadata"].get("creationTimestamp"))
    due = from_wire(status.get("deadline") or last["spec"].get("deadline"))
    if created is None or due is None or last["metadata"]["name"] in late:
        return []
    ended = from_wire(status.get("completionTime")) if phase_of(status.get("phase")) in TERMINAL else None
    age, most = (ended or now) - created, 2 * (due - created) + _SECOND
    return [f"I4: {_name(run)} is {status.get('phase')} at {age}, due within {due - created}"] if age > most else []


def _blind(run: list[Json], lost: Collection[str]) -> list[str]:
    """I7: nothing is ended or requeued for its agent's loss that was not lost."""
    # Work that waits says AgentOffline too; that takes nothing from anybody.
    ended = [s for s in map(_status, run) if phase_of(s.get("phase")) in TERMINAL]
    blamed = {s.get("reason") for s in ended if s.get("reason") in _LOST}
    again = max((_status(obj).get("attempt", 1) for obj in run), default=1) > 1
    if (blamed or again) and _name(run) not in lost:
        return [f"I7: {_name(run)} was taken from an agent that was there: {blamed or 'a new attempt'}"]
    return []


def _visible(there: list[Json]) -> list[str]:
    """I3: every delegation is through, or says why it waits."""
    phases = {obj["metadata"]["name"]: (_status(obj).get("phase"), _status(obj).get("reason")) for obj in there}
    return [
        f"I3: {name} has neither phase nor reason" for name, (phase, reason) in phases.items() if not (phase and reason)
    ]


async def _orphans(kube: Kube, namespace: str, there: list[Json]) -> list[str]:
    """I5: work is held by sessions that are live, rows by gateways that are; nothing of ours blocks a deletion."""
    rows = (await kube.list(SUBSCRIPTIONS, namespace))["items"]
    agents = (await kube.list(AGENTS, namespace))["items"]
    models = (await kube.list(SESSIONS, namespace))["items"]
    leases = (await kube.list(LEASES, OPERATOR_NAMESPACE))["items"]
    up = {lease["metadata"]["name"] for lease in leases if (lease.get("spec") or {}).get("holderIdentity")}
    live = {row["metadata"]["name"] for row in rows if _status(row).get("phase") == "Live"}
    live |= {subscription_name(obj["spec"]["agentRef"]["name"], obj["metadata"]["name"]) for obj in models}
    held = [obj for obj in there if phase_of(_status(obj).get("phase")) in HELD - {Phase.DISPATCHED}]
    return [
        *(f"I5: {obj['metadata']['name']} is held by nobody" for obj in held if _row_of(obj) not in live),
        *(f"I5: row {r['metadata']['name']} is Live at a gateway that is not" for r in rows if _strayed(r, up)),
        *(f"I5: {o['metadata']['name']} can't be deleted" for o in (*there, *rows, *agents, *models) if _blocked(o)),
    ]


def _row_of(obj: Json) -> str:
    return subscription_name(obj["spec"]["agentRef"]["name"], _status(obj).get("sessionId") or "")


def _strayed(row: Json, up: set[str]) -> bool:
    status = _status(row)
    return status.get("phase") == "Live" and status.get("holderIdentity") not in up


def _blocked(obj: Json) -> bool:
    return any(GROUP in finalizer for finalizer in obj["metadata"].get("finalizers") or [])
