"""Creates an object for an idempotency key: once, whoever asks at the same time and through whichever process (D5)."""

from belay_api.idempotency import Keyed, Standing
from belay_kube.client import Collection, Json, Kube
from belay_kube.errors import AlreadyExists, Unreachable
from belay_kube.finding import find

_TRIES = 16
_PAGE, _PAGES = 25, 4
"""Objects that bear the label of a key, read to find its latest: there is one, or a few that Failed."""


class KeyReused(Exception):
    """The key was used for another body: `name` is the object that stands under it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the idempotency key was used for another request, {name}: choose another key, or repeat it")
        self.name = name


async def create_once(kube: Kube, collection: Collection, namespace: str, body: Json, key: Keyed) -> tuple[Json, bool]:
    """The object of this key and whether it was created just now. Raises KeyReused, KubeError."""
    found = await _latest(kube, collection, namespace, key)
    number = key.number(found["metadata"]["name"]) if found else 1
    for _ in range(_TRIES):
        if found:
            match key.standing(found):
                case Standing.SAME:
                    return found, False
                case Standing.OTHER:
                    raise KeyReused(found["metadata"]["name"])
            number += 1
        try:
            return await kube.create(collection, namespace, key.marked(body, number)), True
        except AlreadyExists:
            found = await find(kube, collection, namespace, key.name(number))
    sentence = f"{collection.plural} of one idempotency key change too often just now"
    raise Unreachable(sentence, said=sentence)


async def _latest(kube: Kube, collection: Collection, namespace: str, key: Keyed) -> Json | None:
    """Of those of this key the one with the highest number; whoever else puts on its label changes nothing.

    Only so many are looked at. Where there are more, the number found may be one that was taken: then the create says
    so, and the next is tried.
    """
    numbers: dict[int, Json] = {}
    query = {"labelSelector": key.selector(), "limit": str(_PAGE)}
    for _ in range(_PAGES):
        listed = await kube.list(collection, namespace, **query)
        numbers.update({key.number(item["metadata"]["name"]): item for item in listed["items"] if key.is_callers(item)})
        token = listed["metadata"].get("continue")
        if not token:
            break
        query["continue"] = token
    numbers.pop(0, None)
    return numbers[max(numbers)] if numbers else None
