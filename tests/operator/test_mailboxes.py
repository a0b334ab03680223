"""What is held of sessions: whatever is asked for is looked at, wherever it was seen first."""

import pytest

from belay_api.names import Ref
from belay_kube.client import Json
from belay_kube.clock import FakeClock
from belay_operator.observe.mailbox_records import SessionRecord
from belay_operator.observe.mailboxes import Mailboxes

from .mailbox import SessionBuilder


def _session(version: int, generation: int, **meta: object) -> SessionRecord:
    obj: Json = SessionBuilder("s").obj
    return SessionRecord.read(
        {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(version), "generation": generation, **meta}}
    )


NEXT: dict[str, tuple[SessionRecord, bool]] = {
    "somebody changed what is asked for": (_session(11, 2), True),
    "it is being deleted": (_session(11, 1, deletionTimestamp="2026-11-27T00:00:00Z"), True),
    "only its status changed": (_session(11, 1), False),
    "seen before": (_session(10, 1), False),
    "late word": (_session(9, 2), False),
}


@pytest.mark.parametrize(("seen", "looks"), NEXT.values(), ids=NEXT)
def test_L17_what_is_asked_for_is_looked_at_also_when_a_write_of_ours_tells_it_first(
    seen: SessionRecord, looks: bool
) -> None:
    """The watch says the same of it later, which is no news."""
    looked: list[Ref] = []
    mailboxes = Mailboxes(FakeClock(), looked.append)
    mailboxes.put_session(_session(10, 1))
    mailboxes.put_session(seen)
    assert looked == [seen.ref] * looks
