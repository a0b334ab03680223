"""What there is to look at, by name: the keys of the queue and of the timers.

work/NS/NAME    one delegation: its deadline, a wanted cancel, silence, the end of its parent
agent/NS/NAME   one agent: its rows, its orphans, its queue, its status
permission/NS/NAME  one permission request: its decision, its expiry, its time to live
ended/NS/NAME   one finished delegation: its time to live
session/NS/NAME one session of a Model agent: its mail, its open tool calls, its claim
fleet           the brake: tell it, and release it when its time is over
"""

from enum import StrEnum
from typing import NamedTuple

from belay_api.names import Ref


class KeyKind(StrEnum):
    """What a key names."""

    WORK = "work"
    AGENT = "agent"
    ENDED = "ended"
    FLEET = "fleet"
    PERMISSION = "permission"
    SESSION = "session"


class Key(NamedTuple):
    """One thing to look at."""

    kind: KeyKind
    ref: Ref


FLEET = Key(KeyKind.FLEET, Ref("", "fleet"))
