"""Mailboxes are drained, on the real API server with the operator's own account (BEHAVIOUR.md, section 3)."""

from .mail import Mail, heard, said
from .world import World


async def test_L4_a_message_becomes_one_turn(world: World, mail: Mail) -> None:
    """One call, one turn, the message gone, Idle."""
    await mail.open()
    await mail.send("hello")
    (turn,) = await mail.has_turns(1)
    assert [turn["outcome"], heard(turn), turn["sequence"]] == ["Answered", ["hello"], 1]
    assert "hello" in said(turn)
    assert await mail.waiting() == {}
    status = await mail.status()
    assert [status["phase"], status["turns"], status["usage"]["calls"]] == ["Idle", 1, 1]
