"""Fault 5: the leading operator is frozen (SIGSTOP) until another leads, and thawed; and the other ways a leader goes.

The old leader reaches the API server through a relay that keeps one of its writes on the way, so that it arrives when
the other one has long decided.
"""

import asyncio
from itertools import groupby

import pytest

from belay_api.reasons import Reason
from belay_kube.client import DELEGATIONS, EVENTS, Json
from faults.apirelay import ApiRelay, Asked
from faults.behind import Behind
from faults.kubelet import Kept
from faults.site import Site
from faults.workers import Workers
from waiting import eventually

pytestmark = pytest.mark.timeout(240)
WITHIN_SECONDS = 20.0
"""In which another must lead."""
DUE = range(6, 16)
"""Deadlines in seconds, some before the leader goes, some while nobody leads, some after."""
LONG_LEASE = "60"
"""Nobody waits that long: who ended in order gave it up."""


async def _two(behind: Behind, **environment: str) -> tuple[Kept, Kept, ApiRelay]:
    """One operator that leads, through a relay, and one that waits for its turn."""
    relay, others = await behind.relay(), await behind.relay()
    first = behind.operator("first", relay, **environment)
    await first.ready()
    second = behind.operator("second", others, **environment)
    await eventually(lambda: any("/leases/belay-operator" in asked.path for asked in others.asked), 60)
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


async def test_G9_fault_5_a_frozen_leader_is_followed_and_ends_once_thawed(behind: Behind, place: Site) -> None:
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
    thawed_at = len(relay.asked)
    first.thaw()

    await eventually(lambda: not first.process.alive)
    assert first.process.exit_code == 1
    assert first.process.printed("another holds Lease belay/belay-operator"), first.process.tail()
    written = [asked for asked in relay.asked[thawed_at:] if asked.method != "GET" and asked.status < 300]
    assert written == []
    for name in ("held", "contested"):
        fleet.complete(0, name)
        await place.until_phase(name, "Completed")
    assert (fleet.count["lost"], second.announced() is not None) == (0, True)
    _each_once(place)


async def test_G9_killed_while_work_falls_due_everything_takes_effect_once(behind: Behind, place: Site) -> None:
    """SIGKILL: another leads once the Lease has run out; deadlines and a cancel before, in and after the gap."""
    first, second, _ = await _two(behind)
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
    """SIGTERM: nobody waits for the end of the Lease."""
    first, second, _ = await _two(behind, BELAY_LEASE_SECONDS=LONG_LEASE)
    await _workers(behind, place)
    names = await _falling_due(place)
    await place.until_phase(names[0], "Failed")
    await first.stop()
    assert first.process.exit_code == 0
    await second.ready(WITHIN_SECONDS)
    await place.admin.patch(DELEGATIONS, place.namespace, "parent", {"spec": {"desiredState": "Cancelled"}})
    await _all_ended(place, names)


# --- what falls due ---


async def _falling_due(place: Site) -> list[str]:
    """Work that ends at its deadlines, one a second, and a family that doesn't."""
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
