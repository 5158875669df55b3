"""A framework that a test plays by hand against a real master: one stream, calls beside it."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import msgspec
import requests

from mesostk.wire.recordio import Decoder

#: Most seconds between two records: above the heartbeat of 15 s.
SILENCE_S = 120.0

Body = dict[str, Any]


class HandFramework:
    """Subscribed on entry, torn down on exit. Records are plain objects, as JSON has them."""

    def __init__(self, url: str, auth: tuple[str, str] | None = None, **info: Any) -> None:
        """`url` of the leading master; `info` are fields of FrameworkInfo."""
        self._url = f"{url}/api/v1/scheduler"
        self._auth = auth
        self.info: Body = {"user": "nobody", "name": "by-hand", "checkpoint": True, **info}
        self.id: Body = {}
        self.records: Iterator[Body] = iter(())
        #: What SUBSCRIBE was answered with.
        self.first: Body = {}
        self._stream: requests.Response | None = None

    def __enter__(self) -> Self:
        self.first = self.subscribe()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.id:
            self.call("TEARDOWN")
        self._close()

    def _close(self) -> None:
        self.records = iter(())
        if self._stream is not None:
            self._stream.close()

    def subscribe(self) -> Body:
        """SUBSCRIBE; the first record."""
        call: Body = {"type": "SUBSCRIBE", "subscribe": {"framework_info": self.info}}
        if "id" in self.info:
            call["framework_id"] = self.info["id"]
        self._close()
        self._stream = requests.post(
            self._url, json=call, stream=True, timeout=SILENCE_S, auth=self._auth
        )
        assert self._stream.status_code == 200, self._stream.text
        self.records = self._read(self._stream)
        first = next(self.records)
        if first["type"] == "SUBSCRIBED":
            self.id = self.info["id"] = first["subscribed"]["framework_id"]
        return first

    def _read(self, stream: requests.Response) -> Iterator[Body]:
        decoder = Decoder()
        for chunk in stream.iter_content(chunk_size=None):
            for record in decoder.feed(chunk):
                yield msgspec.json.decode(record)

    def next(self, kind: str) -> Body:
        """The body of the next event of that type; others are passed over."""
        for record in self.records:
            if record["type"] == kind:
                body: Body = record.get(kind.lower(), {})
                return body
        raise AssertionError(f"the stream ended without {kind}")

    def offer(self) -> Body:
        """The first offer of the next OFFERS."""
        found: Body = self.next("OFFERS")["offers"][0]
        return found

    def call(self, kind: str, **body: Any) -> requests.Response:
        """Any other call."""
        assert self._stream is not None
        call = {"type": kind, "framework_id": self.id}
        if body:
            call[kind.lower()] = body
        headers = {"Mesos-Stream-Id": self._stream.headers["Mesos-Stream-Id"]}
        return requests.post(self._url, json=call, headers=headers, timeout=60, auth=self._auth)

    def accept(self, offer: Body, *operations: Body, refuse_s: float = 0.0) -> None:
        answer = self.call(
            "ACCEPT",
            offer_ids=[offer["id"]],
            operations=list(operations),
            filters={"refuse_seconds": refuse_s},
        )
        assert answer.status_code == 202, answer.text

    def status(self, state: str) -> Body:
        """The next update with that state; it and those before it are acknowledged."""
        while True:
            status: Body = self.next("UPDATE")["status"]
            if "uuid" in status:
                names = ("agent_id", "task_id", "uuid")
                self.call("ACKNOWLEDGE", **{name: status[name] for name in names})
            if status["state"] == state:
                return status
