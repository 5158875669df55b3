"""The master's own files and log level: `/files/*`, `/logging/toggle`, and the calls of the same.

There is one file, and only with `--external_log_file`: `/master/log`. Source: spec/mesos.md §4.2,
§5.4.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from mesostk.base.daemon import Daemon
from mesostk.base.files import VirtualFiles
from mesostk.base.http import json_answer
from mesostk.base.log_level import LogLevel
from mesostk.errors import Rejected
from mesostk.master.entry import Node
from mesostk.master.guard import require_allowed
from mesostk.wire import operator
from mesostk.wire.mesos import FileInfo, TimeInfo

LOG = "/master/log"

_PIECE_BYTES = 64 * 1024


class NodeFiles:
    """Answers about this process, whoever leads."""

    def __init__(self, node: Node, daemon: Daemon, log_file: str | None) -> None:
        self._node = node
        self._daemon = daemon
        self._files = VirtualFiles()
        self.log_level = LogLevel(daemon)
        if log_file is not None:
            self._files.attach(LOG, Path(log_file))

    def table(self) -> dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]]:
        """Path → answer."""
        return {
            "/files/browse": self.browse,
            "/files/read": self.read,
            "/files/download": self.download,
            "/files/debug": self.debug,
            "/logging/toggle": self.toggle,
        }

    # -- files ----------------------------------------------------------------------------------

    def _require_log(self, request: web.Request) -> None:
        require_allowed(self._node.acls, request, "access_mesos_logs")

    async def browse(self, request: web.Request) -> web.Response:
        """GET /files/browse?path="""
        self._require_log(request)
        path = request.query.get("path", "")
        entries = await self._daemon.disk(self._files.browse, path)
        return json_answer(entries, request=request)

    async def read(self, request: web.Request) -> web.Response:
        """GET /files/read?path=&offset=&length="""
        self._require_log(request)
        path, offset = request.query.get("path", ""), _number(request, "offset")
        piece = await self._daemon.disk(self._files.read, path, offset, _number(request, "length"))
        text = piece.data.decode("utf-8", errors="replace")
        return json_answer({"offset": piece.offset, "data": text}, request=request)

    async def download(self, request: web.Request) -> web.StreamResponse:
        """GET /files/download?path="""
        self._require_log(request)
        path = request.query.get("path", "")
        with self._files.opened(path) as fd:
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                raise Rejected(400, "Cannot download a directory.\n")
            response = web.StreamResponse()
            name = quote(Path(path).name)
            response.headers["Content-Disposition"] = f"attachment; filename={name}"
            response.content_type = "application/octet-stream"
            response.content_length = left = status.st_size
            await response.prepare(request)
            while left > 0:
                piece = await self._daemon.disk(os.read, fd, min(left, _PIECE_BYTES))
                if not piece:
                    break
                left -= len(piece)
                await response.write(piece)
        await response.write_eof()
        return response

    async def debug(self, request: web.Request) -> web.Response:
        """GET /files/debug"""
        self._require_log(request)
        return json_answer(dict(self._files.attached()), request=request)

    async def list_files(self, call: operator.Call, request: web.Request) -> operator.Response:
        """LIST_FILES."""
        self._require_log(request)
        assert call.list_files is not None
        entries = await self._daemon.disk(self._files.browse, call.list_files.path)
        infos = tuple(
            FileInfo(
                path=entry.path,
                nlink=entry.nlink,
                size=entry.size,
                mtime=TimeInfo(nanoseconds=int(entry.mtime * 1e9)),
                uid=entry.uid,
                gid=entry.gid,
            )
            for entry in entries
        )
        return operator.Response(type="LIST_FILES", list_files=operator.Files(file_infos=infos))

    async def read_file(self, call: operator.Call, request: web.Request) -> operator.Response:
        """READ_FILE: at most 64 KiB, with the size of the whole."""
        self._require_log(request)
        asked = call.read_file
        assert asked is not None
        if asked.offset < 0:
            raise Rejected(400, f"Negative offset provided: {asked.offset}.\n")
        length = -1 if asked.length is None else asked.length
        size = await self._daemon.disk(self._files.read, asked.path)
        piece = await self._daemon.disk(self._files.read, asked.path, asked.offset, length)
        part = operator.FilePart(size=size.offset, data=piece.data)
        return operator.Response(type="READ_FILE", read_file=part)

    # -- log level ------------------------------------------------------------------------------

    async def level(self, _call: operator.Call, _request: web.Request) -> operator.Response:
        """GET_LOGGING_LEVEL."""
        level = operator.LoggingLevel(level=self.log_level.level)
        return operator.Response(type="GET_LOGGING_LEVEL", get_logging_level=level)

    async def toggle(self, request: web.Request) -> web.Response:
        """/logging/toggle: the level, or with `level` and `duration` another for a time."""
        require_allowed(self._node.acls, request, "get_endpoints", "/logging/toggle")
        return self.log_level.toggle(request)


def _number(request: web.Request, name: str) -> int:
    """-1 if it is not there. Rejected (400) for what is no number."""
    text = request.query.get(name)
    if text is None:
        return -1
    digits = text.removeprefix("-")
    if not digits.isascii() or not digits.isdigit():
        raise Rejected(400, f"Failed to parse {name}: '{text[:20]}' is not a number.\n")
    return int(text)
