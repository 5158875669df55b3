"""Marathon as a process, with a real master and a real agent: what the tutorial's reader does."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
import requests

from mesostk.ops.zookeeper import Ensemble, free_ports

T = TypeVar("T")

#: No test may leave daemons behind, so each cluster gets an address of its own.
HOST = "127.0.78.1"

HELLO2 = {
    "id": "hello2",
    "cmd": "echo hello; sleep 1000",
    "mem": 16,
    "cpus": 0.1,
    "instances": 1,
    "disk": 0.0,
    "ports": [0],
}

#: The keys of the tutorial's answer of Marathon 1.1, in its order.
KEYS_OF_1_1: Final = (
    "id cmd args user env instances cpus mem disk executor constraints uris fetch storeUrls ports "
    "portDefinitions requirePorts backoffSeconds backoffFactor maxLaunchDelaySeconds container "
    "healthChecks readinessChecks dependencies upgradeStrategy labels acceptedResourceRoles "
    "ipAddress version residency tasksStaged tasksRunning tasksHealthy tasksUnhealthy deployments "
    "tasks"
)


def until(what: str, probe: Callable[[], T | None], timeout_s: float = 240.0) -> T:
    """What `probe` returns once it is neither None nor False."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = probe()
        if found is not None and found is not False:
            return found
        assert time.monotonic() < deadline, f"timed out waiting for {what}"
        time.sleep(0.05)


def free_port() -> int:
    return free_ports(HOST, 1)[0]


class Cluster:
    """A master, an agent and any number of Marathons, each an ordinary process."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.master = f"{HOST}:{free_port()}"

    def spawn(self, name: str, module: str, *flags: str) -> subprocess.Popen[bytes]:
        log = (self.work / f"{name}.log").open("ab")
        code = f"import sys; from {module} import main; sys.exit(main())"
        process = subprocess.Popen(
            [sys.executable, "-c", code, *flags], stdout=log, stderr=log, cwd=self.work
        )
        log.close()
        self.processes[name] = process
        return process

    def start(self) -> None:
        port = self.master.partition(":")[2]
        self.spawn(
            "master",
            "mesostk.master.daemon",
            f"--ip={HOST}",
            f"--port={port}",
            f"--hostname={HOST}",
            f"--work_dir={self.work / 'master'}",
        )
        self.spawn(
            "agent",
            "mesostk.agent.daemon",
            f"--master={self.master}",
            f"--ip={HOST}",
            f"--port={free_port()}",
            f"--hostname={HOST}",
            f"--work_dir={self.work / 'agent'}",
            f"--runtime_dir={self.work / 'run'}",
            "--launcher=posix",
            "--resources=cpus:8;mem:4096;disk:10000;ports:[31000-32000]",
        )

    def marathon(self, name: str = "marathon", port: int | None = None, *flags: str) -> Marathon:
        port = free_port() if port is None else port
        if not flags:
            flags = (f"--state_dir={self.work / 'state'}",)
        process = self.spawn(
            name,
            "mesostk.marathon.daemon",
            f"--master={self.master}",
            f"--http_address={HOST}",
            f"--http_port={port}",
            f"--hostname={HOST}",
            *flags,
        )
        return Marathon(f"http://{HOST}:{port}", process)

    def stop(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(60)
        self.end_tasks()

    def end_tasks(self) -> None:
        """Tasks outlive their agent; end those whose sandbox is ours."""
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                where = (entry / "cwd").readlink()
            except OSError:
                continue
            if where.is_relative_to(self.work) and int(entry.name) != os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(entry.name), signal.SIGKILL)


class Marathon:
    """A client of one Marathon."""

    def __init__(self, url: str, process: subprocess.Popen[bytes]) -> None:
        self.url = url
        self.process = process

    def call(self, method: str, path: str, **body: Any) -> requests.Response:
        json = body or None
        return requests.request(method, self.url + path, json=json, timeout=60)

    def get(self, path: str) -> Any:
        """The answer's JSON; None while nobody answers."""
        try:
            answer = requests.get(self.url + path, timeout=60)
        except requests.ConnectionError:
            return None
        return answer.json() if answer.status_code == 200 else None

    def wait_ready(self) -> None:
        def registered() -> object:
            info = self.get("/v2/info")
            return None if info is None else info["frameworkId"]

        until("a registered framework", registered)

    def running(self, app: str) -> list[str] | None:
        tasks = self.get(f"/v2/apps/{app}/tasks")
        if tasks is None:
            return None
        return [task["id"] for task in tasks["tasks"] if task["state"] == "TASK_RUNNING"]

    def wait_running(self, app: str, count: int) -> set[str]:
        def enough() -> set[str] | None:
            running = self.running(app)
            deployments = self.get("/v2/deployments")
            if running is None or deployments is None or deployments or len(running) != count:
                return None
            return set(running)

        return until(f"{count} tasks of {app}", enough)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    cluster.start()
    yield cluster
    cluster.stop()


