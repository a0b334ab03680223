"""Fault 18: 2,000 sockets connect at once to a gateway that was just started."""

import asyncio
import json

from belay_dev.stack import Stack
from faults.site import SECONDS, Site
from faults.workers import Workers
from waiting import eventually

SOCKETS = 2000
AGENTS = 200
DEFAULT_TIMES = {"staleAfterSeconds": 45, "heartbeatSeconds": 15}
"""The storm may keep the machine busy for longer than this installation's 9 s."""
MOST_REVIEWS = 40
"""An answer counts for 10 s: a handful of reviews for one token, however slow the machine is."""


def agent_of(number: int) -> str:
    """Ten sessions an agent."""
    return f"a{number // 10}"


def _reviews(stack: Stack) -> int:
    """TokenReviews that the gateways' account asked for, by the API server's own audit log."""
    lines = stack.control_plane.audit_log.read_text().splitlines()
    asked = (json.loads(line) for line in lines if '"tokenreviews"' in line)
    return len(
        [
            entry
            for entry in asked
            if "belay-gateway" in entry["user"]["username"] and entry["stage"] == "ResponseComplete"
        ]
    )


async def _all_attached(fleet: Workers) -> None:
    try:
        await fleet.until(lambda: fleet.count["message attached"] == SOCKETS, SECONDS)
    except TimeoutError:
        raise AssertionError(f"not all are attached: {fleet.count}, {fleet.rejected}, {fleet.sent_away[:5]}") from None


async def test_P2_fault_18_all_get_in(site: Site, stack: Stack) -> None:
    """Every one is let in, attached, and has a row; a token is reviewed once for all who show it at the time."""
    await site.agents(*(f"a{n}" for n in range(AGENTS)), timing=DEFAULT_TIMES)
    fleet, before = site.workers(stack.start_gateway("stormed")), _reviews(stack)
    await asyncio.gather(*(fleet.dial(site.session_of(agent_of)) for _ in range(SOCKETS)))
    await _all_attached(fleet)
    assert (fleet.sent_away, fleet.count["lost"], fleet.count["http 101"]) == ([], 0, SOCKETS)
    assert all(why.startswith("unavailable") for why in fleet.rejected), fleet.rejected
    await site.until_rows(SOCKETS, "Live")
    await eventually(lambda: _reviews(stack) > before)
    assert _reviews(stack) - before <= MOST_REVIEWS
    await site.delegate("d", "a0")
    fleet.complete(int((await site.status("d"))["sessionId"].removeprefix("s")), "d")
    await site.until_phase("d", "Completed")
    stack.kill("stormed")
