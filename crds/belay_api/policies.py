"""What Belay's admission policies say, in CEL (DESIGN.md section 3); `policy` writes them down as a template.

RBAC can't split a status among writers; these policies do. They promise that each arrow of a delegation and of a
subscription row is drawn only by the account of the process it belongs to, not even by an administrator, and that
nobody asks in another's name or delegates to an agent without the verb `delegate` on it.
"""

from collections.abc import Mapping
from typing import Any

from belay_api import meta
from belay_api.admission import WHO, Check, Policy
from belay_api.agentsubscription import ROW_ARROWS
from belay_api.modelpolicies import MODEL_POLICIES
from belay_api.permissionrequest import PERMISSION_ARROWS
from belay_api.transitions import ARROWS, Phase, Writer

MAX_DEADLINE_HOURS = 30 * 24


def cel(value: object) -> str:
    """`value` as a CEL literal; sets become sorted lists, so that the output is stable."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{cel(key)}: {cel(value[key])}" for key in value) + "}"
    if isinstance(value, (set, frozenset)):
        return "[" + ", ".join(sorted(cel(item) for item in value)) + "]"
    return f"'{value}'"


def delegation_arrows() -> dict[Writer, dict[Phase, frozenset[Phase]]]:
    """`transitions.ARROWS` by writer and source."""
    return {
        writer: {
            source: targets
            for source in Phase
            if (targets := frozenset(arrow.target for arrow in ARROWS[writer] if arrow.source == source))
        }
        for writer in Writer
    }


def row_arrows() -> dict[Writer, dict[str, frozenset[str]]]:
    """`ROW_ARROWS` with the empty word for a row that has no phase yet."""
    return {
        writer: {str(source or ""): frozenset(map(str, targets)) for source, targets in table.items()}
        for writer, table in ROW_ARROWS.items()
    }


def permission_arrows() -> dict[Writer, dict[str, frozenset[str]]]:
    """`PERMISSION_ARROWS` with the empty word for a request that has no phase yet."""
    return {
        writer: {str(source or ""): frozenset(map(str, targets)) for source, targets in table.items()}
        for writer, table in PERMISSION_ARROWS.items()
    }


def _phase(variable: str, unset: str) -> str:
    return f"has({variable}.status) && has({variable}.status.phase) ? {variable}.status.phase : '{unset}'"


def _moves(arrows: Mapping[Any, Any], unset: str) -> dict[str, str]:
    return {"source": _phase("oldObject", unset), "target": _phase("object", unset), "arrows": cel(arrows)}


_DRAWS = (
    "variables.writer in variables.arrows && variables.source in variables.arrows[variables.writer] && "
    "variables.target in variables.arrows[variables.writer][variables.source]"
)
_SAME_METADATA = " && ".join(
    f"(has(object.metadata.{part}) ? object.metadata.{part} : {{}}) == "
    f"(has(oldObject.metadata.{part}) ? oldObject.metadata.{part} : {{}})"
    for part in ("labels", "annotations")
)

_ASKER = (
    f"has({{0}}.metadata.annotations) && '{meta.ANNOTATION_ASKED_BY}' in {{0}}.metadata.annotations ? "
    f"{{0}}.metadata.annotations['{meta.ANNOTATION_ASKED_BY}'] : ''"
)
_ASKED_BEFORE = f"request.operation == 'CREATE' ? '' : ({_ASKER.format('oldObject')})"

POLICIES = (
    Policy(
        name="belay-delegation-arrows",
        promise="Each arrow between the phases of a Delegation is drawn by the process it belongs to, and by no other.",
        matches=((("UPDATE",), ("delegations/status",)),),
        variables=_moves(delegation_arrows(), Phase.PENDING),
        checks=(
            Check(
                "variables.writer != ''",
                f"'status of a Delegation: ' + {WHO} + ' may not write it, only ' + variables.operator + ' and ' + "
                "variables.gateway + ' may; to end a Delegation set spec.desiredState to Cancelled'",
            ),
            Check(
                f"variables.writer == '' || variables.source == variables.target || ({_DRAWS})",
                "'status.phase: the ' + variables.writer + ' may not take a Delegation from ' + variables.source + "
                "' to ' + variables.target + '; read it again and decide again'",
            ),
        ),
    ),
    Policy(
        name="belay-status-writers",
        promise="The status of an Agent and of a DelegationSweeper is what the operator saw.",
        matches=((("UPDATE",), ("agents/status", "delegationsweepers/status")),),
        checks=(
            Check(
                "variables.writer == 'operator'",
                f"'status: ' + {WHO} + ' may not write it, only ' + variables.operator + ' may; change spec instead'",
            ),
        ),
    ),
    Policy(
        name="belay-subscription-rows",
        promise="A row is made and renewed by gateways and expired by the operator. Finalizers and owner references "
        "stay open to the garbage collector.",
        matches=(
            (("CREATE", "UPDATE"), ("agentsubscriptions",)),
            (("UPDATE",), ("agentsubscriptions/status",)),
        ),
        variables={
            "onStatus": "has(request.subResource) && request.subResource == 'status'",
            "unchanged": "has(object.status) && has(oldObject.status) && object.status == oldObject.status",
            **_moves(row_arrows(), ""),
        },
        checks=(
            Check(
                f"variables.onStatus || variables.writer == 'gateway' || (request.operation == 'UPDATE' && "
                f"{_SAME_METADATA})",
                f"'AgentSubscription: ' + {WHO} + ' may not write it, only ' + variables.gateway + "
                "' may; attach to the gateway to get a session'",
            ),
            Check(
                "!variables.onStatus || variables.writer != ''",
                f"'status of an AgentSubscription: ' + {WHO} + ' may not write it, only ' + variables.gateway + "
                "' and ' + variables.operator + ' may; delete the row to end its session'",
            ),
            Check(
                f"!variables.onStatus || variables.writer == '' || variables.unchanged || ({_DRAWS})",
                "'status.phase: the ' + variables.writer + ' may not take an AgentSubscription from \"' + "
                "variables.source + '\" to \"' + variables.target + '\"; read it again and decide again'",
            ),
        ),
    ),
    Policy(
        name="belay-delegation-requests",
        promise="Nobody delegates in another's name, to an agent they may not delegate to, or to a time that makes no "
        "sense. The clock is the creationTimestamp that the API server has just set.",
        matches=((("CREATE",), ("delegations",)),),
        variables={
            "deadline": "has(object.spec.deadline) ? timestamp(object.spec.deadline) : "
            "timestamp(object.metadata.creationTimestamp) + duration('1s')",
            "now": "timestamp(object.metadata.creationTimestamp)",
        },
        checks=(
            Check(
                f"variables.writer != '' || !has(object.spec.requester) || object.spec.requester == {WHO}",
                f"'spec.requester: is ' + object.spec.requester + ' but the caller is ' + {WHO} + '; leave it out'",
            ),
            Check(
                f"variables.writer != '' || authorizer.group('{meta.GROUP}').resource('agents').namespace("
                f"request.namespace).name(object.spec.agentRef.name).check('{meta.VERB_DELEGATE}').allowed()",
                f"'spec.agentRef: ' + {WHO} + ' lacks the verb {meta.VERB_DELEGATE} on agents/' + "
                "object.spec.agentRef.name + ' in namespace ' + request.namespace + '; ask for a Role that grants it'",
            ),
            Check(
                "variables.deadline > variables.now",
                "'spec.deadline: ' + string(variables.deadline) + ' is past; now is ' + string(variables.now)",
                "Invalid",
            ),
            Check(
                f"variables.deadline <= variables.now + duration('{MAX_DEADLINE_HOURS}h')",
                "'spec.deadline: ' + string(variables.deadline) + ' is more than 30 days away; now is ' + "
                "string(variables.now)",
                "Invalid",
            ),
        ),
    ),
    Policy(
        name="belay-delegation-askers",
        promise="Which session asked for a Delegation is said by the gateway that has its socket: its events are told "
        "there.",
        matches=((("CREATE", "UPDATE"), ("delegations",)),),
        variables={"asker": _ASKER.format("object"), "before": _ASKED_BEFORE},
        checks=(
            Check(
                "variables.writer != '' || variables.asker == variables.before",
                f"'metadata.annotations[{meta.ANNOTATION_ASKED_BY}]: ' + {WHO} + ' may not write it, only ' + "
                "variables.gateway + ' may; leave it as it is'",
            ),
        ),
    ),
    Policy(
        name="belay-delegation-annotations",
        promise="An annotation that changes what a cancel does is spelt right.",
        matches=((("CREATE", "UPDATE"), ("delegations",)),),
        variables={
            "annotations": "has(object.metadata.annotations) ? object.metadata.annotations : {}",
        },
        checks=(
            Check(
                f"!('{meta.ANNOTATION_CANCEL_CASCADE}' in variables.annotations) || "
                f"variables.annotations['{meta.ANNOTATION_CANCEL_CASCADE}'] in ['true', 'false']",
                f"'metadata.annotations: {meta.ANNOTATION_CANCEL_CASCADE} is \"' + variables.annotations["
                f'\'{meta.ANNOTATION_CANCEL_CASCADE}\'] + \'"; write "true" or "false"\'',
                "Invalid",
            ),
        ),
    ),
    Policy(
        name="belay-agent-owners",
        promise="Owners may attach as an Agent, so only who may attach to it may name them.",
        matches=((("CREATE", "UPDATE"), ("agents",)),),
        variables={
            "unchanged": "!has(object.spec.owners) || object.spec.owners.size() == 0 || (request.operation == 'UPDATE' "
            "&& has(oldObject.spec.owners) && object.spec.owners == oldObject.spec.owners)",
        },
        checks=(
            Check(
                f"variables.unchanged || authorizer.group('{meta.GROUP}').resource('agents').namespace("
                f"request.namespace).name(object.metadata.name).check('{meta.VERB_ATTACH}').allowed()",
                f"'spec.owners: ' + {WHO} + ' lacks the verb {meta.VERB_ATTACH} on agents/' + object.metadata.name + "
                "' in namespace ' + request.namespace + ', so may not give it to others; ask for a Role with it'",
            ),
        ),
    ),
    *MODEL_POLICIES,
    Policy(
        name="belay-permission-requests",
        promise="Agents ask through a gateway, Model agents through the operator, whoever decides signs with their own "
        "name, and only Belay's processes say where a request stands.",
        matches=(
            (("CREATE", "UPDATE"), ("permissionrequests",)),
            (("UPDATE",), ("permissionrequests/status",)),
        ),
        variables={
            "onStatus": "has(request.subResource) && request.subResource == 'status'",
            "decides": "has(object.spec.decision) && !(request.operation == 'UPDATE' && has(oldObject.spec.decision))",
            "signer": "has(object.spec.decision) && has(object.spec.decision.decidedBy) ? "
            "object.spec.decision.decidedBy : ''",
            **_moves(permission_arrows(), ""),
        },
        checks=(
            Check(
                "request.operation != 'CREATE' || variables.writer != ''",
                f"'PermissionRequest: ' + {WHO} + ' may not create it, only ' + variables.gateway + ' and ' + "
                "variables.operator + ' may; an agent asks with request_permission on its socket'",
            ),
            Check(
                "request.operation != 'CREATE' || !has(object.spec.decision)",
                "'spec.decision: a request is not decided by whoever makes it; leave it out'",
            ),
            Check(
                f"!variables.decides || (variables.writer == '' ? variables.signer == {WHO} : variables.signer != '')",
                "'spec.decision.decidedBy: is \"' + variables.signer + '\" but the caller is ' + "
                f"{WHO} + '; write \"' + {WHO} + '\"'",
            ),
            Check(
                "!variables.onStatus || variables.writer != ''",
                f"'status of a PermissionRequest: ' + {WHO} + ' may not write it, only ' + variables.operator + "
                "' and ' + variables.gateway + ' may; to decide set spec.decision'",
            ),
            Check(
                f"!variables.onStatus || variables.writer == '' || variables.source == variables.target || ({_DRAWS})",
                "'status.phase: the ' + variables.writer + ' may not take a PermissionRequest from \"' + "
                "variables.source + '\" to \"' + variables.target + '\"; read it again and decide again'",
            ),
        ),
    ),
)
