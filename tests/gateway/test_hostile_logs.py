"""What a gateway logs, as a process of its own and with everything that can fail: never a token."""

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from belay_api.frames import SUBPROTOCOL
from belay_dev.stack import clean_environment
from belay_gateway.auth import BEARER_SUBPROTOCOL
from gateway.peer import Dialer, dialer, identifier
from gateway.stage import Stage
from waiting import SECONDS

ENTRY = "import sys; from belay_gateway.main import main; sys.exit(main())"


@asynccontextmanager
async def _process(config: Path, logs: Path) -> AsyncIterator[Dialer]:
    """A gateway as in production, with all it prints in `logs`; ended by SIGTERM."""
    flags = ["--port", "0", "--kubeconfig", str(config), "--announce", "--log-format", "json", "--drain-seconds", "0"]
    with logs.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ENTRY, *flags, stdout=asyncio.subprocess.PIPE, stderr=output, env=clean_environment()
        )
        try:
            assert process.stdout
            async with asyncio.timeout(SECONDS):
                ready = json.loads(await process.stdout.readline())
            async with dialer(ready["url"]) as dialing:
                yield dialing
            process.terminate()
            async with asyncio.timeout(SECONDS):
                output.write(await process.stdout.read())
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()


async def _works(dialing: Dialer, stage: Stage, token: str, agent: str) -> None:
    """A session that does all a session does, by socket and by HTTP."""
    encoded = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
    peer = await dialing.dial(None, protocols=(SUBPROTOCOL, BEARER_SUBPROTOCOL + encoded))
    await peer.subscribe(agent, "s1")
    text = identifier(agent_id=agent, session_id="s1")
    await stage.offered("d", "a")
    for action, more in (("accept", {}), ("heartbeat", {}), ("complete", {"result": {"text": "x"}}), ("release", {})):
        await peer.act(text, action, name="d", attempt=1, **more)
    await peer.act(text, "delegate", agent="a", prompt="x")
    for path in ("agents", "delegations/nothing", "delegations?token=" + token, "%ff?access_token=" + token):
        headers = {"Authorization": f"Bearer {token}"}
        async with dialing.http.get(f"{dialing.url}/api/v1/namespaces/x/{path}", headers=headers) as answer:
            await answer.read()
    await peer.ws.send_str(f'{{"command": "{token}"')
    assert (await peer.disconnected())["reason"] == "invalid_request"


async def _fails(dialing: Dialer, token: str, foreign: str) -> None:
    """Every way to be refused, each with a token in it."""
    encoded = base64.urlsafe_b64encode(token.encode()).decode()
    tries: tuple[dict[str, Any], ...] = (
        {"token": None, "params": {"token": token}},
        {"token": token * 30},
        {"token": token * 100},
        {"token": token, "protocols": (BEARER_SUBPROTOCOL + encoded,)},
        {"token": token, "headers": {"Origin": f"https://{token}"}},
        {"token": token[:-3]},
        {"token": foreign},
    )
    for given in tries:
        try:
            await (await dialing.dial(**given)).disconnected()
        except aiohttp.WSServerHandshakeError:
            continue
    for junk in (f"{token} / HTTP/1.1", f"GET /{token} HTTP/9", f"GET / HTTP/1.1\r\n{token}\x00: {token}"):
        reader, writer = await asyncio.open_connection(*dialing.url.removeprefix("http://").split(":"))
        writer.write(junk.encode() + b"\r\n\r\n")
        async with asyncio.timeout(SECONDS):
            await reader.read(100)
        writer.transport.abort()


async def test_C8_no_log_has_a_token(stage: Stage, tmp_path: Path) -> None:
    """After a session of everything and every failure, from start to end, neither the token nor a third of it, encoded
    or not, is in what the process printed."""
    token, foreign = await stage.person("alice"), await stage.person("mallory", audience="another-service")
    agent, logs = await stage.agent("a", "alice"), tmp_path / "log"
    config = stage.plane.service_account_kubeconfig("belay", "belay-gateway", tmp_path / "kubeconfig")
    async with _process(config, logs) as dialing:
        await _works(dialing, stage, token, agent)
        await _fails(dialing, token, foreign)
        async with dialing.http.get(f"{dialing.url}/metrics") as answer:
            metrics = await answer.text()
    printed = logs.read_text()
    assert '"serving"' in printed
    assert '"shutting down"' in printed
    for secret in (token, foreign):
        third = len(secret) // 3
        for part in (
            secret[third : 2 * third],
            secret[-third:],
            base64.urlsafe_b64encode(secret.encode()).decode()[:200],
        ):
            assert part not in printed
            assert part not in metrics
    for reason in ("token_in_url", "token_too_long", "bad_http", "subprotocol", "origin", "unauthorized", "malformed"):
        assert f'refusals_total{{reason="{reason}"}} 0.0' not in metrics, reason
