"""kopf's side of the operator: the DelegationSweeper, by `on.event` and one timer (DESIGN.md section 8).

kopf runs in a thread with a loop of its own: it takes over the signals of the main thread, and at its end it cancels
every task of the loop it is in (docs/decisions/0002).
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import kopf
import structlog

from belay_api.meta import GROUP, SWEEPER_NAME, VERSION
from belay_kube.client import Json, Kube
from belay_kube.clock import Clock
from belay_kube.process import StartupError

log = structlog.get_logger(__name__)

_IDENTITY: Any = "belay"
"""kopf asks for one although peering is off."""
_END_SECONDS = 0.5
"""For kopf to end by itself; another waits to lead. So long it has again once all of its tasks are cancelled."""
_TICK_SECONDS = 1.0
"""How often the timer asks whether a sweep is due; asking costs nothing and writes nothing."""
_Work = Coroutine[Any, Any, Any] | Generator[Any, None, Any]
_VITAL = ("watcher for ", "resource observer", "namespace observer", "multidimensional multitasker")
"""What kopf's names of the tasks begin with that watch, or begin watches."""


@dataclass(frozen=True)
class Receiver:
    """Who is told; every call comes in the loop that made the edge."""

    sweeper: Callable[[Json | None], None]
    tick: Callable[[], Awaitable[None]]


class KopfEdge:
    """Runs kopf beside the loop it is made in."""

    def __init__(self, kube: Kube, clock: Clock, namespace: str, receiver: Receiver) -> None:
        self._kube = kube
        self._clock = clock
        self._namespace = namespace
        self._receiver = receiver
        self._home = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._done: asyncio.Future[None] = self._home.create_future()
        self._steps: set[asyncio.Task[Any]] = set()
        """What runs here for kopf."""
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        """Run until cancelled. Raises StartupError when a watch of kopf's ends, else whatever ends kopf.

        Once it has returned, no sweep is under way.
        """
        thread = threading.Thread(target=self._thread, name="kopf", daemon=True)
        thread.start()
        try:
            await asyncio.shield(self._done)
            raise StartupError("kopf ended by itself: start it again")
        finally:
            self._stop.set()
            await self._end()

    async def _end(self) -> None:
        """End what runs here at once: kopf would leave a sweep 5 s before it cancels it. Of kopf's own writes, the
        sweeper's finalizer, none goes on, either."""
        for step in self._steps:
            step.cancel()
        if self._steps:
            await asyncio.wait(self._steps)
        done, _ = await asyncio.wait({self._done}, timeout=_END_SECONDS)
        if not done and self._loop:
            with suppress(RuntimeError):  # it has just been closed
                self._loop.call_soon_threadsafe(self._cancel_all)
            done, _ = await asyncio.wait({self._done}, timeout=_END_SECONDS)
        if not done:
            log.warning("kopf did not end in time")

    def _cancel_all(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()

    def _thread(self) -> None:
        error: BaseException | None = RuntimeError("kopf ended without a word")
        try:
            with asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                self._loop.set_task_factory(self._task)
                runner.run(
                    kopf.operator(
                        registry=self._registry(),
                        settings=_settings(),
                        standalone=True,
                        clusterwide=not self._kube.namespaces,
                        namespaces=self._kube.namespaces,
                        stop_flag=self._stop,
                        identity=_IDENTITY,
                    )
                )
            error = None
        except BaseException as failure:  # noqa: BLE001 - handed over to the loop that waits for it
            error = failure if isinstance(failure, Exception) else RuntimeError(f"kopf ended: {failure!r}")
        finally:
            # Nobody waits for a reason once it was told to end, or is there when it took too long.
            with suppress(RuntimeError):
                self._home.call_soon_threadsafe(_finish, self._done, None if self._stop.is_set() else error)

    def _task(self, loop: asyncio.AbstractEventLoop, work: _Work, **named: Any) -> asyncio.Task[Any]:
        """Make a task of kopf's. When a watch of its own fails, kopf goes on without it; when what begins watches does,
        kopf ends, or hangs: either way nothing would be heard any more, for ever (fault 11)."""
        task = asyncio.Task(work, loop=loop, **named)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled() or self._stop.is_set() or not task.get_name().startswith(_VITAL):
            return
        if failure := task.exception():
            error = StartupError(f"kopf's {task.get_name()} ended ({failure}): start it again")
            self._home.call_soon_threadsafe(_finish, self._done, error)

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.ConnectionInfo:
            connection: kopf.ConnectionInfo = await self._at_home(self._credentials)
            return connection

        @kopf.on.event(GROUP, VERSION, "delegationsweepers", registry=registry, when=self._is_ours)
        async def sweeper(event: kopf.RawEvent, **_: Any) -> None:
            body = None if event["type"] == "DELETED" else dict(event["object"])
            self._home.call_soon_threadsafe(self._receiver.sweeper, body)

        @kopf.timer(GROUP, VERSION, "delegationsweepers", interval=_TICK_SECONDS, registry=registry, when=self._is_ours)
        async def sweep(**_: Any) -> None:
            await self._at_home(self._receiver.tick)

        return registry

    def _is_ours(self, name: str | None, namespace: str | None, **_: Any) -> bool:
        return name == SWEEPER_NAME and namespace == self._namespace

    async def _at_home(self, step: Callable[[], Awaitable[Any]]) -> Any:
        """Take `step` in the home loop, from kopf's; not once this is over."""

        async def there() -> Any:
            if self._stop.is_set():
                raise asyncio.CancelledError
            task = asyncio.ensure_future(step())
            self._steps.add(task)
            try:
                return await task
            finally:
                self._steps.discard(task)

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(there(), self._home))

    async def _credentials(self) -> kopf.ConnectionInfo:
        configuration = self._kube.api.configuration
        return kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            token=await self._kube.token(),
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
        )


class _Pauses:
    """Between kopf's tries of one request, without end: after the last, the watch that asked would end (fault 7)."""

    def __iter__(self) -> Iterator[float]:
        return chain((1.0, 1.0, 2.0, 3.0), repeat(5.0))


def _finish(done: "asyncio.Future[None]", error: BaseException | None) -> None:
    if done.done():
        return
    if error:
        done.set_exception(error)
    else:
        done.set_result(None)


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = 270
    settings.watching.connect_timeout = 10
    settings.watching.chunk_size = 500
    settings.networking.connect_timeout = 10
    settings.networking.request_timeout = 30
    settings.networking.enforce_retry_after = True
    settings.networking.error_backoffs = _Pauses()
    # A sweep that is under way when its object is deleted would hold it for a minute after its end.
    settings.background.cancellation_polling = _TICK_SECONDS
    settings.persistence.finalizer = f"{GROUP}/sweeper"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP)
    # kopf tells of every event it handles; what matters is logged by the engine.
    logging.getLogger("kopf").setLevel(logging.WARNING)
    # It says that it leaves signals alone outside the main thread, which is why it is there.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
    return settings
