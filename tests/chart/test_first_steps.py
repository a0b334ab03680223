"""From `helm install` as the README has it to the first delegation as Helm then says it, command by command."""

import os
import re
import shlex
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from belay_dev import binaries
from belay_dev.guard import Guard
from belay_dev.tools import Tool
from chart.containers import Container, free_port, listening
from chart.helm import RELEASE, Helm, of_kind
from transcripts import Step, block, perform

TOOLS = [Tool.HELM, Tool.KUBECTL]
FORWARDED = re.compile(r"kubectl [^\n]*port-forward [^\n]*&\nexport BELAY_GATEWAY=[^\n]*\n")


@pytest.fixture
def guard() -> Iterator[Guard]:
    """Ends what the test started."""
    with Guard() as started:
        yield started


def _environment(helm: Helm) -> dict[str, str]:
    """Of a person who administers the cluster, and has `belay` installed."""
    found = binaries.ensure(TOOLS)
    folders = [Path(sys.executable).parent, *(found[tool].parent for tool in TOOLS)]
    path = os.pathsep.join([*map(str, folders), os.environ["PATH"]])
    return {**helm.environment, "PATH": path}


def _notes(helm: Helm, gateway: str) -> Step:
    """What Helm says to do first, in one piece; there is no node here that could forward a port."""
    said = helm("get", "notes", RELEASE).split("hand it work:\n", 1)[1].split("\nWho attaches", 1)[0]
    script, count = FORWARDED.subn(f"export BELAY_GATEWAY={gateway}\n", textwrap.dedent(said))
    assert count == 1, said
    return Step(script.strip())


def test_the_first_delegation_goes_as_readme_and_notes_say(helm: Helm, guard: Guard, tmp_path: Path) -> None:
    """Nothing is left out, and nothing has to be known beside."""
    environment = _environment(helm)
    (install,) = (step for step in block("README.md", "helm install") if step.command.startswith("helm install"))
    flags = shlex.join(listening(free_port(), free_port()))
    perform([Step(f"{install.command} {flags}")], environment)
    helm.plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    started = [Container(helm.plane, guard, each, tmp_path) for each in of_kind(helm.objects(), "Deployment")]
    for container in started:
        container.until_probed()
    (gateway,) = (container.url for container in started if container.name == "belay-gateway")

    first = _notes(helm, gateway)
    perform(
        [Step(f"{first.command} > {tmp_path}/result"), Step(f"tail -n 1 {tmp_path}/result", ["HOLD THE ROPE"])],
        environment,
    )

    for container in started:
        container.process.stop(30)
