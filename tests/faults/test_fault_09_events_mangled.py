"""Fault 9: what lies between drops events of watches, doubles them, and changes their order."""

import random
from collections import Counter

import pytest

from belay_api.reasons import Reason
from belay_kube.client import AGENTS as AGENT
from belay_kube.client import DELEGATIONS
from faults.apirelay import Watch
from faults.behind import Behind
from faults.outage import AGENTS, Outage
from faults.site import SECONDS, Site
from waiting import eventually

pytestmark = pytest.mark.timeout(300)
RESYNC_SECONDS = 3
SWEEPS = {"DELEGATION_SWEEPER_INTERVAL_S": "3"}
FATES = ("kept", "kept", "dropped", "doubled", "late")


class Mangler:
    """Decides by chance what becomes of each event; bookmarks pass."""

    def __init__(self, seed: int) -> None:
        self.fates: Counter[str] = Counter()
        self._chance = random.Random(seed)  # noqa: S311
        self._late: dict[Watch, bytes] = {}

    def __call__(self, watch: Watch, line: bytes) -> list[bytes]:
        """What arrives in place of this line."""
        if b'"type":"BOOKMARK"' in line:
            return [line]
        late = self._late.pop(watch, None)
        overtaken = [late] if late else []
        fate = self._chance.choice(FATES)
        self.fates[fate] += 1
        if fate == "late":
            self._late[watch] = line
        return {"kept": [line], "doubled": [line, line]}.get(fate, []) + overtaken


@pytest.mark.parametrize("seed", [1, 2])
async def test_G9_fault_9_a_resync_makes_good_what_watches_lost(behind: Behind, place: Site, seed: int) -> None:
    """Work is offered, ended and told as if nothing had been; nobody is taken for lost, nothing happens twice."""
    manglers = Mangler(seed), Mangler(seed + 100)
    async with Outage.staged(behind, place, RESYNC_SECONDS, **SWEEPS) as outage:
        for relay, mangler in zip(outage.relays, manglers, strict=True):
            relay.mangles = mangler
        for n in range(AGENTS):
            await place.order(f"more{n}", f"a{n}")
        for n in range(AGENTS):
            await place.until_phase(f"more{n}", "InProgress")
        await place.admin.patch(DELEGATIONS, place.namespace, "d1", {"spec": {"desiredState": "Cancelled"}})
        await place.admin.delete(AGENT, place.namespace, "a2")
        await outage.complete("d0")
        await place.order("last", "a0")

        assert (await place.until_phase("d1", "Cancelled"))["reason"] == Reason.CANCELLED
        for name in ("d2", "more2"):
            assert (await place.until_phase(name, "Failed"))["reason"] == Reason.AGENT_DELETED
        await place.until_phase("last", "InProgress")
        for name in ("more0", "more1", "d3", "more3", "d4", "more4", "last"):
            await outage.complete(name)
            assert (await place.until_phase(name, "Completed"))["attempt"] == 1
        await eventually(lambda: outage.fleet.count["message cancel"] >= 1, SECONDS)
        await eventually(lambda: len(outage.fleet.sent_away) == 2, SECONDS)
        assert {told["reason"] for told in outage.fleet.sent_away} == {"agent_deleted"}
        assert (len(outage.operator.runs), len(outage.gateway.runs)) == (1, 1)
    for mangler in manglers:
        assert min(mangler.fates[fate] for fate in FATES) > 0, mangler.fates
