"""What is told of a Model agent's session on its own topic, over real sockets and a real API server."""

from typing import Any, cast

import pytest

from accounts import grant, username
from belay_api.frames import MAX_FRAME_BYTES
from belay_api.messages import SessionChanged, TurnTaken
from belay_api.meta import GROUP
from belay_gateway.backlog import Shared
from belay_gateway.sessionevents import session_event, turn_event, turn_text
from belay_gateway.sessiontopic import OwnTopic, SessionTopic
from belay_gateway.watching import IDLE_SECONDS
from belay_kube.client import SESSIONS, Collection, Json, Kube
from belay_kube.clock import FakeClock
from belay_kube.errors import KubeError, NotFound, Unreachable
from gateway.caller import Caller
from gateway.conversation import MODEL, Conversation, text, tool_use
from gateway.peer import Peer, identifier
from gateway.stage import Running, Stage
from waiting import eventually

ATTACH: Json = {"apiGroups": [GROUP], "resources": ["agents"], "verbs": ["attach"]}


def reads(*resources: str) -> Json:
    """A rule that lets somebody `get` these."""
    return {"apiGroups": [GROUP], "resources": list(resources), "verbs": ["get"]}


async def permitted(stage: Stage, name: str, *rules: Json) -> str:
    """A token of somebody new who may do these."""
    token = await stage.person(name)
    single = [{**rule, "resources": [resource]} for rule in rules for resource in rule["resources"]]
    if single:
        await grant(stage.admin, stage.namespace, username(stage.namespace, name), f"role-{name}", single)
    return token


async def ear(stage: Stage, gateway: Running, topic: str, name: str, *rules: Json) -> tuple[Peer, str]:
    """Somebody new who tries to listen to a topic, and what the answer was."""
    peer = await gateway.dialer.dial(await permitted(stage, name, *rules))
    return peer, (await peer.asks(identifier(topic_id=topic)))["type"]


@pytest.fixture
async def talk(stage: Stage) -> Conversation:
    """A session of a Model agent that has taken a turn."""
    await stage.agent("m", **MODEL)
    made = Conversation(stage)
    await made.open()
    await made.turn(1, text("long ago"))
    await made.stands("Idle", turns=1)
    return made


@pytest.fixture
async def listener(stage: Stage, gateway: Running, talk: Conversation) -> Peer:
    """Who holds `attach` on the agent, listening."""
    peer, answer = await ear(stage, gateway, talk.topic, "alice", ATTACH)
    assert answer == "confirm_subscription"
    return peer


async def test_L4_answer_is_heard_as_it_grows_and_whole(talk: Conversation, listener: Peer) -> None:
    """Its end while it is written, the turn with text and tool calls, and only then that nothing more is to come.
    Nothing of before the subscription, and no renewal of a claim."""
    await talk.stands("Awaiting", progress="Let")
    await listener.hears("session", phase="Awaiting", progress="Let")
    await talk.stands("Awaiting")  # renewed
    await talk.stands("Awaiting", progress="Let me look")
    await listener.hears("session", progress="Let me look")
    said = [text("Let me look."), tool_use("toolu_1", "delegate"), text("At once.")]
    await talk.turn(2, *said, stopReason="tool_use", model="some-model-1")
    await talk.stands("Executing", turns=2, progress=None)
    turn = await listener.hears("turn", sequence=2)
    assert turn == {
        "type": "turn",
        "topic": "session/m/s1",
        "name": "s1-2",
        "sequence": 2,
        "outcome": "Answered",
        "text": "Let me look.\n\nAt once.",
        "tool_calls": [{"id": "toolu_1", "name": "delegate"}],
        "stop_reason": "tool_use",
        "model": "some-model-1",
    }
    after = await listener.hears("session", phase="Executing", turns=2)
    assert "progress" not in after
    told = [f["message"] for f in listener.frames if isinstance(f.get("message"), dict)]
    assert [(m["type"], m.get("phase")) for m in told] == [
        ("session", "Awaiting"),
        ("session", "Awaiting"),
        ("turn", None),
        ("session", "Executing"),
    ]


