"""Logs that say what they are about: the agent, delegation, session and user that are being handled are on every line.

They are named at the edge, once, and kept in a context variable of our own: structlog's own bound variables cost 20 µs
each time, which is more than to handle a frame takes.
"""

import logging
import sys
from contextvars import Context, ContextVar, Token
from typing import Any, Self

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from belay_api.names import Ref

_NAMES: ContextVar[dict[str, object]] = ContextVar("names", default={})  # noqa: B039 - never changed, only replaced


class about:  # noqa: N801 - read as a word: `with about(agent=ref):`
    """Within, and in tasks begun within, every line says these names, beside those named further out.

    A name is a Ref, whose namespace is said as well, or a string; None is left out.
    """

    __slots__ = ("_given", "_token")

    def __init__(self, **names: Ref | str | None) -> None:
        self._given = names
        self._token: Token[dict[str, object]] | None = None

    def __enter__(self) -> Self:
        self._token = _NAMES.set({**_NAMES.get(), **self._given})
        return self

    def __exit__(self, *_: object) -> None:
        if self._token:
            _NAMES.reset(self._token)


def also(**names: Ref | str | None) -> None:
    """Say these names too, from here to the end of the innermost `about`."""
    _NAMES.set({**_NAMES.get(), **names})


def nothing() -> Context:
    """The context of a task that is everybody's, whoever happened to begin it."""
    return Context()


def say_names(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The processor that puts them on a line; what the line says itself counts more."""
    names = _NAMES.get()
    for key, value in names.items():
        if value is not None:
            event.setdefault(key, str(value))
    namespace = next((value.namespace for value in names.values() if isinstance(value, Ref)), None)
    if namespace:
        event.setdefault("namespace", namespace)
    return event


def configure_logs(form: str) -> None:
    """Structured logs on standard error, `console` for people or `json`: ours, and those of the libraries."""
    shared: list[Processor] = [
        say_names,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    _configure_libraries([*shared, renderer])


def _configure_libraries(processors: list[Processor]) -> None:
    """What they tell `logging`, from warnings on, in the same form."""
    handler = logging.StreamHandler(sys.stderr)
    named: list[Processor] = [structlog.stdlib.add_logger_name, *processors[:-1]]
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, processors[-1]],
        foreign_pre_chain=named,
    )
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("kubernetes").setLevel(logging.ERROR)  # what it warns of comes back as an error of ours
