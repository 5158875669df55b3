"""One container that the operator API starts, or attaches to."""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mesostk.agent.terminals import KeptTerminal, Kind, Stdio
from mesostk.agent.validation import container_id_error
from mesostk.errors import Rejected
from mesostk.wire.mesos import ContainerID

if TYPE_CHECKING:  # it brings the SDK, see runs.py
    from mesostk.agent.docker_sessions import DockerStdio

#: Pieces of output, of 64 KiB at most, that are kept until somebody attaches.
BACKLOG = 16

#: Pieces of output for one reader; None is the end.
Output = asyncio.Queue[tuple[Kind, bytes] | None]


class Container(msgspec.Struct, kw_only=True, eq=False):
    """One of them. `ended` is set to the wait status, None if nobody saw it."""

    container_id: str
    sandbox: Path
    is_session: bool
    ended: asyncio.Future[int | None]
    task_pid: int = 0
    stdio: Stdio | DockerStdio | KeptTerminal | None = None
    is_drained: bool = False
    outputs: list[Output] = msgspec.field(default_factory=list)
    backlog: deque[tuple[Kind, bytes]] = msgspec.field(
        default_factory=lambda: deque(maxlen=BACKLOG)
    )
    pumping: asyncio.Task[None] | None = None


def text_of(container_id: ContainerID) -> str:
    """`parent.child`; Rejected for what cannot name a container (spec §4.4)."""
    why = container_id_error(container_id)
    if why is not None:
        raise Rejected(400, why)
    parts = []
    one: ContainerID | None = container_id
    while one is not None:
        parts.append(one.value)
        one = one.parent
    return ".".join(reversed(parts))
