"""The simulated store refuses what the real API server refuses, by the same table (D1, D10, D13)."""

from typing import Any

import pytest

from belay_api.agentsubscription import SubscriptionPhase
from belay_api.transitions import Writer, phase_of
from belay_kube.client import DELEGATIONS, SUBSCRIPTIONS, Json
from belay_kube.clock import FakeClock
from belay_kube.errors import Conflict, Invalid, Permanent
from crds_cases import ENDED, EXPECTED, EXPECTED_ROWS, PHASES, ROW_WAY, TERMINAL, WAY, delegation, row

from .connection import Connection
from .history import History
from .store import SimulatedStore

_PAIRS = [(source, target) for source in PHASES for target in PHASES]
_ROWS = [(source, str(target)) for source in ROW_WAY for target in SubscriptionPhase]


class Clients:
    """One store, and the client of each process."""

    def __init__(self) -> None:
        store, self.history = SimulatedStore(FakeClock()), History()
        self.people = Connection(store, None, self.history)
        self.by = {str(writer): Connection(store, writer, self.history) for writer in Writer}

    async def in_phase(self, phase: str) -> Json:
        """A delegation that was led there."""
        made = await self.people.create(DELEGATIONS, "ns", delegation())
        for writer, step in WAY[phase]:
            made = await self.by[writer].patch_status(
                DELEGATIONS, made, {"phase": step, **(ENDED if step in TERMINAL else {})}
            )
        return made


async def _accepted(connection: Connection, obj: Json, status: dict[str, Any], of: Any = DELEGATIONS) -> bool:
    try:
        await connection.patch_status(of, obj, status)
    except Permanent:
        return False
    return True


@pytest.mark.parametrize(("source", "target"), _PAIRS, ids="-".join)
async def test_D13_each_arrow_is_its_writers(source: str, target: str) -> None:
    """As `crds_cases.EXPECTED` has it, against which the real server's policies are tested."""
    for writer in Writer:
        clients = Clients()
        obj = await clients.in_phase(source)
        same = source == target  # the same again writes nothing, or only what is no part of an end
        took = await _accepted(clients.by[str(writer)], obj, {"phase": target})
        assert took is (same or str(writer) in EXPECTED[(source, target)])


@pytest.mark.parametrize(("source", "target"), _ROWS, ids="-".join)
async def test_D13_each_arrow_of_a_row_is_its_writers(source: str, target: str) -> None:
    """As `crds_cases.EXPECTED_ROWS` has it."""
    for writer in Writer:
        clients = Clients()
        made = await clients.by["gateway"].create(SUBSCRIPTIONS, "ns", row())
        for who, step in ROW_WAY[source]:
            made = await clients.by[who].patch_status(SUBSCRIPTIONS, made, {"phase": step})
        took = await _accepted(clients.by[str(writer)], made, {"phase": target, "reason": "Closed"}, SUBSCRIPTIONS)
        assert took is (str(writer) in EXPECTED_ROWS[(source, target)])


@pytest.mark.parametrize("phase", TERMINAL)
@pytest.mark.parametrize("field", sorted(ENDED))
async def test_D1_what_an_end_said_stays(phase: str, field: str) -> None:
    """It can't be changed, nor removed; and the history would notice."""
    clients = Clients()
    obj = await clients.in_phase(phase)
    with pytest.raises(Invalid, match="can't change once"):
        await clients.by["operator"].patch_status(DELEGATIONS, obj, {field: None})
    assert phase_of(obj["status"]["phase"]) == phase
    assert clients.history.broken


async def test_D2_the_same_again_changes_nothing() -> None:
    """Not even the resourceVersion."""
    clients = Clients()
    obj = await clients.in_phase("Queued")
    assert await clients.by["operator"].patch_status(DELEGATIONS, obj, {"phase": "Queued"}) == obj


async def test_D3_what_was_decided_on_an_older_version_is_refused() -> None:
    """The first write wins, the second is a Conflict."""
    clients = Clients()
    obj = await clients.in_phase("Dispatched")
    await clients.by["gateway"].patch_status(DELEGATIONS, obj, {"phase": "Completed"})
    with pytest.raises(Conflict):
        await clients.by["operator"].patch_status(DELEGATIONS, obj, {"phase": "Cancelled"})


async def test_D10_an_attempt_only_grows() -> None:
    """An older number is refused."""
    clients = Clients()
    obj = await clients.in_phase("Dispatched")
    obj = await clients.by["operator"].patch_status(DELEGATIONS, obj, {"attempt": 2})
    with pytest.raises(Invalid, match="only grows"):
        await clients.by["operator"].patch_status(DELEGATIONS, obj, {"attempt": 1})
