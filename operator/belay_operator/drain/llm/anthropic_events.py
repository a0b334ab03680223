"""The stream of events of one answer, read into an Answer.

Thinking, and events and blocks of kinds that aren't known, are passed over.
"""

import json

from anthropic.types import ContentBlock, RawContentBlockDelta, RawMessageDeltaEvent, RawMessageStreamEvent

from belay_api.usage import Usage
from belay_operator.drain.llm.base import Answer, Hear, Prompt
from belay_operator.drain.llm.collected import CUT, Collected, written

UNKNOWN = "unknown"
"""Why the model stopped, where the provider doesn't say."""

_BYTES_OF_A_TOKEN = 4
_MOST_MODEL = 253
_MOST_STOP = 64
_FIELDS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_input_tokens": "cache_read_tokens",
    "cache_creation_input_tokens": "cache_write_tokens",
}
"""Tokens as the API counts them, and as we do."""


class Reading:
    """One answer while it comes; it's `whole` once its last event was there, and `full` when no more of it is kept."""

    def __init__(self, prompt: Prompt, hear: Hear) -> None:
        used = (block.tool_use_id for message in prompt.messages for block in message.blocks)
        self._collected = Collected(hear, [one for one in used if one])
        self._model = prompt.model
        self._stop = UNKNOWN
        self._tokens: dict[str, int] = {}
        self._block = ""
        self.whole = False

    @property
    def full(self) -> bool:
        """Whether there is no use in reading on."""
        return self._collected.full

    def take(self, event: RawMessageStreamEvent) -> None:
        """The next event. Raises ValueError, TypeError or AttributeError for one that makes no sense."""
        if event.type == "message_start":
            self._model = event.message.model or self._model
            self._count(event.message.usage)
        elif event.type == "content_block_start":
            self._begin(event.content_block)
        elif event.type == "content_block_delta":
            self._go_on(event.delta)
        elif event.type == "message_delta":
            self._end(event)
        elif event.type == "message_stop":
            self.whole = True

    def answer(self) -> Answer:
        """All of it."""
        return Answer(
            blocks=self._collected.blocks(),
            stop_reason=CUT if self.full else written(self._stop[:_MOST_STOP]),
            model=written(self._model[:_MOST_MODEL]),
            usage=self._usage(),
        )

    def _begin(self, block: ContentBlock) -> None:
        self._block = block.type
        if block.type == "text":
            self._collected.say(getattr(block, "text", None) or "")
        elif block.type == "tool_use":
            self._collected.call(getattr(block, "id", None), getattr(block, "name", None))
            if given := getattr(block, "input", None):
                self._collected.write(json.dumps(given))

    def _go_on(self, delta: RawContentBlockDelta) -> None:
        if delta.type == "text_delta" and self._block == "text":
            self._collected.say(delta.text)
        elif delta.type == "input_json_delta" and self._block == "tool_use":
            self._collected.write(delta.partial_json)

    def _end(self, event: RawMessageDeltaEvent) -> None:
        self._stop = event.delta.stop_reason or self._stop
        self._count(getattr(event, "usage", None))

    def _count(self, usage: object) -> None:
        """Counts are of the whole answer so far: the last one holds."""
        for theirs, ours in _FIELDS.items():
            if (count := getattr(usage, theirs, None)) is not None:
                self._tokens[ours] = count

    def _usage(self) -> Usage:
        """As the provider counted; what was cut has no last count, so what came is estimated."""
        usage = Usage(calls=1, **self._tokens)
        if not self.full:
            return usage
        came = self._collected.size // _BYTES_OF_A_TOKEN
        return usage.model_copy(update={"output_tokens": max(usage.output_tokens, came)})
