"""Fault 6: the API server is down for longer than a session may be silent and its grace together.

How long it is down is scaled down together with what it is measured by: the session's staleness and grace (behind.py).
"""

from collections import defaultdict

import pytest

from faults.apirelay import ApiRelay
from faults.behind import TIMES, Behind
from faults.outage import SOCKETS, Outage, all_of, passed
from faults.site import Site
from waiting import eventually

pytestmark = pytest.mark.timeout(240)
DOWN_SECONDS = 16.0
"""Stale after 9, gone after 4 more."""


@pytest.mark.parametrize(
    ("lease_seconds", "survives"), [("60", True), ("6", False)], ids=["operator survives", "operator is restarted"]
)
async def test_P8_fault_6_sockets_stay_and_nothing_is_taken_for_lost(
    behind: Behind, place: Site, lease_seconds: str, survives: bool
) -> None:
    """Nobody is told, dropped or expired; a result of that time counts, and what was asked for meanwhile is done."""
    async with Outage.staged(behind, place, BELAY_LEASE_SECONDS=lease_seconds) as outage:
        await all_of(*outage.relays, down=True)
        await outage.complete("d0")
        await place.order("meanwhile", "a0")
        await passed(DOWN_SECONDS)
        assert outage.fleet.count["lost"] == 0
        assert (len(outage.operator.runs) == 1) is survives
        # The operator is back first, and sees nothing but rows that have not moved for long.
        await outage.to_operator.up()
        await outage.operator.ready()
        began = len(outage.to_gateway.asked)
        await outage.to_gateway.up()
        await outage.caught_up("meanwhile")
        await eventually(lambda: len(_touches(outage.to_gateway, began)) == SOCKETS)
        _bounded(outage.to_gateway, began)


def _touches(relay: ApiRelay, began: int) -> dict[str, list[float]]:
    """When each row was renewed since, by its path; a claim or a mark of a row is none of these."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for asked in relay.asked[began:]:
        if asked.method == "PATCH" and "/agentsubscriptions/" in asked.path:
            found[asked.path].append(asked.at)
    return found


def _bounded(relay: ApiRelay, began: int) -> None:
    """No renewal was kept for later: each row is renewed once, and then at its pace."""
    pace = (TIMES.stale_after or 0) // 3
    for path, times in _touches(relay, began).items():
        assert len(times) <= 2 + (times[-1] - times[0]) / pace, path
