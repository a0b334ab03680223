"""Reads what a peer sent. Pure: text in, a frame out, or `Malformed` with a sentence that helps (C8)."""

import json
import re
from typing import Any

from pydantic import ValidationError

from belay_api.actions import ACTIONS, AnyAction
from belay_api.frames import CHANNEL, Command, Identifier
from belay_api.messages import ErrorCode

_SURROGATES = re.compile("[\ud800-\udfff]")
_MAX_SENTENCE = 300
_MAX_IDENTIFIER = 2048


class Malformed(Exception):
    """A frame that can't be understood; `identifier` and `ref` are set if at least they could be read."""

    def __init__(
        self,
        message: str,
        *,
        code: ErrorCode = ErrorCode.INVALID,
        identifier: str | None = None,
        ref: str | int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.identifier = identifier
        self.ref = ref


def text_of(frame: dict[str, Any]) -> str:
    """A frame as it is sent: text of people in any script takes no more bytes than it has."""
    text = json.dumps(frame, ensure_ascii=False)
    # A lone surrogate can't be sent as UTF-8, only escaped.
    return text if text.isascii() or not _SURROGATES.search(text) else json.dumps(frame)


def parse_command(text: str) -> Command:
    """A text frame as a command of the cable. Raises Malformed."""
    try:
        return Command.model_validate_json(text)
    except ValidationError as error:
        identifier = _loosely(text).get("identifier")
        usable = isinstance(identifier, str) and 0 < len(identifier) <= _MAX_IDENTIFIER
        raise Malformed(_sentence(error), identifier=identifier if usable else None) from None


def parse_identifier(text: str) -> Identifier:
    """An identifier's text. Raises Malformed when it isn't JSON, of another channel, or names nothing (C1)."""
    try:
        identifier = Identifier.model_validate_json(text)
    except ValidationError as error:
        raise Malformed(f"identifier: {_sentence(error)}") from None
    if identifier.channel != CHANNEL:
        raise Malformed(f"channel: there is only {CHANNEL}")
    if identifier.agent_id is None and identifier.topic_id is None:
        raise Malformed('identifier: give agent_id ("namespace/name") or topic_id ("namespace/topic")')
    return identifier


def parse_action(data: str | None) -> AnyAction:
    """The `data` of a message as an action. Raises Malformed, with code too_large for a result that is."""
    if data is None:
        raise Malformed("data: missing; an action as JSON in a string")
    try:
        return ACTIONS.validate_json(data)
    except ValidationError as error:
        raise _bad_action(error, data) from None


def ref_in(data: str | None) -> str | int | None:
    """The `ref` of an action that is refused unread, so that whoever waits for its answer gets it."""
    ref = _loosely(data or "").get("ref")
    return ref if type(ref) is int or (isinstance(ref, str) and len(ref) <= 128) else None


def _bad_action(error: ValidationError, data: str) -> Malformed:
    first = error.errors(include_url=False)[0]
    too_large = first["type"] == "string_too_long" and first["loc"][-2:] == ("result", "text")
    message = "result.text: more than 64 KiB; reply with a uri instead" if too_large else f"data: {_sentence(error)}"
    code = ErrorCode.TOO_LARGE if too_large else ErrorCode.INVALID
    return Malformed(message, code=code, ref=ref_in(data))


def _loosely(text: str) -> dict[str, Any]:
    """The object in `text`, however wrong its fields are; empty if there is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return (f"{where}: {first['msg']}" if where else first["msg"])[:_MAX_SENTENCE]
