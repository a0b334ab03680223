"""Permissions on real sockets: asked through a gateway, decided as with kubectl, told once, replayed when asked."""

import asyncio
import itertools
from typing import Any, cast

import pytest

from belay_api.names import Ref, permission_name
from belay_api.permissionrequest import MAX_OPEN_PERMISSIONS
from belay_kube.client import AGENTS, PERMISSION_REQUESTS, Collection, Json, Kube
from belay_kube.clock import FakeClock, SystemClock
from belay_kube.errors import Invalid
from gateway.peer import Frame, Peer, identifier
from gateway.slow import CountedLists, Gap
from gateway.stage import Running, Stage, running
from waiting import eventually

ADMIN = "belay-admin"
DECISION = "permission_decision"
QUOTAS = Collection("api/v1", "resourcequotas")


class Asking:
    """One session of agent `a` on one socket."""

    def __init__(self, stage: Stage, token: str, agent: str, session: str) -> None:
        self.stage = stage
        self.token = token
        self.session = session
        self.text = identifier(agent_id=agent, session_id=session)
        self.agent = agent
        self.peer: Peer

    async def attach(self, to: Running) -> "Asking":
        """Attach to a gateway, with a new socket."""
        self.peer = await to.dialer.dial(self.token)
        await self.peer.subscribe(self.agent, self.session)
        return self

    async def leave(self) -> None:
        """Close the socket."""
        await self.peer.ws.close()

    async def asks(self, request_id: str = "1", **fields: Any) -> Frame:
        """Request a permission; returns the answer."""
        given = {"tool": "Bash", "description": "runs a command", "input_preview": "ls", **fields}
        return await self.peer.act(self.text, "request_permission", request_id=request_id, **given)

    async def replays(self, *request_ids: Any) -> Frame:
        """Ask for what was decided; all that comes of it came before the answer."""
        return await self.peer.act(self.text, "replay_permissions", request_ids=list(request_ids))

    def decided(self, **fields: Any) -> list[Frame]:
        """The decisions that were heard so far."""
        return self.peer.heard(DECISION, **fields)

    async def request(self, name: str) -> Json:
        """A PermissionRequest as it is now."""
        return await self.stage.admin.get(PERMISSION_REQUESTS, self.stage.namespace, name)

    async def decide(self, name: str, behavior: str = "Allow", **more: str) -> Json:
        """Decide as the administrator, with what kubectl would send."""
        decision = {"behavior": behavior, "decidedBy": ADMIN, **more}
        change = {"spec": {"decision": decision}}
        return await self.stage.admin.patch(PERMISSION_REQUESTS, self.stage.namespace, name, change)

    async def operate(self, name: str, **status: Any) -> Json:
        """The operator's part."""
        return await self.stage.operator.patch_status(PERMISSION_REQUESTS, await self.request(name), status)


@pytest.fixture
async def asking(stage: Stage, gateway: Running) -> Asking:
    """Session `s1` of agent `a`, attached."""
    return await (await one(stage)).attach(gateway)


async def one(stage: Stage, name: str = "a", session: str = "s1") -> Asking:
    """A session of a new agent, not attached yet."""
    token = await stage.person(f"owner-of-{name}")
    return Asking(stage, token, await stage.agent(name, f"owner-of-{name}"), session)


async def test_a_request_becomes_an_object(asking: Asking) -> None:
    """The ack names it; it says what was asked, belongs to its Agent, and goes with it."""
    answer = await asking.asks("7", expires_after_seconds=60)
    name = permission_name("a", "s1", "7", "Bash", "ls")
    assert (answer["type"], answer["name"]) == ("ack", name)
    made = await asking.request(name)
    agent = await asking.stage.admin.get(AGENTS, asking.stage.namespace, "a")
    (owner,) = made["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Agent", agent["metadata"]["uid"])
    asked = {key: value for key, value in made["spec"].items() if key != "requestedTime"}
    assert asked == {
        "agentRef": {"name": "a"},
        "sessionId": "s1",
        "requestId": "7",
        "tool": "Bash",
        "description": "runs a command",
        "inputPreview": "ls",
        "expiresAfterSeconds": 60,
    }


