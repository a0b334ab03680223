"""Renders the chart into `manifests/`, for those who use kubectl: `python hack/render_manifests.py [--check] [FOLDER]`.

Promises that `kubectl apply -k` of that folder installs what `helm install belay . --namespace belay` would, at once.
The DelegationSweeper is in neither: kubectl and Helm look up every kind before they make the first object, and refuse
one whose definition comes with the same call. The operator makes it where it is missing; `sweeper.yaml` is for who
keeps its settings beside these files.
"""

import subprocess
import sys
from pathlib import Path

import yaml

from belay_api import generated, meta
from belay_dev import binaries
from belay_dev.tools import Tool

ROOT = Path(__file__).parent.parent
NAMESPACE = "belay"
COMMAND = "make manifests"
PATTERN = "*.yaml"
INSTALL = "install.yaml"
FILE_OF_KIND = {"CustomResourceDefinition": "crds.yaml"}
APPLIED = ("namespace.yaml", "crds.yaml", INSTALL)
HEADER = generated.header("the chart", COMMAND)

Json = generated.Json


def render(chart: Path) -> str:
    """The whole chart as YAML, definitions included. Raises CalledProcessError when Helm refuses it."""
    helm = binaries.ensure([Tool.HELM])[Tool.HELM]
    command = [str(helm), "template", "belay", str(chart), "--namespace", NAMESPACE]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def split(rendered: str) -> dict[str, str]:
    """The rendered documents, each as it is, by the file it belongs into."""
    parts: dict[str, str] = {}
    for text in rendered.split("\n---\n"):
        document = yaml.safe_load(text)
        if document:
            name = FILE_OF_KIND.get(document["kind"], INSTALL)
            parts[name] = parts.get(name, HEADER) + f"---\n{text.removeprefix('---').strip()}\n"
    return parts


def namespace() -> Json:
    """The namespace, which Helm leaves to `--create-namespace`."""
    labels = {"app.kubernetes.io/part-of": "belay", "pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}


def sweeper() -> Json:
    """The DelegationSweeper without a setting: times come from the operator's environment, else from its defaults."""
    return {
        "apiVersion": meta.API_VERSION,
        "kind": "DelegationSweeper",
        "metadata": {
            "name": meta.SWEEPER_NAME,
            "namespace": NAMESPACE,
            "labels": {"app.kubernetes.io/part-of": "belay"},
        },
        "spec": {},
    }


def kustomization() -> Json:
    """What `kubectl apply -k` takes."""
    return {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": list(APPLIED)}


def files() -> dict[str, str]:
    """The text of each manifest, by file name."""
    made = {"namespace.yaml": namespace(), "sweeper.yaml": sweeper(), "kustomization.yaml": kustomization()}
    return {**split(render(ROOT)), **{name: HEADER + generated.dump(document) for name, document in made.items()}}


if __name__ == "__main__":
    sys.exit(generated.main(files(), PATTERN, COMMAND, folder=ROOT / "manifests"))
