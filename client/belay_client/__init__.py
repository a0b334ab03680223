"""The agent SDK, and behind the `belay` command.

async with AgentChannel("https://gateway.example", agent="default/reviewer", token=Path("token")) as channel:
    async for offer in channel.offers():
        work = await offer.accept()
        if work is not None:
            await work.complete(await answer(work.prompt))
"""

from belay_api.messages import Broadcast, PermissionDecision
from belay_api.permissionrequest import Behavior
from belay_client.backoff import Backoff
from belay_client.channel import AgentChannel
from belay_client.errors import (
    ChannelClosed,
    ChannelEnded,
    ChannelError,
    ClientError,
    Refused,
    Rejected,
    Replaced,
    ResultTooLarge,
    Unauthorized,
    Unreachable,
    UsageError,
    WorkOver,
)  # fmt: skip
from belay_client.work import Cancellation, Offer, Work

__all__ = [
    "AgentChannel",
    "Backoff",
    "Behavior",
    "Broadcast",
    "Cancellation",
    "ChannelClosed",
    "ChannelEnded",
    "ChannelError",
    "ClientError",
    "Offer",
    "PermissionDecision",
    "Refused",
    "Rejected",
    "Replaced",
    "ResultTooLarge",
    "Unauthorized",
    "Unreachable",
    "UsageError",
    "Work",
    "WorkOver",
]
