"""Tool calls on a real API server, with the operator's account: the test plays the drain and the watches.

`answers` puts a turn with tool calls into the session and hands them out, as the drain does between a turn and its
release; `look` lets the operator see what there is, and tend.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from belay_api.meta import API_VERSION
from belay_api.names import Ref, tool_call_name
from belay_api.timing import Times
from belay_kube.client import AGENTS, DELEGATIONS, MESSAGES, PERMISSION_REQUESTS, SESSIONS, Json, Kube
from belay_kube.clock import FakeClock
from belay_kube.errors import NotFound
from belay_operator.apply import Applier
from belay_operator.decisions.calls import Runs, Traits
from belay_operator.decisions.landing import landed, tool_calls
from belay_operator.decisions.outcomes import Response
from belay_operator.drain.calls import Calls
from belay_operator.drain.ends import Ends
from belay_operator.drain.history import History
from belay_operator.drain.llm.base import ToolDefinition
from belay_operator.drain.running import Running
from belay_operator.drain.starting import Starter
from belay_operator.drain.store import Store
from belay_operator.drain.tools.delegate import Delegate
from belay_operator.drain.tools.registry import Arguments, Call, Registry, Tool
from belay_operator.drain.tools.reply import Reply
from belay_operator.drain.waiting import Waiting
from belay_operator.events import Recorder
from belay_operator.metrics import Metrics
from belay_operator.observe.index import Index
from belay_operator.observe.mailbox_records import MessageRecord, SessionRecord
from belay_operator.observe.permissions import PermissionRecord
from belay_operator.observe.presence import Presence
from belay_operator.observe.records import AgentRecord, Work
from belay_operator.seen import Seen

ME, BEFORE = "operator-1", "operator-0"


class Played:
    """A tool of the test's own: `does` what it is told to, for agents whose spec.tools name it."""

    def __init__(self, name: str, traits: Traits, does: Callable[[Call], Response | None]) -> None:
        self.name = name
        self.traits = traits
        self.does = does
        self.started: list[str] = []

    def definition(self, agent: AgentRecord, serving: tuple[str, ...]) -> ToolDefinition | None:
        """Offered to who names it."""
        return ToolDefinition(self.name, "does something", {"type": "object"}) if agent.terms(self.name) else None

    def check(self, agent: AgentRecord, serving: tuple[str, ...], arguments: Arguments) -> None:
        """Everything will do."""

    async def start(self, call: Call) -> Response | None:
        """Do it."""
        self.started.append(call.id)
        return self.does(call)


def quick(does: Callable[[Call], Response | None], name: str = "work") -> Played:
    """A tool that answers at once."""
    return Played(name, Traits(Runs.AT_ONCE), does)


