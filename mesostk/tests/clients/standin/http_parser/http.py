"""`HttpParser` as pymesos uses it: one response, its body chunked or counted, fed in any pieces."""

from __future__ import annotations


class HttpParser:
    """Parses one response."""

    def __init__(self) -> None:
        self._data = b""
        self._status = 0
        self._headers: dict[str, str] = {}
        self._has_headers = False
        self._body = b""
        self._left = 0
        self._over = False

    def execute(self, data: bytes, size: int) -> int:
        """Take `size` bytes in; returns how many were understood, which is all."""
        self._data += data[:size]
        if not self._has_headers:
            self._read_headers()
        if self._has_headers and not self._over:
            self._read_chunks() if self.is_chunked() else self._read_counted()
        return size

    def _read_headers(self) -> None:
        head, blank, rest = self._data.partition(b"\r\n\r\n")
        if not blank:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        self._status = int(first.split()[1])
        pairs = (line.partition(":") for line in lines)
        self._headers = {name.strip(): value.strip() for name, _, value in pairs}
        self._data, self._has_headers = rest, True
        self._left = int(self._header("content-length") or 0)

    def _header(self, name: str) -> str:
        return next((v for key, v in self._headers.items() if key.lower() == name), "")

    def _read_counted(self) -> None:
        piece, self._data = self._data[: self._left], self._data[self._left :]
        self._body += piece
        self._left -= len(piece)
        self._over = self._left == 0

    def _read_chunks(self) -> None:
        while not self._over:
            size, end, rest = self._data.partition(b"\r\n")
            if not end:
                return
            length = int(size.split(b";")[0], 16)
            if len(rest) < length + 2:
                return
            self._body += rest[:length]
            self._data = rest[length + 2 :]
            self._over = length == 0

    def is_headers_complete(self) -> bool:
        return self._has_headers

    def get_status_code(self) -> int:
        return self._status

    def get_headers(self) -> dict[str, str]:
        return self._headers

    def get_errno(self) -> int:
        return 0

    def is_chunked(self) -> bool:
        return self._header("transfer-encoding").lower() == "chunked"

    def is_partial_body(self) -> bool:
        return bool(self._body)

    def recv_body(self) -> bytes:
        body, self._body = self._body, b""
        return body

    def is_message_complete(self) -> bool:
        return self._over
