"""`belay-gateway`: settings from flags and environment, one line for everything that can be wrong at the start."""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import ValidationError

from belay_gateway.app import create_app
from belay_gateway.preflight import preflight
from belay_gateway.settings import PREFIX, Settings, explain
from belay_kube.client import Kube, connect
from belay_kube.clock import SystemClock
from belay_kube.errors import KubeError

log = structlog.get_logger(__name__)

_BACKLOG = 2048
_FLAGS = ("host", "port", "namespace", "identity", "audience", "kubeconfig", "log_format", "allowed_origins")
EXIT_FAILED = 1
EXIT_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until SIGTERM or SIGINT; exits 0 then, 1 when it can't run, 2 when it was told something wrong."""
    given = _parser().parse_args(arguments)
    try:
        settings = Settings(**{name: value for name in _FLAGS if (value := getattr(given, name)) is not None})
    except ValidationError as error:
        sys.exit(_complain(explain(error), EXIT_USAGE))
    _configure_logs(settings.log_format)
    try:
        asyncio.run(_run(settings, announce=given.announce))
    except KubeError as error:
        sys.exit(_complain(error.message, EXIT_FAILED))
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        sys.exit(_complain(f"can't listen on {settings.host}:{settings.port}: {why}", EXIT_FAILED))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="belay-gateway",
        description=f"Agents attach here by WebSocket. Every setting is also read from {PREFIX}<NAME>.",
    )
    for name in _FLAGS:
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, metavar=name.upper())
    parser.add_argument("--announce", action="store_true", help="print one line of JSON once it serves")
    return parser


def _complain(message: str, code: int) -> int:
    sys.stderr.write(f"belay-gateway: {' '.join(message.split())}\n")
    return code


def _configure_logs(form: str) -> None:
    """To standard error; what libraries log goes the same way from `warning` on."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("kubernetes").setLevel(logging.ERROR)  # what it warns of comes back as an error of ours
    renderer = structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer()
    formatted = [structlog.processors.format_exc_info] if form == "json" else []
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *formatted,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


async def _run(settings: Settings, *, announce: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    kube = await connect(settings.kubeconfig)
    try:
        await preflight(kube, settings.namespace)
        await _serve(kube, settings, stop, announce=announce)
    finally:
        await kube.close()


async def _serve(kube: Kube, settings: Settings, stop: asyncio.Event, *, announce: bool) -> None:
    app = create_app(kube, SystemClock(), settings)
    runner = make_runner(app, settings.shutdown_seconds)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port, backlog=_BACKLOG).start()
        url = url_of(runner)
        log.info("serving", url=url, identity=settings.identity)
        if announce:
            sys.stdout.write(json.dumps({"ready": True, "url": url}) + "\n")
            sys.stdout.flush()
        await stop.wait()
        log.info("shutting down")
    finally:
        await runner.cleanup()


def make_runner(app: web.Application, shutdown_timeout: float) -> web.AppRunner:
    """A runner that logs nothing of what requests carry: URLs and headers may hold what must not be logged."""
    return web.AppRunner(app, access_log=None, logger=_http_log, shutdown_timeout=shutdown_timeout)


class _WithoutQuotes(logging.Filter):
    """aiohttp's errors of unreadable requests quote them, and so the beginning of a token that is too long."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Drop the error, keep the line."""
        if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
            record.exc_info = None
        return True


_http_log = logging.getLogger("belay_gateway.http")
_http_log.addFilter(_WithoutQuotes())


def url_of(runner: web.AppRunner) -> str:
    """Where it can be reached."""
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


if __name__ == "__main__":
    main()
