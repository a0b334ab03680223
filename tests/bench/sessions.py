"""Sessions of Model agents, against the raw API server in the same run (issue "model agents"): `make bench-sessions`.

The provider is `echo`, which answers at once: what is measured is what Belay adds to a model. Figures are ratios: the
machine is shared, absolute times move from run to run.
"""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from belay_api.meta import GROUP
from belay_api.names import tool_call_name, turn_name
from belay_dev.stack import Stack
from belay_kube.client import AGENTS, MESSAGES, SESSIONS, TURNS, Json, Kube, connect, pages
from belay_kube.clock import SystemClock
from bench.audit import READS, WRITES, Request, requests
from bench.delegations import WRITERS, in_parallel, until
from bench.figures import Figure, quantile, show
from bench.gateway import settled

CLOCK = SystemClock()
OPERATOR = "system:serviceaccount:belay:belay-operator"
TURNS_EACH = 20
SAID = "x" * 1024
"""What is said in a turn, by each side."""
RAW_WRITES = 1000
BUSY = 50
MAIL_EACH = 20
CALL_SECONDS = 1


class Bench:
    """One run: an administrator's client to make mail with, an operator's to write raw statuses and old turns with."""

    def __init__(self, stack: Stack, admin: Kube, operator: Kube) -> None:
        self.stack = stack
        self.admin = admin
        self.operator = operator
        self.raw_ms = 0.0
        self.writes = 4.0
        """API writes of the half-step that answers one message."""
        self.figures: list[Figure] = []

    def add(self, what: str, measured: str, raw: str, ratio: float, budget: str, holds: bool) -> None:
        """Keep a figure."""
        self.figures.append(Figure(what, measured, raw, f"{ratio:.2f}", budget, holds))
        print(f"  {what}: {measured} (raw {raw}, ratio {ratio:.2f}, budget {budget})", flush=True)

    # --- what there is to work with ---

    async def open(self, agent: str, names: Sequence[str], **spec: Any) -> None:
        """A Model agent and its sessions, once they are Idle."""
        model = {"provider": "echo", "name": "echo-1"}
        await self._make(AGENTS, "Agent", agent, {"runtime": "Model", "model": model, **spec})
        await in_parallel([self._opening(name, agent) for name in names])
        await until(lambda: self._rest(agent, len(names)))

    def _opening(self, name: str, agent: str) -> Callable[[], Awaitable[object]]:
        return lambda: self._make(SESSIONS, "AgentSession", name, {"agentRef": {"name": agent}})

    async def send(self, session: str, content: str, number: int = 0) -> None:
        """A message to a session; its name is `<session>-mail-<number>`."""
        name = f"{session}-mail-{number}"
        await self._make(MESSAGES, "PendingMessage", name, {"sessionRef": {"name": session}, "content": content})

    async def _make(self, collection: Any, kind: str, name: str, spec: Json) -> Json:
        body = {"apiVersion": f"{GROUP}/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        return await self.admin.create(collection, "default", body)

    async def sessions(self, agent: str) -> list[Json]:
        """The sessions of an agent as they are now."""
        asked = pages(self.admin, SESSIONS, "default", fieldSelector=f"spec.agentRef.name={agent}")
        return [obj async for page in asked for obj in page["items"]]

    async def _rest(self, agent: str, count: int, turns: int = 0) -> bool:
        """Whether so many sessions of an agent are Idle, with so many turns behind them."""
        statuses = [obj.get("status") or {} for obj in await self.sessions(agent)]
        return len([s for s in statuses if s.get("phase") == "Idle" and s.get("turns", 0) >= turns]) == count

    async def turns(self, session: str) -> list[Json]:
        """The specifications of a session's turns."""
        listed = await self.admin.list(TURNS, "default", fieldSelector=f"spec.sessionRef.name={session}")
        return sorted((obj["spec"] for obj in listed["items"]), key=lambda turn: int(turn["sequence"]))

    # --- what the raw API server does ---

    async def raw(self) -> float:
        """Status PATCHes of idle sessions by the operator's account, one at a time, then 32 at once: writes a second.
        The operator is stopped meanwhile."""
        objects = await self.sessions("idle")
        os.kill(self.stack.pid("belay-operator"), signal.SIGSTOP)
        try:
            self.raw_ms = quantile([await self._took(obj) for obj in objects[:100]], 0.5) * 1000
            shares = [objects[n::WRITERS] for n in range(WRITERS)]
            most = RAW_WRITES // WRITERS
            began = CLOCK.monotonic()
            await asyncio.gather(*(self._write(share, most) for share in shares if share))
            rate = most * len([share for share in shares if share]) / (CLOCK.monotonic() - began)
        finally:
            os.kill(self.stack.pid("belay-operator"), signal.SIGCONT)
        print(f"raw status PATCH: {rate:.0f}/s at 32 at once, {self.raw_ms:.1f} ms alone", flush=True)
        # What was written is seen by the operator, too: it is over that before anything is measured.
        await CLOCK.sleep(5)
        return rate

    async def _took(self, obj: Json) -> float:
        began = CLOCK.monotonic()
        obj.update(await self.operator.patch_status(SESSIONS, obj, {"progress": "raw, one at a time"}))
        return CLOCK.monotonic() - began

    async def _write(self, share: Sequence[Json], most: int) -> None:
        for n in range(most):
            obj = share[n % len(share)]
            obj.update(await self.operator.patch_status(SESSIONS, obj, {"progress": f"raw, {n}"}))

    # --- writes ---

    async def counted(self) -> None:
        """API writes for each half-step, from the audit log: of one message, and of a round with a tool call."""
        await self.open("worker", [])
        tools = [{"name": "delegate", "agents": ["worker"]}]
        await self.open("first", ["first"])
        await self.open("plain", ["plain"])
        await self.open("tools", ["tools"], tools=tools)
        # Right after the definitions were installed the API server refuses some requests for a while.
        await self.send("first", "hello")
        await until(lambda: self._rest("first", 1, 1))
        before = len(await self._audited())
        await self.send("plain", "hello")
        await until(lambda: self._rest("plain", 1, 1))
        script = '::call delegate {"agent": "worker", "prompt": "go"}\n::then\n::say The worker said: {result}'
        await self.send("tools", script)
        await until(lambda: self._rest("tools", 1, 2))
        answered = (await self._audited())[before:]
        self.writes = len(await self._writes_of("plain", answered))
        self._add_counted("half-step of one message", await self._writes_of("plain", answered), 1)
        self._add_counted("round with a tool call (`delegate`)", await self._writes_of("tools", answered), 2)

    def _add_counted(self, what: str, writes: Sequence[Request], half_steps: int) -> None:
        each = len(writes) / half_steps
        kinds = Counter(f"{write.verb} {write.kind}" for write in writes)
        told = ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in kinds.items())
        measured = f"{each:g} ({told})"
        self.add(f"API writes for each half-step: {what}", measured, "-", each / 5, "≤ 5", each <= 5)

    async def _audited(self) -> list[Request]:
        """All that the operator asked of the API server."""
        return await asyncio.to_thread(requests, self.stack.control_plane.audit_log, OPERATOR)

    async def _writes_of(self, session: str, audited: Iterable[Request]) -> list[Request]:
        """What the operator wrote for a session, whatever the API server answered: status, turns, mail, and the
        delegations that its tool calls made; what became of these is not the session's."""
        obj = await self.admin.get(SESSIONS, "default", session)
        turns = await self.turns(session)
        blocks = [block for turn in turns for block in turn["assistant"] if block["type"] == "ToolUse"]
        calls = {("delegations", tool_call_name(obj["metadata"]["uid"], block["toolUseId"])) for block in blocks}
        names = {
            ("agentsessions", session),
            *(("sessionturns", turn_name(session, turn["sequence"])) for turn in turns),
            *(("pendingmessages", message["name"]) for turn in turns for message in turn["consumed"]),
        }
        writes = [one for one in audited if one.verb in WRITES]
        return [w for w in writes if (w.kind, w.name) in names or (w.verb == "create" and (w.kind, w.name) in calls)]

    # --- overhead ---

    async def overhead(self, times: int = 20) -> None:
        """What Belay adds to a call of 1 s, from the creation of the message to the session's release."""
        await self.raw()
        await self.open("slow", ["waits"])
        added = []
        for n in range(times):
            began = CLOCK.monotonic()
            released = asyncio.create_task(self._released("waits", n + 1))
            await self.send("waits", f"::wait {CALL_SECONDS}\n::say done", n)
            added.append((await released - began - CALL_SECONDS) * 1000)
        took = quantile(added, 0.5)
        ratio = took / self.raw_ms
        what = "added to a call of 1 s, message created → session released, p50 (p90)"
        measured = f"{took:.0f} ms ({quantile(added, 0.9):.0f} ms)"
        self.add(what, measured, f"{self.raw_ms:.1f} ms", ratio, "≤ 50 raw writes", ratio <= 50)

    async def _released(self, session: str, turns: int) -> float:
        """When a watch tells that the session is Idle after so many turns."""
        while True:
            query = {"fieldSelector": f"metadata.name={session}", "timeoutSeconds": "60"}
            async with self.admin.watch(SESSIONS, "default", query) as lines:
                async for line in lines:
                    if b'"phase":"Idle"' in line and b'"turns":%d' % turns in line:
                        return CLOCK.monotonic()

    # --- rate ---

    async def drains(self, each: int) -> None:
        """Half-steps a second of 50 sessions with mail, which waits until the agent is no longer suspended."""
        busy = [f"busy-{n}" for n in range(BUSY)]
        await self.open("busy", busy, suspend=True)
        mail = [(session, n) for n in range(each) for session in busy]
        await in_parallel([lambda to=to, n=n: self.send(to, SAID, n) for to, n in mail])  # type: ignore[misc]
        before = await self.raw()
        audited = len(await self._audited())
        began = CLOCK.monotonic()
        await self.admin.patch(AGENTS, "default", "busy", {"spec": {"suspend": False}})
        await until(lambda: self._drained(each))
        rate = len(mail) / (CLOCK.monotonic() - began)
        reads = [one for one in (await self._audited())[audited:] if one.verb in READS and one.kind != "leases"]
        print(f"  reads for each half-step: {_counted(reads, len(mail))}", flush=True)
        raw = (before + await self.raw()) / 2
        could = raw / self.writes
        what = f"half-steps of {BUSY} sessions, {each} messages each"
        told = f"{could:.0f}/s ({raw:.0f} ÷ {self.writes:.0f} writes)"
        self.add(what, f"{rate:.0f}/s", told, rate / could, "≥ 0.7", rate / could >= 0.7)

    async def _drained(self, each: int) -> bool:
        """Asked once a second: what asks takes from the same two cores."""
        await CLOCK.sleep(1)
        return await self._rest("busy", BUSY, each)

    # --- memory ---

    async def memory(self, names: Sequence[str]) -> None:
        """The operator's memory once each of many sessions has 20 turns, all of which it has read for the last."""
        old = [(obj, n + 1) for obj in await self.sessions("idle") for n in range(TURNS_EACH - 1)]
        rate = await in_parallel([self._older(obj, n) for obj, n in old])
        print(f"  {len(old)} turns made, {rate:.0f}/s", flush=True)
        status = {"status": {"turns": TURNS_EACH - 1}}
        patch = self.operator.patch
        await in_parallel(
            [lambda n=n: patch(SESSIONS, "default", n, status, subresource="status") for n in names]  # type: ignore[misc]
        )
        await in_parallel([lambda n=n: self.send(n, SAID) for n in names])  # type: ignore[misc]
        await until(lambda: self._rest("idle", len(names), TURNS_EACH))
        mib = await settled(self.stack.pid("belay-operator")) / 1024
        what = f"operator RSS, {len(names)} sessions of {TURNS_EACH} turns of 2 KiB"
        self.add(what, f"{mib:.0f} MiB", "-", mib / 300, "≤ 300 MiB", mib <= 300)

    def _older(self, session: Json, sequence: int) -> Callable[[], Awaitable[object]]:
        """A turn that was drained some time ago."""
        meta = session["metadata"]
        text = [{"type": "Text", "text": SAID}]
        consumed = [{"uid": f"{meta['uid']}-{sequence}", "name": f"old-{sequence}", "type": "UserMessage"}]
        owner = {"apiVersion": f"{GROUP}/v1alpha1", "kind": "AgentSession", "name": meta["name"], "uid": meta["uid"]}
        body = {
            "apiVersion": f"{GROUP}/v1alpha1",
            "kind": "SessionTurn",
            "metadata": {"name": turn_name(meta["name"], sequence), "ownerReferences": [owner]},
            "spec": {
                "sessionRef": {"name": meta["name"]},
                "sequence": sequence,
                "outcome": "Answered",
                "user": text,
                "assistant": text,
                "consumed": consumed,
                "model": "echo-1",
                "usage": {"calls": 1, "inputTokens": 256, "outputTokens": 256},
                "stopReason": "end_turn",
            },
        }
        return lambda: self.operator.create(TURNS, "default", body)


