"""A framework on the v1 scheduler API that costs little: events come to a method each."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import msgspec

from mesostk.tests.perf.connections import Events, Posts

PATH = "/api/v1/scheduler"


def scalars(**amounts: float) -> list[dict[str, Any]]:
    """Resources as JSON."""
    return [
        {"name": name, "type": "SCALAR", "scalar": {"value": amount}}
        for name, amount in amounts.items()
    ]


class Framework:
    """Subscribed from `subscribe` on; acknowledges each update after `on_update` had it."""

    def __init__(self, url: str, name: str = "perf", **info: Any) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        assert address.port is not None
        self._host, self._port = address.hostname, address.port
        self.info = {"user": "root", "name": name, "checkpoint": True, **info}
        self.id: dict[str, str] = {}
        self._events: Events | None = None
        self._posts: Posts | None = None
        self._headers: dict[str, str] = {}
        self._subscribed = asyncio.Event()
        #: Set by whoever waits for something, in `on_offers` or `on_update`.
        self.done = asyncio.Event()

    async def subscribe(self) -> None:
        """Returns when the master has answered."""
        body: dict[str, Any] = {"type": "SUBSCRIBE", "subscribe": {"framework_info": self.info}}
        if "id" in self.info:
            body["framework_id"] = self.info["id"]
        self._posts = await Posts.connect(self._host, self._port)
        self._events = Events(
            self._host, self._port, PATH, msgspec.json.encode(body), self._on_record
        )
        await self._events.open()
        await self._subscribed.wait()

    def _on_record(self, record: bytes) -> None:
        event = msgspec.json.decode(record)
        kind = event["type"]
        if kind == "SUBSCRIBED":
            assert self._events is not None
            self.id = event["subscribed"]["framework_id"]
            self._headers = {"Mesos-Stream-Id": self._events.stream_id}
            self._subscribed.set()
        elif kind == "OFFERS":
            self.on_offers(event["offers"]["offers"])
        elif kind == "UPDATE":
            status = event["update"]["status"]
            self.on_update(status)
            if "uuid" in status:
                fields = {name: status[name] for name in ("agent_id", "task_id", "uuid")}
                self.call("ACKNOWLEDGE", acknowledge=fields)
        elif kind == "ERROR":
            raise RuntimeError(event["error"]["message"])

    def call(self, kind: str, **body: Any) -> None:
        """Send a call; whether it was taken is not waited for."""
        assert self._posts is not None
        message = {"type": kind, "framework_id": self.id, **body}
        self._posts.post(PATH, msgspec.json.encode(message), self._headers)

    async def settle(self) -> None:
        """Return when the master has taken all calls so far; no more offers are wanted then."""
        assert self._posts is not None
        message = {"type": "SUPPRESS", "framework_id": self.id}
        await self._posts.ask(PATH, msgspec.json.encode(message), self._headers)

    def accept(self, offer: dict[str, Any], tasks: list[dict[str, Any]]) -> None:
        """Launch `tasks` of an offer; without any this declines it."""
        launch = {"type": "LAUNCH", "launch": {"task_infos": tasks}}
        accept = {
            "offer_ids": [offer["id"]],
            "operations": [launch] if tasks else [],
            "filters": {"refuse_seconds": 0.0},
        }
        self.call("ACCEPT", accept=accept)

    def close(self) -> None:
        """Leave without a word."""
        for connection in (self._events, self._posts):
            if connection is not None:
                connection.close()

    # what a figure is made of

    def on_offers(self, offers: list[dict[str, Any]]) -> None:
        raise NotImplementedError

    def on_update(self, status: dict[str, Any]) -> None:
        raise NotImplementedError
