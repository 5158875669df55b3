"""RecordIO: `<decimal byte length>\\n<that many bytes>`, nothing between records.

Source: Mesos `3rdparty/stout/include/stout/recordio.hpp`. Records of length zero are legal.
"""

from __future__ import annotations

from mesostk.errors import WireError

#: A whole /state of a large cluster in one SUBSCRIBED record stays below; garbage does not.
MAX_RECORD_BYTES = 256 * 1024 * 1024

#: Enough for any 64-bit length; a header that is longer is not RecordIO.
MAX_HEADER_BYTES = 20


def encode_record(record: bytes) -> bytes:
    """`record` with its header, ready to be written to the stream."""
    return b"%d\n%b" % (len(record), record)


class Decoder:
    """Takes a stream apart, however it is cut into pieces.

    After a WireError the stream has no known boundary any more and must be given up; every further
    `feed` raises again.
    """

    __slots__ = ("_broken", "_buffer", "_max_record_bytes", "_need")

    def __init__(self, max_record_bytes: int = MAX_RECORD_BYTES) -> None:
        self._buffer = bytearray()
        self._need: int | None = None
        self._max_record_bytes = max_record_bytes
        self._broken: str | None = None

    @property
    def is_between_records(self) -> bool:
        """Whether a stream that ended here ended cleanly."""
        return self._need is None and not self._buffer

    def feed(self, data: bytes) -> list[bytes]:
        """The records that `data` completes, in order.

        Raises WireError for a header that is not a length, or a length above the limit; records
        completed by the same call before it are lost with the stream.
        """
        if self._broken is not None:
            raise WireError(self._broken)
        buffer = self._buffer
        buffer += data
        records: list[bytes] = []
        at = 0
        while True:
            if self._need is None:
                end = buffer.find(b"\n", at, at + MAX_HEADER_BYTES + 1)
                if end < 0:
                    self._check_partial_header(bytes(buffer[at : at + MAX_HEADER_BYTES + 1]))
                    break
                self._need = self._length(bytes(buffer[at:end]))
                at = end + 1
            if len(buffer) - at < self._need:
                break
            records.append(bytes(buffer[at : at + self._need]))
            at += self._need
            self._need = None
        del buffer[:at]
        return records

    def _check_partial_header(self, header: bytes) -> None:
        """Refuse garbage at its first byte rather than wait for a newline that may never come."""
        if header and not header.isdigit():
            self._fail(f"RecordIO: expected a decimal length, got {header[:20]!r}")
        if len(header) > MAX_HEADER_BYTES:
            self._fail(f"RecordIO: length of over {MAX_HEADER_BYTES} digits")

    def _length(self, header: bytes) -> int:
        if not header.isdigit():
            self._fail(f"RecordIO: expected a decimal length, got {header[:20]!r}")
        length = int(header)
        if length > self._max_record_bytes:
            self._fail(
                f"RecordIO: record of {length} bytes is above the limit of {self._max_record_bytes}"
            )
        return length

    def _fail(self, message: str) -> None:
        self._broken = message
        self._buffer.clear()
        raise WireError(message)
