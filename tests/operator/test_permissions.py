"""What becomes of a permission request: the decision as a table, and the operator on a real API server."""

from dataclasses import replace
from typing import Any

import pytest

from belay_api.meta import API_VERSION
from belay_api.names import Ref
from belay_api.permissionrequest import Behavior, PermissionPhase
from belay_kube.client import AGENTS, DELEGATIONS, PERMISSION_REQUESTS, Collection, Json
from belay_kube.errors import NotFound
from belay_operator.decisions.permissions import (
    DEFAULT_EXPIRY_SECONDS,
    DEFAULT_KEEP_SECONDS,
    Keep,
    Remove,
    Settle,
    fate,
)
from belay_operator.observe.permissions import PermissionIndex, PermissionRecord
from waiting import eventually

from .builders import NAMESPACE, at, delegation
from .faulty import Faulty
from .played import PlayedGateway
from .world import World

NEW = PermissionRecord(
    ref=Ref(NAMESPACE, "p"),
    uid="uid-p",
    version="1",
    generation=1,
    created=at(0),
    expires_after=None,
    delegation=None,
    behavior=None,
    phase=None,
    completed=None,
)
OPEN = replace(NEW, phase=PermissionPhase.PENDING)
FOR_WORK = replace(OPEN, delegation=Ref(NAMESPACE, "d"))
BRIEF = replace(OPEN, expires_after=60)
SETTLED = replace(OPEN, phase=PermissionPhase.EXPIRED, completed=at(50))
KEEP = 100

FATES: dict[str, tuple[PermissionRecord, bool, float, tuple[object, ...]]] = {
    "new": (NEW, False, 0, ("Pending", "AwaitingDecision")),
    "new and decided": (replace(NEW, behavior=Behavior.ALLOW), False, 0, ("Allowed", "Decided")),
    "allowed": (replace(OPEN, behavior=Behavior.ALLOW), False, 1, ("Allowed", "Decided")),
    "denied": (replace(OPEN, behavior=Behavior.DENY), False, 1, ("Denied", "Decided")),
    "waits a month": (OPEN, False, 1, ("keep", DEFAULT_EXPIRY_SECONDS)),
    "a month is over": (OPEN, False, DEFAULT_EXPIRY_SECONDS, ("Expired", "NotDecided")),
    "waits as long as it says": (BRIEF, False, 59, ("keep", 60)),
    "its time is over": (BRIEF, False, 60, ("Expired", "NotDecided")),
    "decided, its time is over": (replace(BRIEF, behavior=Behavior.DENY), False, 61, ("Denied", "Decided")),
    "its work goes on": (FOR_WORK, False, 1, ("keep", DEFAULT_EXPIRY_SECONDS)),
    "its work has ended": (FOR_WORK, True, 1, ("Expired", "DelegationEnded")),
    "decided, its work has ended": (replace(FOR_WORK, behavior=Behavior.ALLOW), True, 1, ("Allowed", "Decided")),
    "settled": (SETTLED, False, 149, ("keep", 150)),
    "asked again since": (replace(SETTLED, asked_again=at(80)), False, 150, ("keep", 180)),
    "settled long ago": (SETTLED, False, 150, ("remove",)),
}


@pytest.mark.parametrize(("record", "ended", "now", "expected"), FATES.values(), ids=FATES)
def test_fate(record: PermissionRecord, ended: bool, now: float, expected: tuple[object, ...]) -> None:
    """A decision counts first, then the end of the work, then time; what is settled is kept for a while."""
    match fate(record, work_ended=ended, keep=KEEP, now=at(now)):
        case Settle(phase, reason, _):
            assert (str(phase), str(reason)) == expected
        case Keep(until):
            assert ("keep", (until - at(0)).total_seconds()) == expected
        case Remove():
            assert expected == ("remove",)


def test_messages_say_what_to_do_or_what_was() -> None:
    """Whoever finds a request reads how to decide it, or why nobody can."""
    said = [fate(r, work_ended=e, keep=KEEP, now=at(n)) for r, e, n in ((NEW, False, 0), (FOR_WORK, True, 0))]
    assert [one.message for one in said if isinstance(one, Settle)] == [
        f"to decide: belay approve|deny p -n {NAMESPACE}",
        "delegation d, for which it was asked, has ended",
    ]


def test_an_old_view_does_not_come_back() -> None:
    """Word that comes late changes nothing, whether the request is known or gone."""
    index = PermissionIndex()
    new = replace(FOR_WORK, version="5")
    assert index.put(new)
    assert not index.put(replace(new, version="4", phase=None))
    assert (index.held[new.ref].phase, index.of_delegation(Ref(NAMESPACE, "d"))) == (new.phase, [new.ref])
    index.drop(new.ref, "4")
    assert new.ref in index.held
    index.drop(new.ref, "6")
    assert not index.put(new)
    assert (index.held, index.of_delegation(Ref(NAMESPACE, "d"))) == ({}, [])


