"""What the documents show of a terminal, run: commands as they stand; what they print is held against what is shown."""

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
SECONDS = 180.0
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CHANGES = (
    (re.compile(r"\b([a-z]+)-[a-z0-9]{5}\b"), r"\1-XXXXX"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "TIME"),
    (re.compile(r"\b\d+m?s\b"), "AGE"),
    (re.compile(r"[ \t]+"), " "),
)
"""What is another each time: generated names, times, ages, the width of columns."""


@dataclass
class Step:
    """A command, and what is shown of its output; nothing shown: it may print what it wants."""

    command: str
    shown: list[str] = field(default_factory=list)


def block(document: str, holding: str) -> list[Step]:
    """The steps of the one console block of a document that holds a text."""
    (found,) = (text for text in _BLOCK.findall((ROOT / document).read_text()) if holding in text)
    return steps(found)


def steps(text: str) -> list[Step]:
    """Steps of a transcript: a command begins with `$ `, and goes on to the end of its here-document."""
    found: list[Step] = []
    until: str | None = None
    for line in text.splitlines():
        if until is not None:
            found[-1].command += f"\n{line}"
            until = None if line == until else until
        elif line.startswith("$ "):
            found.append(Step(line.removeprefix("$ ")))
            here = re.search(r"<<(\w+)$", line)
            until = here.group(1) if here else None
        elif line:
            found[-1].shown.append(line)
    return found


def lasting(line: str) -> str:
    """A line without what is another each time."""
    for pattern, stands_for in _CHANGES:
        line = pattern.sub(stands_for, line)
    return line.strip()


def perform(script: list[Step], environment: Mapping[str, str]) -> None:
    """Run the steps in one shell, one after the other; what each prints must be what is shown.

    Raises AssertionError with the command, what is shown and what it printed.
    """
    marked = "\n".join(f"{step.command}\necho; echo '=== {number}'" for number, step in enumerate(script))
    # What runs in the background ends when its person leaves the shell.
    whole = f"trap 'kill $(jobs -p) 2>/dev/null' EXIT\nset -e\n{marked}\n"
    done = subprocess.run(
        ["bash", "-c", whole],
        env=dict(environment), cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    printed = re.split(r"^=== \d+$\n?", done.stdout, flags=re.MULTILINE)
    for step, output in zip(script, printed, strict=False):
        lines = [lasting(line) for line in output.splitlines() if line.strip()]
        shown = [lasting(line) for line in step.shown]
        assert not shown or lines == shown, f"$ {step.command}\nshown: {shown}\nprinted: {lines}\n{done.stderr}"
    assert len(printed) == len(script) + 1, f"{done.stdout}\n{done.stderr}"
