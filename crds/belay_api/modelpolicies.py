"""The admission policies of Model agents: what may be named in their spec, and who writes their sessions and mail.

They promise that nobody has a Secret or ConfigMap read, or a delegation made, through a model that they couldn't read
or make themselves, and that mail bears its sender's name and no tool's.
"""

from belay_api import meta
from belay_api.admission import WHO, Check, Policy


def _given(variable: str, path: str) -> str:
    """Whether `spec.model.<path>` is there."""
    return f"has({variable}.spec.model) && has({variable}.spec.model.{path})"


def _stands(*fields: str) -> str:
    """Whether an update leaves these fields of `spec.model` as they were, set or not."""
    kept = (
        f"has(object.spec.model.{field}) == has(oldObject.spec.model.{field}) && "
        f"(!has(object.spec.model.{field}) || object.spec.model.{field} == oldObject.spec.model.{field})"
        for field in fields
    )
    both = "has(object.spec.model) && has(oldObject.spec.model)"
    return " && ".join(("request.operation == 'UPDATE'", both, *kept))


def _may_get(resource: str, variable: str) -> str:
    return (
        f"authorizer.group('').resource('{resource}').namespace(request.namespace).name(variables.{variable})"
        ".check('get').allowed()"
    )


def _may_delegate(name: str) -> str:
    return (
        f"authorizer.group('{meta.GROUP}').resource('agents').namespace(request.namespace).name({name})"
        f".check('{meta.VERB_DELEGATE}').allowed()"
    )


_DELEGATES = "has({0}.spec.tools) ? {0}.spec.tools.filter(t, has(t.agents)).map(t, t.agents)[?0].orValue([]) : []"
_TERMS = "has({0}.spec.tools) ? {0}.spec.tools.filter(t, has(t.agents)).map(t, t.permission) : []"
_TOLD = ("system", "systemFrom", "provider", "baseURL")
"""What decides to what ends a model uses its tools."""

MODEL_POLICIES = (
    Policy(
        name="belay-agent-secrets",
        promise="A Secret or ConfigMap is read in an Agent's name, so only who may read it may name it, or say where "
        "it is sent.",
        matches=((("CREATE", "UPDATE"), ("agents",)),),
        variables={
            "secret": f"{_given('object', 'apiKeySecretRef')} ? object.spec.model.apiKeySecretRef.name : ''",
            "secretStands": _stands("apiKeySecretRef", "baseURL", "provider"),
            "configMap": f"{_given('object', 'systemFrom')} ? object.spec.model.systemFrom.name : ''",
            "configMapStands": _stands("systemFrom", "baseURL", "provider"),
        },
        checks=(
            Check(
                f"variables.secret == '' || variables.secretStands || {_may_get('secrets', 'secret')}",
                f"'spec.model.apiKeySecretRef: ' + {WHO} + ' may not get secrets/' + variables.secret + "
                "' in namespace ' + request.namespace + ', so may not have it used or sent elsewhere; ask for a Role "
                "with it'",
            ),
            Check(
                f"variables.configMap == '' || variables.configMapStands || {_may_get('configmaps', 'configMap')}",
                f"'spec.model.systemFrom: ' + {WHO} + ' may not get configmaps/' + variables.configMap + "
                "' in namespace ' + request.namespace + ', so may not have it used or sent elsewhere; ask for a Role "
                "with it'",
            ),
        ),
    ),
    Policy(
        name="belay-agent-delegates",
        promise="A Model agent delegates in the name of whoever said to whom, or told it to what ends and on what "
        "terms: who may delegate to these agents.",
        matches=((("CREATE", "UPDATE"), ("agents",)),),
        variables={
            "told": _stands(*_TOLD),
            "terms": f"request.operation == 'UPDATE' && ({_TERMS.format('object')}) == ({_TERMS.format('oldObject')})",
            "before": f"variables.told && variables.terms ? ({_DELEGATES.format('oldObject')}) : []",
            "named": f"({_DELEGATES.format('object')}).filter(name, !(name in variables.before))",
        },
        checks=(
            Check(
                f"variables.named.all(name, {_may_delegate('name')})",
                f"'spec.tools: ' + {WHO} + ' lacks the verb {meta.VERB_DELEGATE} on one of agents ' + "
                "variables.named.join(', ') + ' in namespace ' + request.namespace + ', so may not give it to a model, "
                "nor change spec.model (system, systemFrom, provider, baseURL) or the permission of one that has it; "
                "ask for a Role that grants it'",
            ),
        ),
    ),
    Policy(
        name="belay-session-openers",
        promise="A conversation with an Agent is work for it: who opens one may delegate to it.",
        matches=((("CREATE",), ("agentsessions",)),),
        checks=(
            Check(
                f"variables.writer != '' || {_may_delegate('object.spec.agentRef.name')}",
                f"'spec.agentRef: ' + {WHO} + ' lacks the verb {meta.VERB_DELEGATE} on agents/' + "
                "object.spec.agentRef.name + ' in namespace ' + request.namespace + ', so may not open a session with "
                "it; ask for a Role that grants it'",
            ),
        ),
    ),
    Policy(
        name="belay-session-status",
        promise="Where a session and its mail stand is what the operator drained, and turns are what happened.",
        matches=(
            (("UPDATE",), ("agentsessions/status", "pendingmessages/status")),
            (("CREATE",), ("sessionturns",)),
        ),
        checks=(
            Check(
                "variables.writer == 'operator'",
                f"request.resource.resource + ': ' + {WHO} + ' may not write it, only ' + variables.operator + "
                "' may; send a PendingMessage, or set spec.interruptRequest of the AgentSession'",
            ),
        ),
    ),
    Policy(
        name="belay-message-senders",
        promise="Nobody sends mail in another's name, and tools answer for themselves.",
        matches=((("CREATE",), ("pendingmessages",)),),
        checks=(
            Check(
                "variables.writer != '' || object.spec.type != 'ToolResponse'",
                f"'spec.type: ' + {WHO} + ' may not send a ToolResponse, only ' + variables.operator + "
                "' may: the tool that was called answers itself; send a UserMessage'",
            ),
            Check(
                "variables.writer != '' || !has(object.spec.source) || (object.spec.source.kind == 'User' && "
                f"object.spec.source.name == {WHO})",
                "'spec.source: is ' + object.spec.source.kind + ' ' + object.spec.source.name + "
                f"' but the caller is ' + {WHO} + '; leave it out'",
            ),
        ),
    ),
)
