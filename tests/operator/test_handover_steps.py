"""The steps of a handover one by one, on the real API server: each may be the last before a crash (L16, fault 1)."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from belay_api.names import Ref, opened_session_name, prompt_message_name
from belay_api.reasons import Reason
from belay_api.times import to_wire
from belay_api.timing import Times
from belay_api.transitions import Phase
from belay_kube.client import AGENTS, DELEGATIONS, MESSAGES, SESSIONS, Collection, Json, Kube
from belay_kube.clock import FakeClock, SystemClock
from belay_kube.errors import Unreachable
from belay_operator.apply import Applier
from belay_operator.decisions.view import Change
from belay_operator.delegations import Delegations
from belay_operator.drain.ends import Ends
from belay_operator.drain.handover import Handover
from belay_operator.drain.store import Store
from belay_operator.events import Recorder
from belay_operator.metrics import Metrics
from belay_operator.observe.index import Index
from belay_operator.observe.mailbox_records import MessageRecord, SessionRecord
from belay_operator.observe.presence import Presence
from belay_operator.observe.records import Work
from belay_operator.observe.views import Gatherer
from belay_operator.seen import Seen

from .builders import delegation
from .mail import Mail


class Dying(Kube):
    """Reads, and writes so often; after that the process is dead."""

    def __init__(self, inner: Kube, writes: int) -> None:
        super().__init__(inner.api)
        self._left = writes

    async def _json(self, method: str, url: str, *rest: Any, **more: Any) -> Json:
        if method != "GET":
            self._left -= 1
        if self._left < 0:
            raise Unreachable("dead")
        return await super()._json(method, url, *rest, **more)


class Site:
    """A namespace with a Model agent, and no operator but the handover that the test makes."""

    def __init__(self, admin: Kube, operator: Kube, namespace: str) -> None:
        self.admin = admin
        self.operator = operator
        self.namespace = namespace
        self.mail = Mail(admin, namespace)
        self.seen = self._seen()

    def _seen(self) -> Seen:
        clock = FakeClock(SystemClock().now())
        self.clock = clock
        return Seen(Index(Times()), Presence(clock, 45), clock, Metrics())

    def handover(self, kube: Kube | None = None) -> Handover:
        """That of an operator that has just started, with `kube` instead of its own client."""
        kube = kube or self.operator
        self.seen = self._seen()
        metrics, applier = Metrics(), self._applier(kube)
        gatherer = Gatherer(self.seen.index, self.seen.presence, self.clock)
        delegations = Delegations(self.seen, gatherer, applier, self.clock, metrics)
        return Handover(self.seen, Store(kube, self.clock), applier, delegations.write, self.clock)

    def _applier(self, kube: Kube) -> Applier:
        metrics = Metrics()
        return Applier(kube, self.clock, Recorder(kube, self.clock, "o", metrics), metrics)

    def ends(self) -> Ends:
        """What ends delegations in the operator's name."""
        return Ends(self.seen, self._applier(self.operator))

    async def dispatched(self, name: str = "d", attempt: int = 1, session: str | None = None) -> Work:
        """A delegation that was dispatched to agent `m`."""
        given = delegation(name).to("m", session).asking("build it")
        made = await self.admin.create(DELEGATIONS, self.namespace, given.body())
        status = {
            "phase": "Dispatched",
            "attempt": attempt,
            "sessionId": session or opened_session_name("m", made["metadata"]["uid"]),
        }
        return Work.read(await self.operator.patch_status(DELEGATIONS, made, status))

    async def work(self, name: str = "d") -> Work:
        """A delegation as it is now."""
        return Work.read(await self.admin.get(DELEGATIONS, self.namespace, name))

    async def session(self, name: str) -> SessionRecord:
        """A session, seen by the present operator."""
        record = SessionRecord.read(await self.admin.get(SESSIONS, self.namespace, name))
        self.seen.saw_session(record)
        return record

    async def heard_of_mail(self) -> None:
        """The mail that is there, and no other, is seen by the present operator."""
        listed = [MessageRecord.read(obj) for obj in (await self.admin.list(MESSAGES, self.namespace))["items"]]
        for ref in self.seen.mailboxes.messages.keys() - {record.ref for record in listed}:
            self.seen.gone_message(ref)
        for record in listed:
            self.seen.saw_message(record)


