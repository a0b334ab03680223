"""Files that are generated: written in one place, each with a header that says from what, and checked for drift.

A generator owns the files of its folder that match its pattern: what it makes no more is removed, or told by a check.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

Files = Mapping[str, str]
Json = dict[str, Any]


def header(made_from: str, command: str) -> str:
    """The comment at the top of a generated file."""
    return f"# Generated from {made_from} by `{command}`: change that, not this.\n"


class _Dumper(yaml.SafeDumper):
    """Text with quotes in it, like an expression, stands in a block of its own, where they need no escapes."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "'" in text else None)


_Dumper.add_representer(str, _text)


def dump(document: Json) -> str:
    """One document as YAML: keys in the order given and lines never folded, so that the same input is the same text."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**6)


def drift(folder: Path, files: Files, pattern: str) -> list[str]:
    """What differs between `folder` and `files`, one sentence each; files that match `pattern` must all be known."""
    found = {path.name for path in folder.glob(pattern)}
    differing = [f"{folder / name} is missing" for name in sorted(files.keys() - found)]
    differing += [f"{folder / name} is no longer generated" for name in sorted(found - files.keys())]
    for name in sorted(files.keys() & found):
        if (folder / name).read_text(encoding="utf-8") != files[name]:
            differing.append(f"{folder / name} differs from what would be generated")
    return differing


def write(folder: Path, files: Files, pattern: str) -> None:
    """Make the files that match `pattern` in `folder` exactly `files`."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in {path.name for path in folder.glob(pattern)} - files.keys():
        (folder / stale).unlink()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def main(
    files: Files, pattern: str, command: str, arguments: Sequence[str] | None = None, folder: Path | None = None
) -> int:
    """The command line of a generator, `[--check] FOLDER`: 0, or 1 when a check found a difference.

    With a `folder` of its own the generator writes there unless told otherwise.
    """
    parser = argparse.ArgumentParser(description=f"Write {', '.join(files)}; `{command}` does it for this repository.")
    parser.add_argument("--check", action="store_true", help="write nothing; name what differs and exit with 1")
    parser.add_argument("folder", type=Path, metavar="FOLDER", nargs="?" if folder else None, default=folder)
    given = parser.parse_args(arguments)
    if not given.check:
        write(given.folder, files, pattern)
        return 0
    differing = drift(given.folder, files, pattern)
    for line in differing:
        sys.stderr.write(f"{line}: run `{command}`\n")
    return 1 if differing else 0
