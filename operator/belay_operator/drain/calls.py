"""Tool calls of Model agents: started as the answer that makes them lands, tended until each has its one response.

Each call makes what it makes under one name, hash(session uid, tool use id), and is answered by a message of that name:
doing it again does nothing (L14). A call is never lost: what refuses it, breaks it or takes too long is its response.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from belay_api.agentsession import SessionPhase
from belay_api.names import Ref, tool_call_name, turn_name
from belay_api.pendingmessage import MAX_CONTENT_BYTES, MessagePhase, MessageType
from belay_api.reasons import Reason, SessionReason, agent_missing
from belay_api.session_words import not_open
from belay_api.tool_words import asks_to_use, call_forgotten, call_interrupted, call_timed_out, tool_failed
from belay_api.transitions import Phase
from belay_kube.client import Json
from belay_kube.clock import Clock
from belay_kube.errors import KubeError, Permanent, Unauthorized
from belay_kube.events import About
from belay_operator.decisions import calls as decide
from belay_operator.decisions.calls import Answer, Runs, Start, Step, TimeOut, Wait
from belay_operator.decisions.claiming import unanswered
from belay_operator.decisions.cutting import cut
from belay_operator.decisions.landing import serving_after, tool_calls
from belay_operator.decisions.outcomes import Response, failure
from belay_operator.decisions.previews import preview
from belay_operator.decisions.view import Change
from belay_operator.drain.ends import Ends
from belay_operator.drain.history import History
from belay_operator.drain.llm.base import ToolDefinition
from belay_operator.drain.running import Running
from belay_operator.drain.starting import Block, Starter
from belay_operator.drain.store import Store
from belay_operator.drain.tools.registry import Call
from belay_operator.drain.waiting import Waiting
from belay_operator.events import Recorder
from belay_operator.observe.mailbox_records import MessageRecord, OpenCall, SessionRecord
from belay_operator.observe.mailboxes import Mailboxes
from belay_operator.observe.records import AgentRecord

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Calls:
    """Opens, starts, tends and answers tool calls."""

    store: Store
    history: History
    mailboxes: Mailboxes
    starter: Starter
    running: Running
    waiting: Waiting
    ends: Ends
    recorder: Recorder
    clock: Clock

    def definitions(self, session: SessionRecord, agent: AgentRecord | None) -> list[ToolDefinition]:
        """What the model of a session is told that it may call in its next answer."""
        waiting = [m.delegation for m in self.mailboxes.mail_of(session.ref) if m.pending and m.delegation]
        serving = tuple(dict.fromkeys([*session.serving, *waiting]))
        return self.starter.registry.definitions(agent, serving) if agent else []

    def opened(self, session: SessionRecord, agent: AgentRecord | None, blocks: list[Json]) -> list[OpenCall]:
        """The calls of an answer as they stand open from now on."""
        return decide.opened(session.uid, agent, blocks, self.starter.registry.traits, self.clock.now())

    # --- as an answer lands ---

    async def dispatch(
        self, session: SessionRecord, agent: AgentRecord | None, turn: Mapping[str, Any], calls: Sequence[OpenCall]
    ) -> None:
        """Hand each call to its tool or to the people who are asked, or answer it with what is wrong with it, before
        the session is released. Raises KubeError: do it again."""
        serving = await self.waiting.alive(session.ref.namespace, serving_after(session, turn))
        blocks = {block["toolUseId"]: block for block in tool_calls(turn)}
        for call in calls:
            made = self._checked(session, agent, serving, blocks[call.id])
            await self._dispatch(session, call, made, turn_name(session.ref.name, int(turn["sequence"])))

    async def _dispatch(self, session: SessionRecord, call: OpenCall, made: Call | Response, turn: str) -> None:
        if isinstance(made, Response):
            await self._send(session, call, made)
        elif call.permission:
            await self._ask(made, call, turn)
        else:
            await self._start(made, call, before_release=True)

    def _checked(
        self, session: SessionRecord, agent: AgentRecord | None, serving: tuple[str, ...], block: Block
    ) -> Call | Response:
        if agent is None:
            return failure(agent_missing(session.agent.name, session.agent.namespace))
        return self.starter.checked(session, agent, serving, block)

    async def _ask(self, made: Call, call: OpenCall, turn: str) -> None:
        """Ask people whether the tool may be used as `turn` says; the call waits (BEHAVIOUR.md, C5)."""
        session = made.session
        spec: Json = {
            "agentRef": {"name": session.agent.name},
            "sessionId": session.ref.name,
            "requestId": call.id,
            "tool": call.tool,
            "description": asks_to_use(call.tool, session.ref.name),
            "inputPreview": preview(made.arguments, turn),
        }
        if call.timeout is not None:
            spec["expiresAfterSeconds"] = call.timeout
        if made.serving:
            spec["delegationRef"] = {"name": made.serving[0]}
        try:
            await self.store.ask_permission(Ref(session.ref.namespace, call.permission or ""), spec, session)
        except Unauthorized:
            raise
        except Permanent as error:
            await self._send(session, call, failure(tool_failed(call.tool, error.said or error.message)))

    async def _start(self, made: Call, call: OpenCall, *, before_release: bool = False) -> None:
        """Start a tool. What runs in this process has to wait until the session says so: whoever finds it after a crash
        must know that it may have run (L14)."""
        tool = self.starter.registry.get(call.tool)
        if tool is None:
            raise ValueError(f"{made.session.ref}: tool {call.tool} was checked and isn't there")
        if tool.traits.runs is Runs.IN_PROCESS:
            if not before_release:
                self.running.run(made.session, call.id, self.starter.run(made, tool))
            return
        response = await self.starter.start(made, tool)
        if not before_release:
            self.running.began(made.session, call.id)
        if response:
            await self._send(made.session, call, response)

    # --- while calls are open ---

    async def tend(self, session: SessionRecord, agent: AgentRecord | None) -> datetime | None:
        """Do what the open calls of an Executing session need; returns when to look again, None: when something
        happens. Raises KubeError: do it again."""
        open_calls = {call.id: call for call in session.open_calls}
        self.running.keep(session, open_calls)
        self.waiting.keep(session, open_calls)
        if session.phase is not SessionPhase.EXECUTING:
            return None
        steps = [(call, await self._next(session, call)) for call in map(open_calls.__getitem__, self._left(session))]
        await self._take_all(session, agent, [(call, step) for call, step in steps if not isinstance(step, Wait)])
        again = (decide.due(call) for call, step in steps if isinstance(step, Wait | Start))
        return min((at for at in again if at), default=None)

    def _left(self, session: SessionRecord) -> list[str]:
        return unanswered(session, self.mailboxes.mail_of(session.ref))

    async def _next(self, session: SessionRecord, call: OpenCall) -> Step:
        tool = self.starter.registry.get(call.tool)
        facts = await self.waiting.facts(session, call, tool.traits if tool else None)
        return decide.step(call, facts, self.clock.now())

    async def _take_all(
        self, session: SessionRecord, agent: AgentRecord | None, steps: Sequence[tuple[OpenCall, Step]]
    ) -> None:
        live = await self._live(session) if steps else None
        is_open = {call.id for call in live.open_calls} if live else ()
        failed: KubeError | None = None
        for call, step in steps:
            try:
                if live and call.id in is_open:
                    await self._take(live, agent, call, step)
            except KubeError as error:
                # The others don't wait for it.
                failed = error
        if failed:
            raise failed

    async def _live(self, session: SessionRecord) -> SessionRecord | None:
        """The session as it is, if it still waits: a response that comes twice would be a stray (L15)."""
        found = await self.store.session(session.ref)
        record = SessionRecord.read(found) if found else None
        is_same = record is not None and record.uid == session.uid and record.phase is SessionPhase.EXECUTING
        return record if is_same else None

    async def _take(self, session: SessionRecord, agent: AgentRecord | None, call: OpenCall, step: Step) -> None:
        match step:
            case Answer(response):
                await self._send(session, call, response)
            case TimeOut(seconds):
                await self._time_out(session, call, seconds)
            case Start():
                await self._start_late(session, agent, call)

    async def _time_out(self, session: SessionRecord, call: OpenCall, seconds: int) -> None:
        """L15. The child first: were it the other way round, a crash between could leave it running for nobody."""
        message = call_timed_out(session.ref.name, seconds)
        child = await self._end(session, call, Change(Phase.CANCELLED, Reason.CANCELLED, message))
        self.running.stop(session, call.id)
        await self._send(session, call, decide.too_late(seconds, child))

    async def _start_late(self, session: SessionRecord, agent: AgentRecord | None, call: OpenCall) -> None:
        """Start a tool after the release: it was allowed only now, or runs in this process."""
        turns = await self.history.turns(session)
        blocks = (block for turn in reversed(turns) for block in tool_calls(turn))
        block = next((block for block in blocks if block["toolUseId"] == call.id), None)
        if block is None:
            await self._send(session, call, failure(tool_failed(call.tool, call_forgotten())))
            return
        serving = await self.waiting.alive(session.ref.namespace, session.serving)
        made = self._checked(session, agent, serving, block)
        if isinstance(made, Response):
            await self._send(session, call, made)
        else:
            await self._start(made, call)

    async def _end(self, session: SessionRecord, call: OpenCall, change: Change) -> Json | None:
        """End what a call made, if it made any."""
        return await self.ends.end(Ref(session.ref.namespace, call.delegation), change) if call.delegation else None

    async def _send(self, session: SessionRecord, call: OpenCall, response: Response) -> None:
        """Put the one response of a call into the mailbox."""
        name = tool_call_name(session.uid, call.id)
        content = cut(response.content, most=MAX_CONTENT_BYTES)
        sent = await self.store.send(
            session,
            name,
            content,
            ("Tool", call.tool),
            kind=MessageType.TOOL_RESPONSE,
            tool_use_id=call.id,
            success=response.success,
        )
        if sent:
            # The watch tells of it later: until then the call would be answered again.
            self.mailboxes.put_message(MessageRecord.read(sent))
            log.info("tool response", session=str(session.ref), tool=call.tool, success=response.success)

    # --- when nobody waits any more ---

    async def closed(self, session: SessionRecord) -> None:
        """Nobody waits for the open calls any more (L17): what they started is ended. Raises KubeError."""
        message = call_interrupted(session.ref.name)
        for call in session.open_calls:
            await self._end(session, call, Change(Phase.CANCELLED, Reason.PARENT_CANCELLED, message))
        self.running.keep(session, ())
        self.waiting.keep(session, ())

    def gone(self, session: Ref) -> None:
        """A session was deleted: what runs for it in this process is ended."""
        self.running.forget(session)
        self.waiting.forget(session)

    async def stray(self, message: MessageRecord) -> bool:
        """Park a response that answers no open call, and tell (L15); whether it was one. Raises KubeError.

        Decided on a live read: parked mail stays so, and the answer that opens the call may be just behind.
        """
        found = await self.store.session(message.session)
        session = SessionRecord.read(found) if found else None
        if session is None or message not in decide.strays(session, self.mailboxes.mail_of(message.session)):
            return False
        why = not_open(message.tool_use_id or "")
        reason = SessionReason.NOT_OPEN
        parked = await self.store.return_message(message.ref, message.uid, MessagePhase.PARKED, reason, why)
        if parked is None:
            return False
        self.mailboxes.put_message(MessageRecord.read(parked))
        log.info("response parked", session=str(session.ref), message=message.ref.name, tool_use=message.tool_use_id)
        about = About("AgentSession", session.ref, session.uid)
        self.recorder.say(about, reason, f"{message.ref.name}: {why}", warning=True)
        return True