async def test_L9_message_that_came_back_is_an_event(talk: Conversation, listener: Peer) -> None:
    """The turn says what became of it and why; so does one that was parked or interrupted."""
    why = {"reason": "Overloaded", "message": "the provider is overloaded (529)"}
    outcomes = ("Bounced", "Parked", "Interrupted")
    for sequence, outcome in enumerate(outcomes, 2):
        await talk.turn(sequence, outcome=outcome, **why)
    await talk.stands("Idle", turns=4)
    for outcome in outcomes:
        turn = await listener.hears("turn", outcome=outcome)
        assert {key: turn.get(key) for key in ("reason", "message", "text")} == {**why, "text": None}
    assert [turn["sequence"] for turn in listener.heard("turn")] == [2, 3, 4]


async def test_L11_L12_what_stands_in_the_way_is_told(talk: Conversation, listener: Peer) -> None:
    """The last error, with the sentence for people; the conditions that hold; and when they hold no more."""
    at = "2026-01-01T00:00:00Z"
    error = {"reason": "AuthenticationFailed", "message": "the provider refused the key (401)", "time": at}
    refused = {"reason": "AuthenticationFailed", "message": "write another key", "lastTransitionTime": at}
    waits = {"reason": "AgentSuspended", "message": "agent m is suspended", "lastTransitionTime": at}
    conditions = [
        {"type": "AuthenticationRequired", "status": "True", **refused},
        {"type": "Blocked", "status": "True", **waits},
    ]
    await talk.stands("Idle", lastError=error, conditions=conditions)
    told = await listener.hears("session", reason="AuthenticationFailed")
    assert told["message"] == error["message"]
    assert told["authentication_required"] == {"reason": "AuthenticationFailed", "message": "write another key"}
    assert told["blocked"] == {"reason": "AgentSuspended", "message": "agent m is suspended"}
    await talk.stands("Idle", lastError=None, conditions=[{**c, "status": "False"} for c in conditions])
    cleared = await eventually(lambda: listener.heard("session")[1:])
    assert not cleared[0].keys() & {"reason", "message", "blocked", "authentication_required"}


async def test_C3_session_that_is_opened_or_deleted_later(
    stage: Stage, gateway: Running, talk: Conversation, listener: Peer
) -> None:
    """One may listen before it is there; its end is the last word, and another of its name begins anew."""
    early = Conversation(stage, "s2")
    peer, _ = await ear(stage, gateway, early.topic, "bob", ATTACH)
    await early.open()
    await peer.hears("session", name="s2", phase="Idle", turns=0)
    await stage.admin.delete(SESSIONS, stage.namespace, talk.name)
    assert (await listener.hears("session", phase="Deleted"))["turns"] == 1
    await talk.open()
    await listener.hears("session", phase="Idle", turns=0)


async def test_C2_session_of_another_agent_is_not_told(
    stage: Stage, gateway: Running, talk: Conversation, listener: Peer
) -> None:
    """`attach` on one agent says nothing of the conversations of another, whatever name is listened to."""
    await stage.agent("n", **MODEL)
    rule = {**ATTACH, "resourceNames": ["n"]}
    peer, answer = await ear(stage, gateway, f"{stage.namespace}/session/n/s1", "eve", rule)
    assert answer == "confirm_subscription"
    await talk.turn(2, text("a secret"))
    await talk.stands("Idle", turns=2)
    await listener.hears("session", turns=2)
    await stage.admin.delete(SESSIONS, stage.namespace, talk.name)
    own = Conversation(stage, "s1", "n")
    await own.open()
    await peer.hears("session", phase="Idle", turns=0)
    assert [m["type"] for m in (f.get("message") for f in peer.frames) if isinstance(m, dict)] == ["session"]


