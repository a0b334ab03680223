"""Fault 11: every watch is told an ERROR of code 500; the connection stays and says nothing any more."""

import json

import pytest

from belay_api.meta import SWEEPER_NAME
from belay_kube.client import SWEEPERS
from faults.apirelay import ApiRelay, lasting
from faults.behind import Behind
from faults.invariants import OPERATOR_NAMESPACE
from faults.outage import Losses, Outage
from faults.site import SECONDS, Site
from waiting import eventually

pytestmark = pytest.mark.timeout(240)
_STATUS = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "InternalError", "code": 500}
ERROR = json.dumps({"type": "ERROR", "object": {**_STATUS, "message": "etcdserver: no leader"}}).encode() + b"\n"
NEW_THRESHOLD = 777


def _break_all(relay: ApiRelay) -> set[str]:
    """Tell every watch; returns what was watched."""
    watched = {lasting(watch.path) for watch in relay.watches}
    for watch in relay.watches:
        watch.broken_by(ERROR)
    return watched


def _heard(relay: ApiRelay) -> set[str]:
    return {lasting(watch.path) for watch in relay.watches if not watch.is_deaf}


async def test_G9_fault_11_no_watch_stays_dead(behind: Behind, place: Site) -> None:
    """Each is begun anew, or the process is: deletions, new work and new settings are all heard of."""
    async with Outage.staged(behind, place, DELEGATION_SWEEPER_INTERVAL_S="5") as outage:
        losses = Losses(outage)
        await losses.make()
        watched = [_break_all(relay) for relay in outage.relays]
        await losses.happen()
        await losses.are_seen()
        await eventually(lambda: [_heard(relay) for relay in outage.relays] == watched, SECONDS)
        assert (len(outage.operator.runs) <= 2, len(outage.gateway.runs)) == (True, 1)
        await _hears_of_settings(place)


async def _hears_of_settings(place: Site) -> None:
    """The DelegationSweeper is kopf's to watch."""

    async def sweeper(threshold: int | None) -> None:
        body = {"spec": {"stuckThresholdSeconds": threshold}}
        await place.admin.patch(SWEEPERS, OPERATOR_NAMESPACE, SWEEPER_NAME, body)

    async def is_in_force() -> bool:
        found = await place.admin.get(SWEEPERS, OPERATOR_NAMESPACE, SWEEPER_NAME)
        return bool(found["status"]["stuckThresholdSeconds"] == NEW_THRESHOLD)

    await sweeper(NEW_THRESHOLD)
    try:
        await eventually(is_in_force, SECONDS)
    finally:
        await sweeper(None)
