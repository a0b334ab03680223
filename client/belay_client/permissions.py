"""What a session has asked people, until it is decided.

A decision counts only for the PermissionRequest it was made on: request ids are short and repeat, and an old `Allow`
must never answer a new question that happens to have the same id.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from belay_api.actions import ReplayPermissions
from belay_api.messages import PermissionDecision
from belay_client.inbox import MOST, Inbox

MAX_REPLAYED = 100
"""Most ids that one `replay_permissions` may list."""


@dataclass(eq=False)
class Question:
    """One request; `name` is that of its PermissionRequest, known once the server has answered."""

    request_id: str
    name: str | None = None
    named: bool = False
    """Whether there is nothing to wait for before a decision can be judged."""
    early: list[PermissionDecision] = field(default_factory=list)
    """Decisions that overtook the name."""


class Permissions:
    """The open questions by request id, the oldest of too many forgotten, and the decisions that came."""

    def __init__(self) -> None:
        self.decisions: Inbox[PermissionDecision] = Inbox()
        self._open: dict[str, Question] = {}

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._open

    def ask(self, request_id: str) -> Question:
        """Wait for a decision on a new request; one of the same id that still was open is forgotten."""
        return self._add(Question(request_id))

    def expect(self, request_id: str) -> None:
        """Wait for whatever the server replays on an id that another process may have asked."""
        if request_id not in self._open:
            self._add(Question(request_id, named=True))

    def is_named(self, question: Question, name: str | None) -> None:
        """The server has answered which PermissionRequest it is."""
        question.name, question.named = name, True
        for decision in question.early:
            self._judge(question, decision)

    def forget(self, request_id: str) -> None:
        """Wait no more; nothing when it isn't open."""
        self._open.pop(request_id, None)

    def drop(self, question: Question) -> None:
        """Wait no more for this one; a later one of the same id stays."""
        if self._open.get(question.request_id) is question:
            self.forget(question.request_id)

    def decided(self, decision: PermissionDecision) -> None:
        """A decision came; it is given out once, and only when its question is open."""
        question = self._open.get(decision.request_id)
        if question is None:
            return
        if question.named:
            self._judge(question, decision)
        else:
            question.early.append(decision)

    def replays(self) -> Iterator[ReplayPermissions]:
        """What to send after each (re)connect, so that no decision is missed (C5)."""
        ids = list(self._open)
        for start in range(0, len(ids), MAX_REPLAYED):
            yield ReplayPermissions(request_ids=ids[start : start + MAX_REPLAYED])

    def _judge(self, question: Question, decision: PermissionDecision) -> None:
        if self._open.get(question.request_id) is question and question.name in (None, decision.name):
            self.forget(question.request_id)
            self.decisions.add(decision)

    def _add(self, question: Question) -> Question:
        self._open.pop(question.request_id, None)
        self._open[question.request_id] = question
        if len(self._open) > MOST:
            self.forget(next(iter(self._open)))
        return question