WHO_LISTENS = {
    "nobody": ("m", (), False),
    "reads all that is told": ("m", (reads("agentsessions", "sessionturns", "delegations"),), True),
    "reads no turns": ("m", (reads("agentsessions", "delegations"),), False),
    "reads no delegations": ("m", (reads("agentsessions", "sessionturns"),), False),
    "reads all, but it is a Channel agent's": ("c", (reads("agentsessions", "sessionturns", "delegations"),), False),
    "reads all, but there is no such agent": ("x", (reads("agentsessions", "sessionturns", "delegations"),), False),
    "holds attach": ("m", (ATTACH,), True),
    "holds attach on another": ("m", ({**ATTACH, "resourceNames": ["c"]},), False),
}


@pytest.mark.parametrize(("agent", "rules", "allowed"), WHO_LISTENS.values(), ids=WHO_LISTENS)
async def test_C2_who_may_listen(
    stage: Stage, gateway: Running, agent: str, rules: tuple[Json, ...], allowed: bool
) -> None:
    """Of a Model agent's session who may read all that is told, beside holders of `attach`."""
    await stage.agent("m", **MODEL)
    await stage.agent("c")
    _, answer = await ear(stage, gateway, f"{stage.namespace}/session/{agent}/s1", "bob", *rules)
    assert answer == ("confirm_subscription" if allowed else "reject_subscription")


async def test_C2_who_may_only_listen_says_nothing(stage: Stage, gateway: Running, talk: Conversation) -> None:
    """To broadcast on a session's own topic takes `attach`, which reading doesn't bring."""
    rules = {"bob": reads("agentsessions", "sessionturns", "delegations"), "carol": ATTACH}
    bob, carol = [Caller(gateway, stage.namespace, await permitted(stage, name, rule)) for name, rule in rules.items()]
    peer = await gateway.dialer.dial(bob.token)
    assert (await peer.asks(identifier(topic_id=talk.topic)))["type"] == "confirm_subscription"
    broadcast = f"topics/session%2F{talk.agent}%2F{talk.name}/broadcast"
    (await bob.post(broadcast, {"body": 1})).refused(403, "or the verb attach")
    assert (await carol.post(broadcast, {"body": 2})).status == 200
    assert (await peer.hears("broadcast"))["body"] == 2


async def test_C3_session_is_read_only_while_somebody_listens(stage: Stage, still_gateway: Running) -> None:
    """One reader for a session, a minute longer than its last listener; none for a session of a Channel agent."""
    talk, sessions = Conversation(stage), still_gateway.gateway.topics.sessions
    await stage.agent("m", **MODEL)
    await stage.agent("c")
    await ear(stage, still_gateway, f"{stage.namespace}/session/c/s1", "eve", ATTACH)
    assert not sessions.running
    ears = [(await ear(stage, still_gateway, talk.topic, name, ATTACH))[0] for name in ("alice", "bob")]
    (first,) = sessions.running.values()
    assert first.listeners == 2
    for peer in ears:
        await peer.ws.close()
    await eventually(lambda: first.listeners == 0)
    clock = cast(FakeClock, still_gateway.clock)
    await clock.advance(IDLE_SECONDS - 1)
    assert list(sessions.running.values()) == [first]
    await clock.advance(2)
    await eventually(lambda: not sessions.running and first.task.done())


# --- without sockets -----------------------------------------------------------------------------------------------


class Turns:
    """Stands in for a `Kube` that has turns; the first reads of one end with these errors."""

    def __init__(self, *errors: KubeError) -> None:
        self._errors = list(errors)
        self.reads: list[str] = []

    async def get(self, _path: Collection, _namespace: str | None, name: str) -> Json:
        """The turn of this name."""
        self.reads.append(name)
        if self._errors:
            raise self._errors.pop(0)
        return {"metadata": {"name": name}, "spec": {"sequence": int(name[-1]), "outcome": "Answered"}}