async def test_a_decision_is_told_once(asking: Asking) -> None:
    """It comes when it is made, with who made it and why; what changes afterwards, as the status, says nothing new."""
    name = (await asking.asks())["name"]
    await asking.decide(name, "Deny", reason="not today")
    heard = await asking.peer.hears(DECISION)
    wanted = {"request_id": "1", "name": name, "behavior": "Deny", "reason": "not today", "decided_by": ADMIN}
    assert heard == {"type": DECISION, **wanted}
    label = {"metadata": {"labels": {"seen": "yes"}}}
    await asking.stage.admin.patch(PERMISSION_REQUESTS, asking.stage.namespace, name, label)
    await asking.operate(name, phase="Denied", reason="Decided")
    second = (await asking.asks("2"))["name"]
    await asking.decide(second)
    await asking.peer.hears(DECISION, name=second)
    assert len(asking.decided(name=name)) == 1


async def test_the_same_question_is_the_same_object(asking: Asking) -> None:
    """Asked twice, also at once, it is one object; once decided, the answer comes with the ack."""
    first, again = await asyncio.gather(asking.asks(), asking.asks())
    assert first["name"] == again["name"]
    await asking.decide(first["name"])
    await asking.peer.hears(DECISION)
    await asking.operate(first["name"], phase="Allowed", reason="Decided")
    await asking.asks()
    assert len(asking.decided()) == 2


async def test_C4_each_recorded_decision_is_sent_again(asking: Asking) -> None:
    """Exactly one for each id, however often the list names it; asked twice, it comes twice."""
    names = {i: (await asking.asks(i))["name"] for i in ("1", "2")}
    for request_id, behavior in (("1", "Allow"), ("2", "Deny")):
        await asking.decide(names[request_id], behavior)
        await asking.peer.hears(DECISION, name=names[request_id])
    for times in (2, 3):
        assert (await asking.replays("1", "2", "1"))["type"] == "ack"
        assert len(asking.decided(request_id="1", behavior="Allow")) == times
        assert len(asking.decided(request_id="2", behavior="Deny")) == times


async def test_C4_nothing_is_said_of_what_has_no_decision(asking: Asking) -> None:
    """Undecided, unknown and expired ids: silence, and an ack."""
    undecided, expired = (await asking.asks("u"))["name"], (await asking.asks("e"))["name"]
    await asking.operate(expired, phase="Expired", reason="NotDecided")
    assert (await asking.replays("u", "e", "unknown"))["type"] == "ack"
    assert asking.decided() == []
    assert "decision" not in (await asking.request(undecided))["spec"]


async def test_C4_nothing_is_said_of_others_ids(asking: Asking, gateway: Running) -> None:
    """Neither another agent's nor another session's decision is sent, and nothing reaches their sockets."""
    other_agent = await (await one(asking.stage, "b")).attach(gateway)
    other_session = Asking(asking.stage, asking.token, asking.agent, "s2")
    await other_session.attach(gateway)
    for other in (other_agent, other_session):
        name = (await other.asks("theirs"))["name"]
        await other.decide(name)
        await other.peer.hears(DECISION)
    await asking.replays("theirs")
    assert asking.decided() == []
    assert [len(other.decided()) for other in (other_agent, other_session)] == [1, 1]


async def test_C4_an_old_decision_is_no_answer_to_other_content(asking: Asking) -> None:
    """The same id with another input is another request: silence until it is decided itself."""
    old = (await asking.asks(input_preview="ls"))["name"]
    await asking.decide(old)
    await asking.peer.hears(DECISION, name=old)
    new = (await asking.asks(input_preview="rm -rf /"))["name"]
    assert new != old
    await asking.replays("1")
    assert [heard["name"] for heard in asking.decided()] == [old]
    await asking.decide(new, "Deny")
    await asking.peer.hears(DECISION, name=new)
    await asking.replays("1")
    assert [heard["name"] for heard in asking.decided()] == [old, new, new]


async def test_C4_what_was_asked_last_counts_also_when_it_is_an_old_question(asking: Asking) -> None:
    """Asked, replaced by another question of that id, and asked again: the id means the first again."""
    first = (await asking.asks(input_preview="ls"))["name"]
    await asking.decide(first)
    await asking.peer.hears(DECISION, name=first)
    second = (await asking.asks(input_preview="cat"))["name"]
    await asking.decide(second, "Deny")
    await asking.peer.hears(DECISION, name=second)
    await asking.asks(input_preview="ls")
    await asking.replays("1")
    assert [heard["name"] for heard in asking.decided()] == [first, second, first, first]


