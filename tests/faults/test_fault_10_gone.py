"""Fault 10: the place of each watch is lost (410 Gone), and objects were deleted meanwhile.

The 410 is the real API server's: the relay asks it to go on from a version that is long forgotten.
"""

import re

import pytest

from faults.apirelay import Watch, lasting
from faults.behind import Behind
from faults.outage import Losses, Outage
from faults.site import SECONDS, Site
from waiting import eventually

pytestmark = pytest.mark.timeout(240)
OURS = "/belay.dev/"
"""The API server began to hear of Leases with its first version: it forgets none in so short a time."""
_VERSION = re.compile(r"resourceVersion=[0-9]+")


class Forgetful:
    """Each watch that is resumed is asked for from the beginning of time, once."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self.gone: set[str] = set()
        """Watches that were told 410."""

    def rewrites(self, path: str) -> str:
        """What the API server is asked instead."""
        what = lasting(path)
        if "watch=" not in path or what in self._seen:
            return path
        self._seen.add(what)
        return _VERSION.sub("resourceVersion=1", path)

    def passes(self, watch: Watch, line: bytes) -> list[bytes]:
        """Let a line pass, and note what it says."""
        if b'"type":"ERROR"' in line and b'"code":410' in line:
            self.gone.add(lasting(watch.path))
        return [line]


async def test_G9_fault_10_a_lost_place_is_listed_anew_and_no_deletion_is_missed(behind: Behind, place: Site) -> None:
    """Nobody hears of the deletions by an event: what follows from them follows from the list."""
    async with Outage.staged(behind, place) as outage:
        losses = Losses(outage)
        await losses.make()
        for relay in outage.relays:
            relay.mangles = lambda _, __: []
        await losses.happen()
        forgetful = [Forgetful() for _ in outage.relays]
        watched = [{lasting(watch.path) for watch in relay.watches if OURS in watch.path} for relay in outage.relays]
        for relay, memory in zip(outage.relays, forgetful, strict=True):
            relay.rewrites, relay.mangles = memory.rewrites, memory.passes
            for watch in relay.watches:
                watch.end()

        await losses.are_seen()
        # Other watches too may be told so, where the API server has had much to do.
        await eventually(lambda: all(map(set.issubset, watched, (memory.gone for memory in forgetful))), SECONDS)
        assert (len(outage.operator.runs), len(outage.gateway.runs)) == (1, 1)
