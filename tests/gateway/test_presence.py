"""Rows and sockets: taken together, renewed together, given up together."""

import itertools
import json

import pytest

from belay_api.names import Ref, subscription_name
from belay_gateway.rows import claimed, new_row
from belay_kube.client import LEASES, SUBSCRIPTIONS, Collection, Kube
from belay_kube.errors import Unreachable
from gateway.peer import cut, identifier
from gateway.stage import Running, Stage
from installation import GATEWAY
from waiting import eventually

QUOTAS = Collection("api/v1", "resourcequotas")


async def test_P1_row_is_written_before_the_peer_is_told(stage: Stage, gateway: Running) -> None:
    """The row holds agent, session, token, gateway and user when the confirmation arrives."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peer = await gateway.dialer.dial(token)
    text = identifier(agent_id=agent, session_id="s1")
    assert (await peer.asks(text))["type"] == "confirm_subscription"
    row = await stage.row("a", "s1")
    assert row
    assert row["spec"] == {"agentRef": {"name": "a"}, "sessionId": "s1"}
    status = row["status"]
    attached = await peer.hears("attached", of=text)
    assert (status["phase"], status["holderIdentity"]) == ("Live", gateway.identity)
    assert status["user"] == f"system:serviceaccount:{stage.namespace}:alice"
    assert status["token"] == attached["token"]
    assert (attached["agent"], attached["session"], attached["heartbeat_seconds"]) == (agent, "s1", 15)


async def test_P1_session_without_a_name_gets_one(stage: Stage, gateway: Running) -> None:
    """A client that names no session is told the one it got, and it has a row."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peer = await gateway.dialer.dial(token)
    attached = await peer.subscribe(agent)
    assert await stage.row_is("a", attached["session"], "Live")


async def test_P2_any_number_of_sessions_of_one_agent(stage: Stage, gateway: Running) -> None:
    """Several sessions, also on one socket, each have a live row of their own."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    first, second = await gateway.dialer.dial(token), await gateway.dialer.dial(token)
    await first.subscribe(agent, "s1")
    await second.subscribe(agent, "s2")
    await second.subscribe(agent, "s3")
    await first.ws.close()
    await stage.row_is("a", "s1", "Disconnected", "Closed")
    await stage.row_is("a", "s2", "Live")
    await stage.row_is("a", "s3", "Live")


async def test_P4_touch_never_resurrects(stage: Stage, still_gateway: Running, admin_kube: Kube) -> None:
    """A row deleted by hand stays deleted, and its socket is asked to come back."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peer = await still_gateway.dialer.dial(token)
    await peer.subscribe(agent, "s1")
    await admin_kube.delete(SUBSCRIPTIONS, stage.namespace, subscription_name("a", "s1"))
    frame = await peer.disconnected()
    assert (frame["reason"], frame["reconnect"]) == ("lease_lost", True)
    await still_gateway.pass_time(20)
    assert await stage.row("a", "s1") is None


async def test_P4_touch_itself_notices_a_missing_row(stage: Stage, still_gateway: Running, admin_kube: Kube) -> None:
    """Also when the watch tells nothing: the renewal is refused, writes nothing, and the socket is told."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    still_gateway.gateway.presence.deleted = lambda _: None  # type: ignore[assignment,method-assign]
    peer = await still_gateway.dialer.dial(token)
    await peer.subscribe(agent, "s1")
    await admin_kube.delete(SUBSCRIPTIONS, stage.namespace, subscription_name("a", "s1"))
    await still_gateway.pass_time(20)
    assert (await peer.disconnected())["reason"] == "lease_lost"
    assert still_gateway.gateway.metrics.touches.labels("refused")._value.get() == 1
    assert await stage.row("a", "s1") is None


async def test_P5_touch_of_another_epoch_writes_nothing(stage: Stage, still_gateway: Running, gateway: Running) -> None:
    """A renewal under a token that was replaced is refused by the API server, and the socket is told so."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    still_gateway.gateway.presence.deleted = lambda _: None  # type: ignore[assignment,method-assign]
    old = await still_gateway.dialer.dial(token)
    await old.subscribe(agent, "s1")
    new = await gateway.dialer.dial(token)
    await new.subscribe(agent, "s1")
    before = await stage.row("a", "s1")
    await still_gateway.pass_time(20)
    assert (await old.disconnected())["reason"] == "replaced"
    assert await stage.row("a", "s1") == before