# --- on a real API server ------------------------------------------------------------------------------------------


class Requests:
    """The gateway's and the people's part."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def ask(self, name: str, **spec: Any) -> None:
        """Make a request of agent `a`, session `s`."""
        asked = {"agentRef": {"name": "a"}, "sessionId": "s", "requestId": name, "tool": "Bash", **spec}
        body = {"apiVersion": API_VERSION, "kind": "PermissionRequest", "metadata": {"name": name}, "spec": asked}
        await self.world.gateway_kube.create(PERMISSION_REQUESTS, self.world.namespace, body)

    async def decide(self, name: str, behavior: str) -> None:
        """Decide, as the administrator."""
        change = {"spec": {"decision": {"behavior": behavior, "decidedBy": "belay-admin"}}}
        await self.world.admin.patch(PERMISSION_REQUESTS, self.world.namespace, name, change)

    async def told(self, name: str) -> str | None:
        """Phase and reason once the operator has taken all in; None when there is no such request."""
        await eventually(self._in_step)
        try:
            found = await self.world.admin.get(PERMISSION_REQUESTS, self.world.namespace, name)
        except NotFound:
            return None
        status = found.get("status") or {}
        return f"{status.get('phase')} {status.get('reason')}"

    async def _in_step(self) -> bool:
        """Whether the operator knows what the API server knows, and has nothing left to do."""
        await self.world.settled()
        seen = self.world.operator.seen
        there = {
            (o["metadata"]["name"], o["metadata"]["resourceVersion"])
            for o in (await self.world.admin.list(PERMISSION_REQUESTS, self.world.namespace))["items"]
        }
        mine = [r for r in seen.permissions.held.values() if r.ref.namespace == self.world.namespace]
        return there == {(r.ref.name, r.version) for r in mine} and len(seen.queue) == 0

    async def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        await eventually(self._in_step)
        await self.world.pass_time(seconds)


@pytest.fixture
def requests(world: World) -> Requests:
    """Requests in a world whose operator runs."""
    return Requests(world)


@pytest.mark.parametrize(("behavior", "phase"), [("Allow", "Allowed"), ("Deny", "Denied")])
async def test_the_status_follows_the_decision(requests: Requests, behavior: str, phase: str) -> None:
    """Pending while nobody has decided, then as was decided; with the time and the generation it was seen at."""
    await requests.ask("p")
    assert await requests.told("p") == "Pending AwaitingDecision"
    await requests.decide("p", behavior)
    assert await requests.told("p") == f"{phase} Decided"
    found = await requests.world.admin.get(PERMISSION_REQUESTS, requests.world.namespace, "p")
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"] == 2
    assert found["status"]["completionTime"]


async def test_a_request_expires_in_its_time(requests: Requests) -> None:
    """One second before it may be decided, at its time it expires; one that was decided doesn't."""
    for name in ("expires", "decided"):
        await requests.ask(name, expiresAfterSeconds=120)
    await requests.decide("decided", "Allow")
    # Creation is told by the API server in whole seconds of its own clock, on which the test's began.
    await requests.pass_time(110)
    assert await requests.told("expires") == "Pending AwaitingDecision"
    await requests.pass_time(20)
    assert await requests.told("expires") == "Expired NotDecided"
    assert await requests.told("decided") == "Allowed Decided"


async def test_a_request_expires_with_its_work(requests: Requests, gateway: PlayedGateway) -> None:
    """While the delegation goes on it waits; when it ends, however, the request expires."""
    world = requests.world
    await world.agent(maxActiveDelegations=3)
    session = await gateway.attach("a", "s")
    for name in ("cancelled", "deleted"):
        await world.create(delegation(name))
        await world.settled()
        await session.accept(name)
        await requests.ask(f"for-{name}", delegationRef={"name": name})
        assert await requests.told(f"for-{name}") == "Pending AwaitingDecision"
    await requests.ask("for-none", delegationRef={"name": "none"})
    await world.cancel("cancelled")
    await world.admin.delete(DELEGATIONS, world.namespace, "deleted")
    for name in ("cancelled", "deleted", "none"):
        assert await requests.told(f"for-{name}") == "Expired DelegationEnded"


