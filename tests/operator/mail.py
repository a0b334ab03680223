"""Sessions of Model agents as tests make and read them: an agent, its conversations, their mail, what came of it."""

from typing import Any

from belay_api.meta import API_VERSION
from belay_api.names import Ref
from belay_kube.client import AGENTS, MESSAGES, SESSIONS, TURNS, Json, Kube
from belay_kube.errors import NotFound
from waiting import eventually

ECHO: Json = {"provider": "echo", "name": "echo-1"}


class Mail:
    """The mailboxes of one namespace, as `kube` reaches them."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace
        self._numbers: dict[str, int] = {}

    async def agent(self, name: str = "m", model: Json | None = None, **spec: Any) -> Json:
        """A Model agent; of provider echo unless `model` says otherwise."""
        return await self._make(AGENTS, "Agent", name, {"runtime": "Model", "model": model or ECHO, **spec})

    async def open(self, name: str = "s", agent: str = "m", **spec: Any) -> Json:
        """A session of it."""
        return await self._make(SESSIONS, "AgentSession", name, {"agentRef": {"name": agent}, **spec})

    async def send(self, content: str, session: str = "s", name: str | None = None, **spec: Any) -> str:
        """One message; its name."""
        number = self._numbers[session] = self._numbers.get(session, 0) + 1
        name = name or f"{session}-mail-{number}"
        said = {"sessionRef": {"name": session}, "content": content, **spec}
        await self._make(MESSAGES, "PendingMessage", name, said)
        return name

    async def interrupt(self, value: str, session: str = "s") -> None:
        """Ask for the end of the running round."""
        await self.kube.patch(SESSIONS, self.namespace, session, {"spec": {"interruptRequest": value}})

    async def status(self, session: str = "s") -> Json:
        """The status of a session."""
        found: Json = (await self.kube.get(SESSIONS, self.namespace, session)).get("status") or {}
        return found

    async def waiting(self, session: str = "s") -> dict[str, Json]:
        """The mail of a session, by name."""
        listed = await self.kube.list(MESSAGES, self.namespace, fieldSelector=f"spec.sessionRef.name={session}")
        return {obj["metadata"]["name"]: obj for obj in listed["items"]}

    async def message(self, name: str) -> Json | None:
        """A message, or None."""
        try:
            return await self.kube.get(MESSAGES, self.namespace, name)
        except NotFound:
            return None

    async def turns(self, session: str = "s") -> list[Json]:
        """The specifications of a session's turns, in order."""
        listed = await self.kube.list(TURNS, self.namespace, fieldSelector=f"spec.sessionRef.name={session}")
        return sorted((obj["spec"] for obj in listed["items"]), key=lambda turn: int(turn["sequence"]))

    async def has_turns(self, number: int, session: str = "s") -> list[Json]:
        """The turns once there are `number` of them and the session is released."""

        async def found() -> list[Json] | None:
            turns, status = await self.turns(session), await self.status(session)
            rests = status.get("phase") != "Awaiting" and status.get("turns", 0) == len(turns)
            return turns if len(turns) >= number and rests else None

        return await eventually(found)

    async def phase(self, wanted: str, session: str = "s") -> Json:
        """The status once the session is in a phase."""

        async def found() -> Json | None:
            status = await self.status(session)
            return status if status.get("phase") == wanted else None

        return await eventually(found)

    async def _make(self, collection: Any, kind: str, name: str, spec: Json) -> Json:
        body = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
        return await self.kube.create(collection, self.namespace, body)

    def ref(self, name: str) -> Ref:
        """An object of the namespace."""
        return Ref(self.namespace, name)


def said(turn: Json) -> str:
    """What the model said in a turn."""
    return "".join(block.get("text") or "" for block in turn.get("assistant") or () if block["type"] == "Text")


def heard(turn: Json) -> list[str]:
    """What it was told, piece by piece."""
    return [block.get("text") or "" for block in turn.get("user") or ()]


def calls(turn: Json) -> list[Json]:
    """The tool calls it made."""
    return [block for block in turn.get("assistant") or () if block["type"] == "ToolUse"]
