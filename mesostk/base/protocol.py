"""One HTTP connection: aiohttp's, but for its answer to what cannot be read as a request.

That would name the library, its version and what its parser thinks. Mesos sends no `Server` (spec
§15), and closes such connections without a word.
"""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web


class _Unnamed(web.Response):
    """An answer whose `Server` is left out: no hook of an application sees it."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall("Server", None)


class Connection(web.RequestHandler):
    """The protocol of one connection."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what no handler was asked for; closes the connection."""
        super().handle_error(request, status, exc, message)  # logs it, or ConnectionError
        answer = _Unnamed(status=status, text=HTTPStatus(status).phrase)
        answer.force_close()
        return answer
