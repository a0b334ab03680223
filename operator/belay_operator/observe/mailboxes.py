"""Every AgentSession that was seen, and the mail of each: never what is said in it (DESIGN.md section 8).

A claim is aged by when *we* saw it move (monotonic), never by its own times: the holder's clock may be any (L18).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable

from belay_api.names import Ref
from belay_kube.clock import Clock
from belay_operator.observe.index import Graves, older
from belay_operator.observe.mailbox_records import MessageRecord, SessionRecord


class Mailboxes:
    """Sessions by name and by agent, their mail in order of creation, and which session waits for which delegation."""

    def __init__(self, clock: Clock, look: Callable[[Ref], None] = lambda _: None) -> None:
        self._clock = clock
        self.look = look
        """Has a session looked at."""
        self.sessions: dict[Ref, SessionRecord] = {}
        self.messages: dict[Ref, MessageRecord] = {}
        self._of_agent: defaultdict[Ref, set[Ref]] = defaultdict(set)
        self._mail: defaultdict[Ref, set[Ref]] = defaultdict(set)
        self._waits_for: defaultdict[Ref, set[Ref]] = defaultdict(set)
        self._claims: dict[Ref, tuple[object, float]] = {}
        self._gone = {kind: Graves() for kind in ("session", "message")}

    # --- sessions ---

    def put_session(self, record: SessionRecord) -> SessionRecord | None:
        """Hold a session; returns what is held now: a newer view stays, and None is one that is gone.

        Who asks for something, or deletes it, may be seen first in the answer to a write of our own: what the watch
        says of it later is no news then, so it is looked at for that at once.
        """
        old = self.sessions.get(record.ref)
        if self._gone["session"].holds(record.ref, record.version):
            return old
        if old and not older(old.version, record.version):
            # The watch's echo of what was written, or late word.
            return old
        self._unlink(old)
        self.sessions[record.ref] = record
        self._link(record)
        if old and (old.generation, old.leaving) != (record.generation, record.leaving):
            self.look(record.ref)
        return record

    def drop_session(self, ref: Ref, version: str | None = None) -> SessionRecord | None:
        """Let a session go that was deleted at `version`; returns what was held, None if a newer one is there."""
        old = self.sessions.get(ref)
        if old and version and older(version, old.version):
            return None
        self._gone["session"].bury(ref, version or (old.version if old else None))
        self._unlink(old)
        self._claims.pop(ref, None)
        return self.sessions.pop(ref, None)

    def of_agent(self, agent: Ref) -> list[SessionRecord]:
        """The sessions of an agent."""
        return [self.sessions[ref] for ref in self._of_agent.get(agent, ())]

    def waiting_for(self, delegation: Ref) -> set[Ref]:
        """Sessions that serve this delegation, or have a tool call open that its end answers; or, for a
        PermissionRequest, that have a tool call open that waits for it: both are named after the call."""
        return set(self._waits_for.get(delegation, ()))

    def claim_age(self, ref: Ref) -> float | None:
        """Seconds since the claim of a session was seen to move; None when there is none."""
        seen = self._claims.get(ref)
        return self._clock.monotonic() - seen[1] if seen else None

    def _link(self, record: SessionRecord) -> None:
        self._of_agent[record.agent].add(record.ref)
        for delegation in _concerned(record):
            self._waits_for[delegation].add(record.ref)
        if record.claim is None:
            self._claims.pop(record.ref, None)
            return
        mark = (record.claim.token, record.claim.renewed)
        if self._claims.get(record.ref, (None, 0.0))[0] != mark:
            self._claims[record.ref] = mark, self._clock.monotonic()

    def _unlink(self, record: SessionRecord | None) -> None:
        if record is None:
            return
        _remove(self._of_agent, record.agent, record.ref)
        for delegation in _concerned(record):
            _remove(self._waits_for, delegation, record.ref)

    # --- mail ---

    def put_message(self, record: MessageRecord) -> bool:
        """Hold a message, in its place of creation; False when a newer view is held, or it is gone."""
        old = self.messages.get(record.ref)
        if self._gone["message"].holds(record.ref, record.version) or (old and older(record.version, old.version)):
            return False
        self.messages[record.ref] = record.in_place_of(old) if old and old.uid == record.uid else record
        self._mail[record.session].add(record.ref)
        return True

    def drop_message(self, ref: Ref, version: str | None = None) -> MessageRecord | None:
        """Let a message go that was deleted at `version`; returns what was held."""
        old = self.messages.get(ref)
        if old and version and older(version, old.version):
            return None
        self._gone["message"].bury(ref, version or (old.version if old else None))
        if old:
            _remove(self._mail, old.session, ref)
        return self.messages.pop(ref, None)

    def mail_of(self, session: Ref) -> list[MessageRecord]:
        """The mail of a session, in order of creation, that which was returned too; also of one that isn't there."""
        return sorted((self.messages[ref] for ref in self._mail.get(session, ())), key=lambda message: message.order)

    def left_over(self, session: Ref) -> list[MessageRecord]:
        """Mail of a session that was deleted after it came."""
        if session in self.sessions:
            return []
        return [message for message in self.mail_of(session) if self._gone["session"].holds(session, message.version)]


def _concerned(record: SessionRecord) -> Iterable[Ref]:
    """The delegations and permission requests whose end concerns a session."""
    namespace = record.ref.namespace
    yield from (Ref(namespace, name) for name in record.serving)
    for call in record.open_calls:
        yield from (Ref(namespace, name) for name in {call.delegation, call.permission} if name)


def _remove(sets: defaultdict[Ref, set[Ref]], key: Ref, member: Ref) -> None:
    """Take a member out; an empty set is let go."""
    members = sets.get(key)
    if members is None:
        return
    members.discard(member)
    if not members:
        del sets[key]
