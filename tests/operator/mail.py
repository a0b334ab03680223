"""Sessions of Model agents as tests make and read them: an agent, its conversations, their mail, what came of it."""

import asyncio
import base64
from importlib import import_module
from typing import Any

from accounts import grant, username
from belay_api.meta import API_VERSION
from belay_api.names import Ref, turn_name
from belay_api.times import to_wire
from belay_kube.client import AGENTS, EVENTS, MESSAGES, SECRETS, SESSIONS, TURNS, Json, Kube
from belay_kube.errors import NotFound
from belay_operator.observe.records import ref_of
from waiting import eventually

from .played import BELAY
from .world import World

OPERATOR = username(BELAY, "belay-operator")
SECRET = "llm"
KEY = "api-key"
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

    async def change_agent(self, name: str = "m", **spec: Any) -> None:
        """Change what people say of an agent."""
        await self.kube.patch(AGENTS, self.namespace, name, {"spec": spec})

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

    async def tells(self, session: str = "s", **wanted: Any) -> Json:
        """The status once it says so."""

        async def found() -> Json | None:
            status = await self.status(session)
            return status if wanted.items() <= status.items() else None

        return await eventually(found)

    async def condition(self, kind: str, status: str, session: str = "s") -> Json:
        """A condition of a session, once it has this status."""

        async def found() -> Json | None:
            conditions = (await self.status(session)).get("conditions") or []
            return next((c for c in conditions if c["type"] == kind and c["status"] == status), None)

        return await eventually(found)

    async def returned(self, name: str, phase: str) -> Json:
        """The status of a message, once it was Bounced or Parked."""

        async def found() -> Json | None:
            status: Json = (await self.message(name) or {}).get("status") or {}
            return status if status.get("phase") == phase else None

        return await eventually(found)

    async def event(self, reason: str, session: str = "s") -> Json:
        """An Event about a session, once it is there."""

        async def found() -> Json | None:
            listed = (await self.kube.list(EVENTS, self.namespace))["items"]
            about = (e for e in listed if e["regarding"]["name"] == session and e["reason"] == reason)
            return next(about, None)

        return await eventually(found)

    async def version(self, session: str = "s") -> str:
        """The resourceVersion of a session: another one after each write."""
        found: str = (await self.kube.get(SESSIONS, self.namespace, session))["metadata"]["resourceVersion"]
        return found

    async def key(self, key: str) -> None:
        """Write the key of keyed agents into its Secret."""
        data = {KEY: base64.b64encode(key.encode()).decode()}
        try:
            await self.kube.patch(SECRETS, self.namespace, SECRET, {"data": data})
        except NotFound:
            await self.kube.create(SECRETS, self.namespace, {"metadata": {"name": SECRET}, "data": data})

    async def grant_key(self) -> None:
        """Let the operator read that Secret, and no other."""
        rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [SECRET], "verbs": ["get"]}
        await grant(self.kube, self.namespace, OPERATOR, f"belay-{SECRET}", [rule])

    async def keyed_agent(self, url: str, name: str = "k", *, granted: bool = True, **model: Any) -> None:
        """A Model agent of provider anthropic at `url`, with key `sk-1` in a Secret."""
        # Importing the client takes seconds, which would count as waiting for the first answer.
        await asyncio.to_thread(import_module, "belay_operator.drain.llm.anthropic_provider")
        await self.key("sk-1")
        if granted:
            await self.grant_key()
        ref = {"name": SECRET, "key": KEY}
        whole = {"provider": "anthropic", "name": "model-1", "baseURL": url, "apiKeySecretRef": ref, **model}
        await self.agent(name, whole)

    async def rests(self, world: World) -> None:
        """Return once the operator knows all sessions and mail there are, and has nothing to do for any."""

        async def found() -> bool:
            await world.settled()
            return not world.operator.drain.drainer.at_work and await self._all_seen(world)

        await eventually(found)

    async def _all_seen(self, world: World) -> bool:
        """Whether the operator knows each as it is; what is on its way out may be forgotten."""
        boxes = world.operator.seen.mailboxes
        for collection, seen in ((SESSIONS, boxes.sessions), (MESSAGES, boxes.messages)):
            listed = (await self.kube.list(collection, self.namespace))["items"]
            stay = (obj for obj in listed if "deletionTimestamp" not in obj["metadata"])
            there = {ref_of(obj): obj["metadata"]["resourceVersion"] for obj in stay}
            known = {ref: r.version for ref, r in seen.items() if ref.namespace == self.namespace and not r.leaving}
            if there != known:
                return False
        return len(world.operator.seen.queue) == 0

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


