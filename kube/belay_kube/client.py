"""A thin JSON client over `kubernetes.aio`: its configuration, its connections, our errors, plain dictionaries.

Dictionaries because the operator and the gateway handle thousands of objects a second and read a few fields of each;
what they write is checked by the API server's own schema, which is generated from the models in `belay_api`.
"""

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import yaml
from kubernetes.aio import config as kube_config
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config.config_exception import ConfigException

from belay_api.meta import GROUP, VERSION
from belay_kube.clock import Clock, SystemClock
from belay_kube.errors import Invalid, KubeError, Permanent, Throttled, Unreachable, from_status
from belay_kube.reaching import KUBECONFIG, POD, Source, unreachable
from belay_kube.waits import Waits

Json = dict[str, Any]
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
REQUEST_SECONDS = 30.0
CHUNK = 500
"""Objects of one page of a list."""
_TOKEN_REREAD_SECONDS = 60.0
_HOME_CONFIG = Path("~/.kube/config")


@dataclass(frozen=True)
class Collection:
    """A resource type on the API server, e.g. `Collection("apis/belay.dev/v1alpha1", "agents")`."""

    prefix: str
    plural: str

    def url(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The path of a collection or an object. Raises Invalid for a name that would lead elsewhere."""
        parts = [*(("namespaces", namespace) if namespace else ()), self.plural]
        parts += [part for part in (name, subresource) if part]
        return "/".join(("", self.prefix, *map(_segment, parts)))


def _target(url: str, query: Mapping[str, str] | None) -> str:
    return f"{url}?{urlencode(query)}" if query else url


def _segment(part: str) -> str:
    """One step of a path: a name is never more than one, whatever is in it."""
    if part in (".", ".."):
        raise Invalid(f"{part!r} is not the name of an object or a namespace: `kubectl get` lists them")
    return quote(part, safe="")


def belay(plural: str) -> Collection:
    """One of our own resource types."""
    return Collection(f"apis/{GROUP}/{VERSION}", plural)


AGENTS = belay("agents")
SUBSCRIPTIONS = belay("agentsubscriptions")
DELEGATIONS = belay("delegations")
SWEEPERS = belay("delegationsweepers")
PERMISSION_REQUESTS = belay("permissionrequests")
SESSIONS = belay("agentsessions")
MESSAGES = belay("pendingmessages")
TURNS = belay("sessionturns")
LEASES = Collection("apis/coordination.k8s.io/v1", "leases")
EVENTS = Collection("apis/events.k8s.io/v1", "events")
NAMESPACES = Collection("api/v1", "namespaces")
SECRETS = Collection("api/v1", "secrets")
CONFIG_MAPS = Collection("api/v1", "configmaps")
TOKEN_REVIEWS = Collection("apis/authentication.k8s.io/v1", "tokenreviews")
ACCESS_REVIEWS = Collection("apis/authorization.k8s.io/v1", "subjectaccessreviews")


class Kube:
    """Requests to one API server; every failure is a `KubeError`.

    Watches have connections of their own (`watching`), as many as there are: each holds one for minutes, and were they
    counted with the others a reader of many things could keep a Lease from being renewed.

    What the API server asked to wait with (429) is not asked again before its time, whoever wants it.
    """

    namespaces: tuple[str, ...] = ()
    """Those that this process works in; empty: all."""
    source: Source = KUBECONFIG
    """Where the API server is known from."""
    may_write: Callable[[], Awaitable[None]] | None = None
    """Awaited before each request but reads; what it raises is raised."""

    def __init__(self, api: ApiClient, watching: ApiClient | None = None, clock: Clock | None = None) -> None:
        self._api = api
        self._watching = watching or api
        self._waits = Waits(clock or SystemClock())

    @property
    def api(self) -> ApiClient:
        """The library's client, for its own helpers (leader election)."""
        return self._api

    @property
    def address(self) -> str:
        """The API server's URL."""
        return str(self._api.configuration.host)

    async def token(self) -> str | None:
        """The bearer token in force (read again when its file may have changed), or None."""
        setting = (await self._api.configuration.auth_settings()).get("BearerToken")
        return str(setting["value"]).split(" ", 1)[-1] if setting and setting["value"] else None

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()
        if self._watching is not self._api:
            await self._watching.close()

    async def get(self, path: Collection, namespace: str | None, name: str) -> Json:
        """Read one object, not older than the last write."""
        return await self._json("GET", path.url(namespace, name))

    async def list(self, path: Collection, namespace: str | None = None, **query: str) -> Json:
        """List, e.g. `fieldSelector="status.phase=Live"`; without `resourceVersion` it is a live read."""
        return await self._json("GET", path.url(namespace), query)

    async def create(self, path: Collection, namespace: str | None, body: Json) -> Json:
        """Create. Raises AlreadyExists."""
        return await self._json("POST", path.url(namespace), body=body)

    async def delete(
        self, path: Collection, namespace: str | None, name: str, preconditions: Json | None = None
    ) -> Json:
        """Delete, if `preconditions` (uid, resourceVersion) hold. Raises NotFound, Conflict."""
        body = {"preconditions": preconditions} if preconditions else None
        return await self._json("DELETE", path.url(namespace, name), body=body)

    async def patch(
        self,
        path: Collection,
        namespace: str | None,
        name: str,
        body: Any,
        *,
        subresource: str | None = None,
        content_type: str = MERGE,
        **query: str,
    ) -> Json:
        """Patch an object or its `subresource`."""
        return await self._json("PATCH", path.url(namespace, name, subresource), query, body, content_type)

    async def patch_status(self, path: Collection, obj: Json, status: Json) -> Json:
        """Merge `status` into the object's status if it still is the `resourceVersion` that was read (DESIGN.md 3).

        Raises Conflict when it isn't: read again and decide again.
        """
        meta = obj["metadata"]
        body = {"metadata": {"resourceVersion": meta["resourceVersion"]}, "status": status}
        return await self.patch(path, meta.get("namespace"), meta["name"], body, subresource="status")

    @asynccontextmanager
    async def watch(
        self, path: Collection, namespace: str | None, query: Mapping[str, str]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a watch; yields its lines. The server ends it after `timeoutSeconds`."""
        url = path.url(namespace)
        # Between two bookmarks (about a minute) a healthy watch may be silent; twice that is a dead connection.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=150)
        target = _target(url, {**query, "watch": "1"})
        response = await self._send("GET", target, None, "application/json", timeout, self._watching)
        try:
            if response.status >= 400:
                raise await _error("GET", url, response)
            yield _lines(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"watch of {url} broke off: {error!r}") from error
        finally:
            response.close()

    async def _json(
        self,
        method: str,
        url: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Json:
        if self.may_write and method != "GET":
            await self.may_write()
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        request = method, _target(url, query)
        self._waits.begin(request)
        response = await self._send(*request, body, content_type, timeout)
        try:
            if response.status >= 400:
                raise await _error(method, url, response)
            answer: Json = json.loads(await response.read())
            return answer
        except Throttled as error:
            self._waits.noted(request, error.delay or 0.0)
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{method} {url} broke off: {error!r}") from error
        finally:
            response.release()

    async def _send(
        self,
        method: str,
        target: str,
        body: Any,
        content_type: str,
        timeout: aiohttp.ClientTimeout,
        client: ApiClient | None = None,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": "application/json", "Content-Type": content_type, "User-Agent": "belay"}
        token = await self.token()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            answer = await (client or self._api).rest_client.request(
                method, self.address + target, headers=headers, body=body, _request_timeout=timeout
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(unreachable(self.address, error, timeout.total, self.source)) from error
        response: aiohttp.ClientResponse = answer.response
        return response


async def pages(kube: Kube, collection: Collection, namespace: str | None = None, **query: str) -> AsyncIterator[Json]:
    """List in chunks of 500, as of one moment; yields each page. Raises KubeError (Gone: begin again).

    Without a `namespace`: everywhere `kube` works. If that is in some namespaces only, they are listed one after
    another and each page says the version of the first: what is older and not listed is gone.
    """
    since: str | None = None
    for place in (namespace,) if namespace or not kube.namespaces else kube.namespaces:
        async for page in _pages(kube, collection, place, query):
            since = since or page["metadata"]["resourceVersion"]
            page["metadata"]["resourceVersion"] = since
            yield page


async def _pages(
    kube: Kube, collection: Collection, namespace: str | None, query: Mapping[str, str]
) -> AsyncIterator[Json]:
    asked = {**query, "limit": str(CHUNK)}
    while True:
        page = await kube.list(collection, namespace, **asked)
        yield page
        token = page["metadata"].get("continue")
        if not token:
            return
        asked["continue"] = token


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    pending = b""
    async for chunk in response.content.iter_any():
        *whole, pending = (pending + chunk).split(b"\n")
        for line in whole:
            if line:
                yield line


async def _error(method: str, url: str, response: aiohttp.ClientResponse) -> KubeError:
    raw = await response.read()
    try:
        body = json.loads(raw)
    except ValueError:
        body = {"message": raw[:300].decode(errors="replace")}
    if not isinstance(body, dict):
        body = {"message": str(body)[:300]}
    return from_status(response.status, body, f"{method} {url}", response.headers.get("Retry-After"))


async def connect(kubeconfig: Path | None = None, context: str | None = None) -> Kube:
    """A client for `kubeconfig`, else `$KUBECONFIG`, else the pod's ServiceAccount, else `~/.kube/config`.

    `$KUBECONFIG` may be a list of files, as kubectl has it. Raises Permanent, with what to do, when there is no usable
    configuration.
    """
    configuration = Configuration()
    configuration.connection_pool_maxsize = 64
    # Else a proxy, and a password that must not be sent, would be looked for anew for each request, in a thread.
    configuration.client_session_kwargs = {"trust_env": False}
    named = str(kubeconfig or os.environ.get("KUBECONFIG") or "")
    source = KUBECONFIG
    where, remedy = named or str(_HOME_CONFIG), "set KUBECONFIG, or pass --kubeconfig"
    try:
        if not named and "KUBERNETES_SERVICE_HOST" in os.environ:
            where, remedy = "the pod", "mount its ServiceAccount (automountServiceAccountToken: true)"
            kube_config.load_incluster_config(configuration)
            source = POD
        else:
            files = _existing(named)
            await kube_config.load_kube_config(os.pathsep.join(map(str, files)), context, configuration)
            if len(files) == 1:
                _reread_token(configuration, files[0], context)
        kube = _client(configuration)
        kube.source = source
        return kube
    except ssl.SSLError as error:
        what = "no usable certificate: certificate-authority, client-certificate and client-key hold PEM"
        raise Permanent(f"{where} has {what} ({error})") from error
    except (ConfigException, OSError, yaml.YAMLError) as error:
        raise Permanent(f"no usable Kubernetes configuration in {where} ({error}): {remedy}") from error


def _client(configuration: Configuration) -> Kube:
    """Raises ssl.SSLError for certificates that are none."""
    configuration.proxy = configuration.proxy or _proxy_of(configuration.host)
    endless = copy(configuration)
    endless.connection_pool_maxsize = 0
    return Kube(ApiClient(configuration), ApiClient(endless))


def _proxy_of(address: str) -> str | None:
    """The proxy that the environment names for `address`, unless it says that none is to be used."""
    url = urlsplit(address)
    return None if proxy_bypass(url.netloc) else getproxies().get(url.scheme)


def _existing(named: str) -> list[Path]:
    """Those files of a list that are there, as kubectl reads one; the usual file when none is named.

    Raises ConfigException when there is none.
    """
    paths = [Path(part) for part in named.split(os.pathsep)] if named else [_HOME_CONFIG.expanduser()]
    files = [path for path in paths if path.is_file()]
    if not files:
        raise ConfigException("there is no such file")
    return files


def _reread_token(configuration: Configuration, path: Path, context: str | None) -> None:
    """Follow a `tokenFile`: ServiceAccount tokens are short-lived and their file is rewritten in place."""
    token_file = _token_file(path, context)
    if token_file is None:
        return
    configuration.refresh_api_key_hook = _token_hook(token_file, asyncio.get_running_loop().time)


def _token_hook(token_file: Path, monotonic: Callable[[], float]) -> Callable[[Configuration], Any]:
    read_at = float("-inf")

    async def refresh(configuration: Configuration) -> None:
        nonlocal read_at
        if monotonic() - read_at < _TOKEN_REREAD_SECONDS:
            return
        read_at = monotonic()
        try:
            token = token_file.read_text().strip()  # noqa: ASYNC240 - a few bytes, once a minute
        except OSError as error:
            raise Unreachable(
                f"token file {token_file} can't be read ({error.strerror}): is it still mounted?"
            ) from error
        configuration.api_key["BearerToken"] = f"Bearer {token}"

    return refresh


def _token_file(path: Path, context: str | None) -> Path | None:
    document = yaml.safe_load(path.read_text()) or {}
    chosen = context or document.get("current-context")
    user = next((c["context"]["user"] for c in document.get("contexts", []) if c["name"] == chosen), None)
    named = next((u["user"].get("tokenFile") for u in document.get("users", []) if u["name"] == user), None)
    return path.parent / named if named else None
