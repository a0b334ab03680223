"""Fault 22: quota exceeded, object too large, a status that is refused for good, etcd out of space."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from belay_api.meta import SWEEPER_NAME
from belay_dev.controlplane import ControlPlane
from belay_kube.client import DELEGATIONS, NAMESPACES, SWEEPERS, Collection, Json, Kube, connect
from belay_kube.clock import SystemClock
from belay_kube.errors import KubeError, from_status
from faults.etcdfull import fill, make_room, small_plane, until_writable
from faults.invariants import Excused
from faults.operating import World, delegation, staged
from gateway.caller import DELEGATE, EVERYTHING, caller, new
from gateway.peer import identifier
from gateway.stage import Running, Stage, running
from installation import GATEWAY, NAMESPACE, OPERATOR, install
from rights.record import Record
from waiting import eventually

QUOTAS = Collection("api/v1", "resourcequotas")
POLICIES = Collection("apis/admissionregistration.k8s.io/v1", "validatingadmissionpolicies")
BINDINGS = Collection("apis/admissionregistration.k8s.io/v1", "validatingadmissionpolicybindings")
COUNT = "count/delegations.belay.dev"
RENEW_SECONDS = 5
"""As often as gateways renew their Leases; a longer silence has everything looked at again."""


# --- creates, through the gateway ---


@pytest.fixture
async def gateway(gateway_kube: Kube) -> AsyncIterator[Running]:
    """A gateway whose time passes."""
    async with running(gateway_kube, SystemClock()) as started:
        yield started


async def _asked_twice(stage: Stage, gateway: Running) -> tuple[Any, Json]:
    """The same by HTTP and on a socket; returns both answers."""
    await stage.agent("a", "alice")
    alice = await caller(stage, gateway, "alice", *EVERYTHING, DELEGATE)
    peer = await gateway.dialer.dial(alice.token)
    await peer.subscribe(f"{stage.namespace}/a", "s")
    text = identifier(agent_id=f"{stage.namespace}/a", session_id="s")
    return await alice.post("delegations", new()), await peer.act(text, "delegate", agent="a", prompt="p")


async def test_D11_fault_22_a_quota_is_told_to_whoever_delegates(stage: Stage, gateway: Running) -> None:
    """403 and `forbidden` with the counts, by HTTP and on the socket; nothing is made and the socket stays."""
    body = {"metadata": {"name": "q"}, "spec": {"hard": {COUNT: "0"}}}
    await stage.admin.create(QUOTAS, stage.namespace, body)

    async def is_in_force() -> bool:
        # What the controller that counts would write once it has looked for new types, which it does every 30 s.
        counted = {"status": {"hard": {COUNT: "0"}, "used": {COUNT: "0"}}}
        await stage.admin.patch(QUOTAS, stage.namespace, "q", counted, subresource="status")
        try:
            await stage.delegation("probe", "a")
        except KubeError as error:
            return "exceeded quota" in error.message
        await stage.admin.delete(DELEGATIONS, stage.namespace, "probe")
        return False

    await eventually(is_in_force)
    by_http, on_socket = await _asked_twice(stage, gateway)
    by_http.refused(403, "exceeded quota: q", f"limited: {COUNT}=0")
    assert (on_socket["type"], on_socket["code"]) == ("error", "forbidden")
    assert "exceeded quota: q" in on_socket["message"]
    assert (await stage.admin.list(DELEGATIONS, stage.namespace))["items"] == []


class Refusing(Kube):
    """The gateway's real client, whose creates of delegations are answered as an API server of that kind does."""

    def __init__(self, inner: Kube, status: int, said: str) -> None:
        super().__init__(inner.api)
        self._answer = status, said
        self.creates = 0

    async def create(self, path: Collection, namespace: str | None, body: Json) -> Json:
        """Refuse a delegation."""
        if path != DELEGATIONS:
            return await super().create(path, namespace, body)
        self.creates += 1
        status, said = self._answer
        raise from_status(status, {"message": said}, "POST delegations")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (413, "Request entity too large: limit is 3145728"),
        (422, "metadata.annotations: Too long: may not be more than 262144 bytes"),
        (500, "etcdserver: request is too large"),
    ],
)
async def test_D6_fault_22_too_large_is_refused_for_good(
    stage: Stage, gateway_kube: Kube, status: int, said: str
) -> None:
    """413 and `too_large` whatever the API server's number for it; asked once each, never again."""
    client = Refusing(gateway_kube, status, said)
    async with running(client, SystemClock()) as gateway:
        by_http, on_socket = await _asked_twice(stage, gateway)
    assert by_http.status == 413, by_http
    assert (on_socket["type"], on_socket["code"]) == ("error", "too_large")
    assert client.creates == 2


# --- the operator's status writes ---


@pytest.fixture
def refusing_policy(installed: ControlPlane, namespace: str) -> Iterator[str]:
    """The name for a policy of somebody else, which is taken away again."""
    name = f"refusing-{namespace}"
    yield name
    installed.kubectl(
        "delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", name, "--ignore-not-found"
    )