async def test_P4_expired_row_stays_expired(stage: Stage, gateway: Running, operator_kube: Kube) -> None:
    """A session the operator gave up is asked to come back, which makes it live again under a new token."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peer = await gateway.dialer.dial(token)
    attached = await peer.subscribe(agent, "s1")
    row = await stage.row("a", "s1")
    assert row
    await operator_kube.patch_status(SUBSCRIPTIONS, row, {"phase": "Expired", "reason": "Stale"})
    frame = await peer.disconnected()
    assert (frame["reason"], frame["reconnect"]) == ("lease_lost", True)
    await stage.row_is("a", "s1", "Expired", "Stale")
    again = await gateway.dialer.dial(token)
    assert (await again.subscribe(agent, "s1"))["token"] != attached["token"]
    assert (await stage.row_is("a", "s1", "Live"))["transitions"] == 1


async def test_P3_touch_renews_at_each_heartbeat(stage: Stage, still_gateway: Running) -> None:
    """The row's renewTime moves with the agent's heartbeat while the peer answers pings, and the Lease says so."""
    token = await stage.person("alice")
    agent = await stage.agent("a", "alice", timing={"heartbeatSeconds": 4, "staleAfterSeconds": 12})
    peer = await still_gateway.dialer.dial(token)
    await peer.subscribe(agent, "s1")
    first = (await stage.row_is("a", "s1", "Live"))["renewTime"]
    await still_gateway.pass_time(6)
    await eventually(lambda: _renewed_after(stage, first))
    await still_gateway.pass_time(6)
    lease = await stage.admin.get(LEASES, "belay", still_gateway.identity)
    assert lease["metadata"]["annotations"]["belay.dev/touch-seconds"] == "4"
    assert lease["metadata"]["labels"]["belay.dev/component"] == "gateway"


async def _renewed_after(stage: Stage, first: str) -> bool:
    row = await stage.row("a", "s1")
    return bool(row and row["status"]["renewTime"] > first)


async def test_P5_takeover_replaces_the_old_socket(stage: Stage, gateway: Running) -> None:
    """A new subscribe of the same session has a new token; the old socket is told, and its end changes nothing."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    old, new = await gateway.dialer.dial(token), await gateway.dialer.dial(token)
    first = await old.subscribe(agent, "s1")
    second = await new.subscribe(agent, "s1")
    assert first["token"] != second["token"]
    frame = await old.disconnected()
    assert (frame["reason"], frame["reconnect"]) == ("replaced", False)
    await gateway.gateway.tasks.finish(5)
    status = await stage.row_is("a", "s1", "Live")
    assert (status["token"], status["transitions"]) == (second["token"], 1)