async def test_C4_a_question_that_was_replaced_can_not_be_decided(asking: Asking) -> None:
    """Whoever finds the old one sees that it expired, and is told so when they decide it all the same."""
    old = (await asking.asks(input_preview="ls"))["name"]
    new = (await asking.asks(input_preview="cat"))["name"]
    status = (await asking.request(old))["status"]
    assert (status["phase"], status["reason"]) == ("Expired", "Superseded")
    assert new in status["message"]
    with pytest.raises(Invalid, match="has expired can't be decided"):
        await asking.decide(old)


@pytest.mark.parametrize(
    "request_ids", [[], None, "1", {"1": 1}, [1], [""], ["a b"], ["x" * 129], ["1"] * 101], ids=str
)
async def test_C4_a_list_that_is_none_is_an_error_and_nothing_else(asking: Asking, request_ids: Any) -> None:
    """Empty or malformed: one error that names the field, no decision."""
    name = (await asking.asks())["name"]
    await asking.decide(name)
    await asking.peer.hears(DECISION)
    answer = await asking.peer.act(asking.text, "replay_permissions", request_ids=request_ids)
    assert (answer["type"], answer["code"]) == ("error", "invalid")
    assert "request_ids" in answer["message"]
    assert len(asking.decided()) == 1


async def test_C4_a_topic_takes_no_replay(asking: Asking) -> None:
    """On a topic's subscription it is refused, and nothing is sent."""
    name = (await asking.asks())["name"]
    await asking.decide(name)
    await asking.peer.hears(DECISION)
    topic = identifier(topic_id=f"{asking.stage.namespace}/session/a/s1")
    assert (await asking.peer.asks(topic))["type"] == "confirm_subscription"
    await asking.peer.start(topic, "replay_permissions", request_ids=["1"])
    assert (await asking.peer.hears("error", of=topic))["code"] == "forbidden"
    assert len(asking.decided()) == 1


async def test_C4_only_the_asking_socket_is_told(asking: Asking, other_gateway: Running) -> None:
    """The other session of the agent, on another gateway, hears nothing of it."""
    other = await Asking(asking.stage, asking.token, asking.agent, "s2").attach(other_gateway)
    name = (await asking.asks())["name"]
    await asking.decide(name)
    await asking.peer.hears(DECISION)
    await asking.replays("1")
    await other.replays("1")
    assert (len(asking.decided()), len(other.decided())) == (2, 0)


async def test_C5_a_decision_made_meanwhile_is_received_after_replay(asking: Asking, other_gateway: Running) -> None:
    """The agent was away, the operator has long settled it, the gateway is another: the replay brings it."""
    name = (await asking.asks())["name"]
    await asking.leave()
    await asking.decide(name)
    await asking.operate(name, phase="Allowed", reason="Decided", completionTime="2020-01-02T03:04:05.000000Z")
    await asking.attach(other_gateway)
    assert asking.decided() == []
    await asking.replays("1")
    assert [heard["behavior"] for heard in asking.decided()] == ["Allow"]


async def test_C5_a_decision_is_received_after_every_gateway_ended(stage: Stage, gateway_kube: Kube) -> None:
    """Nothing of it is kept in a process."""
    asking = await one(stage)
    async with running(gateway_kube, SystemClock()) as first:
        await asking.attach(first)
        name = (await asking.asks())["name"]
    await asking.decide(name)
    async with running(gateway_kube, SystemClock()) as second:
        await asking.attach(second)
        await asking.replays("1")
        assert [heard["name"] for heard in asking.decided()] == [name]


async def test_the_gateway_that_has_the_session_tells(asking: Asking, other_gateway: Running) -> None:
    """Asked through one gateway, decided when the session is attached to another: told there, once."""
    name = (await asking.asks())["name"]
    await asking.leave()
    await asking.attach(other_gateway)
    await asking.decide(name)
    await asking.peer.hears(DECISION, name=name)
    await asking.operate(name, phase="Allowed", reason="Decided")
    await asking.replays("none")
    assert len(asking.decided()) == 1


