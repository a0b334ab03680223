"""Somebody who calls the HTTP API with a token, as curl would."""

import json
from dataclasses import dataclass
from typing import Any

from accounts import grant, username
from belay_api.meta import API_VERSION, GROUP
from gateway.stage import Running, Stage

Json = dict[str, Any]
EVERYTHING: list[Json] = [
    {"apiGroups": [GROUP], "resources": [plural], "verbs": ["get", "list", "create", "patch"]}
    for plural in ("delegations", "agents", "permissionrequests", "agentsessions", "pendingmessages", "sessionturns")
]
DELEGATE: Json = {"apiGroups": [GROUP], "resources": ["agents"], "verbs": ["delegate"]}


@dataclass(frozen=True)
class Answered:
    """What came back."""

    status: int
    type: str
    headers: dict[str, str]
    text: str

    @property
    def body(self) -> Any:
        """Its JSON."""
        return json.loads(self.text)

    def refused(self, status: int, *said: str) -> Json:
        """The problem details, which must be of this status and say these words."""
        assert (self.status, self.type) == (status, "application/problem+json"), self
        problem: Json = self.body
        assert problem.keys() == {"type", "title", "status", "detail"}
        assert problem["status"] == status
        for words in said:
            assert words in problem["detail"], problem
        assert "Traceback" not in self.text
        return problem


@dataclass(frozen=True)
class Caller:
    """Calls one gateway in one namespace."""

    gateway: Running
    namespace: str
    token: str | None

    async def send(self, method: str, path: str, **more: Any) -> Answered:
        """A request for `/api/v1/namespaces/<ns>/<path>`, or for a path that begins with a slash."""
        bearer = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers = {**bearer, **more.pop("headers", {})}
        where = path if path.startswith("/") else f"/api/v1/namespaces/{self.namespace}/{path}"
        http = self.gateway.dialer.http
        async with http.request(method, self.gateway.url + where, headers=headers, **more) as response:
            text = (await response.read()).decode()
            return Answered(response.status, response.content_type, dict(response.headers), text)

    async def get(self, path: str, **query: str) -> Answered:
        """GET."""
        return await self.send("GET", path, params=query)

    async def post(self, path: str, body: Any = None, **headers: str) -> Answered:
        """POST of JSON, with headers whose underscores stand for dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.send("POST", path, headers=named, **({} if body is None else {"json": body}))


async def caller(stage: Stage, gateway: Running, name: str, *rules: Json) -> Caller:
    """A ServiceAccount with a token for the gateway, and what RBAC then lets it do."""
    token = await stage.person(name)
    if rules:
        await grant(stage.admin, stage.namespace, username(stage.namespace, name), f"role-{name}", list(rules))
    return Caller(gateway, stage.namespace, token)


def permission_request(name: str) -> Json:
    """A question of agent `a`, as a gateway makes it."""
    spec = {"agentRef": {"name": "a"}, "sessionId": "s1", "requestId": "r1", "tool": "Bash"}
    return {"apiVersion": API_VERSION, "kind": "PermissionRequest", "metadata": {"name": name}, "spec": spec}


def new(agent: str = "a", prompt: str = "do it", **spec: Any) -> Json:
    """The body of a create."""
    return {"spec": {"agentRef": {"name": agent}, "task": {"prompt": prompt}, **spec}}