class Site:
    """Agent `m` and its session `s`, without anybody who drains it."""

    def __init__(self, admin: Kube, operator: Kube, gateway: Kube, namespace: str) -> None:
        self.admin = admin
        self.gateway = gateway
        self.operator = operator
        self.namespace = namespace
        self.clock = FakeClock()
        self.restart()

    def restart(self, identity: str = ME, tools: Iterable[Tool] = ()) -> None:
        """Another process of the operator, that knows nothing yet."""
        metrics, times = Metrics(), Times()
        self.recorder = Recorder(self.operator, self.clock, identity, metrics)
        applier = Applier(self.operator, self.clock, self.recorder, metrics)
        seen = self.seen = Seen(Index(times), Presence(self.clock, times.stale_after, 600), self.clock, metrics)
        store, running = Store(self.operator, self.clock), Running(lambda ref: seen.look_at_sessions([ref]))
        self.store, self.running, self.identity = store, running, identity
        ends = Ends(seen, applier)
        registry = Registry([Delegate(store, self._description), Reply(store, ends), *tools])
        waiting = Waiting(store, seen, running, identity)
        self.calls = Calls(
            store, History(store), seen.mailboxes, Starter(registry), running, waiting, ends, self.recorder, self.clock
        )

    def _description(self, agent: Ref) -> str | None:
        record = self.seen.index.agents.get(agent)
        return record.description if record else None

    # --- what there is ---

    async def agent(self, *tools: Json, name: str = "m", **spec: Any) -> None:
        """A Model agent with these tools."""
        model = {"provider": "echo", "name": "echo"}
        told = {"runtime": "Model", "model": model, **({"tools": list(tools)} if tools else {}), **spec}
        await self._make(AGENTS, "Agent", name, told)

    async def open(self, agent: str = "m") -> None:
        """Session `s` of it."""
        await self._make(SESSIONS, "AgentSession", "s", {"agentRef": {"name": agent}})
        await self.look()

    async def served(self, name: str, **spec: Any) -> None:
        """A delegation to `m` that session `s` holds."""
        asked = {"agentRef": {"name": "m"}, "task": {"prompt": "do it"}, **spec}
        obj = await self._make(DELEGATIONS, "Delegation", name, asked)
        for phase in ("Dispatched", "InProgress"):
            status = {"phase": phase, "attempt": 1, "sessionId": "s"}
            obj = await self.operator.patch_status(DELEGATIONS, obj, status)
        obj = await self.operator.get(SESSIONS, self.namespace, "s")
        serving = [*((obj.get("status") or {}).get("serving") or ()), name]
        await self.operator.patch_status(SESSIONS, obj, {"phase": "Idle", "serving": serving})
        await self.look()

    async def _make(self, collection: Any, kind: str, name: str, spec: Json, kube: Kube | None = None) -> Json:
        body = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
        return await (kube or self.admin).create(collection, self.namespace, body)

    # --- what the drain does ---

    async def answers(self, *blocks: Json, release: bool = True) -> None:
        """The model answers with these tool calls; they are handed out and the session is released."""
        session = self.session
        turn = {
            "sessionRef": {"name": "s"},
            "sequence": session.turns + 1,
            "outcome": "Answered",
            "assistant": list(blocks),
        }
        await self.store.add_turn(session, turn)
        await self.finishes(turn, release=release)

    async def finishes(self, turn: Mapping[str, Any], *, release: bool = True) -> None:
        """What follows from a turn; also done by who finds it after a crash."""
        session = self.session
        agent = self.seen.index.agents.get(session.agent)
        calls = self.calls.opened(session, agent, tool_calls(turn))
        await self.calls.dispatch(session, agent, turn, calls)
        if release:
            await self.status(**landed(session, turn, calls, self.identity, self.clock.now()))

    async def status(self, **status: Any) -> None:
        """Write the session's status, as the operator."""
        obj = await self.operator.get(SESSIONS, self.namespace, "s")
        await self.operator.patch_status(SESSIONS, obj, status)
        await self.look()

    async def look(self) -> datetime | None:
        """See all there is, as the watches would tell it, and tend the session; when to look again."""
        await self.see()
        session = self.seen.mailboxes.sessions.get(self.ref("s"))
        return await self.calls.tend(session, self.seen.index.agents.get(session.agent)) if session else None

    async def see(self) -> None:
        """See all there is."""
        seen, items = self.seen, self._items
        for obj in await items(AGENTS):
            seen.saw_agent(AgentRecord.read(obj))
        for obj in await items(DELEGATIONS):
            seen.saw_work(Work.read(obj))
        for obj in await items(PERMISSION_REQUESTS):
            seen.saw_permission(PermissionRecord.read(obj))
        there = [MessageRecord.read(obj) for obj in await items(MESSAGES)]
        for ref in seen.mailboxes.messages.keys() - {record.ref for record in there}:
            seen.gone_message(ref)
        for record in there:
            seen.saw_message(record)
        for obj in await items(SESSIONS):
            seen.saw_session(SessionRecord.read(obj))

    async def _items(self, collection: Any) -> list[Json]:
        found: list[Json] = (await self.admin.list(collection, self.namespace))["items"]
        return found

    # --- what others do ---

    async def ends(self, name: str, phase: str, **status: Any) -> None:
        """A delegation comes to its end, by whoever may write that; the operator sees that it is gone."""
        obj = await self.admin.get(DELEGATIONS, self.namespace, name)
        if phase == "Completed":
            obj = await self.operator.patch_status(DELEGATIONS, obj, {"phase": "Dispatched", "attempt": 1})
            await self.gateway.patch_status(DELEGATIONS, obj, {"phase": phase, **status})
        else:
            await self.operator.patch_status(DELEGATIONS, obj, {"phase": phase, **status})

    async def delete(self, name: str) -> None:
        """Somebody deletes a delegation."""
        await self.admin.delete(DELEGATIONS, self.namespace, name)
        self.seen.gone_work(self.ref(name), None)

    async def decide(self, call: str, behavior: str | None, reason: str | None = None) -> None:
        """People decide on a request, or nobody did in time (None), and the operator settles it."""
        name, phase = self.name(call), {"Allow": "Allowed", "Deny": "Denied"}.get(behavior or "", "Expired")
        if behavior:
            decision = {"behavior": behavior, "decidedBy": "belay-admin", "reason": reason}
            await self.admin.patch(PERMISSION_REQUESTS, self.namespace, name, {"spec": {"decision": decision}})
        obj = await self.admin.get(PERMISSION_REQUESTS, self.namespace, name)
        message = "" if behavior else "nobody decided within 60s"
        await self.operator.patch_status(PERMISSION_REQUESTS, obj, {"phase": phase, "message": message})

    # --- what is so ---

    @property
    def session(self) -> SessionRecord:
        """The session as it was seen."""
        return self.seen.mailboxes.sessions[self.ref("s")]

    def ref(self, name: str) -> Ref:
        """An object of the namespace."""
        return Ref(self.namespace, name)

    def name(self, call: str) -> str:
        """What a call makes is named so."""
        return tool_call_name(self.session.uid, call)

    async def delegation(self, call: str) -> Json:
        """The delegation that a call made."""
        return await self.admin.get(DELEGATIONS, self.namespace, self.name(call))

    async def request(self, call: str) -> Json:
        """The permission request that a call made."""
        return await self.admin.get(PERMISSION_REQUESTS, self.namespace, self.name(call))

    async def phase(self, name: str) -> str:
        """Phase and message of a delegation."""
        status = (await self.admin.get(DELEGATIONS, self.namespace, name)).get("status") or {}
        return f"{status.get('phase')}: {status.get('message')}"

    async def made(self, call: str) -> bool:
        """Whether a call made a delegation."""
        try:
            await self.delegation(call)
        except NotFound:
            return False
        return True

    async def responses(self) -> dict[str, tuple[str, bool]]:
        """What the mailbox says, and whether it was a success, by the id of the call."""
        specs = [obj["spec"] for obj in await self._items(MESSAGES)]
        return {spec["toolUseId"]: (spec["content"], spec["success"]) for spec in specs}

    async def response(self, call: str = "c") -> tuple[str, bool] | None:
        """The response of a call."""
        return (await self.responses()).get(call)


def use(tool: str, call: str = "c", **given: Any) -> Json:
    """A tool call of the model's."""
    return raw(tool, json.dumps(given), call)


def raw(tool: str, text: str, call: str = "c") -> Json:
    """A tool call with arguments as the model wrote them."""
    return {"type": "ToolUse", "toolUseId": call, "name": tool, "input": text}