def _counted(asked: Iterable[Request], half_steps: int) -> str:
    kinds = Counter(f"{one.verb} {one.kind}" for one in asked)
    return ", ".join(f"{count / half_steps:.2f} {kind}" for kind, count in kinds.most_common(8))


async def run(stack: Stack, count: int, only: Sequence[str]) -> list[Figure]:
    """Every measurement, or those named, on one stack."""
    admin = await connect(stack.ready.kubeconfig)
    operator = await connect(stack.account("belay-operator"))
    bench = Bench(stack, admin, operator)
    names = [f"idle-{n}" for n in range(count)]
    steps: dict[str, Callable[[], Awaitable[None]]] = {
        "writes": bench.counted,
        "overhead": bench.overhead,
        "rate": lambda: bench.drains(max(4, min(MAIL_EACH, count // BUSY))),
        "memory": lambda: bench.memory(names),
    }
    try:
        await bench.open("idle", names)
        for name in only or steps:
            await steps[name]()
    finally:
        await admin.close()
        await operator.close()
    return bench.figures


def main() -> int:
    """Measure and print; the first argument is how many sessions are idle (1,000), others name what is measured."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with Stack() as stack:
        figures = asyncio.run(run(stack, count, sys.argv[2:]))
    return show(f"Model agents, {count} idle sessions", figures)


if __name__ == "__main__":
    sys.exit(main())
