"""How often one user may call: a bucket for each, as sockets have one each."""

from collections import OrderedDict
from http import HTTPStatus

from belay_gateway.api.problems import BadRequest
from belay_gateway.auth import User
from belay_gateway.bucket import Bucket
from belay_kube.clock import Clock

_BURST = 5
_REMEMBERED = 10_000


class Rates:
    """Buckets of those who called lately; who is forgotten begins with a full one."""

    def __init__(self, clock: Clock, per_second: int) -> None:
        self._clock = clock
        self._rate = per_second
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def check(self, user: User) -> None:
        """Count one request. Raises BadRequest (429)."""
        bucket = self._buckets.get(user.name)
        if bucket is None:
            bucket = self._buckets[user.name] = Bucket(self._clock, self._rate, self._rate * _BURST)
        self._buckets.move_to_end(user.name)
        while len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
        if not bucket.take():
            sentence = f"{user.name} calls too often: at most {self._rate} requests a second here, try again later"
            raise BadRequest(HTTPStatus.TOO_MANY_REQUESTS, sentence)
