"""`/help`, `/__processes__` and `/profiler/*` of masters and agents.

::

    /help                     all process ids          ?format=json: everything
    /help/<process>           its endpoints            400 if there is none of that id
    /help/<process>/<name>    one endpoint             400 if there is none of that name

Programs get Markdown (curl and HTTPie, as with the original, and whoever does not ask for HTML),
browsers the same text in a page. Source: the original's libprocess, help.cpp and profiler.cpp.
"""

from __future__ import annotations

import html
from collections.abc import Awaitable, Callable, Mapping

import msgspec
from aiohttp import web

from mesostk.base.http import json_answer
from mesostk.errors import Rejected

_PROGRAMS = ("curl", "HTTPie")

#: Process id ↦ the names of its endpoints ↦ what each is for.
Pages = Mapping[str, Mapping[str, str]]

#: Processes that masters and agents have both.
SHARED: Pages = {
    "files": {
        "/browse": "Lists a directory: path=VALUE.",
        "/debug": "Which virtual path is which real one.",
        "/download": "A whole file: path=VALUE.",
        "/read": "A part of a file, 64 KiB at most: path=VALUE, offset=VALUE, length=VALUE.",
    },
    "logging": {
        "/toggle": "The level of the log; with level=VALUE and duration=VALUE another for a time.",
    },
    "metrics": {"/snapshot": "Every metric: timeout=VALUE."},
    "profiler": {
        "/start": "Starts a profiler; there is none in this build, so it is refused.",
        "/stop": "Stops it.",
    },
    "system": {"/stats.json": "Processors, memory and load of the host."},
    "version": {"/": "The version."},
}

_NO_PROFILER = (
    "Perftools is disabled. To enable perftools, configure libprocess with --enable-perftools.\n"
)


class _Endpoint(msgspec.Struct, frozen=True):
    name: str
    text: str


class _Process(msgspec.Struct, frozen=True):
    id: str
    endpoints: tuple[_Endpoint, ...]


class Help:
    """Answers about the endpoints of one daemon, whose own process is `delegate`: what is under
    `/<delegate>` is under `/` as well."""

    def __init__(self, delegate: str, pages: Pages) -> None:
        self._delegate = delegate
        whole = {**SHARED, **pages}
        self.pages: Pages = {name: dict(sorted(whole[name].items())) for name in sorted(whole)}

    def table(self) -> dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]]:
        """Path → answer."""
        return {
            "/help": self.help,
            "/help/{process}": self.help,
            "/help/{process}/{name:.+}": self.help,
            "/__processes__": self.processes,
            "/profiler/start": self.profiler,
            "/profiler/stop": self.profiler,
        }

    async def help(self, request: web.Request) -> web.Response:
        """The index, a process or an endpoint."""
        process, name = request.match_info.get("process"), request.match_info.get("name")
        if process is None:
            if request.query.get("format") == "json":
                return json_answer({"processes": self._everything()}, request=request)
            return _shown(self._index(), request)
        if process not in self.pages:
            raise Rejected(400, f"No help available for '/{process}'.\n")
        if name is None:
            return _shown(self._process(process), request)
        if f"/{name}" not in self.pages[process]:
            raise Rejected(400, f"No help available for '/{process}/{name}'.\n")
        return _shown(self.text(process, f"/{name}"), request)

    async def processes(self, request: web.Request) -> web.Response:
        """Every process and what waits for it: nothing, since each event is handled as it comes."""
        shown = [{"id": name, "events": []} for name in (*self.pages, "help")]
        return json_answer(shown, request=request)

    async def profiler(self, _request: web.Request) -> web.Response:
        """Refused as by an original that was built without a profiler, which is the usual one."""
        raise Rejected(400, _NO_PROFILER)

    # -- texts ----------------------------------------------------------------------------------

    def path(self, process: str, name: str) -> str:
        """Where an endpoint is."""
        return f"/{process}{name.rstrip('/')}"

    def text(self, process: str, name: str) -> str:
        """The page of one endpoint."""
        usage = [self.path(process, name)]
        if process == self._delegate:
            usage.insert(0, name)
        lines = "".join(f">        {path}\n" for path in usage)
        return f"### USAGE ###\n{lines}\n### TL;DR; ###\n{self.pages[process][name]}\n"

    def _index(self) -> str:
        items = "".join(f"> [/{process}][{process}]\n" for process in self.pages)
        links = "".join(f"[{process}]: help/{process}\n" for process in self.pages)
        return f"## HELP\n{items}\n{links}"

    def _process(self, process: str) -> str:
        paths = [self.path(process, name)[1:] for name in self.pages[process]]
        items = "".join(f"> [/{path}][{path}]\n" for path in paths)
        links = "".join(f"[{path}]: {path}\n" for path in paths)
        return f"## `/{process}` ##\n{items}\n{links}"

    def _everything(self) -> list[_Process]:
        return [
            _Process(
                process,
                tuple(_Endpoint(name, self.text(process, name)) for name in names),
            )
            for process, names in self.pages.items()
        ]


def _shown(markdown: str, request: web.Request) -> web.Response:
    agent = request.headers.get("User-Agent", "")
    accept = request.headers.get("Accept", "")
    if agent.startswith(_PROGRAMS) or "text/html" not in accept:
        return web.Response(text=markdown, content_type="text/x-markdown")
    page = (
        "<!doctype html><html><head><title>Help</title></head>"
        f"<body><pre>{html.escape(markdown)}</pre></body></html>"
    )
    return web.Response(text=page, content_type="text/html")