async def test_work_that_is_only_not_known_yet_has_not_ended(stopped_world: World, gateway: PlayedGateway) -> None:
    """The watch of delegations may lag behind that of requests: an end is decided on a live read."""
    await stopped_world.start()
    requests, world = Requests(stopped_world), stopped_world
    await world.agent()
    await world.create(delegation("d"))
    await world.settled()
    work = world.operator.seen.index.work.pop(Ref(world.namespace, "d"))
    await requests.ask("p", delegationRef={"name": "d"})
    await eventually(lambda: Ref(world.namespace, "p") in world.operator.seen.permissions.held)
    await world.operator.seen.queue.idle()
    world.operator.seen.index.work[work.ref] = work
    assert await requests.told("p") == "Pending AwaitingDecision"


async def test_settled_requests_are_kept_and_then_removed(stopped_world: World, gateway: PlayedGateway) -> None:
    """For as long as the setting says since they were settled; those that are open stay."""
    await stopped_world.start(permission_ttl_seconds=300)
    requests = Requests(stopped_world)
    for name in ("decided", "open"):
        await requests.ask(name)
    assert await requests.told("decided") == "Pending AwaitingDecision"
    await requests.pass_time(60)
    await requests.decide("decided", "Allow")
    assert await requests.told("decided") == "Allowed Decided"
    await requests.pass_time(299)
    assert await requests.told("decided") == "Allowed Decided"
    await requests.pass_time(2)
    assert await requests.told("decided") is None
    assert await requests.told("open") == "Pending AwaitingDecision"


async def test_what_happened_while_no_operator_ran_is_made_good(stopped_world: World, gateway: PlayedGateway) -> None:
    """Decided, expired and over since: the next operator settles each, and a status that fits is not written again."""
    requests = Requests(stopped_world)
    await requests.ask("decided")
    await requests.decide("decided", "Deny")
    await requests.ask("expired", expiresAfterSeconds=5)
    await stopped_world.clock.advance(10)
    await stopped_world.start()
    assert await requests.told("decided") == "Denied Decided"
    assert await requests.told("expired") == "Expired NotDecided"
    before = await _versions(stopped_world)
    await stopped_world.stop()
    await stopped_world.start()
    assert await requests.told("decided") == "Denied Decided"
    assert await _versions(stopped_world) == before


async def test_a_decision_made_at_the_last_instant_counts(stopped_world: World, gateway: PlayedGateway) -> None:
    """Decided between the operator's look and its write: it decides again, and the decision stands."""
    faulty = Faulty(stopped_world.operator_kube)
    await stopped_world.start(faulty)
    requests = Requests(stopped_world)
    await requests.ask("p", expiresAfterSeconds=60)
    assert await requests.told("p") == "Pending AwaitingDecision"

    async def just_before(collection: Collection, _: Json) -> None:
        if collection == PERMISSION_REQUESTS:
            faulty.before_write = None
            await requests.decide("p", "Allow")

    faulty.before_write = just_before
    await requests.pass_time(70)
    assert await requests.told("p") == "Allowed Decided"


async def _versions(world: World) -> set[str]:
    listed = await world.admin.list(PERMISSION_REQUESTS, world.namespace)
    return {obj["metadata"]["resourceVersion"] for obj in listed["items"]}


async def test_requests_go_with_their_agent(requests: Requests) -> None:
    """An owner reference does it: nothing of a deleted agent is left to decide."""
    world = requests.world
    await world.agent()
    uid = (await world.admin.get(AGENTS, world.namespace, "a"))["metadata"]["uid"]
    owner = {"apiVersion": API_VERSION, "kind": "Agent", "name": "a", "uid": uid}
    body = {
        "apiVersion": API_VERSION,
        "kind": "PermissionRequest",
        "metadata": {"name": "p", "ownerReferences": [owner]},
        "spec": {"agentRef": {"name": "a"}, "sessionId": "s", "requestId": "1", "tool": "Bash"},
    }
    await world.gateway_kube.create(PERMISSION_REQUESTS, world.namespace, body)
    assert await requests.told("p") == "Pending AwaitingDecision"
    await world.admin.delete(AGENTS, world.namespace, "a")

    async def is_gone() -> bool:
        return not (await world.admin.list(PERMISSION_REQUESTS, world.namespace))["items"]

    await eventually(is_gone, timeout=60)


def test_C5_a_decision_is_kept_as_long_as_a_question_may_wait() -> None:
    """A month, by default: an agent that was away for as long still gets its answer."""
    assert DEFAULT_KEEP_SECONDS == DEFAULT_EXPIRY_SECONDS == 30 * 24 * 3600
    assert isinstance(fate(SETTLED, work_ended=False, keep=DEFAULT_KEEP_SECONDS, now=at(29 * 24 * 3600)), Keep)
