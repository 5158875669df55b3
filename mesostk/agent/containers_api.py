"""The operator API's calls on containers: launch, attach, wait, kill, remove (spec §4.4).

::

    LAUNCH_NESTED_CONTAINER_SESSION, ATTACH_CONTAINER_OUTPUT ─▶ RecordIO of ProcessIO until the end
    ATTACH_CONTAINER_INPUT ◀─ RecordIO of calls: CONTAINER_ID, then PROCESS_IO …

The connection of a session is the session: when it closes, the container is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from aiohttp import web

from mesostk.agent.container import Container, Output, text_of
from mesostk.agent.containers import NOT_ATTACHABLE, Containers
from mesostk.agent.negotiation import Types, of_answer
from mesostk.errors import Rejected
from mesostk.wire import agent_operator as wire
from mesostk.wire.mesos import DurationInfo
from mesostk.wire.recordio import Decoder, encode_record

#: Most that one record of input may hold.
_MAX_RECORD_BYTES: Final = 4 * 1024 * 1024


class ContainerCalls:
    """Answers the calls; `heartbeat_s` apart, streams tell that they live."""

    def __init__(self, containers: Containers, heartbeat_s: float) -> None:
        self._containers = containers
        self._heartbeat_s = heartbeat_s
        #: Containers to whose input somebody is attached.
        self._typing: set[str] = set()

    async def handle(self, call: wire.Call, request: web.Request) -> web.StreamResponse:
        """Answer a call of `CALLS`."""
        return await CALLS[str(call.type)](self, call, request)

    def names(self, *, nested: bool, standalone: bool) -> list[str]:
        """Ids of the live containers that calls started."""
        ids = [container.container_id for container in self._containers.live()]
        return [name for name in ids if (nested if "." in name else standalone)]

    # -- launch ----------------------------------------------------------------------------------

    async def launch_nested(self, call: wire.Call, _request: web.Request) -> web.StreamResponse:
        asked = call.launch_nested_container
        assert asked is not None
        assert asked.command is not None
        container_id = text_of(asked.container_id)
        made = await self._containers.launch(container_id, asked.command, asked.container)
        return web.Response(status=200 if made is not None else 202)

    async def launch_container(self, call: wire.Call, _request: web.Request) -> web.StreamResponse:
        asked = call.launch_container
        assert asked is not None
        assert asked.command is not None
        container_id = text_of(asked.container_id)
        made = await self._containers.launch(
            container_id, asked.command, asked.container, asked.resources
        )
        return web.Response(status=200 if made is not None else 202)

    async def launch_session(self, call: wire.Call, request: web.Request) -> web.StreamResponse:
        asked = call.launch_nested_container_session
        assert asked is not None
        assert asked.command is not None
        container_id = text_of(asked.container_id)
        container = await self._containers.launch(
            container_id, asked.command, asked.container, is_session=True
        )
        if container is None:
            raise Rejected(400, f"Container '{container_id}' exists already")
        output = self._containers.attach(container)
        try:
            return await self._stream(request, container, output)
        finally:
            with contextlib.suppress(Rejected):  # it has ended by itself
                self._containers.kill(container_id, signal.SIGKILL)

    # -- attach ----------------------------------------------------------------------------------

    async def attach_output(self, call: wire.Call, request: web.Request) -> web.StreamResponse:
        asked = call.attach_container_output
        assert asked is not None
        container_id = text_of(asked.container_id)
        container = self._containers.get(container_id)
        if container is not None:
            _require_streams(container)
            return await self._stream(request, container, self._containers.attach(container))
        async with self._containers.kept(container_id, b"o") as container:
            return await self._stream(request, container, self._containers.show(container))

    async def _stream(
        self, request: web.Request, container: Container, output: Output
    ) -> web.StreamResponse:
        types = of_answer(request)
        response = web.StreamResponse(headers=types.headers)
        response.enable_chunked_encoding()
        try:
            await response.prepare(request)
            while True:
                try:
                    async with asyncio.timeout(self._heartbeat_s):
                        piece = await output.get()
                except TimeoutError:
                    await response.write(encode_record(types.encode(self._beat())))
                    continue
                if piece is None:
                    break
                data = wire.ProcessData(type=piece[0], data=piece[1])
                io = wire.ProcessIO(type="DATA", data=data)
                await response.write(encode_record(types.encode(io)))
            await response.write_eof()
        except ConnectionError:
            return response
        finally:
            self._containers.detach(container, output)
        return response

    def _beat(self) -> wire.ProcessIO:
        interval = DurationInfo(nanoseconds=int(self._heartbeat_s * 1e9))
        beat = wire.StreamHeartbeat(interval=interval)
        return wire.ProcessIO(
            type="CONTROL", control=wire.ProcessControl(type="HEARTBEAT", heartbeat=beat)
        )

    async def attach_input(self, request: web.Request, types: Types) -> web.StreamResponse:
        """ATTACH_CONTAINER_INPUT, whose body is many calls of `types`."""
        calls = _calls_in(request, types)
        first = await anext(calls, None)
        asked = first.attach_container_input if first is not None else None
        if asked is None or asked.type != "CONTAINER_ID" or asked.container_id is None:
            raise Rejected(400, "Expecting 'attach_container_input.container_id' to be present")
        container_id = text_of(asked.container_id)
        container = self._containers.get(container_id)
        if container is not None:
            _require_streams(container)
            return await self._take_all(container, calls)
        async with self._containers.kept(container_id, b"i") as container:
            return await self._take_all(container, calls)

    async def _take_all(
        self, container: Container, calls: AsyncIterator[wire.Call]
    ) -> web.StreamResponse:
        if container.container_id in self._typing:
            raise Rejected(409, "Multiple input connections are not allowed")
        self._typing.add(container.container_id)
        try:
            async for call in calls:
                await _take_input(container, call)
        finally:
            self._typing.discard(container.container_id)
        return web.Response()

    # -- end -------------------------------------------------------------------------------------

    async def wait_nested(self, call: wire.Call, request: web.Request) -> web.StreamResponse:
        assert call.wait_nested_container is not None
        ended = await self._termination(call.wait_nested_container)
        body = wire.Response(type="WAIT_NESTED_CONTAINER", wait_nested_container=ended)
        return of_answer(request).answer(body)

    async def wait(self, call: wire.Call, request: web.Request) -> web.StreamResponse:
        assert call.wait_container is not None
        ended = await self._termination(call.wait_container)
        body = wire.Response(type="WAIT_CONTAINER", wait_container=ended)
        return of_answer(request).answer(body)

    async def _termination(self, asked: wire.ContainerRef) -> wire.Termination:
        status = await self._containers.wait(text_of(asked.container_id))
        return wire.Termination(exit_status=status)

    async def kill(self, call: wire.Call, _request: web.Request) -> web.StreamResponse:
        asked = call.kill_nested_container
        asked = asked if asked is not None else call.kill_container
        assert asked is not None
        number = asked.signal if asked.signal is not None else int(signal.SIGKILL)
        if number not in set(signal.Signals):
            raise Rejected(400, f"'signal' {number} is no signal")
        self._containers.kill(text_of(asked.container_id), number)
        return web.Response()

    async def remove(self, call: wire.Call, _request: web.Request) -> web.StreamResponse:
        asked = call.remove_nested_container
        asked = asked if asked is not None else call.remove_container
        assert asked is not None
        await self._containers.remove(text_of(asked.container_id))
        return web.Response()


def _require_streams(container: Container) -> None:
    if container.stdio is None:
        raise Rejected(500, NOT_ATTACHABLE)


async def _take_input(container: Container, call: wire.Call) -> None:
    asked, stdio = call.attach_container_input, container.stdio
    io = asked.process_io if asked is not None else None
    if io is None or stdio is None:
        raise Rejected(400, "Expecting 'attach_container_input.process_io' to be present")
    if container.ended.done():
        return
    if io.type == "DATA" and io.data is not None:
        await stdio.write(io.data.data if io.data.data is not None else b"")
    window = io.control.tty_info if io.control is not None else None
    if window is not None and window.window_size is not None:
        await stdio.resize(window.window_size.rows, window.window_size.columns)


async def _calls_in(request: web.Request, types: Types) -> AsyncIterator[wire.Call]:
    decoder = Decoder(_MAX_RECORD_BYTES)
    async for chunk in request.content.iter_any():
        for record in decoder.feed(chunk):
            yield types.decode(record)


Handler = Callable[[ContainerCalls, wire.Call, web.Request], Awaitable[web.StreamResponse]]

CALLS: dict[str, Handler] = {
    "LAUNCH_NESTED_CONTAINER": ContainerCalls.launch_nested,
    "LAUNCH_NESTED_CONTAINER_SESSION": ContainerCalls.launch_session,
    "LAUNCH_CONTAINER": ContainerCalls.launch_container,
    "ATTACH_CONTAINER_OUTPUT": ContainerCalls.attach_output,
    "WAIT_NESTED_CONTAINER": ContainerCalls.wait_nested,
    "WAIT_CONTAINER": ContainerCalls.wait,
    "KILL_NESTED_CONTAINER": ContainerCalls.kill,
    "KILL_CONTAINER": ContainerCalls.kill,
    "REMOVE_NESTED_CONTAINER": ContainerCalls.remove,
    "REMOVE_CONTAINER": ContainerCalls.remove,
}
