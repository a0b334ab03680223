"""Delegations at scale, against the raw API server in the same run (DESIGN.md section 9): `make bench`.

Figures are ratios: the machine is shared, absolute times move from run to run.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp

from belay_api.times import from_wire, to_wire
from belay_client import AgentChannel
from belay_dev.stack import Stack
from belay_kube.client import AGENTS, DELEGATIONS, Json, Kube, connect, pages
from belay_kube.clock import SystemClock
from belay_operator.sweep import UNFINISHED
from bench.figures import Figure, quantile, show

CLOCK = SystemClock()
WRITERS = 32
PROMPT = "x" * 2048


def agent(name: str, most: int = 1) -> Json:
    """An Agent."""
    return {
        "apiVersion": "belay.dev/v1alpha1",
        "kind": "Agent",
        "metadata": {"name": name},
        "spec": {"maxActiveDelegations": most},
    }


def delegation(name: str, to: str, **spec: Any) -> Json:
    """A Delegation with a prompt of 2 KiB."""
    return {
        "apiVersion": "belay.dev/v1alpha1",
        "kind": "Delegation",
        "metadata": {"name": name},
        "spec": {"agentRef": {"name": to}, "task": {"prompt": PROMPT}, **spec},
    }


async def in_parallel(steps: list[Callable[[], Awaitable[object]]]) -> float:
    """Take all steps, 32 at once; returns the rate in steps a second."""
    waiting = iter(steps)

    async def worker() -> None:
        for step in waiting:
            await step()

    began = CLOCK.monotonic()
    await asyncio.gather(*(worker() for _ in range(WRITERS)))
    return len(steps) / (CLOCK.monotonic() - began)


async def everything(kube: Kube, **query: str) -> list[Json]:
    """Every delegation of the default namespace."""
    return [obj async for page in pages(kube, DELEGATIONS, "default", **query) for obj in page["items"]]


async def until(fact: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a fact."""
    while not await fact():
        await CLOCK.sleep(0.2)


