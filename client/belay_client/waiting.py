"""What `belay why` reads of the cluster, and what it makes of it: where a delegation stands and what it waits for."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from belay_api.agentsubscription import SubscriptionPhase
from belay_api.queueing import DEFAULT_BACKOFF_SECONDS, QueueKey, backs_off_until, queue_key
from belay_api.retrying import Tries, is_handed_back
from belay_api.times import from_wire
from belay_api.timing import Times
from belay_api.transitions import ACTIVE, HELD, TERMINAL, Phase, phase_of
from belay_client.follow import phase
from belay_kube.client import AGENTS, DELEGATIONS, SUBSCRIPTIONS, Json, Kube, pages
from belay_kube.errors import Forbidden, NotFound


@dataclass(frozen=True)
class Facts:
    """What was read, in wire form."""

    obj: Json
    agent: Json | None = None
    """None: it doesn't exist."""
    others: Sequence[Json] = ()
    """The agent's unfinished delegations, this one included."""
    rows: Sequence[Json] = ()
    """The agent's sessions."""
    hidden: Sequence[str] = ()
    """What the caller may not look at."""


@dataclass(frozen=True)
class Place:
    """Where it stands in its agent's queue, the head being 1."""

    position: int
    of: int


async def gather(kube: Kube, namespace: str, name: str) -> Facts:
    """Read one delegation and what it depends on; what may not be read is named. Raises KubeError."""
    obj = await kube.get(DELEGATIONS, namespace, name)
    if phase(obj) in TERMINAL:
        return Facts(obj, rows=await _optional_rows(kube, obj))
    agent_name = obj["spec"]["agentRef"]["name"]
    hidden, agent, rows = [], None, list[Json]()
    try:
        agent = await kube.get(AGENTS, namespace, agent_name)
    except NotFound:
        agent = None
    except Forbidden:
        hidden.append("agents")
    try:
        rows = await _rows(kube, obj)
    except Forbidden:
        hidden.append("agentsubscriptions")
    return Facts(obj, agent, await _unfinished(kube, namespace, agent_name), rows, hidden)


async def _unfinished(kube: Kube, namespace: str, agent: str) -> list[Json]:
    finished = ",".join(f"status.phase!={end}" for end in sorted(TERMINAL))
    selector = f"spec.agentRef.name={agent},{finished}"
    return [obj async for page in pages(kube, DELEGATIONS, namespace, fieldSelector=selector) for obj in page["items"]]


async def _optional_rows(kube: Kube, obj: Json) -> list[Json]:
    try:
        return await _rows(kube, obj)
    except Forbidden:
        return []


async def _rows(kube: Kube, obj: Json) -> list[Json]:
    selector = f"spec.agentRef.name={obj['spec']['agentRef']['name']}"
    namespace = obj["metadata"]["namespace"]
    return [
        row async for page in pages(kube, SUBSCRIPTIONS, namespace, fieldSelector=selector) for row in page["items"]
    ]


# --- what follows from it ---


def place(facts: Facts, now: datetime) -> Place | None:
    """Its place among all that wait, by the operator's own order (D4); None when it isn't in the queue."""
    if phase(facts.obj) != Phase.QUEUED:
        return None
    queue = sorted((o for o in facts.others if _is_queued(o)), key=lambda o: _key(o, now))
    uids = [o["metadata"]["uid"] for o in queue]
    uid = facts.obj["metadata"]["uid"]
    return Place(uids.index(uid) + 1, len(uids)) if uid in uids else None


def _is_queued(obj: Json) -> bool:
    """What the operator counts: neither what is to be cancelled, nor what was handed back and is about to leave."""
    wanted = obj["spec"].get("desiredState") != "Cancelled"
    return phase(obj) == Phase.QUEUED and wanted and not is_handed_back(obj.get("status") or {})


def _key(obj: Json, now: datetime) -> QueueKey:
    meta, status = obj["metadata"], obj.get("status") or {}
    return queue_key(
        priority=obj["spec"].get("priority") or 0,
        queued=from_wire(status.get("queuedTime")),
        created=from_wire(meta["creationTimestamp"]) or now,
        name=meta["name"],
        now=now,
    )


def holding(facts: Facts) -> list[Json]:
    """What holds the agent's slots, the oldest first."""
    held = [obj for obj in facts.others if phase(obj) in ACTIVE]
    return sorted(held, key=lambda o: (o["status"].get("dispatchedTime") or "", o["metadata"]["name"]))


def slots(facts: Facts) -> int | None:
    """How many the agent has; None when it isn't there, or may not be looked at."""
    return None if facts.agent is None else facts.agent["spec"].get("maxActiveDelegations", 1)


def unanswered(facts: Facts) -> list[Json]:
    """Stuck work: its sessions are offered nothing more."""
    return [obj for obj in facts.others if phase(obj) == Phase.STUCK]


def live(facts: Facts) -> list[Json]:
    """The agent's sessions that are attached."""
    return [row for row in facts.rows if (row.get("status") or {}).get("phase") == SubscriptionPhase.LIVE]


def next_offer(obj: Json) -> datetime | None:
    """Until when it backs off after an attempt that came to nothing; None: it doesn't."""
    status, spec = obj.get("status") or {}, obj["spec"]
    if is_handed_back(status):
        return None
    return backs_off_until(
        phase=phase_of(status.get("phase")),
        reason=status.get("reason"),
        queued=from_wire(status.get("queuedTime")),
        uid=obj["metadata"]["uid"],
        tries=Tries.read(spec, status),
        base=(spec.get("retry") or {}).get("backoffSeconds", DEFAULT_BACKOFF_SECONDS),
    )


def since(obj: Json) -> datetime | None:
    """Since when it is in its phase, as far as its status says."""
    status, created = obj.get("status") or {}, obj["metadata"]["creationTimestamp"]
    at = phase_of(phase(obj))
    if at in TERMINAL:
        text = status.get("completionTime")
    elif at in HELD:
        text = status.get(_BEGAN[at]) or status.get("dispatchedTime")
    else:
        text = status.get("queuedTime") or created
    return from_wire(text)


_BEGAN = {
    Phase.DISPATCHED: "dispatchedTime",
    Phase.IN_PROGRESS: "acceptedTime",
    Phase.STUCK: "lastHeartbeatTime",
}


def deadline(facts: Facts) -> datetime | None:
    """The deadline in force; None when only the operator knows it."""
    obj = facts.obj
    given = from_wire((obj.get("status") or {}).get("deadline") or obj["spec"].get("deadline"))
    if given is not None:
        return given
    timing = ((facts.agent or {}).get("status") or {}).get("timing") or {}
    seconds = obj["spec"].get("deadlineSeconds") or timing.get("deadlineSeconds") or Times().deadline
    created = from_wire(obj["metadata"]["creationTimestamp"])
    return created + timedelta(seconds=seconds) if created else None