class Other:
    """Another operator process, played by the test with the operator's own account."""

    def __init__(self, world: World, session: str = "s", identity: str = "operator-other") -> None:
        self.kube = world.operator_kube
        self.clock = world.clock
        self.namespace = world.namespace
        self.session = session
        self.identity = identity

    async def claim(self, epoch: str = "theirs") -> Json:
        """Claim the session, whoever has it."""
        held = {"holderIdentity": self.identity, "token": epoch, "durationSeconds": 30}
        return await self.write(phase="Awaiting", claim={**held, "renewTime": to_wire(self.clock.now())})

    async def renew(self) -> Json:
        """Renew the claim; the session as it is then."""
        return await self.write(claim={"renewTime": to_wire(self.clock.now())})

    async def turn(self, sequence: int, outcome: str, *messages: Json, **spec: Any) -> None:
        """Create a turn that settles `messages`."""
        session = await self.kube.get(SESSIONS, self.namespace, self.session)
        consumed = [
            {"uid": m["metadata"]["uid"], "name": m["metadata"]["name"], "type": m["spec"].get("type") or "UserMessage"}
            for m in messages
        ]
        said = {"sessionRef": {"name": self.session}, "sequence": sequence, "outcome": outcome, "consumed": consumed}
        owner = {"apiVersion": API_VERSION, "kind": "AgentSession", "name": self.session}
        owner["uid"] = session["metadata"]["uid"]
        meta = {"name": turn_name(self.session, sequence), "ownerReferences": [owner]}
        body = {"apiVersion": API_VERSION, "kind": "SessionTurn", "metadata": meta, "spec": {**said, **spec}}
        await self.kube.create(TURNS, self.namespace, body)

    async def bounce(self, name: str) -> None:
        """Return a message."""
        found = await self.kube.get(MESSAGES, self.namespace, name)
        await self.kube.patch_status(MESSAGES, found, {"phase": "Bounced", "reason": "Rejected"})

    async def release(self, **status: Any) -> None:
        """Give the session back."""
        await self.write(claim=None, **status)

    async def write(self, **status: Any) -> Json:
        """Write the session's status as it is now."""
        return await self.kube.patch_status(
            SESSIONS, await self.kube.get(SESSIONS, self.namespace, self.session), status
        )


def counted(world: World, name: str, **labels: str) -> float:
    """A sample of the operator's metrics; 0 where nothing was counted."""
    return world.operator.metrics.registry.get_sample_value(name, labels) or 0.0


def raised(world: World) -> float:
    """How many errors of sessions were raised."""
    return counted(world, "belay_operator_errors_total", kind="session")


def asked(world: World) -> float:
    """How often a model was asked."""
    return counted(world, "belay_model_answer_seconds_count")


def said(turn: Json) -> str:
    """What the model said in a turn."""
    return "".join(block.get("text") or "" for block in turn.get("assistant") or () if block["type"] == "Text")


def heard(turn: Json) -> list[str]:
    """What it was told, piece by piece."""
    return [block.get("text") or "" for block in turn.get("user") or ()]


def calls(turn: Json) -> list[Json]:
    """The tool calls it made."""
    return [block for block in turn.get("assistant") or () if block["type"] == "ToolUse"]
