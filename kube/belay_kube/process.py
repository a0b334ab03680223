"""What every long-running process of Belay does at its edges: settings, logs, signals, and one line for each error."""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import structlog
from pydantic import ValidationError
from pydantic_settings import BaseSettings, CliApp, SettingsError

from belay_kube.errors import KubeError

S = TypeVar("S", bound=BaseSettings)


class StartupError(Exception):
    """The process can't start; the message says what is wrong, with what, and what to do."""


def run(name: str, settings_class: type[S], body: Callable[[S], Coroutine[Any, Any, None]]) -> int:
    """Read settings, configure logs, run `body` until it ends or a signal comes; returns the exit code.

    Whatever is wrong is one line on standard error, never a traceback.
    """
    try:
        settings = CliApp.run(settings_class, cli_args=sys.argv[1:])
    except (ValidationError, SettingsError) as error:
        return _refuse(name, _settings_message(error))
    configure_logs(getattr(settings, "log_format", "console"))
    try:
        asyncio.run(_until_signal(body(settings)))
    except* (StartupError, KubeError) as group:
        return_code = _refuse(name, "; ".join(str(leaf) for leaf in _leaves(group)))
    else:
        return_code = 0
    return return_code


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


def _refuse(name: str, message: str) -> int:
    sys.stderr.write(f"{name}: {message}\n")
    return 1


def _settings_message(error: ValidationError | SettingsError) -> str:
    if isinstance(error, SettingsError):
        return str(error).replace("\n", " ")
    return "; ".join(
        f"setting {'.'.join(map(str, e['loc']))}={e.get('input')!r}: {e['msg']}"
        for e in error.errors(include_url=False)
    )


async def _until_signal(body: Coroutine[Any, Any, None]) -> None:
    """Run `body`; SIGTERM and SIGINT cancel it, and it may take its time to end well."""
    task = asyncio.ensure_future(body)
    loop = asyncio.get_running_loop()
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not stopped:
            raise


def configure_logs(form: str) -> None:
    """Structured logs on standard error, `console` for people or `json`."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(asctime)s [%(levelname)s] %(name)s %(message)s"
    )
