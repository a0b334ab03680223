"""Until when the API server asked to be left alone with a request: 429 with Retry-After (G9, fault 7)."""

from belay_kube.clock import Clock
from belay_kube.errors import Throttled

Request = tuple[str, str]
"""Method and target, with its query."""


class Waits:
    """Whoever asks the same again before its time is refused here, whatever made him ask.

    A create is never held back: many things are made at one target, and a wait asked of one says nothing of the others.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[Request, float] = {}

    def begin(self, request: Request) -> None:
        """Raises Throttled, with the seconds that are left, if the API server asked to wait."""
        left = self._until.get(request, 0.0) - self._clock.monotonic() if self._until else 0.0
        if left > 0:
            method, target = request
            error = Throttled(f"{method} {target}: not asked again for {left:.1f} s, as the API server wants it", 429)
            error.delay = left
            raise error

    def noted(self, request: Request, delay: float) -> None:
        """The API server asked to wait for `delay` seconds with this request."""
        now = self._clock.monotonic()
        self._until = {asked: until for asked, until in self._until.items() if until > now}
        if request[0] != "POST":
            self._until[request] = now + delay