def session(turns: int, uid: str = "u1", **status: Any) -> Json:
    """A session of agent `m`."""
    meta = {"name": "s1", "uid": uid, "namespace": "ns"}
    return {"metadata": meta, "spec": {"agentRef": {"name": "m"}}, "status": {"turns": turns, **status}}


class Heard:
    """A topic of one session, and what it told."""

    def __init__(self, *errors: KubeError) -> None:
        self.kube, self.clock, self.told = Turns(*errors), FakeClock(), list[Shared]()
        own = OwnTopic("ns", "m", "s1")
        self.topic = SessionTopic(cast(Kube, self.kube), self.clock, own, self.told.append)

    async def hears(self, count: int) -> list[tuple[str, int]]:
        """So many events: the type and the number of each."""
        await eventually(lambda: len(self.told) >= count)
        return [
            ("turn", TurnTaken.model_validate_json(s.text).sequence)
            if s.kind == "turn"
            else ("session", SessionChanged.model_validate_json(s.text).turns)
            for s in self.told
        ]


async def test_C3_turns_since_the_last_look_are_told_in_order() -> None:
    """Also those of a time without contact, and all of a session that took the place of another."""
    heard = Heard()
    heard.topic.changed(session(1))
    heard.topic.synced()
    heard.topic.changed(session(1))
    heard.topic.lost()
    heard.topic.changed(session(3))
    heard.topic.synced()
    heard.topic.changed(session(1, uid="u2"))
    expected = [("turn", 2), ("turn", 3), ("session", 3), ("turn", 1), ("session", 1)]
    assert await heard.hears(5) == expected


async def test_C3_turn_that_cannot_be_read_delays_no_more_than_it_must() -> None:
    """What passes is waited for; a turn that is gone is left out, and so is one that can't be read for long."""
    heard = Heard(Unreachable("away"), NotFound("gone"), *[Unreachable("away")] * 5)
    heard.topic.synced()
    heard.topic.changed(session(3))

    async def told_in_time() -> bool:
        await heard.clock.advance(1.0)
        return len(heard.told) == 2

    await eventually(told_in_time)
    assert await heard.hears(2) == [("turn", 3), ("session", 3)]
    assert heard.kube.reads == ["s1-1"] * 2 + ["s1-2"] * 5 + ["s1-3"]
    heard.topic.stop()


@pytest.mark.parametrize("filler", ["x", "\x01", "\u00e9", "\U0001f600", "\ud800"], ids=ascii)
def test_L4_every_turn_fits_in_a_frame(filler: str) -> None:
    """However its text is escaped; what is cut is as much as must be, and the message says where it all is."""
    spec = {"sequence": 1, "outcome": "Answered", "assistant": [text(filler * 16_000)] * 100, "message": "m" * 1024}
    event = turn_event("session/m/s1", {"metadata": {"name": "s1-1"}, "spec": spec})
    told = turn_text("ns", event)
    longest_identifier = 2048 * 12
    assert MAX_FRAME_BYTES / 8 < len(told.encode()) < MAX_FRAME_BYTES - longest_identifier
    read = TurnTaken.model_validate_json(told) if filler != "\ud800" else None
    assert "kubectl get sessionturn s1-1 -n ns -o yaml" in told
    assert read is None or (event.text or "").startswith(read.text or "?")
    short = event.model_copy(update={"text": "short"})
    assert TurnTaken.model_validate_json(turn_text("ns", short)) == short


def test_L4_session_without_a_status_is_idle() -> None:
    """As one that was opened just now."""
    event = session_event("session/m/s1", {"metadata": {"name": "s1"}, "spec": {"agentRef": {"name": "m"}}})
    assert (event.phase, event.turns, event.wire().keys() & {"reason", "message", "blocked"}) == ("Idle", 0, set())
