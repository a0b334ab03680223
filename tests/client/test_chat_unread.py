"""What `belay chat` knows of a message that may have been read, at Ctrl-C (pure)."""

import pytest

from belay_client.chat_unread import is_surely_unread
from belay_kube.client import Json


def mail(uid: str, version: int, kind: str = "UserMessage", phase: str | None = None, source: str = "User") -> Json:
    """A message."""
    spec = {"type": kind, "source": {"kind": source, "name": "x"}}
    return {"metadata": {"uid": uid, "resourceVersion": str(version)}, "spec": spec, "status": {"phase": phase}}


def awaiting(claim: str = "t", progress: str | None = None) -> Json:
    """A session whose mailbox is drained under a claim."""
    return {"status": {"phase": "Awaiting", "claim": {"token": claim}, "progress": progress}}


IDLE: Json = {}
EXECUTING: Json = {"status": {"phase": "Executing"}}
MINE = mail("mine", 100)
OLDER = mail("older", 99)


@pytest.mark.parametrize(
    ("before", "now", "others", "unread"),
    [
        (IDLE, IDLE, [], True),
        (IDLE, EXECUTING, [], True),
        (IDLE, awaiting(), [], False),
        (IDLE, awaiting(), [OLDER], True),
        (IDLE, awaiting(), [mail("older", 9, "Subagent")], True),
        (IDLE, awaiting(), [mail("newer", 1000)], False),
        (IDLE, awaiting(), [mail("older", 99, "Background")], False),
        (IDLE, awaiting(), [mail("older", 99, "ToolResponse")], False),
        (IDLE, awaiting(), [mail("older", 99, phase="Parked")], False),
        (IDLE, awaiting(), [mail("older", 99, source="Delegation")], False),
        (awaiting("t", "Once"), awaiting("t", "Once upon"), [], True),
        (awaiting("t"), awaiting("t", "Once upon"), [], False),
        (awaiting("s", "Once"), awaiting("t", "Once upon"), [], False),
    ],
    ids=[
        "nothing runs",
        "tools run",
        "a round that may be about it",
        "a round about an older one",
        "a round about an older one of an agent",
        "a newer one waits behind it",
        "background mail enters the same round",
        "tool responses enter the same round",
        "an older one was returned",
        "a delegation's prompt may have to wait",
        "the round had begun to answer before",
        "the round may have taken it after it was claimed",
        "the round that had begun is over",
    ],
)
def test_L8_whether_a_message_is_surely_unread(before: Json, now: Json, others: list[Json], unread: bool) -> None:
    """In doubt it isn't."""
    assert is_surely_unread(MINE, before, now, [*others, MINE]) is unread


def test_a_message_that_is_gone_is_not_unread() -> None:
    """It was read, or somebody deleted it."""
    assert not is_surely_unread(MINE, IDLE, awaiting(), [OLDER])
