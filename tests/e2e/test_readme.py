"""What the README shows, run as it stands on a Belay like that of `belay dev`."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from belay_dev import binaries
from belay_dev.stack import Stack
from belay_dev.tools import Tool
from e2e.conftest import Belay
from rights.record import Record
from transcripts import Step, block, perform


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, record: Record) -> Iterator[Belay]:
    """A Belay in which nothing was done yet: what the README lists is all there is."""
    with Stack() as stack, record.kept(stack.control_plane):
        yield Belay(stack, tmp_path_factory.mktemp("agents"))


def _perform(belay: Belay, script: list[Step]) -> None:
    """In the shell of a person who has exported what `belay dev` printed, with the environment of `make setup`."""
    tools = (Path(sys.executable).parent, binaries.ensure([Tool.KUBECTL])[Tool.KUBECTL].parent)
    path = os.pathsep.join([*map(str, tools), belay.environment["PATH"]])
    perform(script, {**belay.environment, "PATH": path})


@pytest.mark.parametrize("holding", ["belay agent run writer", "belay chat echo"], ids=["first delegation", "a model"])
def test_the_readme_is_true(fresh: Belay, holding: str) -> None:
    """Each command does what is shown."""
    _perform(fresh, block("README.md", holding))