class Bench:
    """One run: a stack, an administrator's client to create with, an operator's to write raw statuses with."""

    def __init__(self, stack: Stack, admin: Kube, operator: Kube) -> None:
        self.stack = stack
        self.admin = admin
        self.operator = operator
        self.raw_rate = 0.0
        self.raw_ms = 0.0
        self.figures: list[Figure] = []

    def add(self, what: str, measured: str, raw: str, ratio: float, budget: str, holds: bool) -> None:
        """Keep a figure."""
        self.figures.append(Figure(what, measured, raw, f"{ratio:.2f}", budget, holds))
        print(f"  {what}: {measured} (raw {raw}, ratio {ratio:.2f}, budget {budget})", flush=True)

    # --- what the raw API server does ---

    @contextmanager
    def _operator_stopped(self) -> Iterator[None]:
        os.kill(self.stack.pid("belay-operator"), signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.stack.pid("belay-operator"), signal.SIGCONT)

    async def measure_raw(self, objects: list[Json]) -> None:
        """Status PATCHes of our own objects, one at a time and 32 at once, with the operator stopped meanwhile."""
        with self._operator_stopped():
            latencies = []
            for obj in objects[:100]:
                began = CLOCK.monotonic()
                obj.update(await self.operator.patch_status(DELEGATIONS, obj, {"message": "raw, one at a time"}))
                latencies.append(CLOCK.monotonic() - began)
            self.raw_ms = quantile(latencies, 0.5) * 1000
        self.raw_rate = await self._raw_rate(objects[100:1100])
        print(f"raw status PATCH: {self.raw_rate:.0f}/s at 32 at once, {self.raw_ms:.1f} ms alone", flush=True)

    async def _raw_rate(self, objects: list[Json]) -> float:
        """The same, 32 at once."""
        with self._operator_stopped():
            return await in_parallel([self._raw(obj, f"raw, at {CLOCK.monotonic()}") for obj in objects])

    def _raw(self, obj: Json, message: str) -> Callable[[], Awaitable[object]]:
        return lambda: self.operator.patch_status(DELEGATIONS, obj, {"message": message})

    # --- deadlines ---

    async def spread(self, count: int, seconds: int) -> None:
        """`count` in flight, due times spread over `seconds`: how late is the write that fails each?"""
        first = CLOCK.now() + timedelta(seconds=45 + count / 120)
        dues = [first + timedelta(seconds=seconds * n / count) for n in range(count)]
        await in_parallel([self._create(f"due-{n}", "away", due) for n, due in enumerate(dues)])
        await until(self._all_queued)
        self._memory(count)
        await self._restart(count)
        await self.measure_raw(await everything(self.admin, fieldSelector="status.phase=Queued"))
        assert CLOCK.now() < first, "setting up took longer than planned: measure on a quieter machine"
        late = await self._lateness("due-")
        p99 = quantile(late, 0.99)
        self.add(
            f"deadline lateness, {count} in flight, due over {seconds} s: p50 / p99 / max",
            f"{quantile(late, 0.5) * 1000:.0f} / {p99 * 1000:.0f} / {max(late) * 1000:.0f} ms",
            f"{self.raw_ms:.1f} ms a write",
            p99 * 1000 / self.raw_ms,
            "p99 ≤ 1 s",
            p99 <= 1,
        )

    async def burst(self, count: int) -> None:
        """`count` due in the same second: how fast are they drained?"""
        due = CLOCK.now() + timedelta(seconds=20 + count / 100)
        await in_parallel([self._create(f"burst-{n}", "away", due) for n in range(count)])
        await until(self._all_queued)
        rate = count / max(await self._lateness("burst-"))
        ratio = rate / self.raw_rate
        self.add(
            f"{count} due at once: drained at", f"{rate:.0f}/s", f"{self.raw_rate:.0f}/s", ratio, "≥ 0.8", ratio >= 0.8
        )

    def _create(self, name: str, to: str, due: datetime) -> Callable[[], Awaitable[object]]:
        return lambda: self.admin.create(DELEGATIONS, "default", delegation(name, to, deadline=to_wire(due)))

    async def _all_queued(self) -> bool:
        page = await self.admin.list(DELEGATIONS, "default", fieldSelector="status.phase=", limit="1")
        return not page["items"]

    async def _lateness(self, prefix: str) -> list[float]:
        """Seconds from deadline to completion of each, once all are Failed."""

        async def over() -> bool:
            await CLOCK.sleep(1)
            return not (await self.admin.list(DELEGATIONS, "default", fieldSelector=UNFINISHED, limit="1"))["items"]

        await until(over)
        return [
            (_at(obj, "status", "completionTime") - _at(obj, "spec", "deadline")).total_seconds()
            for obj in await everything(self.admin)
            if obj["metadata"]["name"].startswith(prefix)
        ]

    # --- the operator's process ---

    def _memory(self, count: int) -> None:
        status = Path(f"/proc/{self.stack.pid('belay-operator')}/status").read_text()
        mib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024
        self.add(f"operator RSS with {count} in flight", f"{mib:.0f} MiB", "-", mib / 300, "≤ 300 MiB", mib <= 300)

    async def _restart(self, count: int) -> None:
        began = CLOCK.monotonic()
        url = (await asyncio.to_thread(self.stack.restart_operator))["url"]
        async with aiohttp.ClientSession() as session:

            async def caught_up() -> bool:
                async with session.get(f"{url}/readyz") as answer:
                    return answer.status == 200

            await until(caught_up)
        took = CLOCK.monotonic() - began
        self.add(
            f"operator restart to caught up, {count} in flight", f"{took:.1f} s", "-", took / 20, "≤ 20 s", took <= 20
        )

    # --- the whole way ---

    async def latency(self, count: int) -> None:
        """Create → frame at the agent's socket, one after another."""
        await self.admin.create(AGENTS, "default", agent("near", 1000))
        times = []
        async with self._channel("near") as channel:
            offers = channel.offers()
            for n in range(count):
                began = CLOCK.monotonic()
                await self.admin.create(DELEGATIONS, "default", delegation(f"frame-{n}", "near"))
                offer = await anext(offers)
                times.append((CLOCK.monotonic() - began) * 1000)
                work = await offer.accept()
                assert work
                await work.complete("done")
        for part, name, most in ((0.5, "p50", 5), (0.99, "p99", 20)):
            took = quantile(times, part)
            ratio = took / self.raw_ms
            budget = f"≤ {most} raw writes"
            self.add(f"create → frame, {name}", f"{took:.1f} ms", f"{self.raw_ms:.1f} ms", ratio, budget, ratio <= most)

    async def throughput(self, agents: int, count: int) -> None:
        """Create, dispatch, accept, complete with many attached agents, between two measures of what is raw."""
        before = await self._raw_beside()
        rate = await self._through(agents, count)
        could = (before + await self._raw_beside()) / 2 / 4
        what = f"end to end with {agents} agents"
        self.add(what, f"{rate:.0f}/s", f"{could:.0f}/s", rate / could, "≥ 0.8", rate / could >= 0.8)

    async def _raw_beside(self, count: int = 500) -> float:
        """The raw rate at this moment: a shared machine is not the same a minute later."""
        prefix = f"beside-{CLOCK.monotonic():.0f}"
        due = CLOCK.now() + timedelta(hours=1)
        await in_parallel([self._create(f"{prefix}-{n}", "away", due) for n in range(count)])
        await until(self._all_queued)
        queued = await everything(self.admin, fieldSelector="status.phase=Queued")
        rate = await self._raw_rate([obj for obj in queued if obj["metadata"]["name"].startswith(prefix)])
        print(f"raw status PATCH: {rate:.0f}/s at 32 at once", flush=True)
        return rate

    async def _through(self, agents: int, count: int) -> float:
        """Delegations a second."""
        names = [f"hand-{n}" for n in range(agents)]
        await in_parallel([self._create_agent(name) for name in names])
        left = count
        finished = asyncio.Event()

        async def serve(name: str, attached: asyncio.Semaphore) -> None:
            nonlocal left
            async with self._channel(name) as channel:
                attached.release()
                async for offer in channel.offers():
                    work = await offer.accept()
                    if work:
                        await work.complete("done")
                        left -= 1
                        if not left:
                            finished.set()

        attached = asyncio.Semaphore(0)
        serving = [asyncio.create_task(serve(name, attached)) for name in names]
        for _ in names:
            await attached.acquire()
        began = CLOCK.monotonic()
        bodies = [delegation(f"through-{n}", names[n % agents]) for n in range(count)]
        await in_parallel([lambda body=body: self.admin.create(DELEGATIONS, "default", body) for body in bodies])  # type: ignore[misc]
        await finished.wait()
        rate = count / (CLOCK.monotonic() - began)
        for task in serving:
            task.cancel()
        await asyncio.wait(serving)
        return rate

    def _create_agent(self, name: str) -> Callable[[], Awaitable[object]]:
        return lambda: self.admin.create(AGENTS, "default", agent(name, 100))

    def _channel(self, name: str) -> AgentChannel:
        ready = self.stack.ready
        return AgentChannel(ready.gateway, agent=f"default/{name}", token=ready.token_file, session_id=name)


def _at(obj: Json, part: str, field: str) -> datetime:
    at = from_wire(obj[part][field])
    assert at
    return at


async def run(stack: Stack, count: int, *, only_through: bool) -> list[Figure]:
    """Every measurement, or only the whole way, on one stack."""
    admin = await connect(stack.ready.kubeconfig)
    operator = await connect(stack.account("belay-operator"))
    bench = Bench(stack, admin, operator)
    try:
        await admin.create(AGENTS, "default", agent("away"))
        if not only_through:
            await bench.spread(count, 60)
            await bench.burst(min(1000, count))
            await bench.latency(100)
        await bench.throughput(100, 2000)
    finally:
        await admin.close()
        await operator.close()
    return bench.figures


def main() -> int:
    """Measure and print; first how many are in flight (10,000), then `through` for nothing but the whole way."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with Stack() as stack:
        figures = asyncio.run(run(stack, count, only_through=sys.argv[2:] == ["through"]))
    return show(f"Delegations, {count} in flight", figures)


if __name__ == "__main__":
    sys.exit(main())
