"""Model agents beside the operator in this process; what must hold of their sessions is checked at the end."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from belay_dev.controlplane import ControlPlane
from belay_kube.client import MESSAGES, SESSIONS, TURNS, Kube
from belay_kube.errors import KubeError
from faults.invariants import NOTHING, Excused
from faults.invariants_of_sessions import Histories, recorded_sessions
from faults.operating import World, staged
from waiting import eventually

if TYPE_CHECKING:
    from operator.mail import Mail, heard, said
else:
    Mail = import_module("tests.operator.mail").Mail
    heard = import_module("tests.operator.mail").heard
    said = import_module("tests.operator.mail").said

__all__ = ["Mail", "conversing", "heard", "said", "whole"]


@asynccontextmanager
async def conversing(
    plane: ControlPlane, kubes: Sequence[Kube], namespace: str, excused: Excused = NOTHING
) -> AsyncIterator[tuple[World, Mail]]:
    """A namespace for an operator that the test starts itself, and a way to its mailboxes; `kubes` are the clients of
    administrator, operator and gateway."""
    admin, operator, gateway = kubes
    try:
        async with (
            staged(plane, admin, operator, gateway, namespace, excused) as world,
            recorded_sessions(admin, namespace) as histories,
        ):
            yield world, Mail(admin, namespace)
            await whole(world, histories)
    finally:
        for collection in (MESSAGES, SESSIONS, TURNS):
            await admin.delete(collection, namespace, "")


async def whole(world: World, histories: Histories) -> None:
    """Wait until every conversation is whole. Raises AssertionError with what is not."""
    found: list[str] = []

    async def check() -> bool:
        try:
            found[:] = await histories.broken(world.admin, world.namespace)
        except KubeError as error:
            found[:] = [str(error)]
        return not found

    try:
        await eventually(check)
    except AssertionError:
        raise AssertionError("\n".join(found)) from None
