"""Where the command's words go: results to standard output, everything else to standard error."""

import logging
import sys
from collections.abc import Callable
from contextlib import suppress

import structlog

_LOGGED_CHARS = 200
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
"""As a shell has it for what Ctrl-C ended."""


def log_to_stderr(*, verbose: bool, write: Callable[[bytes], None] | None = None) -> None:
    """Send log lines to standard error, by `write` if given; only warnings unless `verbose`; coloured for a tty."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0, pad_level=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO if verbose else logging.WARNING),
        logger_factory=lambda *_: _StderrLogger(write),
        cache_logger_on_first_use=False,
    )


def quiet_libraries() -> None:
    """Let what libraries log by `logging` through as our own lines: errors only, a line each, without contents.

    The MCP SDK logs to the root logger, at length, what clients sent it.
    """
    logging.basicConfig(level=logging.ERROR, handlers=[_OneLine()], force=True)


class _OneLine(logging.Handler):
    """The first line of a record, cut, and the error's kind."""

    def emit(self, record: logging.LogRecord) -> None:
        lines = record.getMessage().splitlines()
        kind = record.exc_info[0] if record.exc_info else None
        about = {"error": kind.__name__} if kind else {}
        structlog.get_logger(record.name).error(lines[0][:_LOGGED_CHARS] if lines else "", logger=record.name, **about)


class _StderrLogger:
    """Writes to standard error as it is now. That nobody reads it any more must not end what is being logged."""

    def __init__(self, write: Callable[[bytes], None] | None) -> None:
        self._write = write

    def msg(self, message: str) -> None:
        """Write one line."""
        if self._write:
            self._write(f"{message}\n".encode(errors="replace"))
            return
        with suppress(OSError, ValueError):
            print(message, file=sys.stderr, flush=True)

    debug = info = warning = warn = error = err = critical = exception = fatal = failure = log = msg


def complain(message: str) -> None:
    """One line that says what was wrong."""
    say(" ".join(message.split()) or "something went wrong")


def say(message: str) -> None:
    """One line for a person, if there still is one."""
    with suppress(OSError, ValueError):
        print(f"belay: {message}", file=sys.stderr, flush=True)