@pytest.fixture
async def site(admin_kube: Kube, operator_kube: Kube, namespace: str) -> AsyncIterator[Site]:
    """With agent `m`; nothing is left to the operators of later tests."""
    made = Site(admin_kube, operator_kube, namespace)
    await made.mail.agent()
    yield made
    for collection in (DELEGATIONS, AGENTS, SESSIONS, MESSAGES):
        await admin_kube.delete(collection, namespace, "")


@pytest.mark.parametrize("writes", [0, 1, 2], ids=["before all", "after the session", "after the prompt"])
async def test_L16_a_crash_between_the_steps_of_a_handover_repeats_nothing(site: Site, writes: int) -> None:
    """Whoever comes next finishes it: one session, one prompt; and it can't be read before all is done."""
    work = await site.dispatched()
    with pytest.raises(Unreachable):
        await site.handover(Dying(site.operator, writes)).take(work)
    assert (await site.work()).phase is Phase.DISPATCHED
    handover = site.handover()
    site.seen.saw_work(await site.work())
    await handover.look(await site.work())
    done = await site.work()
    name = opened_session_name("m", done.uid)
    assert (done.phase, done.holder) == (Phase.IN_PROGRESS, name)
    session = await site.session(name)
    assert set(await site.mail.waiting(name)) == {prompt_message_name(session.uid, done.uid, 1)}
    assert handover.is_taken(session, "d")


async def test_L16_a_prompt_is_not_read_before_its_delegation_is_in_progress(site: Site) -> None:
    """The last write failed: the prompt is there, and nobody may have it."""
    work = await site.dispatched(session="chat")
    handover = site.handover(Dying(site.operator, 2))
    site.seen.saw_work(work)
    with pytest.raises(Unreachable):
        await handover.take(work)
    assert len(await site.mail.waiting("chat")) == 1
    assert not handover.is_taken(await site.session("chat"), "d")


async def test_D2_a_handover_that_was_made_is_not_made_again(site: Site) -> None:
    """What was decided on an older view finds that out, and takes in what is there."""
    old = await site.dispatched()
    handover = site.handover()
    await handover.take(old)
    version = (await site.work()).version
    await handover.take(old)
    assert (await site.work()).version == version == site.seen.index.work[old.ref].version


async def test_the_next_attempt_has_one_prompt(site: Site) -> None:
    """One of an earlier attempt that nobody has read is taken out; other mail stays."""
    await site.mail.open("chat")
    source = {"kind": "Delegation", "name": "d"}
    operator = Mail(site.operator, site.namespace)
    await operator.send("old", "chat", "prompt-old", source=source)
    await site.mail.send("hello", "chat", "other")
    work = await site.dispatched(attempt=2, session="chat")
    handover = site.handover()
    for obj in (await site.mail.waiting("chat")).values():
        site.seen.saw_message(MessageRecord.read(obj))
    await handover.take(work)
    session = await site.session("chat")
    assert set(await site.mail.waiting("chat")) == {"other", prompt_message_name(session.uid, work.uid, 2)}


async def test_D9_what_ended_otherwise_is_lost_and_what_was_answered_is_not(site: Site) -> None:
    """Cancelled, and deleted; of a prompt that waits also what was completed: nobody waits for an answer."""
    handover = site.handover()
    for name in ("done", "cancelled", "running", "unread", "gone"):
        await handover.take(await site.dispatched(name, session="chat"))
    session = await site.session("chat")
    for name in ("done", "cancelled", "running", "gone"):
        message = prompt_message_name(session.uid, (await site.work(name)).uid, 1)
        await site.admin.delete(MESSAGES, site.namespace, message)
    for name, phase in (("done", "Completed"), ("cancelled", "Cancelled"), ("unread", "Completed")):
        obj = await site.admin.get(DELEGATIONS, site.namespace, name)
        await site.operator.patch_status(DELEGATIONS, obj, {"phase": phase})
        site.seen.gone_work(Ref(site.namespace, name))
    await site.admin.delete(DELEGATIONS, site.namespace, "gone")
    site.seen.gone_work(Ref(site.namespace, "gone"))
    await site.heard_of_mail()
    obj = await site.admin.get(SESSIONS, site.namespace, "chat")
    serving = {"phase": "Idle", "serving": ["done", "cancelled", "running", "gone"]}
    await site.operator.patch_status(SESSIONS, obj, serving)
    assert await handover.lost(await site.session("chat")) == {"cancelled", "gone", "unread"}