async def _refuse(world: World, policy: str, reason: str) -> None:
    """Every status of the delegation `d` is refused from now on, for that reason."""
    rule = {"apiGroups": ["belay.dev"], "apiVersions": ["*"], "operations": ["UPDATE"]}
    spec: Json = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [{**rule, "resources": ["delegations/status"]}]},
        "matchConditions": [
            {"name": "mine", "expression": f"request.namespace == '{world.namespace}' && request.name == 'd'"}
        ],
        "validations": [{"expression": "false", "message": "not this one", "reason": reason}],
    }
    await world.admin.create(POLICIES, None, {"metadata": {"name": policy}, "spec": spec})
    binding = {"policyName": policy, "validationActions": ["Deny"]}
    await world.admin.create(BINDINGS, None, {"metadata": {"name": policy}, "spec": binding})

    async def is_in_force() -> bool:
        path = (DELEGATIONS, world.namespace, "d", {"status": {"message": "probe"}})
        try:
            await world.gateway_kube.patch(*path, subresource="status", dryRun="All")
        except KubeError as error:
            return "not this one" in error.message
        return False

    await eventually(is_in_force)


def _writes(audit_log: Path, namespace: str, name: str) -> list[int]:
    """The answers to the operator's status writes of one delegation."""
    events = (json.loads(line) for line in audit_log.read_text().splitlines() if f'"namespace":"{namespace}"' in line)
    return [
        event["responseStatus"]["code"]
        for event in events
        if event["verb"] == "patch"
        and event["user"]["username"] == OPERATOR
        and (event["objectRef"].get("name"), event["objectRef"].get("subresource")) == (name, "status")
    ]


async def _says_degraded(admin: Kube, status: str, *words: str) -> bool:
    """Whether the DelegationSweeper has that condition, with those words."""
    sweeper = await admin.get(SWEEPERS, NAMESPACE, SWEEPER_NAME)
    found = [c for c in sweeper["status"].get("conditions") or [] if c["type"] == "Degraded"]
    return bool(found) and found[0]["status"] == status and all(word in found[0]["message"] for word in words)


@pytest.mark.parametrize(("reason", "code"), [("RequestEntityTooLarge", 413), ("Invalid", 422)])
async def test_I6_fault_22_a_status_refused_for_good_is_counted_and_not_hammered(
    installed: ControlPlane,
    admin_kube: Kube,
    operator_kube: Kube,
    gateway_kube: Kube,
    namespace: str,
    refusing_policy: str,
    reason: str,
    code: int,
) -> None:
    """In five minutes a few tries; the next delegation is not held up; allowed again, it is caught up."""
    async with staged(installed, admin_kube, operator_kube, gateway_kube, namespace, Excused(late={"d"})) as world:
        gateway = world.gateway()
        await world.start()
        await world.agent(maxActiveDelegations=2)
        session = await gateway.attach("a", "s")
        await world.create(delegation("d").due_in(30))
        await world.settled()
        await session.accept("d")
        await _refuse(world, refusing_policy, reason)
        before = len(_writes(installed.audit_log, namespace, "d"))
        await world.pass_time(300, step=RENEW_SECONDS)
        refused = _writes(installed.audit_log, namespace, "d")[before:]
        assert set(refused) == {code}
        assert 1 < len(refused) < 15, len(refused)
        assert world.operator.engine.totals()["errors"] >= len(refused) / 2
        await world.pass_time(60, step=RENEW_SECONDS)
        await eventually(lambda: _says_degraded(admin_kube, "True", f"{namespace}/d", "not this one"))
        await world.create(delegation("next"))
        assert await world.told("next") == "Dispatched Dispatched"
        await admin_kube.delete(BINDINGS, None, refusing_policy)
        await admin_kube.delete(POLICIES, None, refusing_policy)
        await world.pass_time(360)
        assert await world.told("d") == "Failed DeadlineExceeded"
        await eventually(lambda: _says_degraded(admin_kube, "False"))


# --- etcd ---


async def test_I7_fault_22_etcd_out_of_space_is_waited_out(tmp_path: Path, record: Record) -> None:
    """Nothing is cancelled for it, writes are few and counted; once there is room the deadline is made good."""
    with small_plane() as plane, record.kept(plane):
        install(plane)
        admin = await connect(plane.kubeconfig)
        kubes = [
            await connect(plane.service_account_kubeconfig(NAMESPACE, account.rpartition(":")[2], tmp_path / str(n)))
            for n, account in enumerate((OPERATOR, GATEWAY))
        ]
        try:
            await admin.create(NAMESPACES, None, {"metadata": {"name": "mine"}})
            async with staged(plane, admin, kubes[0], kubes[1], "mine", Excused(late={"late"})) as world:
                await _runs_full(world, plane, admin)
        finally:
            for kube in (admin, *kubes):
                await kube.close()


async def _runs_full(world: World, plane: ControlPlane, admin: Kube) -> None:
    gateway = world.gateway()
    await world.start()
    await world.agent(maxActiveDelegations=2)
    session = await gateway.attach("a", "s")
    await world.create(delegation("late").due_in(60), delegation("running"))
    await world.settled()
    for name in ("late", "running"):
        await session.accept(name)
    await world.settled()
    assert "database space exceeded" in await fill(admin)
    gateway.alive = False  # its Lease can't be renewed either
    await world.pass_time(300, step=40)
    assert [await world.told(name) for name in ("late", "running")] == ["InProgress Dispatched"] * 2
    tries = [code for code in _writes(plane.audit_log, "mine", "late") if code >= 500]
    assert 1 < len(tries) < 20, tries
    assert world.operator.engine.totals()["errors"] > 0
    await make_room(plane, admin)
    await until_writable(admin)
    gateway.alive = True
    await world.renew()
    await world.pass_time(340, step=40)
    assert [await world.told(n) for n in ("late", "running")] == ["Failed DeadlineExceeded", "InProgress Dispatched"]
