"""docs/protocol.md says what the models say: each example on it is a frame, and each frame is on it."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from belay_api import actions, frames, messages
from belay_gateway.closing import close_code
from belay_gateway.wire import parse_action, parse_command, parse_identifier

PAGE = (Path(__file__).parent.parent.parent / "docs" / "protocol.md").read_text(encoding="utf-8")
INNER = [
    line for block in re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]
SAID = re.findall(r"^→ (\{.*)$", PAGE, re.MULTILINE)
TOLD = re.findall(r"^← (\{.*)$", PAGE, re.MULTILINE)


def tags(union: Any, tag: str) -> set[str]:
    """The words that tell the members of a union of frames apart."""
    return {model.model_fields[tag].default for model in get_args(get_args(union)[0])}


def table(heading: str) -> list[list[str]]:
    """The rows of the table with this first column, cells without backquotes."""
    found = re.search(rf"^\| {heading} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert found, heading
    return [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in found[1].splitlines()]


@pytest.mark.parametrize("line", INNER)
def test_example_of_an_action_or_a_message_is_one(line: str) -> None:
    """It fits its model, and the model says the same again: nothing is left over and nothing is missing."""
    example = json.loads(line)
    parsed = parse_action(line) if "action" in example else messages.MESSAGES.validate_python(example)
    assert parsed.model_dump(mode="json", exclude_none=True, exclude_defaults=False).items() >= example.items()


@pytest.mark.parametrize("line", SAID)
def test_example_of_a_command_is_one(line: str) -> None:
    """The command, its identifier and its data are read as the gateway reads them."""
    command = parse_command(line)
    assert parse_identifier(command.identifier)
    if command.command == "message":
        assert parse_action(command.data)


@pytest.mark.parametrize("line", TOLD)
def test_example_of_a_servers_frame_is_one(line: str) -> None:
    """A frame of the cable, or a message to one identifier; any client's lenient reader takes it too."""
    example = json.loads(line)
    parsed = frames.CABLE_FRAMES.validate_python(example) if "type" in example else messages.Addressed(**example)
    assert parsed.wire() == example
    assert frames.ServerFrame.model_validate(example).wire() == example


def test_every_frame_has_an_example() -> None:
    """Each command, action, message and frame of the cable is shown, and each action and message is explained."""
    examples = [json.loads(line) for line in INNER]
    acted, told = tags(actions.AnyAction, "action"), tags(messages.AnyMessage, "type")
    assert {example["action"] for example in examples if "action" in example} == acted
    assert {example["type"] for example in examples if "type" in example} == told
    assert {json.loads(line)["command"] for line in SAID} == set(
        get_args(frames.Command.model_fields["command"].annotation)
    )
    assert {json.loads(line).get("type") for line in TOLD} == tags(frames.CableFrame, "type") | {None}
    assert {row[0] for row in table("action")} == acted
    assert {row[0] for heading in ("message", "on a topic") for row in table(heading)} == told


def test_every_code_and_reason_is_explained() -> None:
    """The tables list the codes of errors, and the reasons of a disconnect with the WebSocket's code."""
    assert {row[0] for row in table("code")} == {str(code) for code in messages.ErrorCode}
    rows = table("reason")
    assert {row[0] for row in rows} == {str(reason) for reason in frames.DisconnectReason}
    assert {row[0]: row[2] for row in rows} == {str(r): str(int(close_code(r))) for r in frames.DisconnectReason}
