"""Who is there: a bearer token becomes a user by TokenReview (DESIGN.md section 7). Tokens are never logged or kept."""

import base64
import binascii
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from weakref import WeakValueDictionary

from belay_gateway.coalesce import Coalesced
from belay_gateway.refusals import Why
from belay_kube.client import TOKEN_REVIEWS, Json, Kube
from belay_kube.clock import Clock
from belay_kube.errors import KubeError, Unreviewed

BEARER_SUBPROTOCOL = "base64url.bearer.authorization.k8s.io."
ALLOW_SECONDS = 10.0
DENY_SECONDS = 2.0
REMEMBERED = 10_000
_IN_URL = frozenset(
    {"token", "access_token", "auth_token", "id_token", "bearer", "bearer_token", "authorization", "jwt", "api_key"}
)
"""Parameters that programs put tokens in."""


@dataclass(frozen=True)
class User:
    """Who the API server says a token belongs to."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def wire(self) -> Json:
        """The form a SubjectAccessReview takes."""
        extra = {key: list(values) for key, values in self.extra}
        return {"user": self.name, "uid": self.uid, "groups": list(self.groups), "extra": extra}


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Bearer:
    """A token, kept out of every representation; held in memory only while its socket is open."""

    text: str = field(repr=False)

    @property
    def digest(self) -> str:
        """What stands for the token in a cache."""
        return hashlib.sha256(self.text.encode(errors="surrogateescape")).hexdigest()

    def expires(self) -> datetime | None:
        """When it ends by its own `exp`, if that can be read; nothing is trusted because of it."""
        try:
            payload = self.text.split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
            return datetime.fromtimestamp(float(claims["exp"]), UTC)
        except (IndexError, KeyError, TypeError, ValueError, OverflowError, OSError, RecursionError):
            return None


def bearer_of(headers: Mapping[str, str]) -> Bearer | None:
    """The token of the Authorization header, else of the Kubernetes subprotocol that browsers must use."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return Bearer(token.strip())
    for offered in headers.get("Sec-WebSocket-Protocol", "").split(","):
        name = offered.strip()
        if name.startswith(BEARER_SUBPROTOCOL):
            return _decoded(name.removeprefix(BEARER_SUBPROTOCOL))
    return None


class TokenRefused(Exception):
    """A token that is not even looked at; `why` for the metric, the message for the caller."""

    def __init__(self, why: Why, message: str) -> None:
        super().__init__(message)
        self.why = why
        self.message = message


def check_url(query: Iterable[str]) -> None:
    """URLs end in logs, histories and proxies: no token may be in one. Raises TokenRefused."""
    if any(name.lower() in _IN_URL for name in query):
        sentence = "never put a token in the URL, and replace this one: send it in the Authorization header"
        raise TokenRefused(Why.BEARER_IN_URL, sentence)


def check_size(bearer: Bearer | None, most: int) -> None:
    """A token of reasonable size, `most` bytes, before it is hashed, kept and sent on. Raises TokenRefused."""
    size = len(bearer.text.encode(errors="surrogateescape")) if bearer else 0
    if size > most:
        raise TokenRefused(Why.BEARER_TOO_LONG, f"the bearer token has {size} bytes, at most {most} are read")


def _decoded(text: str) -> Bearer | None:
    try:
        token = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    return Bearer(token) if token else None


class Authenticator:
    """Turns tokens into users, one review for each token in flight."""

    def __init__(self, kube: Kube, clock: Clock, audience: str, remembered: int = REMEMBERED) -> None:
        self._kube = kube
        self._clock = clock
        self._audience = audience
        self.reviews: Coalesced[str, User | None] = Coalesced(clock, remembered)
        self._bearers: WeakValueDictionary[str, Bearer] = WeakValueDictionary()

    def shared(self, bearer: Bearer) -> Bearer:
        """The same token as it is held already: many sockets of one identity bring the same kilobyte."""
        return self._bearers.setdefault(bearer.digest, bearer)

    async def user(self, bearer: Bearer) -> User | None:
        """Whose token it is; None if it is nobody's, expired, or for another audience. Raises KubeError."""
        left = self.seconds_left(bearer)
        if left <= 0:
            return None
        return await self.reviews.get(
            bearer.digest, lambda: self._review(bearer), lambda user: min(ALLOW_SECONDS if user else DENY_SECONDS, left)
        )

    def seconds_left(self, bearer: Bearer) -> float:
        """Until its `exp`; without one that can be read, for ever."""
        expires = bearer.expires()
        return (expires - self._clock.now()).total_seconds() if expires else math.inf

    def review_after(self, bearer: Bearer, period: float) -> float:
        """Seconds until its holder is to be reviewed again: `period`, or sooner when it ends by itself."""
        return max(1.0, min(period, self.seconds_left(bearer)))

    async def _review(self, bearer: Bearer) -> User | None:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": bearer.text, "audiences": [self._audience]},
        }
        try:
            status = (await self._kube.create(TOKEN_REVIEWS, None, body)).get("status") or {}
        except KubeError as error:
            raise Unreviewed.after(error) from error
        if not status.get("authenticated") or self._audience not in (status.get("audiences") or []):
            return None
        return _user(status.get("user") or {})


def _user(said: Mapping[str, Any]) -> User | None:
    if not said.get("username"):
        return None
    extra = sorted((said.get("extra") or {}).items())
    return User(
        name=said["username"],
        uid=said.get("uid") or "",
        groups=tuple(said.get("groups") or ()),
        extra=tuple((key, tuple(values)) for key, values in extra),
    )
