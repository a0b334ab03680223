"""Delegations as this process last saw or wrote them: good enough to try a write, which tests the resourceVersion, and
never good enough to refuse one.
"""

from collections import OrderedDict
from collections.abc import Callable

from belay_api.names import Ref
from belay_api.transitions import TERMINAL
from belay_gateway.objects import phase_in, ref_of
from belay_kube.client import Json

_REMEMBERED = 4096
Source = Callable[[Ref], Json | None]


class Hints:
    """The newest that is known, without asking."""

    def __init__(self) -> None:
        self.sources: tuple[Source, ...] = ()
        """What the watches saw."""
        self._written: OrderedDict[Ref, Json] = OrderedDict()

    def newest(self, ref: Ref) -> Json | None:
        """What was last seen or written of it, if anything."""
        seen = [self._written.get(ref), *(source(ref) for source in self.sources)]
        return max((obj for obj in seen if obj), key=_version, default=None)

    def wrote(self, answer: Json) -> None:
        """Remember how it stands after a write, without what is long and nothing here decides on."""
        ref = ref_of(answer)
        self._written.pop(ref, None)
        if phase_in(answer) in TERMINAL:
            return
        spec = {key: value for key, value in answer["spec"].items() if key != "task"}
        meta = {key: value for key, value in answer["metadata"].items() if key != "managedFields"}
        self._written[ref] = {**answer, "metadata": meta, "spec": spec}
        while len(self._written) > _REMEMBERED:
            self._written.popitem(last=False)

    def forget(self, ref: Ref) -> None:
        """It was out of date."""
        self._written.pop(ref, None)


def _version(obj: Json) -> int:
    # Of one resource type they can be compared as numbers; of anything else nothing is lost but a request.
    version = obj["metadata"]["resourceVersion"]
    return int(version) if version.isdecimal() else 0
