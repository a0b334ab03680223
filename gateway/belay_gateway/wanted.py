"""Objects that are to be made in another's name: how they are named, and what to say when nobody knows whether
they were made (D5)."""

from dataclasses import dataclass

from belay_api.messages import ErrorCode
from belay_gateway.refused import Refused
from belay_kube.errors import Unreachable


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """An object that is to be made: with a name, or an idempotency key, or neither."""

    namespace: str
    name: str | None = None
    key: str | None = None
    labels: dict[str, str] | None = None

    def check_named_once(self) -> None:
        """Raises Refused: a key makes the name."""
        if self.name and self.key:
            raise Refused(ErrorCode.INVALID, "metadata.name: an idempotency key makes the name: leave one of them out")


def perhaps_made(error: Unreachable, key: str | None, name: str | None = None) -> Refused:
    """What to do when nobody knows whether a create came through. Pure."""
    create = f"no answer to the create ({error.said})" if error.said else "no answer to the create"
    if key:
        sentence = f"{create}: try again with the same idempotency key, which makes it once"
    elif name:
        sentence = f"{create}: it may have been made; try again, its name can't be taken twice"
    else:
        sentence = f"{create}: it may have been made; look before you repeat it, or use an idempotency key"
    return Refused(ErrorCode.UNAVAILABLE, sentence)
