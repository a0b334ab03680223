"""One gateway with many sockets, against a bare aiohttp WebSocket server and the raw API server in the same run
(DESIGN.md section 9, issue "gateway and channel"): `make bench-gateway`.

Figures are ratios: the machine is shared, absolute times move from run to run.
"""

import asyncio
import json
import re
import resource
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from belay_api.meta import DEFAULT_AUDIENCE, GROUP
from belay_api.names import Ref
from belay_dev.stack import Stack
from belay_gateway.rows import claimed, new_row
from belay_kube.client import (
    ACCESS_REVIEWS,
    AGENTS,
    DELEGATIONS,
    SUBSCRIPTIONS,
    TOKEN_REVIEWS,
    Collection,
    Json,
    Kube,
    connect,
)
from belay_kube.clock import SystemClock
from bench.figures import Figure, quantile, show
from fleet import Fleet, Member

CLOCK = SystemClock()
FILES = 15_000
WRITERS = 32
"""So many requests, or sockets not confirmed yet, at a time."""
AGENT_TOKENS = Collection("api/v1/namespaces/default/serviceaccounts/belay-agent", "token")
USER = "system:serviceaccount:default:belay-agent"


def rss_kib(pid: int) -> int:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


@contextmanager
def bare_server() -> Iterator[tuple[str, int]]:
    """A bare aiohttp server as a process: its address and pid."""
    command = [sys.executable, "-m", "bench.bare"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield json.loads(process.stdout.readline())["url"], process.pid
        finally:
            process.stdin.close()
            process.wait(30)


def agent(name: str) -> Json:
    """An Agent that the fleet attaches as."""
    return {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "Agent",
        "metadata": {"name": name},
        "spec": {
            "maxActiveDelegations": 1000,
            "owners": [{"kind": "ServiceAccount", "name": "belay-agent", "namespace": "default"}],
        },
    }


def sessions_of(name: str) -> Callable[[int], dict[str, str]]:
    """The identifier of the n-th session of an agent."""
    return lambda n: {"agent_id": f"default/{name}", "session_id": f"{name}-{n}"}


async def settled(pid: int) -> int:
    """A process' memory once it no longer grows."""
    before, now = 0, rss_kib(pid)
    while now > before:
        before = now
        await CLOCK.sleep(2)
        now = rss_kib(pid)
    return now


class Bench:
    """One run."""

    def __init__(self, stack: Stack, admin: Kube, gateway: Kube) -> None:
        self.stack = stack
        self.admin = admin
        self.gateway = gateway
        self.url = f"{stack.ready.gateway.replace('ws://', 'http://').removesuffix('/cable')}/cable"
        self.figures: list[Figure] = []

    def add(self, what: str, measured: str, raw: str, ratio: float, budget: str, holds: bool) -> None:
        """Keep a figure."""
        self.figures.append(Figure(what, measured, raw, f"{ratio:.2f}", budget, holds))
        print(f"  {what}: {measured} (raw {raw}, ratio {ratio:.2f}, budget {budget})", flush=True)

    @property
    def pid(self) -> int:
        """The gateway's."""
        return self.stack.pid("belay-gateway")

    @property
    def token(self) -> str:
        """The one token of most sockets, so that both servers are sent the same handshake."""
        return self.stack.ready.token_file.read_text().strip()

    async def tokens(self, count: int) -> list[str]:
        """Different tokens of the agents' account."""
        body = {"spec": {"audiences": [DEFAULT_AUDIENCE], "expirationSeconds": 24 * 3600}}
        made = [await self.admin.create(AGENT_TOKENS, None, body) for _ in range(count)]
        return [answer["status"]["token"] for answer in made]

    @asynccontextmanager
    async def fleet(self, tokens: list[str], **options: Any) -> AsyncIterator[Fleet]:
        """A fleet for the gateway, dropped at the end."""
        fleet = Fleet(self.url, tokens, **options)
        try:
            yield fleet
        finally:
            await fleet.close()

    async def no_rows(self) -> None:
        """The operator removes what a fleet left after its grace, which must not be measured with the next."""
        while (await self.admin.list(SUBSCRIPTIONS, "default", limit="1"))["items"]:
            await CLOCK.sleep(1)

    async def _metrics(self, gateway: str) -> str:
        url = f"{gateway.replace('ws://', 'http://').removesuffix('/cable')}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return await answer.text()

    @staticmethod
    def metric(text: str, name: str) -> float:
        """The sum of a metric's samples."""
        found = re.findall(rf"^{name}(?:{{[^}}]*}})? ([0-9.e+]+)$", text, re.MULTILINE)
        return sum(float(value) for value in found)

    # --- memory and writes of idle sockets ---

    async def idle(self, count: int) -> None:
        """Memory a socket against a bare server, then API writes a second."""
        with bare_server() as (url, pid):
            empty = await settled(pid)
            bare_fleet = Fleet(f"{url}/cable", [self.token])
            await bare_fleet.dial_many(count)
            bare = (await settled(pid) - empty) / count
            await bare_fleet.close()
        await self.admin.create(AGENTS, "default", agent("idle"))
        empty = await settled(self.pid)
        began = CLOCK.monotonic()
        async with self.fleet([self.token]) as fleet:
            await fleet.dial_many(count, sessions_of("idle"))
            print(f"  {count} sockets confirmed in {CLOCK.monotonic() - began:.0f} s", flush=True)
            ours = (await settled(self.pid) - empty) / count
            ratio = ours / bare
            what = f"memory of an idle socket, {count} of them"
            self.add(what, f"{ours:.1f} KiB", f"{bare:.1f} KiB (bare aiohttp)", ratio, "≤ 1.5", ratio <= 1.5)
            await self._writes(count)

    async def _writes(self, count: int) -> None:
        """While rows fall due: at the bound each is renewed once in `count` / 20 s, counted from its claim."""
        began, seconds = await self._touches(), 60
        while await self._touches() == began:
            await CLOCK.sleep(1)
        before, touches = await self._requests(), await self._touches()
        await CLOCK.sleep(seconds)
        rate, renewed = (await self._requests() - before) / seconds, (await self._touches() - touches) / seconds
        what = f"API writes at {count} idle sockets, rows falling due"
        measured = f"{rate:.1f}/s, {renewed:.1f} of them renewals"
        self.add(
            what, measured, "-", rate / 25, "≤ 25/s, renewals ≤ 20", rate <= 25 and renewed <= 20.5 and renewed > 0
        )

    async def _touches(self) -> float:
        return self.metric(await self._metrics(self.stack.ready.gateway), "belay_gateway_touches_total")

    async def _requests(self) -> float:
        """Writes to our kinds and to Leases that the API server has counted."""
        text = await asyncio.to_thread(self.stack.control_plane.kubectl, "get", "--raw", "/metrics")
        lines = [line for line in text.splitlines() if line.startswith("apiserver_request_total{")]
        writes = [
            line
            for line in lines
            if re.search(r'verb="(POST|PUT|PATCH|DELETE|APPLY)"', line)
            and (f'group="{GROUP}"' in line or 'resource="events"' in line or 'resource="leases"' in line)
        ]
        return sum(float(line.rpartition(" ")[2]) for line in writes)

    # --- connects ---

    async def connects(self, count: int) -> None:
        """Connects a second until confirmed, each with a token of its own, against what its raw calls allow."""
        await self.admin.create(AGENTS, "default", agent("doors"))
        raw = await self._raw_connect("doors")
        tokens = await self.tokens(count)
        async with self.fleet(tokens) as fleet:
            began = CLOCK.monotonic()
            await fleet.dial_steadily(count, sessions_of("doors"), WRITERS)
            rate = count / (CLOCK.monotonic() - began)
        self.add("connects until confirmed", f"{rate:.0f}/s", f"{raw:.0f}/s", rate / raw, "≥ 0.7", rate / raw >= 0.7)

    async def _raw_connect(self, name: str, count: int = 300) -> float:
        """How many times a second 32 writers can do what a connect needs of the API server: each call measured by
        itself, the sum of their times a connect."""
        tokens = await self.tokens(count)
        rows: list[Json] = []

        async def review(n: int) -> None:
            body = {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenReview",
                "spec": {"token": tokens[n], "audiences": [DEFAULT_AUDIENCE]},
            }
            await self.gateway.create(TOKEN_REVIEWS, None, body)

        async def access(n: int) -> None:
            where = {"namespace": "default", "verb": "attach", "group": GROUP, "resource": "agents", "name": f"a{n}"}
            body = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {"user": USER, "resourceAttributes": where},
            }
            await self.gateway.create(ACCESS_REVIEWS, None, body)

        async def create(n: int) -> None:
            rows.append(await self.gateway.create(SUBSCRIPTIONS, "default", new_row(Ref("default", name), f"raw-{n}")))

        async def patch(n: int) -> None:
            status = claimed(rows[n], USER, "belay-gateway-raw", f"t{n}", CLOCK.now())
            await self.gateway.patch_status(SUBSCRIPTIONS, rows[n], status)

        seconds = [await _each(step, count) for step in (review, access, create, patch)]
        return 1 / sum(seconds)

    # --- telling many ---

    async def fan_out(self, count: int, times: int = 20) -> None:
        """A broadcast to an agent with many sockets, until the last has it."""
        body = "x" * 1024
        with bare_server() as (url, _):
            bare_fleet = Fleet(f"{url}/cable", [self.token])
            await bare_fleet.dial_many(count)
            bare = await self._told(bare_fleet, f"{url}/tell", json.dumps({"message": body}), count, times, {})
            await bare_fleet.close()
        await self.admin.create(AGENTS, "default", agent("crowd"))
        async with self.fleet([self.token]) as fleet:
            await fleet.dial_many(count, sessions_of("crowd"))
            url = self.url.removesuffix("/cable") + "/api/v1/namespaces/default/agents/crowd/broadcast"
            headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
            ours = await self._told(fleet, url, json.dumps({"body": body}), count, times, headers)
        ratio = bare / ours
        what = f"broadcast to {count} sockets"
        self.add(what, f"{count / ours:.0f}/s", f"{count / bare:.0f}/s (bare aiohttp)", ratio, "≥ 0.7", ratio >= 0.7)

    async def _told(self, fleet: Fleet, url: str, body: str, count: int, times: int, headers: dict[str, str]) -> float:
        """Median seconds from the request until every socket heard."""
        took = []
        kind = "message broadcast" if headers else "message"
        async with aiohttp.ClientSession(headers=headers) as session:
            for _ in range(times):
                wanted = fleet.count[kind] + count
                began = CLOCK.monotonic()
                async with session.post(url, data=body) as answer:
                    assert answer.status < 300, await answer.text()
                await fleet.until(lambda wanted=wanted: fleet.count[kind] >= wanted)  # type: ignore[misc]
                took.append(CLOCK.monotonic() - began)
        return quantile(took, 0.5)

    # --- bad neighbours ---

    async def neighbours(self, count: int, times: int = 200) -> None:
        """p99 of create → frame for well-behaved sockets, without and with one that never reads and one that floods."""
        await self.admin.create(AGENTS, "default", agent("good"))
        await self.admin.create(AGENTS, "default", agent("bad"))
        arrived: asyncio.Queue[float] = asyncio.Queue()

        def on_message(member: Member, message: dict[str, object]) -> None:
            if message.get("type") == "dispatch" and "good" in member.identifier:
                arrived.put_nowait(CLOCK.monotonic())
                member.perform({"action": "complete", "name": message["name"], "attempt": 1, "result": {"text": "x"}})

        async with self.fleet([self.token], on_message=on_message) as fleet:
            await fleet.dial_many(count, sessions_of("good"))
            alone = await self._latencies("alone", times, arrived)
            deaf = await fleet.dial(sessions_of("bad"))
            flood = await fleet.dial(sessions_of("bad"))
            await fleet.until(lambda: fleet.count["confirm_subscription"] >= count + 2)
            assert deaf.transport
            deaf.transport.pause_reading()
            pouring = asyncio.create_task(self._pour(flood))
            among = await self._latencies("among", times, arrived)
            pouring.cancel()
        p99, p99_alone = quantile(among, 0.99) * 1000, quantile(alone, 0.99) * 1000
        ratio = p99 / p99_alone
        what = f"create → frame p99 among {count}, one deaf and one flooding"
        self.add(what, f"{p99:.0f} ms", f"{p99_alone:.0f} ms (without them)", ratio, "≤ 1.5", ratio <= 1.5)

    async def _pour(self, member: Member) -> None:
        """Flood until closed, then come back, as a broken client does."""
        while True:
            for _ in range(50):
                member.send({"command": "message", "identifier": "nobody", "data": "{}"})
            if member.transport and member.transport.is_closing():
                member = await member.fleet.dial(sessions_of("bad"))
            await CLOCK.sleep(0.05)

    async def _latencies(self, prefix: str, times: int, arrived: "asyncio.Queue[float]") -> list[float]:
        took = []
        for n in range(times):
            body = {
                "apiVersion": f"{GROUP}/v1alpha1",
                "kind": "Delegation",
                "metadata": {"name": f"{prefix}-{n}"},
                "spec": {"agentRef": {"name": "good"}, "sessionId": f"good-{n % 100}", "task": {"prompt": "go"}},
            }
            began = CLOCK.monotonic()
            await self.admin.create(DELEGATIONS, "default", body)
            took.append(await arrived.get() - began)
        return took


