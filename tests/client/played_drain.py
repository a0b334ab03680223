"""The operator's part in a session, played with its account: a test says what the model says."""

from dataclasses import dataclass
from typing import Any

from belay_api.meta import API_VERSION
from belay_api.names import turn_name
from belay_kube.client import MESSAGES, SESSIONS, TURNS, Json, Kube
from waiting import eventually

AT = "2026-01-02T03:04:05.000000Z"
CLAIM = {"holderIdentity": "played", "token": "t", "renewTime": AT, "durationSeconds": 30}
MODEL = {"runtime": "Model", "model": {"provider": "echo", "name": "echo"}}


def text(words: str) -> Json:
    """Something said."""
    return {"type": "Text", "text": words}


def call(use: str, tool: str = "delegate", arguments: str = '{"agent": "worker"}') -> Json:
    """A tool called."""
    return {"type": "ToolUse", "toolUseId": use, "name": tool, "input": arguments}


def result(use: str, words: str, *, failed: bool = False) -> Json:
    """A tool's response, as a turn has it."""
    return {"type": "ToolResult", "toolUseId": use, "text": words, **({"isError": True} if failed else {})}


def consumed(message: Json) -> Json:
    """A message as a turn lists it."""
    return {"uid": message["metadata"]["uid"], "name": message["metadata"]["name"], "type": message["spec"]["type"]}


@dataclass(frozen=True)
class PlayedDrain:
    """Writes what a drain would."""

    operator: Kube
    namespace: str

    async def message(self, content: str | None = None) -> Json:
        """The first message of people, with that content if given, that no turn has settled, once there is one."""

        async def sent() -> Json | None:
            read = await self._read()
            mail: list[Json] = (await self.operator.list(MESSAGES, self.namespace))["items"]
            waiting = [m for m in mail if m["spec"]["type"] == "UserMessage" and m["metadata"]["uid"] not in read]
            return next((m for m in waiting if content in (None, m["spec"]["content"])), None)

        return await eventually(sent)

    async def session(self, message: Json) -> Json:
        """The session of a message as it is now."""
        return await self.operator.get(SESSIONS, self.namespace, message["spec"]["sessionRef"]["name"])

    async def stands(self, message: Json, **status: Any) -> None:
        """Write the session's status."""
        await self.operator.patch_status(SESSIONS, await self.session(message), status)

    async def claim(self, message: Json, progress: str | None = None) -> None:
        """The model is asked, and has said so much."""
        await self.stands(message, phase="Awaiting", claim=CLAIM, progress=progress)

    async def turn(
        self, message: Json, /, number: int, outcome: str = "Answered", settles: tuple[Json, ...] = (), **spec: Any
    ) -> None:
        """A half-step is over, and what it settles is gone from the mailbox, or is marked as returned."""
        name = message["spec"]["sessionRef"]["name"]
        body = {"sessionRef": {"name": name}, "sequence": number, "outcome": outcome}
        body |= {"consumed": [consumed(m) for m in settles], **spec}
        meta = {"name": turn_name(name, number)}
        kind = {"apiVersion": API_VERSION, "kind": "SessionTurn"}
        await self.operator.create(TURNS, self.namespace, {**kind, "metadata": meta, "spec": body})
        for settled in settles:
            if outcome in ("Bounced", "Parked"):
                await self.operator.patch_status(MESSAGES, settled, {"phase": outcome})
            else:
                await self.operator.delete(MESSAGES, self.namespace, settled["metadata"]["name"])

    async def lands(self, message: Json, number: int, **status: Any) -> None:
        """The session is given back after a turn."""
        await self.stands(message, **{"phase": "Idle", "claim": None, "turns": number, "progress": None, **status})

    async def answers(self, message: Json, number: int, words: str) -> None:
        """A whole half-step that ends in words."""
        await self.claim(message)
        await self.turn(message, number, settles=(message,), assistant=[text(words)], stopReason="end_turn")
        await self.lands(message, number)

    async def responds(self, message: Json, use: str, words: str) -> Json:
        """A tool answers."""
        spec = {
            "sessionRef": message["spec"]["sessionRef"],
            "type": "ToolResponse",
            "toolUseId": use,
            "content": words,
            "success": True,
            "source": {"kind": "Tool", "name": "delegate"},
        }
        kind = {"apiVersion": API_VERSION, "kind": "PendingMessage"}
        return await self.operator.create(
            MESSAGES, self.namespace, {**kind, "metadata": {"generateName": "call-"}, "spec": spec}
        )

    async def _read(self) -> set[str]:
        turns: list[Json] = (await self.operator.list(TURNS, self.namespace))["items"]
        return {c["uid"] for turn in turns for c in turn["spec"].get("consumed") or []}
