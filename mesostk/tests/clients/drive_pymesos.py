"""A scheduler on pymesos with an executor of its own: `drive_pymesos.py MASTER EXECUTOR-COMMAND`.

Launches tasks on one custom executor, talks to it, has it die, and leaves. Prints one JSON object
of what it saw. `@` on a line of its own asks the caller to end the agent's process by force.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from typing import Any

from pymesos import MesosSchedulerDriver, Scheduler, decode_data, encode_data

master, command = sys.argv[1:]
LIMIT_S = 90.0


class Seen(Scheduler):  # type: ignore[misc] # the package has no types
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.offers: list[Any] = []
        self.states: list[list[str]] = []
        self.uuids: set[str] = set()
        self.data: list[str] = []
        self.messages: list[str] = []
        self.lost: list[int] = []
        self.rescinded = self.heartbeats = 0
        self.registered_as = ""

    def _keep(self, change: Callable[[], object]) -> None:
        with self.changed:
            change()
            self.changed.notify_all()

    def until(self, what: str, test: Callable[[], object]) -> None:
        with self.changed:
            assert self.changed.wait_for(test, LIMIT_S), (what, self.states, self.messages)

    def registered(self, driver: Any, framework_id: Any, _info: Any) -> None:
        self._keep(lambda: setattr(self, "registered_as", framework_id["value"]))

    def resourceOffers(self, driver: Any, offers: Any) -> None:  # noqa: N802 # the package's name
        self._keep(lambda: self.offers.extend(offers))

    def statusUpdate(self, driver: Any, status: Any) -> None:  # noqa: N802
        def keep() -> None:
            if status.get("uuid") in self.uuids:
                return  # told again, because its acknowledgement came late
            if "uuid" in status:
                self.uuids.add(status["uuid"])
            self.states.append([status["task_id"]["value"], status["state"]])
            if "data" in status:
                self.data.append(decode_data(status["data"]).decode())

        self._keep(keep)

    def frameworkMessage(self, driver: Any, _e: Any, _a: Any, message: Any) -> None:  # noqa: N802
        self._keep(lambda: self.messages.append(decode_data(message).decode()))

    def executorLost(self, driver: Any, _e: Any, _a: Any, status: int) -> None:  # noqa: N802
        self._keep(lambda: self.lost.append(status))

    def offerRescinded(self, driver: Any, _id: Any) -> None:  # noqa: N802
        self._keep(lambda: setattr(self, "rescinded", self.rescinded + 1))

    def processHeartBeat(self, driver: Any) -> None:  # noqa: N802
        self._keep(lambda: setattr(self, "heartbeats", self.heartbeats + 1))

    def ended(self, task: str) -> bool:
        return any(name == task and state != "TASK_RUNNING" for name, state in self.states)


def scalar(name: str, value: float) -> dict[str, Any]:
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}}


EXECUTOR = {
    "executor_id": {"value": "echo"},
    "name": "echo",
    "command": {"value": command},
    "resources": [scalar("cpus", 0.1), scalar("mem", 32)],
}


def task(offer: Any, task_id: str, name: str) -> dict[str, Any]:
    return {
        "task_id": {"value": task_id},
        "name": name,
        "agent_id": offer["agent_id"],
        "executor": EXECUTOR,
        "resources": [scalar("cpus", 0.1), scalar("mem", 32)],
    }


seen = Seen()
framework = {"user": "root", "name": "by pymesos", "checkpoint": True, "hostname": "here"}
driver = MesosSchedulerDriver(seen, framework, master)
driver.start()


def next_offer() -> Any:
    seen.until("an offer", lambda: seen.offers)
    return seen.offers.pop(0)


def run(task_id: str, name: str = "long") -> Any:
    offer = next_offer()
    driver.launchTasks(offer["id"], [task(offer, task_id, name)], {"refuse_seconds": 0.1})
    seen.until(task_id, lambda: [task_id, "TASK_RUNNING"] in seen.states)
    return offer["agent_id"]


agent_id = run("t1")
run("t2", "short")
seen.until("t2 over", lambda: seen.ended("t2"))
driver.sendFrameworkMessage(EXECUTOR["executor_id"], agent_id, encode_data(b"hello"))
seen.until("an answer", lambda: "HELLO" in seen.messages)
driver.killTask({"value": "t1"})
seen.until("t1 over", lambda: seen.ended("t1"))
run("t3")
print("@", flush=True)
sys.stdin.readline()  # the agent is gone: whoever answers from here on is the next one
with seen.changed:
    for _ in range(int(LIMIT_S)):  # messages are lost while the agent, or its executor, is away
        driver.sendFrameworkMessage(EXECUTOR["executor_id"], agent_id, encode_data(b"again"))
        if seen.changed.wait_for(lambda: "AGAIN" in seen.messages, 1.0):
            break
seen.until("the executor back", lambda: "AGAIN" in seen.messages)
driver.reconcileTasks([{"task_id": {"value": "t3"}}])
seen.until("an answer", lambda: seen.states.count(["t3", "TASK_RUNNING"]) >= 2)
driver.suppressOffers()
driver.reviveOffers()
offer = next_offer()
driver.declineOffer(offer["id"], {"refuse_seconds": 0.1})
driver.sendFrameworkMessage(EXECUTOR["executor_id"], agent_id, encode_data(b"die"))
seen.until("t3 over", lambda: seen.ended("t3"))
seen.until("the executor's end", lambda: seen.lost)
driver.stop()
driver.join()
told = {
    "framework_id": seen.registered_as,
    "states": seen.states,
    "data": seen.data,
    "lost": seen.lost,
    "heartbeats": seen.heartbeats,
}
print(json.dumps(told))
