"""drain/writing.py: turns that are not to be made (L18)."""

import pytest

from belay_api.sessionturn import SessionTurnSpec
from belay_kube.clock import FakeClock, SystemClock
from belay_operator.drain.asking import CutShort
from belay_operator.drain.claims import Claim, Claims
from belay_operator.drain.store import Store
from belay_operator.drain.writing import Writing
from belay_operator.observe.mailbox_records import SessionRecord
from belay_operator.observe.mailboxes import Mailboxes

from .mail import Mail
from .world import World


async def test_L18_who_knows_that_its_claim_is_lost_makes_no_turn(stopped_world: World, mail: Mail) -> None:
    """Whoever has it now asks the model again, and would find its answer refused."""
    session = SessionRecord.read(await mail.open())
    clock = FakeClock(SystemClock().now())
    store = Store(stopped_world.operator_kube, clock)
    claim = Claim(session, "t")
    claim.lost.set()
    writing = Writing(store, Claims(store, Mailboxes(clock), clock, "o"), clock)
    said = {"sessionRef": {"name": "s"}, "sequence": 1, "outcome": "Interrupted"}
    with pytest.raises(CutShort):
        await writing.write(claim, SessionTurnSpec.model_validate(said))
    assert [await mail.turns(), claim.is_settling] == [[], False]
