"""A scheduler of a few lines on the v1 scheduler API, for tests against a real master.

Acknowledges every update as it comes, keeps all events and the latest offers, and declines nothing.
"""

from __future__ import annotations

import json
import threading
from typing import Any, Self

import requests

from mesostk.testing.processes import LIMIT_S, until
from mesostk.wire.recordio import Decoder

TERMINAL = frozenset(
    f"TASK_{name}"
    for name in ("FINISHED", "FAILED", "KILLED", "ERROR", "LOST", "DROPPED", "GONE",
                 "GONE_BY_OPERATOR")
)  # fmt: skip


def scalars(**amounts: float) -> list[dict[str, Any]]:
    """Resources as JSON."""
    return [
        {"name": name, "type": "SCALAR", "scalar": {"value": amount}}
        for name, amount in amounts.items()
    ]


class Scheduler:
    """A subscribed framework for as long as the `with` block lasts; then it is torn down."""

    def __init__(self, master_url: str, *capabilities: str, **info: Any) -> None:
        self._url = f"{master_url}/api/v1/scheduler"
        self.info = {
            "user": "root",
            "name": "test",
            "checkpoint": True,
            "failover_timeout": 600.0,
            "capabilities": [{"type": name} for name in capabilities],
            **info,
        }
        self.events: list[dict[str, Any]] = []
        self.offers: dict[str, dict[str, Any]] = {}
        self.framework_id: dict[str, str] = {}
        self._headers: dict[str, str] = {}
        self._thread: threading.Thread | None = None
        self._stream: requests.Response | None = None
        self._is_over = False

    @property
    def stream_id(self) -> str:
        """What calls of this subscription carry in `Mesos-Stream-Id`."""
        return self._headers["Mesos-Stream-Id"]

    def __enter__(self) -> Self:
        self._subscribe()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self.call("TEARDOWN")
        assert self._stream is not None
        self._stream.close()

    def _subscribe(self) -> None:
        body = {"type": "SUBSCRIBE", "subscribe": {"framework_info": self.info}}
        self._stream = requests.post(self._url, json=body, stream=True, timeout=(10, 600))
        assert self._stream.status_code == requests.codes.ok, self._stream.text
        self._headers = {"Mesos-Stream-Id": self._stream.headers["Mesos-Stream-Id"]}
        self._thread = threading.Thread(target=self._read, args=(self._stream,), daemon=True)
        self._thread.start()
        until("a subscription", lambda: self.framework_id)

    def _read(self, stream: requests.Response) -> None:
        decoder = Decoder()
        try:
            for chunk in stream.iter_content(None):
                for record in decoder.feed(chunk):
                    self._take(json.loads(record))
        except (requests.RequestException, AttributeError, ValueError):
            return  # closed under it

    def _take(self, event: dict[str, Any]) -> None:
        if event["type"] == "SUBSCRIBED":
            self.framework_id = event["subscribed"]["framework_id"]
        elif event["type"] == "OFFERS":
            for offer in event["offers"]["offers"]:
                self.offers[offer["id"]["value"]] = offer
        elif event["type"] == "RESCIND":
            self.offers.pop(event["rescind"]["offer_id"]["value"], None)
        elif event["type"] == "UPDATE" and "uuid" in event["update"]["status"]:
            status = event["update"]["status"]
            body = {name: status[name] for name in ("agent_id", "task_id", "uuid")}
            answer = self._send("ACKNOWLEDGE", body)
            # A framework that is torn down meanwhile is unknown.
            assert answer.ok or self._is_over, answer.text
        self.events.append(event)

    def call(self, kind: str, body: dict[str, Any] | None = None) -> None:
        """One call, which must be accepted."""
        answer = self._send(kind, body)
        assert answer.status_code in {200, 202}, answer.text

    def _send(self, kind: str, body: dict[str, Any] | None = None) -> requests.Response:
        call: dict[str, Any] = {"type": kind, "framework_id": self.framework_id}
        if body is not None:
            call[kind.lower()] = body
        return requests.post(self._url, json=call, headers=self._headers, timeout=60)

    def offer(self) -> dict[str, Any]:
        """An offer that was not used yet; it counts as used from now on."""
        return until("an offer", lambda: self.offers.popitem()[1] if self.offers else None)

    def accept(self, offer: dict[str, Any], *operations: dict[str, Any]) -> None:
        """Use an offer; what is left of it comes back soon."""
        body = {
            "offer_ids": [offer["id"]],
            "operations": list(operations),
            "filters": {"refuse_seconds": 0.1},
        }
        self.call("ACCEPT", body)

    def launch(self, offer: dict[str, Any], *tasks: dict[str, Any]) -> None:
        """LAUNCH of tasks, their agent filled in."""
        infos = [{"agent_id": offer["agent_id"], **task} for task in tasks]
        self.accept(offer, {"type": "LAUNCH", "launch": {"task_infos": infos}})

    def launch_group(
        self, offer: dict[str, Any], executor: dict[str, Any], *tasks: dict[str, Any]
    ) -> None:
        """LAUNCH_GROUP of tasks, their agent filled in."""
        infos = [{"agent_id": offer["agent_id"], **task} for task in tasks]
        group = {"executor": executor, "task_group": {"tasks": infos}}
        self.accept(offer, {"type": "LAUNCH_GROUP", "launch_group": group})

    def statuses(self, task_id: str) -> list[dict[str, Any]]:
        """What was told of a task, in order."""
        return [
            event["update"]["status"]
            for event in self.events
            if event["type"] == "UPDATE"
            and event["update"]["status"]["task_id"]["value"] == task_id
        ]

    def states(self, task_id: str) -> list[str]:
        """States that a task was told to have, in order."""
        return [status["state"] for status in self.statuses(task_id)]

    def until_state(self, task_id: str, state: str, limit_s: float = LIMIT_S) -> dict[str, Any]:
        """The status that says so; AssertionError with what was said if it ends otherwise."""

        def told() -> dict[str, Any] | None:
            statuses = self.statuses(task_id)
            for status in statuses:
                if status["state"] == state:
                    return status
            ended = [status for status in statuses if status["state"] in TERMINAL]
            assert not ended, ended
            return None

        return until(f"{task_id} is {state}", told, limit_s)

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """Bodies of the events of a type."""
        return [event[kind.lower()] for event in list(self.events) if event["type"] == kind]
