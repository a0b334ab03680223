"""`belay delegate`: delegations through the Kubernetes API."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from pydantic import ValidationError

from belay_api.delegation import MAX_TEXT_BYTES, Delegation, DelegationSpec
from belay_api.idempotency import KEY, MAX_KEY_CHARS, keyed
from belay_api.meta import API_VERSION
from belay_client.cluster import is_not_installed
from belay_client.deciding import whoami
from belay_client.errors import UsageError
from belay_kube.client import AGENTS, DELEGATIONS, Json, Kube
from belay_kube.errors import Forbidden, NotFound
from belay_kube.once import KeyReused, create_once


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line; what is None is left to the agent."""

    agent: str
    prompt: str
    name: str | None = None
    inputs: Sequence[str] = ()
    session: str | None = None
    topic: str | None = None
    deadline_seconds: int | None = None
    priority: int | None = None
    on_agent_lost: str | None = None
    idempotency_key: str | None = None

    def body(self) -> Json:
        """The resource. Raises UsageError that names the field which can't be right."""
        _check_key(self.idempotency_key, self.name)
        fields: dict[str, Any] = {
            "agentRef": {"name": self.agent},
            "task": {"prompt": self.prompt, "inputs": parse_inputs(self.inputs) or None},
            "sessionId": self.session,
            "topic": self.topic,
            "deadlineSeconds": self.deadline_seconds,
            "priority": self.priority,
            "onAgentLost": self.on_agent_lost,
        }
        given = {key: value for key, value in fields.items() if value is not None}
        try:
            spec = DelegationSpec.model_validate(given).model_dump(
                mode="json", by_alias=True, exclude_unset=True, exclude_none=True
            )
        except ValidationError as error:
            raise UsageError(_first_error(error)) from error
        named = {"name": self.name} if self.name else {"generateName": f"{self.agent}-"}
        return {"apiVersion": API_VERSION, "kind": Delegation.RESOURCE.kind, "metadata": named, "spec": spec}


async def create(kube: Kube, namespace: str, request: Request) -> Json:
    """Create the delegation. Raises KubeError."""
    return await kube.create(DELEGATIONS, namespace, request.body())


async def ensure(kube: Kube, namespace: str, request: Request) -> tuple[Json, bool]:
    """The delegation, and whether it was made just now: with a key it may have been there before (D5).

    Raises UsageError for a key that was used for something else, KubeError.
    """
    if request.idempotency_key is None:
        return await create(kube, namespace, request), True
    body = request.body()
    body["spec"]["requester"] = me = await whoami(kube)
    key = keyed(namespace, me, request.idempotency_key, body)
    try:
        return await create_once(kube, DELEGATIONS, namespace, body, key)
    except KeyReused as reused:
        raise UsageError(str(reused)) from reused


async def agent_is_missing(kube: Kube, namespace: str, agent: str) -> bool:
    """Whether there is no such agent; False when that may not be looked at. Raises KubeError."""
    try:
        await kube.get(AGENTS, namespace, agent)
    except NotFound as error:
        if is_not_installed(error):
            raise
        return True
    except Forbidden:
        return False
    return False


def read_prompt(given: str, stdin: BinaryIO | None = None) -> str:
    """The prompt, from standard input for `-`. Raises UsageError when it is empty, too long or not text."""
    if given != "-":
        return check_prompt(given)
    try:
        return check_prompt((stdin or sys.stdin.buffer).read(4 * MAX_TEXT_BYTES).decode())
    except UnicodeError as error:
        raise UsageError("the prompt is not UTF-8 text") from error


def check_prompt(text: str) -> str:
    """The prompt as it was given. Raises UsageError when it is empty, too long or not text."""
    try:
        size = len(text.encode())
    except UnicodeError as error:
        raise UsageError("the prompt is not UTF-8 text") from error
    if not text.strip():
        raise UsageError("the prompt is empty: say what is to be done")
    if size > MAX_TEXT_BYTES:
        raise UsageError("the prompt is over 64 KiB: put it where the agent can read it and name the URI")
    return text


def parse_inputs(given: Sequence[str]) -> dict[str, str]:
    """`k=v` pairs as a mapping. Raises UsageError for anything else, and for a name given twice."""
    inputs: dict[str, str] = {}
    for pair in given:
        name, sign, value = pair.partition("=")
        if not sign or not name:
            raise UsageError(f"--input {pair!r} is not of the form name=value")
        if name in inputs:
            raise UsageError(f"--input {name} is given twice")
        inputs[name] = value
    return inputs


def _check_key(key: str | None, name: str | None) -> None:
    if key is None:
        return
    if name:
        raise UsageError("--idempotency-key makes the name: leave out --name")
    if not KEY.fullmatch(key):
        raise UsageError(f"--idempotency-key: 1 to {MAX_KEY_CHARS} visible ASCII characters")


def _first_error(error: ValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    return f"spec.{field}: {first['msg']}"
