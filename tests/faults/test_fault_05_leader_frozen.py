"""Fault 5: the leading operator is frozen (SIGSTOP) until another leads, and thawed; and the other ways a leader goes.

The old leader reaches the API server through a relay that keeps one of its writes on the way, so that it arrives when
the other one has long decided.
"""

import asyncio
from itertools import groupby

import pytest

from belay_api.reasons import Reason
from belay_kube.client import DELEGATIONS, EVENTS, MESSAGES, SESSIONS, TURNS, Json
from belay_operator.leader import LEASE_NAME
from belay_operator.settings import Settings
from faults.apirelay import ApiRelay, Asked
from faults.behind import Behind
from faults.conversing import Mail, said
from faults.kubelet import Kept
from faults.site import Site
from faults.workers import Workers
from llmanswers import hangs, says
from llmserver import llm_server
from waiting import eventually

pytestmark = pytest.mark.timeout(240)
ENDINGS = ("another holds Lease belay/belay-operator", "could not renew Lease belay/belay-operator in time")
WITHIN_SECONDS = 20.0
"""In which another must lead."""
DUE = range(6, 26, 2)
"""Deadlines in seconds, some before the leader goes, some while nobody leads, some after."""
SHIPPED_LEASE = str(Settings.model_fields["lease_seconds"].default)
LONG_LEASE = "60"
"""Nobody waits that long: who ended in order gave it up."""


async def _two(behind: Behind, **environment: str) -> tuple[Kept, Kept, ApiRelay]:
    """One operator that leads, through a relay, and one that waits for its turn."""
    relay, others = await behind.relay(), await behind.relay()
    first = behind.operator("first", relay, **environment)
    await first.ready()
    second = behind.operator("second", others, **environment)
    await eventually(lambda: any(f"/leases/{LEASE_NAME}" in asked.path for asked in others.asked), 60)
    assert second.announced() is None
    return first, second, relay


async def _workers(behind: Behind, place: Site) -> Workers:
    """One session each of the agents `a` and `b`, which accept whatever they are offered."""
    await place.agents("a", "b", maxActiveDelegations=100)
    fleet = place.workers((await behind.gateway().ready())["url"])
    await fleet.dial_many(2, place.session_of(lambda number: "ab"[number]))
    return fleet


def _is_write_of(name: str, asked: Asked) -> bool:
    return asked.method == "PATCH" and f"/delegations/{name}/status" in asked.path


@pytest.mark.parametrize("blind", [False, True], ids=["sees its Lease", "gets no answer about its Lease"])
async def test_G9_fault_5_a_frozen_leader_is_followed_and_ends_once_thawed(
    behind: Behind, place: Site, blind: bool
) -> None:
    """Another leads within 20 s, a write of the old one that comes late is refused, and what it missed it leaves."""
    first, second, relay = await _two(behind)
    fleet = await _workers(behind, place)
    await place.delegate("held", "a")
    await place.order("late", "a", deadlineSeconds=15)
    await place.until_phase("late", "InProgress")
    gate = asyncio.Event()
    relay.holds = lambda asked: gate if _is_write_of("contested", asked) else None
    await place.order("contested", "a")
    await eventually(lambda: [asked for asked in relay.asked if _is_write_of("contested", asked)])
    first.leave()
    first.freeze()

    await second.ready(WITHIN_SECONDS)
    await place.until_phase("contested", "InProgress")
    # Longer than a session may be silent, and something fell due before the eyes of both.
    await place.until_phase("late", "Failed")
    gate.set()
    [write] = [asked for asked in relay.asked if _is_write_of("contested", asked)]
    assert await eventually(lambda: write.status) == 409
    thawed_at, unanswered = len(relay.asked), asyncio.Event()
    if blind:
        relay.holds = lambda asked: unanswered if "/leases/" in asked.path else None
    first.thaw()

    await eventually(lambda: not first.process.alive)
    assert first.process.exit_code == 1
    # The second also where it was frozen with a look at the Lease on its way.
    assert any(map(first.process.printed, ENDINGS)), first.process.tail()
    assert [asked for asked in _writes(relay, thawed_at) if f"/leases/{LEASE_NAME}" not in asked.path] == []
    for name in ("held", "contested"):
        fleet.complete(0, name)
        await place.until_phase(name, "Completed")
    assert (fleet.count["lost"], second.announced() is not None) == (0, True)
    _each_once(place)


