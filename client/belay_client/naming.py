"""Names given on the command line: checked before they become a part of a path."""

from pydantic import TypeAdapter, ValidationError

from belay_api.resource import AgentName, ObjectName
from belay_client.errors import UsageError

_OBJECT: TypeAdapter[str] = TypeAdapter(ObjectName)
_LABEL: TypeAdapter[str] = TypeAdapter(AgentName)


def object_name(value: str | None) -> str | None:
    """The name of an object as it was given, or None. Raises UsageError for what can't be one."""
    if value is not None and not _fits(_OBJECT, value):
        raise UsageError(f"{value!r} is not a name: give one as `kubectl get` shows it, of a-z, 0-9, - and .")
    return value


def namespace_name(value: str) -> str:
    """The name of a namespace as it was given. Raises UsageError for what can't be one."""
    if not _fits(_LABEL, value):
        raise UsageError(
            f"namespace {value!r} is not a name: at most 63 of a-z, 0-9 and -; see `kubectl get namespaces`"
        )
    return value


def agent_ref(namespace: str, name: str) -> str:
    """An agent as the gateway knows it, `namespace/name`. Raises UsageError for what can't be one."""
    if "/" in name:
        raise UsageError(f"agent {name!r} is not a name: give the namespace with --namespace")
    if not _fits(_LABEL, name):
        raise UsageError(f"agent {name!r} is not a name: at most 63 of a-z, 0-9 and -; see `kubectl get agents`")
    return f"{namespace_name(namespace)}/{name}"


def _fits(kind: TypeAdapter[str], value: str) -> bool:
    try:
        kind.validate_python(value)
    except ValidationError:
        return False
    return True
