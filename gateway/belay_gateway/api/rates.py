"""How often one user may call: a bucket for each, as sockets have one each."""

from http import HTTPStatus

from belay_gateway.api.problems import BadRequest
from belay_gateway.auth import User
from belay_gateway.bucket import Buckets
from belay_kube.clock import Clock

_BURST = 5


class Rates:
    """Counts the requests of each user."""

    def __init__(self, clock: Clock, per_second: int) -> None:
        self._rate = per_second
        self._buckets = Buckets(clock, per_second, per_second * _BURST)

    def check(self, user: User) -> None:
        """Count one request. Raises BadRequest (429)."""
        if not self._buckets.take(user.name):
            sentence = f"{user.name} calls too often: at most {self._rate} requests a second here, try again later"
            raise BadRequest(HTTPStatus.TOO_MANY_REQUESTS, sentence)
