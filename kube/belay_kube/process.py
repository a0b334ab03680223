"""What every long-running process of Belay does at its edges: settings, logs, signals, and one line for each error."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

import structlog
from aiohttp import web
from annotated_types import Ge, Le
from pydantic import ValidationError
from pydantic_settings import BaseSettings, CliApp, SettingsError

from belay_kube.errors import KubeError
from belay_kube.logs import configure_logs

S = TypeVar("S", bound=BaseSettings)

EXIT_FAILED = 1
EXIT_USAGE = 2


class StartupError(Exception):
    """The process can't start; the message says what is wrong, with what, and what to do."""


def run(name: str, settings_class: type[S], body: Callable[[S], Coroutine[Any, Any, None]]) -> int:
    """Read settings, configure logs, run `body` until it ends or a signal comes.

    Returns the exit code: 0, 1 when it can't run, 2 when it was told something wrong. Whatever is wrong is one line on
    standard error, never a traceback; of JSON where the logs are and the settings could be read.
    """
    try:
        settings = CliApp.run(settings_class, cli_args=sys.argv[1:])
    except ValidationError as error:
        return _refuse(name, explain(error, settings_class), EXIT_USAGE)
    except SettingsError as error:
        return _refuse(name, str(error), EXIT_USAGE)
    form = getattr(settings, "log_format", "console")
    configure_logs(form)
    code = 0
    try:
        asyncio.run(_until_signal(body(settings)))
    except* (StartupError, KubeError) as group:
        code = _fail(name, "; ".join(str(leaf) for leaf in _leaves(group)), form)
    return code


def shown(settings: BaseSettings) -> dict[str, Any]:
    """The settings in force, without those whose value may hold a secret: they are kept out of every print."""
    fields = type(settings).model_fields
    values = settings.model_dump(mode="json")
    return {name: value if fields[name].repr or value is None else "(not shown)" for name, value in values.items()}


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


def _refuse(name: str, message: str, code: int) -> int:
    sys.stderr.write(f"{name}: {' '.join(message.split())}\n")
    return code


def _fail(name: str, message: str, form: str) -> int:
    """As a log says it; to people without the time, which they know."""
    if form != "json":
        return _refuse(name, message, EXIT_FAILED)
    structlog.get_logger(name).error(" ".join(message.split()), process=name)
    return EXIT_FAILED


def explain(error: ValidationError, settings_class: type[BaseSettings]) -> str:
    """One line that names each wrong setting, what it was, and what it may be."""
    return "; ".join(_explain_one(e["loc"], e["msg"], e["input"], settings_class) for e in error.errors())


def _explain_one(location: Iterable[int | str], said: str, value: Any, settings_class: type[BaseSettings]) -> str:
    name = next(iter(location), None)
    if name is None:
        return said.removeprefix("Value error, ")
    field = settings_class.model_fields.get(str(name))
    prefix = settings_class.model_config.get("env_prefix") or ""
    return f"{prefix}{str(name).upper()}={str(value)[:80]!r}: {_range(field.metadata if field else ()) or said}"


def _range(metadata: Iterable[Any]) -> str | None:
    low = next((m.ge for m in metadata if isinstance(m, Ge)), None)
    high = next((m.le for m in metadata if isinstance(m, Le)), None)
    return f"must be a whole number from {low} to {high}" if low is not None else None


async def listen(runner: web.AppRunner, host: str, port: int, backlog: int = 128) -> str:
    """Serve on an address; returns it as a URL. Raises StartupError when it can't be used."""
    try:
        await web.TCPSite(runner, host, port, backlog=backlog).start()
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise StartupError(f"can't listen on {host}:{port}: {why}; choose another port, 0 takes a free one") from error
    return url_of(runner)


def url_of(runner: web.AppRunner) -> str:
    """Where a runner can be reached."""
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def announce(**facts: Any) -> None:
    """Print one line of JSON for the program that started this one."""
    sys.stdout.write(json.dumps({"ready": True, **facts}) + "\n")
    sys.stdout.flush()


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
