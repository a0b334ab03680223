"""The end of a Delegation as a tool response, whatever phase it ends in (L14, D8)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from belay_api.tool_words import delegation_failed, delegation_without_result, result_uri
from belay_api.transitions import Phase, phase_of


@dataclass(frozen=True)
class Response:
    """What a model is told of its call."""

    content: str
    success: bool = True


def failure(why: str) -> Response:
    """The response to a call that came to nothing."""
    return Response(why, success=False)


def outcome(delegation: Mapping[str, Any]) -> Response:
    """What a model is told of a delegation that ended: its result, or why there is none."""
    name, status = delegation["metadata"]["name"], delegation.get("status") or {}
    phase, result = phase_of(status.get("phase")), _said(status.get("result") or {})
    if phase is Phase.COMPLETED:
        return Response(result or delegation_without_result(name))
    why = delegation_failed(name, phase, status.get("reason"), status.get("message"))
    return failure(f"{why}\n{result}" if result else why)


def _said(result: Mapping[str, Any]) -> str:
    """The text, then the data as JSON, then the address, as far as they are there."""
    parts = [result.get("text")]
    if result.get("data") is not None:
        parts.append(json.dumps(result["data"], ensure_ascii=False))
    if result.get("uri"):
        parts.append(result_uri(result["uri"]))
    return "\n".join(part for part in parts if part)
