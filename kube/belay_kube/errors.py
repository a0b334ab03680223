"""What can go wrong with the API server, in two families: what passes by itself, and what doesn't.

KubeError
 ├── Temporary            try again, after `delay` seconds when given
 │    ├── Unreachable     no connection, broken off, timed out, 5xx
 │    ├── Throttled       429
 │    ├── Conflict        409: somebody wrote first; read again and decide again
 │    └── Unreviewed      no answer on who somebody is, or what they may do
 └── Permanent            the same request will never succeed
      ├── NotFound        404
      ├── AlreadyExists   409 on a create
      ├── Gone            410: this resourceVersion is no longer kept
      ├── Unauthorized    401
      ├── Forbidden       403
      ├── TooLarge        413, 422 or 500 with that text
      └── Invalid         400, 422 and other 4xx
"""

from typing import Any

_TOO_LARGE_TEXTS = ("request is too large", "too large", "Too long: may not be more than")


class KubeError(Exception):
    """Any answer but success; `message` says what was asked, of which object, and what the server said.

    `said` is fit for others than who runs this process: the server's own words or ours, without what was asked of which
    address; empty when there are none.
    """

    def __init__(self, message: str, status: int = 0, reason: str = "", said: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.reason = reason
        self.said = said


class Temporary(KubeError):
    """Passes by itself; `delay` in seconds is what the server asked for, if it did."""

    delay: float | None = None


class Unreachable(Temporary):
    """No answer, or 5xx."""


class Throttled(Temporary):
    """429."""


class Conflict(Temporary):
    """409: the object changed since it was read."""


class Unreviewed(Temporary):
    """A TokenReview or SubjectAccessReview failed, in whichever way: that is nothing the one reviewed can mend."""

    @classmethod
    def after(cls, error: KubeError) -> "Unreviewed":
        """What a review that ended so comes to."""
        failed = cls(error.message, error.status, error.reason, error.said)
        failed.delay = error.delay if isinstance(error, Temporary) else None
        return failed


class Permanent(KubeError):
    """The same request will never succeed."""


class NotFound(Permanent):
    """404: no such object, or the resource itself isn't installed."""


class AlreadyExists(Permanent):
    """409 on a create."""


class Gone(Permanent):
    """410: list again."""


class Unauthorized(Permanent):
    """401."""


class Forbidden(Permanent):
    """403: RBAC or an admission policy."""


def lacks_right(error: KubeError) -> bool:
    """Whether RBAC refused it to the account of this process; a policy or a quota refuses what was asked for."""
    return isinstance(error, Forbidden) and ' is forbidden: User "' in error.said


class TooLarge(Permanent):
    """Too large for etcd."""


class Invalid(Permanent):
    """Refused as it stands."""


_BY_STATUS: dict[int, type[KubeError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    410: Gone,
    413: TooLarge,
    429: Throttled,
}


def from_status(status: int, body: dict[str, Any], request: str, retry_after: str | None = None) -> KubeError:
    """The error of one answer: `body` is a `Status` object, `request` names what was asked (DESIGN.md section 5)."""
    said = str(body.get("message") or body.get("reason") or f"HTTP {status}")
    reason = str(body.get("reason") or "")
    kind = _kind(status, reason, said)
    error = kind(f"{request}: {said}", status, reason, said)
    if isinstance(error, Temporary) and retry_after and retry_after.isdigit():
        error.delay = float(retry_after)
    return error


def _kind(status: int, reason: str, said: str) -> type[KubeError]:
    if status in (422, 500) and any(text in said for text in _TOO_LARGE_TEXTS):
        return TooLarge
    if status == 409:
        return AlreadyExists if reason == "AlreadyExists" else Conflict
    if status >= 500:
        return Unreachable
    return _BY_STATUS.get(status, Invalid)
