"""One large record of lists, written as JSON or protobuf from its elements' own documents.

::

    Node(head, {name: Node | groups of encoded elements}) ─▶ to_json      ─▶ pieces as they come
                                                          └▶ to_protobuf  ─▶ b"" until all is there

A protobuf message begins with its size, so nothing of it can be given out before it is made.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from mesostk.wire import json, protobuf
from mesostk.wire.mesos import Message

#: An empty piece lets others have their turn if it is time.
Pieces = Iterator[bytes]

#: Elements of a list, some at a time; none only gives others a turn.
Groups = Iterator[list[bytes]]

#: Parts of a protobuf message that are joined to one piece.
_JOINED = 500


class Node(NamedTuple):
    """A message: what is small of it, and its large fields, by name."""

    head: Message
    parts: Mapping[str, Node | Groups]


def to_json(node: Node) -> Pieces:
    """Empty lists are left out, as protobuf's JSON does."""
    opening = json.encode(node.head)[:-1]
    yield opening
    comma = b"" if opening == b"{" else b","
    for name, part in node.parts.items():
        key = b'"' + name.encode() + b'":'
        if isinstance(part, Node):
            yield comma + key
            yield from to_json(part)
            comma = b","
            continue
        is_empty = True
        for group in part:
            if not group:
                yield b""
                continue
            yield (comma + key + b"[" if is_empty else b",") + b",".join(group)
            is_empty, comma = False, b","
        if not is_empty:
            yield b"]"
    yield b"}"


def to_protobuf(node: Node) -> Pieces:
    """The same message in protobuf."""
    parts: list[bytes] = []
    yield from _collect(node, parts)
    left = iter(parts)
    while some := list(islice(left, _JOINED)):
        yield b"".join(some)


def _collect(node: Node, out: list[bytes]) -> Generator[bytes, None, int]:
    """Append the message's parts; return its size."""
    kind = type(node.head)
    raw = protobuf.encode(node.head)
    out.append(raw)
    size = len(raw)
    for name, part in node.parts.items():
        if isinstance(part, Node):
            # Its place is kept: what comes before it can only be known after it.
            place = len(out)
            out.append(b"")
            inner = yield from _collect(part, out)
            out[place] = protobuf.prefix(kind, name, inner)
            size += inner + len(out[place])
            continue
        for group in part:
            for each in group:
                before = protobuf.prefix(kind, name, len(each))
                out += (before, each)
                size += len(before) + len(each)
            yield b""
    return size
