"""From `helm install` as the README has it to the first delegation as Helm then says it, command by command."""

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from belay_api.meta import DEFAULT_AUDIENCE
from belay_dev.guard import Guard
from belay_dev.stack import DEV_ACCESS
from chart.containers import Container, free_port, listening
from chart.helm import NAMESPACE, RELEASE, Helm, of_kind
from chart.shell import environment
from transcripts import Step, block, perform

FORWARDED = re.compile(r"kubectl [^\n]*port-forward [^\n]*&\nexport BELAY_GATEWAY=[^\n]*\n")


def _installed(helm: Helm, *flags: str) -> None:
    """Run the README's own command, on ports that are free here; returns when the definitions serve."""
    (install,) = (step for step in block("README.md", "helm install") if step.command.startswith("helm install"))
    given = shlex.join([*listening(free_port(), free_port()), *flags])
    perform([Step(f"{install.command} {given}")], environment(helm))
    helm.plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")


@contextmanager
def _started(helm: Helm, guard: Guard, folder: Path) -> Iterator[str]:
    """Both Deployments' containers, probed and at the end stopped; gives where the gateway listens."""
    started = [Container(helm.plane, guard, each, folder) for each in of_kind(helm.objects(), "Deployment")]
    for container in started:
        container.until_probed()
    (gateway,) = (container.url for container in started if container.name == "belay-gateway")
    yield gateway
    for container in started:
        container.process.stop(30)


def _notes(helm: Helm, gateway: str) -> Step:
    """What Helm says to do first, in one piece, as it is copied; there is no node here that could forward a port."""
    said = helm("get", "notes", RELEASE).split("hand it work:\n", 1)[1].split("\nWho attaches", 1)[0]
    script, count = FORWARDED.subn(f"export BELAY_GATEWAY={gateway}\n", said)
    assert count == 1, said
    return Step(script.strip())


def _follow_the_notes(helm: Helm, gateway: str, folder: Path) -> None:
    first = _notes(helm, gateway)
    perform(
        [Step(f"{first.command} > {folder}/result"), Step(f"tail -n 1 {folder}/result", ["HOLD THE ROPE"])],
        environment(helm),
    )


def _follow_the_readme(helm: Helm, gateway: str) -> None:
    """With a token that may attach, as whoever reads the README has one; what the notes made is gone."""
    helm.plane.kubectl("delete", "agents,delegations", "--all")
    helm.plane.kubectl("apply", "--server-side", "-f", str(DEV_ACCESS))
    token = helm.plane.service_account_token("default", "belay-agent", [DEFAULT_AUDIENCE])
    person = {**environment(helm), "BELAY_GATEWAY": gateway, "BELAY_TOKEN": token}
    perform(block("README.md", "belay agent run writer"), person)


def test_the_first_delegation_goes_as_readme_and_notes_say(fresh: Helm, guard: Guard, tmp_path: Path) -> None:
    """On a fresh control plane nothing is left out, and nothing has to be known beside."""
    assert not fresh.exists(f"namespace/{NAMESPACE}")
    _installed(fresh)
    assert fresh.exists(f"namespace/{NAMESPACE}")
    with _started(fresh, guard, tmp_path) as gateway:
        _follow_the_notes(fresh, gateway, tmp_path)
        _follow_the_readme(fresh, gateway)


def test_the_notes_work_where_only_some_namespaces_are_served(helm: Helm, guard: Guard, tmp_path: Path) -> None:
    """Agent, token, session and delegation are all in the first of them."""
    helm.plane.kubectl("create", "namespace", "team-first")
    helm.plane.kubectl("wait", "--for=create", "serviceaccount/default", "-n", "team-first", "--timeout=60s")
    _installed(helm, "--set", "watchNamespaces={team-first}")
    with _started(helm, guard, tmp_path) as gateway:
        _follow_the_notes(helm, gateway, tmp_path)
