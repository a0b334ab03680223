"""What of a mailbox makes the next round (L5, L7, L8): all responses, then background mail, then one active message.

A round fits into one turn: 192 blocks, 192 messages, and 512 KiB as etcd stores it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from belay_api.agentsession import MAX_SERVING
from belay_api.pendingmessage import MessageType, Source
from belay_api.sessionturn import MAX_USER_BLOCKS, Consumed
from belay_operator.decisions.claiming import Pickable, any_message
from belay_operator.decisions.cutting import level, stored_bytes
from belay_operator.observe.mailbox_records import Mail, MessageRecord, SessionRecord

ROUND_BYTES = 512 * 1024
"""Most stored bytes of what is said in a round."""


@dataclass(frozen=True)
class Picked:
    """One round. What isn't in it stays in the mailbox."""

    responses: tuple[Mail, ...] = ()
    """One for each open call, in order of creation."""
    background: tuple[Mail, ...] = ()
    active: Mail | None = None
    most: int = ROUND_BYTES
    """Stored bytes to which each content is cut, so that all fit."""

    @property
    def mail(self) -> tuple[Mail, ...]:
        """All of the round, in the order in which the model hears it."""
        return (*self.responses, *self.background, *([self.active] if self.active else []))

    @property
    def consumed(self) -> list[Consumed]:
        """All of the round, as a turn lists it."""
        return [consumed(mail.record) for mail in self.mail]


def pick(session: SessionRecord, mail: Sequence[Mail], pickable: Pickable = any_message) -> Picked:
    """The next round of `session`, as the claim left it; empty when a model is asked nothing (L2, L6, L7)."""
    waiting = _waiting(mail)
    responses = responses_of(session, mail)
    if len(responses) < len(session.open_calls):
        return Picked()
    active = next((m for m in waiting if _may_enter(session, m.record, pickable)), None)
    if active is None and not responses:
        return Picked()
    return _filled(responses, [m for m in waiting if m.record.type is MessageType.BACKGROUND], active)


def responses_of(session: SessionRecord, mail: Sequence[Mail]) -> tuple[Mail, ...]:
    """The responses that the open calls have, the first of each, in order of creation."""
    missing = {call.id for call in session.open_calls}
    found = []
    for response in _waiting(mail):
        if response.record.type is MessageType.TOOL_RESPONSE and response.record.tool_use_id in missing:
            missing.discard(response.record.tool_use_id)
            found.append(response)
    return tuple(found)


def _waiting(mail: Sequence[Mail]) -> list[Mail]:
    """What was neither read nor returned, in order of creation (L8)."""
    return sorted((m for m in mail if m.record.pending), key=lambda m: m.record.order)


def _may_enter(session: SessionRecord, message: MessageRecord, pickable: Pickable) -> bool:
    """Whether it is an active message that may be read; one delegation more than is served at once waits."""
    new = message.delegation is not None and message.delegation not in session.serving
    full = new and len(session.serving) >= MAX_SERVING
    return message.active and not full and pickable(message)


def _filled(responses: tuple[Mail, ...], background: Sequence[Mail], active: Mail | None) -> Picked:
    """Responses and active message whole, or cut to the same level; background mail as far as there is room."""
    fixed = [*responses, *([active] if active else [])]
    room = (MAX_USER_BLOCKS - len(fixed)) // 2
    sizes = [stored_bytes(m.content) for m in (*fixed, *background[:1])]
    left = ROUND_BYTES - sum(sizes)
    count = min(1, len(background))
    for mail in background[1:room]:
        left -= stored_bytes(mail.content)
        if left < 0:
            break
        count += 1
    return Picked(responses, tuple(background[:count]), active, level(sizes, ROUND_BYTES))


def candidates(
    session: SessionRecord, mail: Sequence[MessageRecord], pickable: Pickable = any_message
) -> list[MessageRecord]:
    """All of a mailbox that a round can be made of, as far as that shows without what is said: a flooded mailbox is
    never read whole. In order of creation."""
    waiting = sorted((m for m in mail if m.pending), key=lambda m: m.order)
    missing = {call.id for call in session.open_calls}
    chosen, left = [], ROUND_BYTES
    background = (MAX_USER_BLOCKS - len(missing)) // 2
    active: MessageRecord | None = None
    for message in waiting:
        if message.type is MessageType.TOOL_RESPONSE and message.tool_use_id in missing:
            missing.discard(message.tool_use_id)
            chosen.append(message)
        elif message.type is MessageType.BACKGROUND and background > 0 and left > 0:
            background, left = background - 1, left - message.size
            chosen.append(message)
        elif active is None and _may_enter(session, message, pickable):
            active = message
            chosen.append(message)
    return chosen


def consumed(message: MessageRecord) -> Consumed:
    """A message as a turn lists it."""
    source = None
    if message.source_name is not None:
        source = Source.model_validate({"kind": message.source_kind or "User", "name": message.source_name})
    return Consumed(uid=message.uid, name=message.ref.name, type=message.type, source=source)