async def test_G9_killed_while_work_falls_due_everything_takes_effect_once(behind: Behind, place: Site) -> None:
    """SIGKILL: another leads within 20 s, with the Lease as it is shipped; deadlines and a cancel before, in and after
    the gap."""
    first, second, _ = await _two(behind, BELAY_LEASE_SECONDS=SHIPPED_LEASE)
    await _workers(behind, place)
    names = await _falling_due(place)
    await place.until_phase(names[0], "Failed")
    place.late |= set(names)
    first.kill()
    await place.admin.patch(DELEGATIONS, place.namespace, "parent", {"spec": {"desiredState": "Cancelled"}})
    await second.ready(WITHIN_SECONDS)
    await _all_ended(place, names)


async def test_G9_terminated_it_gives_its_lease_up_and_everything_takes_effect_once(
    behind: Behind, place: Site
) -> None:
    """SIGTERM: nobody waits for the end of the Lease, nor for the process to be gone; it writes nothing after."""
    first, second, relay = await _two(behind, BELAY_LEASE_SECONDS=LONG_LEASE)
    await _workers(behind, place)
    names = await _falling_due(place)
    await place.until_phase(names[0], "Failed")
    first.terminate()
    await second.ready(WITHIN_SECONDS)
    await place.admin.patch(DELEGATIONS, place.namespace, "parent", {"spec": {"desiredState": "Cancelled"}})
    await _all_ended(place, names)
    await _gave_up_in_order(first, relay)


async def test_L16_G9_terminated_while_a_model_thinks_it_gives_session_and_lease_up(
    behind: Behind, place: Site
) -> None:
    """The session is given back before the Lease, so who leads next asks the model, and the answer is there once."""
    first, second, relay = await _two(behind, BELAY_LEASE_SECONDS=LONG_LEASE)
    mail = Mail(place.admin, place.namespace)
    async with llm_server() as llm:
        llm.will(hangs(), says("it stands"))
        await mail.keyed_agent(llm.url)
        await mail.open("talk", "k")
        await mail.send("x", "talk")
        await eventually(lambda: len(llm.requests) == 1)
        first.terminate()
        await second.ready(WITHIN_SECONDS)
        [turn] = await mail.has_turns(1, "talk")
        await _gave_up_in_order(first, relay)
        assert (said(turn), len(llm.requests)) == ("it stands", 2)
    assert [asked for asked in _writes(relay) if "/agentsessions/talk/status" in asked.path][-1].status == 200
    for collection in (MESSAGES, SESSIONS, TURNS):
        await place.admin.delete(collection, place.namespace, "")


# --- the end ---


def _writes(relay: ApiRelay, since: int = 0) -> list[Asked]:
    return [asked for asked in relay.asked[since:] if asked.method != "GET"]


async def _gave_up_in_order(first: Kept, relay: ApiRelay) -> None:
    """It ended well, and the last it wrote is that nobody holds the Lease."""
    await eventually(lambda: not first.process.alive)
    assert first.process.exit_code == 0, first.process.tail()
    assert f"/leases/{LEASE_NAME}" in _writes(relay)[-1].path


# --- what falls due ---


async def _falling_due(place: Site) -> list[str]:
    """Work that ends at its deadlines, one after the other, and a family that doesn't."""
    names = [f"due-{seconds}" for seconds in DUE]
    await place.delegate("parent", "a")
    await place.order("child", "b", parentRef={"kind": "Delegation", "name": "parent"})
    await asyncio.gather(*(place.order(f"due-{seconds}", "a", deadlineSeconds=seconds) for seconds in DUE))
    await place.until_phase("child", "InProgress")
    return names


async def _all_ended(place: Site, names: list[str]) -> None:
    for name in names:
        assert (await place.until_phase(name, "Failed"))["reason"] == Reason.DEADLINE_EXCEEDED
    assert (await place.until_phase("parent", "Cancelled"))["reason"] == Reason.CANCELLED
    assert (await place.until_phase("child", "Cancelled"))["reason"] == Reason.PARENT_CANCELLED
    _each_once(place)
    assert await _told_twice(place) == {}


def _each_once(place: Site) -> None:
    """No delegation entered a phase, or began an attempt, twice: by each version there ever was of it."""
    for versions in place.history.versions.values():
        phases = [phase for phase, _ in groupby((obj.get("status") or {}).get("phase") for obj in versions)]
        attempts = {(obj.get("status") or {}).get("attempt", 1) for obj in versions}
        assert (len(phases), attempts) == (len(set(phases)), {1}), versions[-1]["metadata"]["name"]


async def _told_twice(place: Site) -> dict[str, int]:
    """Events that were made more than once."""
    events: list[Json] = (await place.admin.list(EVENTS, place.namespace))["items"]
    kinds = sorted(f"{event['regarding']['name']} {event['reason']} {event.get('note')}" for event in events)
    counted = {kind: len(list(group)) for kind, group in groupby(kinds)}
    return {kind: count for kind, count in counted.items() if count > 1}
