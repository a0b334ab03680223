"""The chart's admission policies, written from `policies`: `python -m belay_api.policy [--check] FOLDER`.

The output is a template because the accounts' names are values; it holds no other expression of the template language.
"""

import sys

from belay_api import generated, meta
from belay_api.admission import Policy
from belay_api.policies import POLICIES
from belay_api.transitions import Writer

Json = generated.Json

COMMAND = "make crds"
FILE = "admission-policies.yaml"

_LABELS = '{{- include "belay.labels" . | nindent 4 }}'
_ACCOUNT = '"system:serviceaccount:{{{{ .Release.Namespace }}}}:{{{{ include "belay.{}ServiceAccount" . }}}}"'
_VARIABLES = {
    **{str(writer): _ACCOUNT.format(writer) for writer in (Writer.OPERATOR, Writer.GATEWAY)},
    "writer": "request.userInfo.username == variables.operator ? 'operator' : "
    "(request.userInfo.username == variables.gateway ? 'gateway' : '')",
}


def documents(policy: Policy) -> tuple[Json, Json]:
    """The policy and its binding."""
    variables = {**_VARIABLES, **policy.variables}
    rules = [
        {
            "apiGroups": [meta.GROUP],
            "apiVersions": [meta.VERSION],
            "operations": list(operations),
            "resources": list(resources),
        }
        for operations, resources in policy.matches
    ]
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": rules},
        "variables": [{"name": name, "expression": expression} for name, expression in variables.items()],
        "validations": [
            {"expression": c.expression, "messageExpression": c.message, "reason": c.reason} for c in policy.checks
        ],
    }
    metadata = {"name": policy.name, "labels": _LABELS}
    kind = "ValidatingAdmissionPolicy"
    made = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": metadata, "spec": spec}
    binding = {"policyName": policy.name, "validationActions": ["Deny"]}
    return made, {**made, "kind": f"{kind}Binding", "spec": binding}


def _text(policy: Policy) -> str:
    made, binding = (generated.dump(d).replace(f"'{_LABELS}'", _LABELS) for d in documents(policy))
    return f"---\n# {policy.promise}\n{made}---\n{binding}"


def files() -> dict[str, str]:
    """The template, by its file name."""
    head = generated.header("crds/belay_api/policies.py and the phase tables", COMMAND)
    return {FILE: head + "".join(map(_text, POLICIES))}


if __name__ == "__main__":
    sys.exit(generated.main(files(), FILE, COMMAND))