async def test_resolved_ends_the_question(asking: Asking) -> None:
    """It expires with that reason, nobody can decide it, saying so twice is fine; asked again it is refused."""
    name = (await asking.asks())["name"]
    for _ in range(2):
        assert (await asking.peer.act(asking.text, "resolved", request_id="1"))["name"] == name
    status = (await asking.request(name))["status"]
    assert (status["phase"], status["reason"]) == ("Expired", "Resolved")
    with pytest.raises(Invalid, match="has expired can't be decided"):
        await asking.decide(name)
    refused = await asking.asks()
    assert (refused["type"], refused["code"]) == ("error", "expired")
    assert "another request_id" in refused["message"]


async def test_resolved_leaves_a_decision_as_it_is(asking: Asking) -> None:
    """What was decided before is final; an id nobody asked is an error."""
    name = (await asking.asks())["name"]
    await asking.decide(name)
    assert (await asking.peer.act(asking.text, "resolved", request_id="1"))["type"] == "ack"
    assert (await asking.request(name)).get("status") is None
    unknown = await asking.peer.act(asking.text, "resolved", request_id="other")
    assert (unknown["type"], unknown["code"]) == ("error", "not_found")


async def test_a_session_asks_for_work_that_it_holds(asking: Asking) -> None:
    """For work of another holder, on offer or missing it is refused, with what to do; nothing is made."""
    await asking.stage.offered("mine", "a")
    await asking.peer.hears("dispatch", name="mine")
    for name, code in (("mine", "not_holder"), ("none", "not_found")):
        refused = await asking.asks("early", delegation=name)
        assert (refused["type"], refused["code"]) == ("error", code)
    await asking.peer.act(asking.text, "accept", name="mine", attempt=1)
    asked = await asking.asks("late", delegation="mine")
    assert (await asking.request(asked["name"]))["spec"]["delegationRef"] == {"name": "mine"}
    made = (await asking.stage.admin.list(PERMISSION_REQUESTS, asking.stage.namespace))["items"]
    assert [each["spec"]["requestId"] for each in made] == ["late"]


async def test_open_questions_of_a_session_are_bounded(asking: Asking) -> None:
    """One more than the bound is refused until one is decided or resolved; a replaced one doesn't count."""
    for start in range(0, MAX_OPEN_PERMISSIONS, 32):
        asked = await asyncio.gather(*(asking.asks(str(n)) for n in range(start, start + 32)))
        assert {answer["type"] for answer in asked} == {"ack"}
    refused = await asking.asks("more")
    assert (refused["type"], refused["code"]) == ("error", "invalid")
    assert str(MAX_OPEN_PERMISSIONS) in refused["message"]
    assert (await asking.asks("0", input_preview="other"))["type"] == "ack"
    await asking.peer.act(asking.text, "resolved", request_id="1")
    assert (await asking.asks("more"))["type"] == "ack"


async def test_new_questions_of_an_agent_are_limited(stage: Stage, still_gateway: Running) -> None:
    """Asked and resolved without end they would fill the store: refused, until time has passed."""
    asking = await (await one(stage)).attach(still_gateway)
    for n in range(128):
        await asking.asks("1", input_preview=str(n))
    refused = await asking.asks("1", input_preview="more")
    assert (refused["type"], refused["code"]) == ("error", "rate_limited")
    assert (await asking.asks("1", input_preview="127"))["type"] == "ack"
    await still_gateway.pass_time(2)
    assert (await asking.asks("1", input_preview="more"))["type"] == "ack"


async def test_C4_of_many_ids_each_decision_is_sent_again(asking: Asking) -> None:
    """More than are looked up one by one, among others that are not asked for: what each means now."""
    for n in range(12):
        name = (await asking.asks(str(n)))["name"]
        await asking.decide(name)
        await asking.peer.hears(DECISION, name=name)
    latest = (await asking.asks("3", input_preview="rm"))["name"]
    await asking.decide(latest, "Deny")
    await asking.peer.hears(DECISION, name=latest)
    wanted = [str(n) for n in range(11)]
    told = len(asking.decided())
    assert (await asking.replays(*wanted, "unknown"))["type"] == "ack"
    again = asking.decided()[told:]
    assert [heard["request_id"] for heard in again] == wanted
    assert [heard["name"] for heard in again if heard["behavior"] == "Deny"] == [latest]


