"""The definitions as a template of the chart: `python -m belay_api.charted [--check] FOLDER`.

A template and not Helm's own folder `crds/`, whose files it installs once and never again: so an upgrade of the chart
upgrades the definitions, and `helm.sh/resource-policy: keep` leaves them, and all objects of them, at an uninstall.
"""

import sys

from belay_api import generated, schema
from belay_api.resource import Kind

COMMAND = "make crds"
FILE = "crds.yaml"

_OPEN = "{{"
_METADATA = """metadata:
  name: {name}
  labels: {{{{- include "belay.labels" . | nindent 4 }}}}
  {{{{- if .Values.crds.keep }}}}
  annotations:
    helm.sh/resource-policy: keep
  {{{{- end }}}}
"""


def _text(kind: type[Kind]) -> str:
    """One definition, its metadata left to the chart. Raises ValueError where the template language would read more."""
    made = schema.definition(kind)
    name = made["metadata"]["name"]
    text = generated.dump(made)
    if _OPEN in text:
        raise ValueError(f"{name}: {_OPEN!r} in a description would be read as a template")
    return "---\n" + text.replace(f"metadata:\n  name: {name}\n", _METADATA.format(name=name), 1)


def files() -> dict[str, str]:
    """The template, by its file name."""
    head = generated.header("the models in crds/belay_api", COMMAND)
    return {FILE: head + "{{- if .Values.crds.install }}\n" + "".join(map(_text, schema.KINDS)) + "{{- end }}\n"}


if __name__ == "__main__":
    sys.exit(generated.main(files(), FILE, COMMAND))
