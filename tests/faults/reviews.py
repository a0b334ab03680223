"""The gateway's real client with reviews of tokens in the test's hand: they wait at a gate, fail, and are counted."""

import asyncio
import hashlib
from collections import Counter
from typing import Any

from belay_kube.client import TOKEN_REVIEWS, Collection, Json, Kube
from belay_kube.errors import Unreachable


class Reviewed:
    """Stands in for a `Kube`; all but TokenReviews goes straight through."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self.gate = asyncio.Event()
        self.gate.set()
        self.failing = False
        self.asked = 0
        self.most_in_flight = 0
        """Most reviews of one token that were under way at once."""
        self._in_flight: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kube, name)

    async def create(self, path: Collection, namespace: str | None, body: Json) -> Json:
        """Create, and count a review."""
        if path != TOKEN_REVIEWS:
            return await self._kube.create(path, namespace, body)
        self.asked += 1
        digest = hashlib.sha256(body["spec"]["token"].encode()).hexdigest()
        self._in_flight[digest] += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight[digest])
        try:
            return await self._answer(body)
        finally:
            self._in_flight[digest] -= 1

    async def _answer(self, body: Json) -> Json:
        await self.gate.wait()
        if self.failing:
            raise Unreachable("out of a test")
        return await self._kube.create(TOKEN_REVIEWS, None, body)
