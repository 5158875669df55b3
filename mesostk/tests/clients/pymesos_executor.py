"""A custom executor on pymesos: echoes messages, runs tasks until they are killed."""

from __future__ import annotations

import os
import queue
import sys
import threading
from typing import Any

from pymesos import Executor, MesosExecutorDriver, decode_data, encode_data


class Echo(Executor):  # type: ignore[misc] # the package has no types
    """Each task runs from its launch until KILL, or ends at once if its name says so."""

    def __init__(self) -> None:
        self._said: queue.SimpleQueue[tuple[Any, dict[str, Any]]] = queue.SimpleQueue()
        # Not on the thread of its events, which sends nothing while it handles one.
        threading.Thread(target=self._send, daemon=True).start()

    def _send(self) -> None:
        """In the order in which it was said."""
        while True:
            driver, status = self._said.get()
            driver.sendStatusUpdate(status)

    def registered(self, driver: Any, executor: Any, framework: Any, agent: Any) -> None:
        names = [executor["executor_id"]["value"], framework["name"], agent["hostname"]]
        print("registered", *names, flush=True)

    def reregistered(self, driver: Any, agent: Any) -> None:
        print("reregistered", agent["hostname"], flush=True)

    def launchTask(self, driver: Any, task: Any) -> None:  # noqa: N802 # the package's name
        self._say(driver, task["task_id"], "TASK_RUNNING", data=encode_data(b"from pymesos"))
        if task["name"] == "short":
            self._say(driver, task["task_id"], "TASK_FINISHED")

    def launchTaskGroup(self, driver: Any, tasks: Any) -> None:  # noqa: N802
        for task in tasks:
            self.launchTask(driver, task)

    def killTask(self, driver: Any, task_id: Any) -> None:  # noqa: N802
        self._say(driver, task_id, "TASK_KILLED")

    def frameworkMessage(self, driver: Any, message: Any) -> None:  # noqa: N802
        text = decode_data(message)
        if text == b"die":
            os._exit(3)
        driver.sendFrameworkMessage(encode_data(text.upper()))

    def shutdown(self, driver: Any) -> None:
        print("shutdown", flush=True)

    def error(self, driver: Any, message: Any) -> None:
        print("error", message, file=sys.stderr, flush=True)

    def _say(self, driver: Any, task_id: Any, state: str, **more: Any) -> None:
        self._said.put((driver, {"task_id": task_id, "state": state, **more}))


MesosExecutorDriver(Echo()).run()
