"""Which turns a model is still told of: those that fit its context, the oldest rounds left out whole.

A round begins with an active message and ends where the session landed in Idle, so its calls and their results go
together. Tokens are estimated as UTF-8 bytes / 4; of the round that is under way nothing is ever left out.
"""

from collections.abc import Iterable, Sequence

from belay_api.sessionturn import Block, TurnOutcome
from belay_operator.decisions.conversation import Turn
from belay_operator.decisions.landing import closes_calls, tool_calls

BYTES_PER_TOKEN = 4
DEFAULT_CONTEXT_TOKENS = 150_000
_BLOCK_BYTES = 64
"""What a block takes beside its texts."""


def fit(
    turns: Sequence[Turn],
    user_blocks: Sequence[Block],
    system_bytes: int = 0,
    tools_bytes: int = 0,
    limit_tokens: int | None = None,
) -> list[Turn]:
    """The newest of `turns` that fit beside system prompt, tools and this round's blocks into `limit_tokens`."""
    *past, present = rounds(turns)
    left = (limit_tokens or DEFAULT_CONTEXT_TOKENS) * BYTES_PER_TOKEN - system_bytes - tools_bytes
    left -= _size(user_blocks) + sum(map(_turn_size, present))
    kept = list(present)
    for past_round in reversed(past):
        left -= sum(map(_turn_size, past_round))
        if left < 0:
            break
        kept[:0] = past_round
    return kept


def rounds(turns: Iterable[Turn]) -> list[list[Turn]]:
    """`turns` by rounds; the last is the one under way, empty while the session is Idle."""
    found: list[list[Turn]] = [[]]
    for turn in turns:
        found[-1].append(turn)
        if _lands(turn):
            found.append([])
    return found


def _lands(turn: Turn) -> bool:
    """Whether the session was Idle after it: an answer without calls, or the end of open ones otherwise."""
    return not tool_calls(turn) if turn["outcome"] == TurnOutcome.ANSWERED else closes_calls(turn)


def _turn_size(turn: Turn) -> int:
    """Bytes of what a turn adds to the conversation: nothing when its messages were returned."""
    if turn["outcome"] not in (TurnOutcome.ANSWERED, TurnOutcome.INTERRUPTED):
        return 0
    return _size(Block.model_validate(b) for b in (*(turn.get("user") or ()), *(turn.get("assistant") or ())))


def _size(blocks: Iterable[Block]) -> int:
    return sum(_BLOCK_BYTES + sum(len(text.encode()) for text in _texts(block)) for block in blocks)


def _texts(block: Block) -> Iterable[str]:
    return (text for text in (block.text, block.input, block.name, block.tool_use_id) if text)