async def _each(step: Callable[[int], Awaitable[None]], count: int) -> float:
    """Seconds that one of `count` steps takes when 32 are taken at once."""
    numbers = iter(range(count))

    async def worker() -> None:
        for n in numbers:
            await step(n)

    began = CLOCK.monotonic()
    await asyncio.gather(*(worker() for _ in range(WRITERS)))
    return (CLOCK.monotonic() - began) / count


async def run(stack: Stack, count: int, only: Sequence[str]) -> list[Figure]:
    """Every measurement, or those named, on one stack."""
    admin = await connect(stack.ready.kubeconfig)
    gateway = await connect(stack.account("belay-gateway"))
    bench = Bench(stack, admin, gateway)
    try:
        # Idle sockets first: memory that other measurements leave behind would be taken for none.
        steps = {"idle": bench.idle, "connects": bench.connects, "fanout": bench.fan_out, "bad": bench.neighbours}
        for number, name in enumerate(only or steps):
            if number:
                await bench.no_rows()
            await steps[name](count if name == "idle" else min(1000, count))
    finally:
        await admin.close()
        await gateway.close()
    return bench.figures


def main() -> int:
    """Measure and print; the first argument is how many sockets are idle (10,000), others name what is measured."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(FILES, count + 1000), most), most))
    with Stack() as stack:
        figures = asyncio.run(run(stack, count, sys.argv[2:]))
    return show(f"One gateway, {count} sockets", figures)


if __name__ == "__main__":
    sys.exit(main())
