"""Long lists written piece by piece, so that nothing else on the loop waits for them.

::

    items ─▶ shown and encoded one by one ─▶ after 5 ms the loop has its turn ─▶ … ─▶ one body

Each element is of one moment; between two pieces the state may go on, so elements of a long list
can be some milliseconds apart. What was taken into the list at its beginning is shown as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from mesostk.marathon.groups import Group
from mesostk.marathon.podviews import pod_view
from mesostk.wire import json
from mesostk.wire.marathon import AppDefinition

T = TypeVar("T")

#: Half of what anything may take on the loop at once.
PIECE_S: Final = 0.005


class Pieces:
    """Bytes that grow; `add` gives the loop its turn when it is due."""

    def __init__(self) -> None:
        self.out = bytearray()
        self._now = asyncio.get_running_loop().time
        self._end = self._now() + PIECE_S

    async def add(self, raw: bytes) -> None:
        self.out += raw
        if self._now() > self._end:
            await asyncio.sleep(0)
            self._end = self._now() + PIECE_S

    async def add_list(self, items: Iterable[T], show: Callable[[T], object]) -> None:
        """`[…]` with `show` of each item."""
        separator = b"["
        for item in items:
            await self.add(separator + json.encode_shown(show(item)))
            separator = b","
        self.out += b"[]" if separator == b"[" else b"]"


async def encode_list(key: str | None, items: Iterable[T], show: Callable[[T], object]) -> bytes:
    """`{"key":[…]}` with `show` of each item, the list alone without a key.

    Raises WireError as `json.encode_shown` does.
    """
    pieces = Pieces()
    if key is not None:
        pieces.out += b"{%s:" % json.encode_shown(key)
    await pieces.add_list(items, show)
    if key is not None:
        pieces.out += b"}"
    return bytes(pieces.out)


async def encode_group(
    group: Group, parts: frozenset[str], show: Callable[[AppDefinition], object]
) -> bytes:
    """A group with the `parts` that are asked for, `show` of each app, and all groups below."""
    pieces = Pieces()
    await _add_group(pieces, group, parts, show)
    return bytes(pieces.out)


async def _add_group(
    pieces: Pieces, group: Group, parts: frozenset[str], show: Callable[[AppDefinition], object]
) -> None:
    pieces.out += b'{"id":' + json.encode_shown(group.id)
    if "apps" in parts:
        pieces.out += b',"apps":'
        await pieces.add_list((app for app in group.apps.values() if app.pod is None), show)
    if "pods" in parts:
        pieces.out += b',"pods":'
        await pieces.add_list((app for app in group.apps.values() if app.pod), pod_view)
    if "groups" in parts:
        separator = b',"groups":['
        for child in group.groups.values():
            pieces.out += separator
            await _add_group(pieces, child, parts, show)
            separator = b","
        pieces.out += b"]" if group.groups else b',"groups":[]'
    rest: dict[str, object] = {"dependencies": group.dependencies, "version": group.version}
    if group.enforce_role:  # clients from before 1.9 do not know the key
        rest["enforceRole"] = True
    pieces.out += b"," + json.encode_shown(rest)[1:]
