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

from mesostk.wire import json

T = TypeVar("T")

#: Half of what anything may take on the loop at once.
PIECE_S: Final = 0.005


async def encode_list(key: str, items: Iterable[T], show: Callable[[T], object]) -> bytes:
    """`{"key":[…]}` with `show` of each item; raises WireError as `json.encode_shown` does."""
    now = asyncio.get_running_loop().time
    out = bytearray(b"{%s:[" % json.encode_shown(key))
    separator = b""
    end = now() + PIECE_S
    for item in items:
        out += separator
        out += json.encode_shown(show(item))
        separator = b","
        if now() > end:
            await asyncio.sleep(0)
            end = now() + PIECE_S
    out += b"]}"
    return bytes(out)