async def test_who_asks_too_fast_makes_no_lists(stage: Stage, gateway_kube: Kube) -> None:
    """The limit comes first: what is refused costs the API server next to nothing."""
    kube = CountedLists(gateway_kube, PERMISSION_REQUESTS)
    async with running(cast(Kube, kube), FakeClock()) as gateway:
        asking = await (await one(stage)).attach(gateway)
        while gateway.gateway.permissions._budgets.take(Ref(stage.namespace, "a")):
            pass
        before = kube.lists
        assert (await asking.asks())["code"] == "rate_limited"
        assert kube.lists == before


async def test_a_question_that_can_not_be_kept_leaves_the_old_one(asking: Asking) -> None:
    """A quota refuses the new one: the old one of that id is still asked, and can be decided."""
    stage, count = asking.stage, "count/permissionrequests.belay.dev"
    old = (await asking.asks(input_preview="ls"))["name"]
    body = {"metadata": {"name": "q"}, "spec": {"hard": {count: "0"}}}
    await stage.admin.create(QUOTAS, stage.namespace, body)

    async def enforced() -> bool:
        # What the controller that counts would write once it has looked for new types, which it does every 30 s.
        counted = {"status": {"hard": {count: "0"}, "used": {count: "0"}}}
        await stage.admin.patch(QUOTAS, stage.namespace, "q", counted, subresource="status")
        probe = await asking.asks("probe", input_preview=str(next(numbers)))
        return "exceeded quota" in probe.get("message", "")

    numbers = itertools.count()
    await eventually(enforced)
    answer = await asking.asks(input_preview="cat")
    assert (answer["code"], "exceeded quota: q" in answer["message"]) == ("forbidden", True), answer
    assert "delegation" not in answer["message"]
    assert (await asking.request(old)).get("status") is None
    await asking.decide(old)
    await asking.peer.hears(DECISION, name=old)


async def test_a_decision_that_was_settled_unseen_is_told(asking: Asking, gateway: Running) -> None:
    """A reader that lost its place finds the request gone from its selection, and reads what was decided."""
    name = (await asking.asks())["name"]
    decisions, undecided = gateway.gateway.decisions, await asking.request(name)

    def known() -> bool:
        return any(ref.name == name for ref in decisions._seen)

    await eventually(known)
    await asking.decide(name)
    await asking.peer.hears(DECISION, name=name)
    await asking.operate(name, phase="Allowed", reason="Decided")
    await eventually(lambda: not known())
    # What the reader tells when both happened between two of its lists.
    decisions.changed(undecided)
    decisions.deleted({"metadata": {**undecided["metadata"], "resourceVersion": "1"}})
    await eventually(lambda: len(asking.decided(name=name)) == 2)


async def test_what_is_told_of_a_settled_request_is_not_kept(asking: Asking, gateway: Running) -> None:
    """Read before it was settled, told after the reader has seen it go: nobody would forget it again."""
    name = (await asking.asks())["name"]
    decisions = gateway.gateway.decisions
    await asking.decide(name)
    await asking.peer.hears(DECISION, name=name)
    unsettled = await asking.request(name)
    await asking.operate(name, phase="Allowed", reason="Decided")
    await eventually(lambda: all(ref.name != name for ref in decisions._seen))
    decisions.note_told(unsettled)
    assert all(ref.name != name for ref in decisions._seen)


@pytest.mark.parametrize("anew", [True, False], ids=["asked", "asked again"])
async def test_C5_fault_10_a_decision_made_while_the_watch_was_away_is_told(
    stage: Stage, gateway_kube: Kube, anew: bool
) -> None:
    """Asked, decided and settled before the watch is back, and the new list doesn't select it: told all the same."""
    kube = Gap(gateway_kube, PERMISSION_REQUESTS)
    async with running(gateway_kube, SystemClock()) as other, running(cast(Kube, kube), SystemClock()) as gateway:
        asking = await one(stage)
        await eventually(lambda: kube.away)
        if not anew:
            await asking.attach(other)
            await asking.asks()
            await asking.leave()
        await asking.attach(gateway)
        name = (await asking.asks())["name"]
        await asking.decide(name)
        await asking.operate(name, phase="Allowed", reason="Decided")
        assert not asking.decided()
        kube.back.set()
        await asking.peer.hears(DECISION, name=name)
        later = (await asking.asks("later"))["name"]
        await asking.decide(later)
        await asking.peer.hears(DECISION, name=later)
        assert [heard["name"] for heard in asking.decided()] == [name, later]
