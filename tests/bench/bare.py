"""A bare aiohttp WebSocket server, which the gateway is measured against: it accepts, pings, and tells all."""

import asyncio
import json
import sys

from aiohttp import WSMsgType, web

from belay_api.frames import SUBPROTOCOL

SOCKETS: set[web.WebSocketResponse] = set()


async def cable(request: web.Request) -> web.WebSocketResponse:
    """Hold a socket open."""
    ws = web.WebSocketResponse(heartbeat=5, compress=False, protocols=(SUBPROTOCOL,))
    await ws.prepare(request)
    SOCKETS.add(ws)
    try:
        async for message in ws:
            if message.type == WSMsgType.TEXT:
                await ws.send_str(message.data)
    finally:
        SOCKETS.discard(ws)
    return ws


async def tell(request: web.Request) -> web.Response:
    """Send the body to every socket."""
    text = await request.text()
    await asyncio.gather(*(ws.send_str(text) for ws in SOCKETS))
    return web.Response()


async def main() -> None:
    """Serve on a free port until the input ends; print the address."""
    app = web.Application()
    app.router.add_get("/cable", cable)
    app.router.add_post("/tell", tell)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
    await site.start()
    print(json.dumps({"url": f"http://127.0.0.1:{runner.addresses[0][1]}"}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
