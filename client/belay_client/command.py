"""Whether a command line can be run at all, asked before anything depends on it."""

import os
import re
import shlex
import subprocess
from contextlib import suppress

from belay_client.errors import UsageError

SHELL = "/bin/sh"
_ONLY_FOR_THE_SHELL = re.compile(r"[$`*?\[<>(){}&|;#]|^[0-9]+$")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


def check_command(command: str) -> None:
    """Raise UsageError when the shell can't read `command`, or knows no program of the name it begins with."""
    if not command.strip() or "\0" in command:
        raise UsageError("--exec is empty: give it the command that does the work")
    read = _shell("-n", "-c", command)
    if read.returncode != 0:
        said = read.stderr.decode(errors="replace").strip().splitlines() or ["syntax error"]
        raise UsageError(f"--exec is not a command the shell can read: {said[-1]}")
    word = first_word(command)
    if word is not None and _shell("-c", 'command -v -- "$1"', "sh", word).returncode != 0:
        raise UsageError(f"command not found: {word} (the first word of --exec)")


def first_word(command: str) -> str | None:
    """The program a command begins with, after assignments; None when only the shell can know."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    with suppress(ValueError):
        words += lexer
    while words and _ASSIGNMENT.match(words[0]):
        words.pop(0)
    if not words or _ONLY_FOR_THE_SHELL.search(words[0]) or words[1:2] == ["()"]:
        return None
    return os.path.expanduser(words[0])


def _shell(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    try:
        return subprocess.run([SHELL, *arguments], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"{SHELL}, which --exec is run with, can't be started: {error}") from error
