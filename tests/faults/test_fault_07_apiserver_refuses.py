"""Fault 7: the API server answers 503, then 429 with Retry-After, to everything.

How long each lasts is scaled down together with what it is measured by: the session's staleness and grace (behind.py).
"""

from collections import defaultdict
from itertools import pairwise

import pytest

from faults.apirelay import Answer, ApiRelay, Asked, lasting
from faults.behind import Behind
from faults.outage import Outage, passed
from faults.site import Site

pytestmark = pytest.mark.timeout(240)
UNAVAILABLE = Answer(503, {})
RETRY_SECONDS = 7
"""More than any process would wait of itself."""
THROTTLED = Answer(429, {"Retry-After": str(RETRY_SECONDS)})
PHASE_SECONDS = 8.0
"""Of each: together longer than a session may be silent and its grace."""


def _begin(relay: ApiRelay, answer: Answer) -> None:
    relay.refuses = lambda _: answer
    relay.reset()


@pytest.mark.parametrize(
    ("lease_seconds", "survives"), [("90", True), ("6", False)], ids=["operator survives", "operator is restarted"]
)
async def test_G9_fault_7_the_wait_is_honoured_and_everything_catches_up(
    behind: Behind, place: Site, lease_seconds: str, survives: bool
) -> None:
    """Nothing is asked again before its time; then results count, and what was asked for meanwhile is done."""
    async with Outage.staged(behind, place, BELAY_LEASE_SECONDS=lease_seconds) as outage:
        for relay in outage.relays:
            _begin(relay, UNAVAILABLE)
        await place.order("meanwhile", "a0")
        await outage.complete("d0")
        await passed(PHASE_SECONDS)
        for relay in outage.relays:
            relay.refuses = lambda _: THROTTLED
        await passed(2 * PHASE_SECONDS)
        assert (len(outage.operator.runs) == 1) is survives
        for relay in outage.relays:
            relay.refuses = lambda _: None
        await outage.caught_up("meanwhile")
        assert all(any(asked.status == 429 for asked in relay.asked) for relay in outage.relays)
        waited = [_impatient(outage.to_gateway), _impatient(outage.to_operator) if survives else []]
        assert waited == [[], []]


def _impatient(relay: ApiRelay) -> list[str]:
    """What was asked again before the time was over; creates of many things share one path and are left out."""
    of_each: defaultdict[str, list[Asked]] = defaultdict(list)
    for asked in relay.asked:
        if asked.method != "POST":
            of_each[f"{asked.method} {lasting(asked.path)}"].append(asked)
    return [
        f"{what}: after {then.at - now.answered_at:.1f} s"
        for what, each in of_each.items()
        for now, then in pairwise(each)
        if now.status == 429 and then.at - now.answered_at < RETRY_SECONDS
    ]
