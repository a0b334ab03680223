"""A Model agent's session, in which the test plays the operator."""

from dataclasses import dataclass
from typing import Any

from belay_api.agent import Runtime
from belay_api.meta import API_VERSION
from belay_api.names import turn_name
from belay_api.times import to_wire
from belay_kube.client import MESSAGES, SESSIONS, TURNS, Json
from belay_kube.clock import SystemClock
from belay_kube.errors import Conflict
from gateway.stage import Stage

MODEL: Json = {"runtime": Runtime.MODEL, "model": {"provider": "anthropic", "name": "some-model-1"}}


@dataclass(frozen=True)
class Conversation:
    """One session of agent `m`."""

    stage: Stage
    name: str = "s1"
    agent: str = "m"

    @property
    def topic(self) -> str:
        """Its own topic, with the namespace."""
        return f"{self.stage.namespace}/session/{self.agent}/{self.name}"

    async def open(self) -> Json:
        """Make the session."""
        body = {
            "apiVersion": API_VERSION,
            "kind": "AgentSession",
            "metadata": {"name": self.name},
            "spec": {"agentRef": {"name": self.agent}},
        }
        return await self.stage.admin.create(SESSIONS, self.stage.namespace, body)

    async def now(self) -> Json:
        """The session as it is."""
        return await self.stage.admin.get(SESSIONS, self.stage.namespace, self.name)

    async def stands(self, phase: str, **status: Any) -> Json:
        """Write where it stands; with a claim while Awaiting, as must be."""
        claim = None
        if phase == "Awaiting":
            at = to_wire(SystemClock().now())
            claim = {"holderIdentity": "a test", "token": "t", "renewTime": at, "durationSeconds": 30}
        while True:
            try:
                written = {"phase": phase, "claim": claim, **status}
                return await self.stage.operator.patch_status(SESSIONS, await self.now(), written)
            except Conflict:
                continue

    async def turn(self, sequence: int, *blocks: Json, **spec: Any) -> Json:
        """Make a turn; the session counts it only when `stands` says so."""
        body = {
            "apiVersion": API_VERSION,
            "kind": "SessionTurn",
            "metadata": {"name": turn_name(self.name, sequence)},
            "spec": {
                "sessionRef": {"name": self.name},
                "sequence": sequence,
                "outcome": "Answered",
                "assistant": list(blocks),
                **spec,
            },
        }
        return await self.stage.operator.create(TURNS, self.stage.namespace, body)

    async def read(self, sequence: int, message: str) -> Json:
        """Read a message of the mailbox in a turn: it is deleted, and the session doesn't count the turn yet."""
        found = await self.mail(message)
        consumed = {
            "uid": found["metadata"]["uid"],
            "name": message,
            "type": found["spec"]["type"],
            "source": found["spec"]["source"],
        }
        made = await self.turn(sequence, text("read"), consumed=[consumed])
        await self.stage.operator.delete(MESSAGES, self.stage.namespace, message)
        return made

    async def mail(self, message: str) -> Json:
        """A message of its mailbox."""
        return await self.stage.admin.get(MESSAGES, self.stage.namespace, message)


def text(said: str) -> Json:
    """Words of a model."""
    return {"type": "Text", "text": said}


def tool_use(call: str, name: str) -> Json:
    """A tool call of a model."""
    return {"type": "ToolUse", "toolUseId": call, "name": name, "input": "{}"}
