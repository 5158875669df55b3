"""Which types a call to `POST /api/v1` of an agent comes in, and its answer goes out in.

::

    Content-Type         JSON | protobuf             one message
                         recordio + Message-Content-Type: JSON | protobuf     many
    Accept               JSON, else protobuf         one message, or RecordIO of such by that name
                         else recordio + Message-Accept: JSON, else protobuf

Source: spec/mesos.md §0.3, §0.4, §4.1; texts §15.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
from aiohttp import web

from mesostk.base.http import (
    JSON_TYPE,
    PROTOBUF_TYPE,
    RECORDIO_TYPE,
    accepted_type_of,
    content_type_of,
)
from mesostk.errors import Rejected, WireError
from mesostk.wire import agent_operator as wire
from mesostk.wire import json, protobuf

#: Type of the records within a body of type RECORDIO_TYPE, and the one wanted.
INNER_TYPE: Final = "Message-Content-Type"
INNER_ACCEPT: Final = "Message-Accept"

_MESSAGES = (JSON_TYPE, PROTOBUF_TYPE)
_ALL = (*_MESSAGES, RECORDIO_TYPE)

_ENCODE: dict[str, Callable[[Any], bytes]] = {
    JSON_TYPE: json.encode,
    PROTOBUF_TYPE: protobuf.encode,
}


class Types(NamedTuple):
    """`message` is the type of each message, `is_recordio` whether many come by that name."""

    message: str
    is_recordio: bool

    @property
    def headers(self) -> dict[str, str]:
        """Those of a stream of such messages."""
        if self.is_recordio:
            return {"Content-Type": RECORDIO_TYPE, INNER_TYPE: self.message}
        return {"Content-Type": self.message}

    def encode(self, message: msgspec.Struct) -> bytes:
        return _ENCODE[self.message](message)

    def decode(self, data: bytes) -> wire.Call:
        """A call. Rejected (400) says what is wrong with it."""
        try:
            if self.message == PROTOBUF_TYPE:
                return protobuf.decode(data, wire.Call)
            return json.decode(data, wire.Call)
        except WireError as error:
            name = "a protobuf object" if self.message == PROTOBUF_TYPE else "Call"
            raise Rejected(400, f"Failed to parse body into {name}: {error}") from error

    def answer(self, response: wire.Response) -> web.Response:
        """One message; none if it says nothing, as after a call that only changes something."""
        if response.type is None:
            return web.Response()
        return web.Response(body=self.encode(response), content_type=self.message)


def of_body(request: web.Request) -> Types:
    """The types of the body. Rejected: 400 without one, 415 for one that is not read."""
    kind = content_type_of(request, _ALL)
    inner = request.headers.get(INNER_TYPE)
    if kind != RECORDIO_TYPE:
        if inner is not None:
            text = f"Expecting '{INNER_TYPE}' to be not set for non-streaming requests"
            raise Rejected(415, text)
        return Types(kind, False)
    if inner is None:
        raise Rejected(400, f"Expecting '{INNER_TYPE}' to be set for streaming requests")
    if inner not in _MESSAGES:
        raise Rejected(415, f"Expecting '{INNER_TYPE}' of {' or '.join(_MESSAGES)}")
    return Types(inner, True)


def of_answer(request: web.Request) -> Types:
    """The types of the answer. Rejected (406) if the caller accepts none that can be given."""
    try:
        kind = accepted_type_of(request, _ALL)
    except Rejected as error:
        raise Rejected(406, f"Expecting 'Accept' to allow {' or '.join(_ALL)}") from error
    wanted = request.headers.get(INNER_ACCEPT)
    if kind != RECORDIO_TYPE:
        if wanted is not None:
            text = f"Expecting '{INNER_ACCEPT}' to be not set for non-streaming responses"
            raise Rejected(406, text)
        return Types(kind, False)
    if wanted in {None, "*/*"}:
        return Types(JSON_TYPE, True)
    for message in _MESSAGES:
        if message in str(wanted):
            return Types(message, True)
    raise Rejected(406, f"Expecting '{INNER_ACCEPT}' to allow {' or '.join(_MESSAGES)}")
