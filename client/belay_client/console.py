"""Where the command's words go: results to standard output, everything else to standard error."""

import logging
import sys
from collections.abc import Callable
from contextlib import suppress

import structlog

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