async def test_P1_a_new_session_is_not_looked_for(stage: Stage, gateway: Running) -> None:
    """Its row is made and claimed, and nothing is read before; of one that stands it is read who holds it."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peer = await gateway.dialer.dial(token)
    await peer.subscribe(agent, "s1")
    assert _asked(stage) == ["create", "patch"]
    await peer.ws.close()
    await stage.row_is("a", "s1", "Disconnected", "Closed")
    await eventually(lambda: (stage.namespace, subscription_name("a", "s1")) in gateway.gateway.presence._rows)
    again = await gateway.dialer.dial(token)
    await again.subscribe(agent, "s1")
    assert _asked(stage) == ["create", "patch", "patch", "get", "patch"]


def _asked(stage: Stage) -> list[str]:
    """What gateways asked of the row of session `s1`, in order."""
    lines = [line for line in stage.plane.audit_log.read_text().splitlines() if stage.namespace in line]
    entries = [entry for line in lines if (entry := json.loads(line))["user"]["username"] == GATEWAY]
    name = subscription_name("a", "s1")
    return [entry["verb"] for entry in entries if (entry.get("objectRef") or {}).get("name") == name]


async def test_P5_takeover_where_no_more_rows_may_be_made(
    stage: Stage, gateway: Running, other_gateway: Running
) -> None:
    """A quota refuses to make even the row that stands: its session moves to another gateway all the same."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    old, new = await gateway.dialer.dial(token), await other_gateway.dialer.dial(token)
    first = await old.subscribe(agent, "s1")
    count = "count/agentsubscriptions.belay.dev"
    body = {"metadata": {"name": "q"}, "spec": {"hard": {count: "0"}}}
    await stage.admin.create(QUOTAS, stage.namespace, body)

    async def enforced() -> bool:
        # What the controller that counts would write once it has looked for new types, which it does every 30 s.
        counted = {"status": {"hard": {count: "0"}, "used": {count: "0"}}}
        await stage.admin.patch(QUOTAS, stage.namespace, "q", counted, subresource="status")
        answer = await new.asks(identifier(agent_id=agent, session_id=f"new-{next(numbers)}"))
        return "exceeded quota" in answer.get("message", "")

    numbers = itertools.count()
    await eventually(enforced)
    assert (await new.subscribe(agent, "s1"))["token"] != first["token"]
    assert (await old.disconnected())["reason"] == "replaced"


async def test_P5_takeover_across_gateways(stage: Stage, gateway: Running, other_gateway: Running) -> None:
    """The gateway that lost the session hears of it and closes its socket."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    old = await gateway.dialer.dial(token)
    await old.subscribe(agent, "s1")
    new = await other_gateway.dialer.dial(token)
    second = await new.subscribe(agent, "s1")
    assert (await old.disconnected())["reason"] == "replaced"
    await gateway.gateway.tasks.finish(5)
    status = await stage.row_is("a", "s1", "Live")
    assert (status["token"], status["holderIdentity"]) == (second["token"], other_gateway.identity)


@pytest.mark.parametrize("gone", [False, True], ids=["while it is live", "after it was lost"])
async def test_P5_another_user_cannot_take_a_session_over(stage: Stage, gateway: Running, gone: bool) -> None:
    """Also an owner of the agent is refused a session that another user attached."""
    alice, bob = await stage.person("alice"), await stage.person("bob")
    agent = await stage.agent("a", "alice", "bob")
    holder = await gateway.dialer.dial(alice)
    await holder.subscribe(agent, "s1")
    if gone:
        await holder.ws.close()
        await stage.row_is("a", "s1", "Disconnected", "Closed")
    thief = await gateway.dialer.dial(bob)
    answer = await thief.asks(identifier(agent_id=agent, session_id="s1"))
    assert (answer["type"], answer["reason"]) == ("reject_subscription", "forbidden")
    row = await stage.row("a", "s1")
    assert row
    assert row["status"]["user"].endswith(":alice")


async def test_C6_every_end_marks_the_row(stage: Stage, gateway: Running) -> None:
    """Close, unsubscribe, goodbye and a broken connection all end in Disconnected, each with its reason."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peer = await gateway.dialer.dial(token)
    for session in ("left", "kept"):
        await peer.subscribe(agent, session)
    await peer.send(command="unsubscribe", identifier=identifier(agent_id=agent, session_id="left"))
    await stage.row_is("a", "left", "Disconnected", "Unsubscribed")
    await stage.row_is("a", "kept", "Live")
    cut(peer)
    status = await stage.row_is("a", "kept", "Disconnected", "ConnectionLost")
    assert status["disconnectedTime"]
    polite = await gateway.dialer.dial(token)
    await polite.subscribe(agent, "polite")
    answer = await polite.act(identifier(agent_id=agent, session_id="polite"), "goodbye")
    assert answer["type"] == "ack"
    assert (await polite.disconnected())["reconnect"] is False
    await stage.row_is("a", "polite", "Disconnected", "Goodbye")


