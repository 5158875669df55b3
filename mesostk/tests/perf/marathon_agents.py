"""Marathon over real agents: `python -m mesostk.tests.perf.marathon_agents [--count 1000]`.

A real master, three real agents and a real Marathon, each a process. One app of `--count` instances
is deployed and destroyed, then as many apps of one instance are put at once. Timed from the call
until Marathon tells `deployment_success`, all of them running; beside it the events that a
subscriber of `/v2/events` was sent meanwhile, and what each kind of daemon spent and holds. The
tasks are `sleep`, but each is a supervised process: on two cores that is most of the time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import requests

from mesostk.testing.processes import Cluster, until
from mesostk.tests.perf import machine

#: For all of them to run.
LIMIT_S = 110.0


def app(name: str, instances: int) -> dict[str, Any]:
    """Without ports: the agents share the machine's, and have few."""
    return {
        "id": name,
        "cmd": "exec sleep 10000",
        "cpus": 0.01,
        "mem": 1,
        "disk": 0,
        "instances": instances,
        "portDefinitions": [],
    }


class Listener:
    """Counts the events of `/v2/events` by type, until Marathon ends."""

    def __init__(self, url: str) -> None:
        self.counts: Counter[str] = Counter()
        #: Ids of deployments that have succeeded.
        self.succeeded: set[str] = set()
        self.bytes = 0
        self.is_over = False
        self._kind = ""
        headers = {"Accept": "text/event-stream"}
        self._stream = requests.get(
            f"{url}/v2/events", headers=headers, stream=True, timeout=(10, 600)
        )
        self._stream.raise_for_status()
        threading.Thread(target=self._read, daemon=True).start()

    def knows(self, deployment: str) -> bool:
        """Whether the deployment has succeeded; RuntimeError once nothing can be heard any more."""
        if self.is_over:
            raise RuntimeError("Marathon has cut off who listened to its events")
        return deployment in self.succeeded

    def _read(self) -> None:
        buffer = bytearray()
        try:
            for chunk in self._stream.iter_content(1 << 20):
                # `requests` would take minutes for a line of megabytes, as of 1,000 apps at once.
                scanned = len(buffer)
                buffer += chunk
                while (end := buffer.find(b"\n", scanned)) >= 0:
                    self._take(bytes(buffer[:end]))
                    del buffer[: end + 1]
                    scanned = 0
        except (requests.RequestException, AttributeError, ValueError):
            pass  # closed under it
        self.is_over = True

    def _take(self, line: bytes) -> None:
        if line.startswith(b"event: "):
            self._kind = line[7:].strip().decode()
            self.counts[self._kind] += 1
        elif line.startswith(b"data: "):
            self.bytes += len(line)
            if self._kind == "deployment_success":
                self.succeeded.add(json.loads(line[6:])["id"])


def deploy(cluster: Cluster, listener: Listener, what: str, body: list[dict[str, Any]]) -> None:
    marathon = cluster.marathons[0]
    count = sum(each["instances"] for each in body)
    listener.counts.clear()
    listener.bytes = 0
    before, began = machine.spent(cluster), time.perf_counter()
    answer = requests.put(f"{marathon.url}/v2/apps", json=body, timeout=60)
    answer.raise_for_status()
    answered = time.perf_counter() - began
    deployment = answer.json()["deploymentId"]
    until(f"{count} running tasks", lambda: listener.knows(deployment), LIMIT_S)
    took = time.perf_counter() - began
    print(
        f"{what}: PUT answered after {answered:.2f} s, all running after {took:.2f} s,"
        f" {count / took:.0f} tasks/s"
    )
    told = ", ".join(f"{kind} {number}" for kind, number in listener.counts.most_common(4))
    size = listener.bytes / 1e6
    print(f"  {listener.counts.total()} events, {size:.1f} MB: {told}")
    print(machine.cost(before, machine.spent(cluster), count, "task"))
    for unit in [*cluster.masters, *cluster.marathons, cluster.agents[0]]:
        assert unit.pid is not None
        print(f"  memory of {unit.name}: {machine.memory_mib(unit.pid):.0f} MiB")


def destroy(cluster: Cluster, path: str) -> None:
    """Until the master holds no running task either."""

    def is_gone() -> bool:
        answer = cluster.masters[0].get("/metrics/snapshot")
        return answer is not None and answer.json()["master/tasks_running"] == 0

    began = time.perf_counter()
    url = f"{cluster.marathons[0].url}{path}?force=true"
    requests.delete(url, timeout=60).raise_for_status()
    until("no running task", is_gone, LIMIT_S)
    print(f"  destroyed after {time.perf_counter() - began:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--agents", type=int, default=3)
    options = parser.parse_args()
    count = options.count
    print(machine.describe())
    with (
        tempfile.TemporaryDirectory() as directory,
        Cluster(
            Path(directory),
            agents=options.agents,
            marathon_flags=[
                "--max_instances_per_offer=100",
                "--launch_tokens=100000",
                # 1,000 apps at once are 1,000 events in one go, for which others are cut off.
            ],
        ) as cluster,
    ):
        cluster.start()
        listener = Listener(cluster.marathons[0].url)
        deploy(cluster, listener, f"1 app x {count} instances", [app("/wide", count)])
        destroy(cluster, "/v2/apps/wide")
        apps = [app(f"/many/g{number % 20}/a{number}", 1) for number in range(count)]
        deploy(cluster, listener, f"{count} apps x 1 instance", apps)
        destroy(cluster, "/v2/groups/many")


if __name__ == "__main__":
    main()
