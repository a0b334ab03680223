"""What must be so after each run, whatever went wrong in it (RELIABILITY.md): every version of every delegation of a
namespace is recorded by a watch while the run goes on, and judged at its end.

I4 and I6 are about time and about nothing happening: they have tests of their own.
"""

import asyncio
import copy
from collections import defaultdict
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress

from belay_api.meta import GROUP
from belay_api.names import subscription_name
from belay_api.reasons import Reason
from belay_api.transitions import HELD, TERMINAL, Phase, phase_of
from belay_kube.client import AGENTS, DELEGATIONS, LEASES, SUBSCRIPTIONS, Json, Kube
from belay_kube.clock import SystemClock
from belay_kube.reader import Reader

OPERATOR_NAMESPACE = "belay"
_FINAL = ("phase", "reason", "result", "completionTime")
_LOST = frozenset({Reason.AGENT_OFFLINE, Reason.AGENT_LOST})


class History:
    """Every version of every delegation, in order, by uid; the sink of a reader."""

    def __init__(self) -> None:
        self.versions: defaultdict[str, list[Json]] = defaultdict(list)

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
async def recorded(kube: Kube, namespace: str) -> AsyncIterator[History]:
    """Record from here on what becomes of the namespace's delegations."""
    history = History()
    reader = Reader(kube, DELEGATIONS, history, SystemClock(), namespace=namespace)
    running = asyncio.create_task(reader.run())
    try:
        await reader.has_synced.wait()
        yield history
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def broken(kube: Kube, namespace: str, history: History, lost: Collection[str] = ()) -> list[str]:
    """What is not as it must be, in sentences; `lost` names the delegations whose agent really was lost.

    Raises KubeError.
    """
    there = (await kube.list(DELEGATIONS, namespace))["items"]
    if not history.caught_up(there):
        return ["the recording is behind"]
    runs = list(history.versions.values())
    return [
        *(sentence for run in runs for check in (_one_holder, _absorbing) for sentence in check(run)),
        *(sentence for run in runs for sentence in _blind(run, lost)),
        *_visible(there),
        *await _orphans(kube, namespace, there),
    ]


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
    ended = [status for status in map(_status, run) if phase_of(status.get("phase")) in TERMINAL]
    changed = [s for s in ended if any(s.get(field) != ended[0].get(field) for field in _FINAL)]
    return [f"I2: {_name(run)} ended as {ended[0].get('phase')} and was changed"] if changed else []


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
    leases = (await kube.list(LEASES, OPERATOR_NAMESPACE))["items"]
    up = {lease["metadata"]["name"] for lease in leases if (lease.get("spec") or {}).get("holderIdentity")}
    live = {row["metadata"]["name"] for row in rows if _status(row).get("phase") == "Live"}
    held = [obj for obj in there if phase_of(_status(obj).get("phase")) in HELD - {Phase.DISPATCHED}]
    return [
        *(f"I5: {obj['metadata']['name']} is held by nobody" for obj in held if _row_of(obj) not in live),
        *(f"I5: row {r['metadata']['name']} is Live at a gateway that is not" for r in rows if _strayed(r, up)),
        *(f"I5: {o['metadata']['name']} can't be deleted" for o in (*there, *rows, *agents) if _blocked(o)),
    ]


def _row_of(obj: Json) -> str:
    return subscription_name(obj["spec"]["agentRef"]["name"], _status(obj).get("sessionId") or "")


def _strayed(row: Json, up: set[str]) -> bool:
    status = _status(row)
    return status.get("phase") == "Live" and status.get("holderIdentity") not in up


def _blocked(obj: Json) -> bool:
    return any(GROUP in finalizer for finalizer in obj["metadata"].get("finalizers") or [])