async def test_an_answer_to_an_earlier_attempt_leaves_the_next_alone(site: Site) -> None:
    """Its own prompt waits in the mailbox: it will have an answer of its own."""
    handover = site.handover()
    work = await site.dispatched(attempt=2, session="chat")
    await handover.take(work)
    session = await site.session("chat")
    old = {
        "uid": "u",
        "name": prompt_message_name(session.uid, work.uid, 1),
        "type": "UserMessage",
        "source": {"kind": "Delegation", "name": "d"},
    }
    said = [{"type": "Text", "text": "late"}]
    turn = {"outcome": "Answered", "sequence": 1, "assistant": said, "consumed": [old], "stopReason": "end_turn"}
    await handover.settled(session, turn)
    assert (await site.work()).phase is Phase.IN_PROGRESS
    new = {**old, "name": prompt_message_name(session.uid, work.uid, 2)}
    for _ in "twice":
        await handover.settled(session, {**turn, "consumed": [new]})
    obj = await site.admin.get(DELEGATIONS, site.namespace, "d")
    assert (obj["status"]["phase"], obj["status"]["result"]) == ("Completed", {"text": "late"})


@pytest.mark.parametrize("gone", [SESSIONS, MESSAGES], ids=["session and opened anew", "prompt"])
async def test_work_that_no_session_has_fails(site: Site, gone: Collection) -> None:
    """Deleted by hand before it was read: nobody would ever answer, and the watch knows as much as it likes."""
    handover = site.handover()
    await handover.take(await site.dispatched(session="chat"))
    await handover.look(await site.work())
    assert (await site.work()).phase is Phase.IN_PROGRESS
    await site.admin.delete(
        gone, site.namespace, "chat" if gone == SESSIONS else next(iter(await site.mail.waiting("chat")))
    )
    if gone == SESSIONS:
        await site.mail.open("chat")
    await site.handover().look(await site.work())
    status = (await site.admin.get(DELEGATIONS, site.namespace, "d"))["status"]
    assert [status["phase"], status["reason"]] == ["Failed", "SessionDeleted"]
    assert "its prompt is in AgentSession chat no more" in status["message"]


async def test_L16_between_a_turn_and_the_release_work_is_left_alone(site: Site) -> None:
    """Its prompt is read and deleted, and `serving` doesn't say so yet; then it does."""
    await site.handover().take(await site.dispatched(session="chat"))
    (prompt,) = await site.mail.waiting("chat")
    await site.admin.delete(MESSAGES, site.namespace, prompt)
    claim = {"holderIdentity": "o", "token": "t", "durationSeconds": 30, "renewTime": to_wire(site.clock.now())}
    for status in ({"phase": "Awaiting", "claim": claim}, {"phase": "Idle", "claim": None, "serving": ["d"]}):
        obj = await site.admin.get(SESSIONS, site.namespace, "chat")
        await site.operator.patch_status(SESSIONS, obj, status)
        await site.handover().look(await site.work())
        assert (await site.work()).phase is Phase.IN_PROGRESS


async def test_D9_work_that_nobody_took_is_ended_without_a_holder(site: Site) -> None:
    """Named since it was dispatched, the session has never had it, and owes no word."""
    work = await site.dispatched()
    ended = await site.ends().end(
        work.ref, Change(Phase.CANCELLED, Reason.PARENT_CANCELLED, "its parent was cancelled")
    )
    assert ended is not None
    assert [ended["status"]["phase"], ended["status"].get("sessionId")] == ["Cancelled", None]