def test_the_tutorials_app_runs_and_survives_a_killed_marathon(cluster: Cluster) -> None:
    port = free_port()
    marathon = cluster.marathon(port=port)
    marathon.wait_ready()
    answer = marathon.call("POST", "/v2/apps", **HELLO2)
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"{marathon.url}/v2/apps/hello2"
    shown = answer.json()
    assert " ".join(key for key in shown if key in KEYS_OF_1_1.split()) == KEYS_OF_1_1
    tasks = marathon.wait_running("hello2", 1)
    framework = marathon.get("/v2/info")["frameworkId"]

    marathon.call("PUT", "/v2/apps/hello2", instances=4)
    marathon.process.kill()
    marathon.process.wait()
    again = cluster.marathon(port=port)
    again.wait_ready()
    after = again.wait_running("hello2", 4)
    assert tasks < after, "a running task was replaced"
    assert again.get("/v2/info")["frameworkId"] == framework

    assert again.call("DELETE", "/v2/apps/hello2").status_code == 200
    until("no task", lambda: again.get("/v2/tasks") == {"tasks": []})
    assert again.call("GET", "/v2/apps/hello2").status_code == 404


def test_an_unhealthy_task_is_killed_and_replaced_and_a_healthy_one_is_not(
    cluster: Cluster,
) -> None:
    marathon = cluster.marathon()
    marathon.wait_ready()
    check = {
        "protocol": "HTTP",
        "path": "/",
        "portIndex": 0,
        "gracePeriodSeconds": 0,
        "intervalSeconds": 1,
        "timeoutSeconds": 1,
        "maxConsecutiveFailures": 2,
    }
    serve = f"exec {sys.executable} -m http.server $PORT0 --bind $HOST"
    good = {"id": "good", "cmd": serve, "cpus": 0.1, "mem": 32, "healthChecks": [check]}
    lazy = {**good, "id": "lazy", "cmd": "sleep 1000"}
    # However slow the machine is, a server that answers is not sick.
    patient = {"gracePeriodSeconds": 300, "timeoutSeconds": 60, "intervalSeconds": 60}
    good["healthChecks"] = [{**check, **patient}]
    assert marathon.call("POST", "/v2/apps", **good).status_code == 201
    assert marathon.call("POST", "/v2/apps", **lazy).status_code == 201
    healthy = marathon.call("GET", "/v2/apps/good").json()["app"]

    def is_healthy() -> bool:
        nonlocal healthy
        healthy = marathon.call("GET", "/v2/apps/good").json()["app"]
        return bool(healthy["tasksHealthy"] == 1)

    until("a healthy task", is_healthy)
    assert healthy["tasks"][0]["healthCheckResults"][0]["alive"] is True
    first = until("a lazy task", lambda: marathon.running("lazy") or None)

    def replaced() -> bool:
        running = marathon.running("lazy")
        return bool(running) and running != first

    until("a replacement", replaced)
    until("the deployment of the lazy one alone", lambda: len(marathon.get("/v2/deployments")) == 1)
    assert marathon.running("good") == [healthy["tasks"][0]["id"]]


@pytest.mark.zookeeper
def test_a_standby_proxies_and_takes_over_in_the_middle_of_a_scale_up(
    cluster: Cluster, zookeeper: Ensemble, zk_path: str
) -> None:
    flags = (f"--zk={zookeeper.url(zk_path)}", "--zk_session_timeout=10000")
    first = cluster.marathon("first", None, *flags)
    first.wait_ready()
    second = cluster.marathon("second", None, *flags)
    until("the standby", lambda: second.get("/v2/leader"))
    assert second.get("/v2/leader") == {"leader": first.url.removeprefix("http://")}
    answer = second.call("POST", "/v2/apps", **HELLO2)
    assert answer.status_code == 201
    assert "X-Marathon-Via" in answer.headers
    framework = first.get("/v2/info")["frameworkId"]
    tasks = second.wait_running("hello2", 1)

    assert second.call("PUT", "/v2/apps/hello2", instances=12).status_code == 200
    first.process.kill()
    after = second.wait_running("hello2", 12)
    assert tasks < after
    assert second.get("/v2/leader") == {"leader": second.url.removeprefix("http://")}
    assert second.get("/v2/info")["frameworkId"] == framework


def test_the_next_leader_writes_a_backup_and_another_one_restores_it(
    cluster: Cluster, tmp_path: Path
) -> None:
    port = free_port()
    file = tmp_path / "state.tar"

    def hand_over(marathon: Marathon, wish: str) -> Marathon:
        answer = marathon.call("DELETE", f"/v2/leader?{wish}={file.as_uri()}")
        assert (answer.status_code, answer.json()) == (200, {"message": "Leadership abdicated"})
        assert marathon.process.wait(240) == 105
        following = cluster.marathon(port=port)
        following.wait_ready()
        return following

    first = cluster.marathon(port=port)
    first.wait_ready()
    first.call("POST", "/v2/apps", **HELLO2)
    tasks = first.wait_running("hello2", 1)
    second = hand_over(first, "backup")
    assert second.wait_running("hello2", 1) == tasks
    with tarfile.open(file) as archive:
        assert {"root", "framework-id"} < set(archive.getnames())
    second.call("DELETE", "/v2/apps/hello2")
    second.call("POST", "/v2/apps", **{**HELLO2, "id": "later"})
    second.wait_running("later", 1)
    third = hand_over(second, "restore")
    assert third.wait_running("hello2", 1)
    assert [app["id"] for app in third.get("/v2/apps")["apps"]] == ["/hello2"]
    until("no task of what was later", lambda: len(third.get("/v2/tasks")["tasks"]) == 1)
