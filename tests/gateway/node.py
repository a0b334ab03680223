"""Action Cable's own JavaScript clients as peers: a script of tests/node, driven by lines of JSON."""

import asyncio
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from waiting import SECONDS, eventually

Fact = dict[str, Any]

SCRIPTS = Path(__file__).parent.parent / "node"
_MISSING = "the gateway's tests run JavaScript clients: install Node.js 20 or newer with npm, then `make node-clients`"


class NodeClient:
    """One client process: told what to do, it tells what its library called back."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._refs = itertools.count(1)
        self._reading = asyncio.get_running_loop().create_task(self._read())
        self.facts: list[Fact] = []
        self.noise = b""

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.facts.append(json.loads(line))
        assert self._process.stderr is not None
        self.noise = await self._process.stderr.read()

    async def stop(self) -> None:
        """End of input, and with it of the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._reading

    # --- saying ------------------------------------------------------------------------------------------------

    async def tell(self, **order: Any) -> None:
        """Give one order."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        await self._process.stdin.drain()

    async def subscribe(self, key: str, identifier: str) -> None:
        """Ask for a subscription, from here on called `key`."""
        await self.tell(do="subscribe", key=key, identifier=identifier)

    async def attach(self, key: str, identifier: str) -> Fact:
        """Subscribe as an agent's session; returns `attached`."""
        await self.subscribe(key, identifier)
        return await self.hears(key, "attached")

    async def act(self, key: str, action: str, **data: Any) -> Fact:
        """Perform an action through the library and return its ack or error."""
        ref = next(self._refs)
        await self.tell(do="perform", key=key, action=action, data={**data, "ref": ref})
        return await self._message(key, ref=ref)

    # --- hearing -----------------------------------------------------------------------------------------------

    async def hears(self, key: str, kind: str, **fields: Any) -> Fact:
        """The first message of this type with these fields that the subscription received, already or to come."""
        return await self._message(key, type=kind, **fields)

    def messages(self, key: str, *kinds: str) -> list[Fact]:
        """The messages of these types that the subscription received so far."""
        received = [f["message"] for f in self.all("received", key=key)]
        return [message for message in received if message.get("type") in kinds]

    async def fact(self, on: str, start: int = 0, timeout: float = SECONDS, **fields: Any) -> Fact:
        """The first such fact after `start`, known already or to come."""
        try:
            return (await eventually(lambda: self.all(on, start, **fields), timeout))[0]
        except AssertionError:
            noise = "" if self._process.returncode is None else f" it ended: {self.noise.decode()}"
            raise AssertionError(f"no {on} {fields}; facts were {self.facts[-20:]}{noise}") from None

    def all(self, on: str, start: int = 0, **fields: Any) -> list[Fact]:
        """The facts of this kind with these fields after `start`."""
        return [f for f in self.facts[start:] if f["on"] == on and _has(f, fields)]

    async def _message(self, key: str, **fields: Any) -> Fact:
        def look() -> list[Fact]:
            return [f["message"] for f in self.all("received", key=key) if _has(f["message"], fields)]

        try:
            return (await eventually(look))[0]
        except AssertionError:
            raise AssertionError(f"{key} received no {fields}; facts were {self.facts[-20:]}") from None


def _has(fact: Fact, fields: Fact) -> bool:
    return all(fact.get(key) == value for key, value in fields.items())


@asynccontextmanager
async def node_client(script: str, url: str, token: str, **options: Any) -> AsyncIterator[NodeClient]:
    """A running client of the cable at `url`. Fails with what to install where that isn't there."""
    node = shutil.which("node")
    assert node, _MISSING
    assert (SCRIPTS / "node_modules" / ".ready").exists(), _MISSING
    pipe = asyncio.subprocess.PIPE
    started = await asyncio.create_subprocess_exec(
        node, str(SCRIPTS / f"{script}.mjs"), stdin=pipe, stdout=pipe, stderr=pipe, limit=2**22
    )
    client = NodeClient(started)
    try:
        await client.tell(url=f"{url.replace('http', 'ws', 1)}/cable", token=token, **options)
        yield client
    finally:
        await client.stop()
