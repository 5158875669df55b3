"""A custom executor that answers at once: TASK_RUNNING and TASK_FINISHED for each task it is given.

Started by the agent for `throughput.py`, over the executor HTTP API v1.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from typing import Any

import msgspec
import uvloop

from mesostk.tests.perf.connections import Events, Posts

PATH = "/api/v1/executor"


class Executor:
    """Keeps nothing: an update that is lost with the agent is not repeated."""

    def __init__(self, agent: str, framework_id: str, executor_id: str) -> None:
        self._host, self._port = agent.split(":")
        self._ids = {
            "framework_id": {"value": framework_id},
            "executor_id": {"value": executor_id},
        }
        self._over = asyncio.Event()
        self._posts: Posts | None = None

    async def run(self) -> None:
        """Subscribe, and serve until SHUTDOWN or the end of the agent."""
        body = {"type": "SUBSCRIBE", "subscribe": {}, **self._ids}
        self._posts = await Posts.connect(self._host, int(self._port))
        events = Events(
            self._host,
            int(self._port),
            PATH,
            msgspec.json.encode(body),
            self._on_record,
            self._over.set,
        )
        await events.open()
        await self._over.wait()
        events.close()

    def _on_record(self, record: bytes) -> None:
        event = msgspec.json.decode(record)
        if event["type"] == "LAUNCH":
            for state in ("TASK_RUNNING", "TASK_FINISHED"):
                self._update(event["launch"]["task"]["task_id"], state)
        elif event["type"] == "SHUTDOWN":
            self._over.set()

    def _update(self, task_id: dict[str, Any], state: str) -> None:
        assert self._posts is not None
        status = {
            "task_id": task_id,
            "state": state,
            "source": "SOURCE_EXECUTOR",
            "uuid": base64.b64encode(os.urandom(16)).decode(),
            "timestamp": time.time(),
        }
        body = {"type": "UPDATE", "update": {"status": status}, **self._ids}
        self._posts.post(PATH, msgspec.json.encode(body), {})


async def main() -> None:
    environ = os.environ
    await Executor(
        environ["MESOS_AGENT_ENDPOINT"],
        environ["MESOS_FRAMEWORK_ID"],
        environ["MESOS_EXECUTOR_ID"],
    ).run()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
