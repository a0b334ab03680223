"""Sockets by the thousand that work: they accept what they are offered, and keep what they are told at the end."""

import asyncio
import json
from collections import Counter
from typing import Any

from fleet import Fleet, Member

AGAIN_SECONDS = 1.0


class Workers(Fleet):
    """A fleet of agents' sessions."""

    def __init__(self, url: str, tokens: list[str]) -> None:
        super().__init__(url, tokens, self._told)
        self.sent_away: list[dict[str, Any]] = []
        """The `disconnect` frames that were heard."""
        self.rejected: Counter[str] = Counter()
        """Why subscriptions were."""
        self.answers: list[dict[str, Any]] = []
        """Acks and errors."""

    def _told(self, member: Member, message: dict[str, object]) -> None:
        if message["type"] == "dispatch":
            member.perform({"action": "accept", "name": message["name"], "attempt": message["attempt"]})
        elif message["type"] in ("ack", "error"):
            self.answers.append(message)

    def heard(self, member: Member, payload: bytes) -> None:
        """A text frame came."""
        if b'"disconnect"' in payload:
            self.sent_away.append(json.loads(payload))
        if b'"reject_subscription"' in payload:
            self._rejected(member, json.loads(payload))
        super().heard(member, payload)

    def _rejected(self, member: Member, frame: dict[str, Any]) -> None:
        """As every client does: what was refused because the API server could not be asked is asked again."""
        self.rejected[f"{frame['reason']}: {frame['message']}"[:200]] += 1
        if frame["reason"] == "unavailable":
            command: dict[str, object] = {"command": "subscribe", "identifier": member.identifier}
            asyncio.get_running_loop().call_later(AGAIN_SECONDS, member.send, command)

    def complete(self, number: int, name: str, attempt: int = 1) -> None:
        """The session with this number has the result."""
        result = {"text": f"by s{number}"}
        self.members[number].perform({"action": "complete", "name": name, "attempt": attempt, "result": result})