async def test_P6_failed_mark_is_written_with_a_later_renewal(stage: Stage, still_gateway: Running) -> None:
    """While the API server refuses the mark the row stays Live; the next renewal of the Lease writes it (C6)."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    peer = await still_gateway.dialer.dial(token)
    await peer.subscribe(agent, "s1")
    presence = still_gateway.gateway.presence
    real, presence._kube = presence._kube, _Refusing(presence._kube)  # type: ignore[assignment]
    await peer.ws.close()
    marks = still_gateway.gateway.metrics.row_writes.labels("disconnect", "failed")
    await eventually(lambda: marks._value.get() > 0)
    await stage.row_is("a", "s1", "Live")
    presence._kube = real
    await still_gateway.pass_time(6)
    await stage.row_is("a", "s1", "Disconnected", "Closed")


class _Refusing:
    """A client whose patches fail, as in an outage."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    async def patch(self, *_: object, **__: object) -> None:
        """Fail."""
        raise Unreachable("refused by the test")


async def test_P6_row_without_a_socket_is_marked(stage: Stage, still_gateway: Running, gateway_kube: Kube) -> None:
    """A row of this gateway that no socket stands behind is found and marked with the next renewal."""
    row = await gateway_kube.create(SUBSCRIPTIONS, stage.namespace, new_row(Ref(stage.namespace, "a"), "ghost"))
    status = claimed(row, "somebody", still_gateway.identity, "t", still_gateway.clock.now())
    await gateway_kube.patch_status(SUBSCRIPTIONS, row, status)
    await eventually(lambda: still_gateway.gateway.presence._rows)
    await still_gateway.pass_time(6)
    await stage.row_is("a", "ghost", "Disconnected", "ConnectionLost")


async def test_P9_silent_peer_is_dropped_in_time(stage: Stage, still_gateway: Running) -> None:
    """44 s after the last byte it is there, at 46 s it is not; a peer that answers pings stays."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    silent = await still_gateway.dialer.dial(token, autoping=False)
    lively = await still_gateway.dialer.dial(token)
    await silent.subscribe(agent, "silent")
    await lively.subscribe(agent, "lively")
    await still_gateway.pass_time(44)
    assert not [f for f in silent.frames if f.get("type") == "disconnect"]
    assert not silent.ws.closed
    await still_gateway.pass_time(2)
    frame = await silent.disconnected()
    assert (frame["reason"], frame["reconnect"]) == ("silent", True)
    await stage.row_is("a", "silent", "Disconnected", "Silent")
    await stage.row_is("a", "lively", "Live")


async def test_P9_frozen_process_blames_no_peer(stage: Stage, still_gateway: Running) -> None:
    """After a stand-still of the gateway itself its peers get the time to answer a ping; a silent one goes then."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    silent = await still_gateway.dialer.dial(token, autoping=False)
    lively = await still_gateway.dialer.dial(token)
    await silent.subscribe(agent, "silent")
    await lively.subscribe(agent, "lively")
    await still_gateway.pass_time(2)
    still_gateway.clock._elapsed += 60  # type: ignore[attr-defined]
    await still_gateway.pass_time(1)
    assert not [f for peer in (silent, lively) for f in peer.frames if f.get("type") == "disconnect"]
    await still_gateway.pass_time(6)
    assert (await silent.disconnected())["reason"] == "silent"
    await stage.row_is("a", "lively", "Live")


async def test_P5_takeover_ends_one_subscription_of_a_shared_socket(stage: Stage, gateway: Running) -> None:
    """The others on that socket go on; the one that lost its session is told why."""
    token, agent = await stage.person("alice"), await stage.agent("a", "alice")
    shared, new = await gateway.dialer.dial(token), await gateway.dialer.dial(token)
    await shared.subscribe(agent, "s1")
    await shared.subscribe(agent, "s2")
    await new.subscribe(agent, "s1")
    told = await eventually(lambda: [f for f in shared.frames if f.get("type") == "reject_subscription"])
    assert (told[0]["identifier"], told[0]["reason"], bool(told[0]["message"])) == (
        identifier(agent_id=agent, session_id="s1"),
        "replaced",
        True,
    )
    text = identifier(agent_id=agent, session_id="s2")
    assert (await shared.act(text, "heartbeat", name="x", attempt=1))["code"] == "not_found"
    await stage.row_is("a", "s2", "Live")
