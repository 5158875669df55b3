"""The tutorial, command by command, without its Docker part: files, services, curl, panels.

Everything an administrator types is typed here, with `/etc` moved into a directory per host and
10.0.3.x into loopback addresses. The tests build on each other, as the chapters do.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from mesostk.ops.zookeeper import Ensemble
from mesostk.testing.processes import Cluster, Unit, command, resources, until
from mesostk.testing.requirements import require_zookeeper

pytestmark = pytest.mark.zookeeper

DATA = Path(__file__).with_name("data")

#: "MESOS MASTERS / MARATHON INSTALLATION"; `$hosts` are the ZooKeeper servers, `$ip` this host.
MASTER_COMMANDS = """
mkdir -p mesos mesos-master
echo zk://$hosts/mesos > mesos/zk
echo "2" > mesos-master/quorum
echo $ip | tee mesos-master/ip
cp mesos-master/ip mesos-master/hostname
mkdir -p marathon/conf
cp mesos-master/hostname marathon/conf
cp mesos/zk marathon/conf/master
cp marathon/conf/master marathon/conf/zk
echo zk://$hosts/marathon > marathon/conf/zk
"""

#: "MESOS SLAVES INSTALLATION", with the remedy for hosts whose cgroups are not to be had.
AGENT_COMMANDS = """
mkdir -p mesos mesos-slave default
echo zk://$hosts/mesos > mesos/zk
echo $ip | tee mesos-slave/ip
cp mesos-slave/ip mesos-slave/hostname
echo "5mins" | tee mesos-slave/executor_registration_timeout
echo MESOS_LAUNCHER=posix > default/mesos-slave
"""

HELLO2 = """
{ "id": "hello2", "cmd": "echo hello; sleep 10", "mem": 16, "cpus": 0.1, "instances": 1,
  "disk": 0.0, "ports": [0] }
"""

#: The tutorial's web server; without its Docker image, and probed more often.
PYTHON_APP = {
    "cmd": "env && exec python3 -m http.server $PORT0",
    "cpus": 0.25,
    "healthChecks": [
        {
            "gracePeriodSeconds": 120,
            "intervalSeconds": 1,
            "maxConsecutiveFailures": 2,
            "path": "/",
            "portIndex": 0,
            "protocol": "HTTP",
            "timeoutSeconds": 3,
        }
    ],
    "id": "python-app",
    "instances": 2,
    "mem": 50,
    "ports": [0],
    "upgradeStrategy": {"minimumHealthCapacity": 0.5},
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """3 masters and 3 agents, configured by the tutorial's files alone."""
    require_zookeeper()
    directory = tmp_path_factory.mktemp("tutorial")
    with Cluster(directory, masters=3, agents=3, marathons=3, zookeepers=3) as cluster:
        servers = cluster.zookeeper
        assert servers is not None
        for number, unit in enumerate(cluster.masters, 1):
            configure(cluster, servers, unit, f"master{number}", MASTER_COMMANDS)
        for number, unit in enumerate(cluster.marathons, 1):
            etc = directory / f"etc-master{number}"
            address = f"--http_address={host_of(unit)}"  # three share the machine's port 8080
            unit.argv = command("marathon", f"--config_dir={etc}/marathon/conf", address)
        for number, unit in enumerate(cluster.agents, 1):
            configure(cluster, servers, unit, f"slave{number}", AGENT_COMMANDS)
        cluster.start()
        yield cluster


def host_of(unit: Unit) -> str:
    return unit.url.removeprefix("http://").partition(":")[0]


def configure(cluster: Cluster, servers: Ensemble, unit: Unit, host: str, commands: str) -> None:
    """Type the commands on a host, and let its service read what they wrote."""
    etc = cluster.directory / f"etc-{host}"
    etc.mkdir()
    variables = {"PATH": os.environ["PATH"], "hosts": servers.hosts, "ip": host_of(unit)}
    subprocess.run(["sh", "-eu"], input=commands, text=True, cwd=etc, env=variables, check=True)
    if host.startswith("master"):
        flags = [f"--zk_file={etc}/mesos/zk", f"--config_dir={etc}/mesos-master"]
        unit.argv = command("mesos-master", *flags)
        return
    number = int(host[-1])
    flags = [
        f"--zk_file={etc}/mesos/zk",
        f"--config_dir={etc}/mesos-slave",
        f"--work_dir={cluster.work_dir(number)}",
        f"--runtime_dir={cluster.work_dir(number)}/run",
        f"--resources={resources(number)}",  # the agents of this machine share its ports
    ]
    defaults = (etc / "default" / "mesos-slave").read_text().split()
    unit.argv = ["env", *defaults, *command("mesos-agent", *flags)]


def curl(*words: str) -> str:
    """What the command prints."""
    argv = ["curl", "-sS", "--noproxy", "*", "--max-time", "60", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def headers_and_body(printed: str) -> tuple[str, dict[str, str], str]:
    """Status line, headers and body of `curl -i`."""
    head, _, body = printed.replace("\r\n", "\n").partition("\n\n")
    status, *lines = head.split("\n")
    pairs = (line.partition(": ") for line in lines)
    return status, {name: text for name, _, text in pairs}, body


def test_the_files_say_what_the_daemons_use(cluster: Cluster) -> None:
    for master in cluster.masters:
        flags = json.loads(curl(f"{master.url}/flags"))["flags"]
        assert flags["quorum"] == "2"
        assert flags["ip"] == flags["hostname"] == host_of(master)
    for agent in cluster.agents:
        flags = json.loads(curl(f"{agent.url}/flags"))["flags"]
        assert flags["launcher"] == "posix"
        assert flags["hostname"] == host_of(agent)


def test_the_panel_of_another_master_redirects_to_the_leader(cluster: Cluster) -> None:
    leader = cluster.wait_leader()
    standbys = [unit for unit in cluster.masters if unit is not leader]
    assert len(standbys) == 2
    for standby in standbys:
        status, headers, _ = headers_and_body(curl("-i", f"{standby.url}/master/redirect"))
        assert status.startswith("HTTP/1.1 307")
        assert headers["Location"] == "//" + leader.url.removeprefix("http://")
        assert "<title>" in curl("-L", f"{standby.url}/")
    assert "<title>" in curl(f"{leader.url}/")


def test_the_agents_connect_as_resources_of_the_leader(cluster: Cluster) -> None:
    agents = json.loads(curl("-L", f"{cluster.masters[0].url}/slaves"))["slaves"]
    assert {agent["hostname"] for agent in agents} == {host_of(unit) for unit in cluster.agents}
    assert {agent["resources"]["cpus"] for agent in agents} == {32.0}


def test_marathons_panel_answers_on_every_master(cluster: Cluster) -> None:
    for marathon in cluster.marathons:
        status, headers, _ = headers_and_body(curl("-i", marathon.url))
        assert status.startswith("HTTP/1.1 302")
        assert headers["Location"] == "/ui/"
        assert "<title>" in curl("-L", marathon.url)


def test_hello2_is_created_with_the_tutorials_curl(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "hello2.json").write_text(HELLO2)
    leader = cluster.leading_marathon()
    printed = curl(
        "-i",
        "-H",
        "Content-Type: application/json",
        f"-d@{tmp_path}/hello2.json",
        f"{leader.url.removeprefix('http://')}/v2/apps",
    )
    status, headers, body = headers_and_body(printed)
    assert status == "HTTP/1.1 201 Created"
    assert headers["X-Marathon-Leader"] == leader.url
    assert headers["Cache-Control"] == "no-cache, no-store, must-revalidate"
    assert headers["Pragma"] == "no-cache"
    assert headers["Expires"] == "0"
    assert headers["Location"] == f"{leader.url}/v2/apps/hello2"
    assert headers["Content-Type"] == "application/json; qs=2"
    assert "Date" in headers
    assert_as_recorded(json.loads(body))


def assert_as_recorded(app: dict[str, Any]) -> None:
    """Every key of Marathon 1.1 is there, in its order and with its value."""
    recorded = json.loads((DATA / "hello2-answer-1.1.json").read_text())
    assert [key for key in app if key in recorded] == list(recorded)
    assert len(app["deployments"]) == 1
    assert len(app["deployments"][0]["id"]) == len("13bea032-9120-45e7-b082-c7d3b7d0ad01")
    assert app["version"].endswith("Z")
    own = {"version", "deployments"}
    differing = {key for key in recorded if key not in own and app[key] != recorded[key]}
    # Newer Marathons wait at most 5 minutes, name the default port and choose the service port.
    assert differing <= {"maxLaunchDelaySeconds", "portDefinitions", "ports"}
    assert app["maxLaunchDelaySeconds"] in (300, 3600)


def test_the_task_runs_and_its_output_is_in_the_sandbox(cluster: Cluster) -> None:
    def running() -> dict[str, Any] | None:
        answer = json.loads(curl("-L", f"{cluster.masters[1].url}/tasks"))
        return next((task for task in answer["tasks"] if task["state"] == "TASK_RUNNING"), None)

    def place() -> tuple[str, dict[str, Any]] | None:
        """The agent and the executor of a task that had not ended when they were looked up."""
        task, agents = running(), cluster.active_agents()
        if task is None or task["slave_id"] not in agents:
            return None
        assert task["name"] == "hello2"
        agent = f"http://{agents[task['slave_id']]['hostname']}:5051"
        frameworks = json.loads(curl(f"{agent}/state"))["frameworks"]
        executors = [each for framework in frameworks for each in framework["executors"]]
        return (agent, executors[0]) if len(executors) == 1 else None

    agent, executor = until("the task in the panel's list", place)
    stdout = f"{executor['directory']}/stdout"

    def said() -> str | None:
        printed = curl(f"{agent}/files/read?path={stdout}&offset=0&length=1000")
        text: str = json.loads(printed)["data"]
        return text or None

    assert until("what it prints", said) == "hello\n"
    listed = {
        entry["path"]
        for entry in json.loads(curl(f"{agent}/files/browse?path={executor['directory']}"))
    }
    assert stdout in listed


def test_two_python_servers_are_found_and_answer_on_their_ports(cluster: Cluster) -> None:
    marathon = cluster.marathons[1].url.removeprefix("http://")
    answer = curl(
        "-H", "Content-Type: application/json", "-d", json.dumps(PYTHON_APP), f"{marathon}/v2/apps"
    )
    assert json.loads(answer)["id"] == "/python-app"

    def healthy() -> list[dict[str, Any]] | None:
        printed = curl("-X", "GET", "-H", "Content-Type: application/json", f"{marathon}/v2/tasks")
        tasks = [task for task in json.loads(printed)["tasks"] if task["appId"] == "/python-app"]
        alive = [
            task for task in tasks if any(r["alive"] for r in task.get("healthCheckResults", []))
        ]
        return alive if len(alive) == 2 else None

    tasks = until("two healthy tasks", healthy)
    recorded = json.loads((DATA / "task-1.1.json").read_text())
    for task in tasks:
        assert set(recorded) <= set(task)
        assert_task_as_recorded(task, recorded)
        assert task["ipAddresses"] == [{"ipAddress": task["host"], "protocol": "IPv4"}]
        assert len(task["servicePorts"]) == 1
        assert "Directory listing" in curl(f"http://{task['host']}:{task['ports'][0]}/")


#: Times of day as the tutorial's answers print them.
TIME = re.compile(r"[0-9]{4}(-[0-9]{2}){2}T([0-9]{2}:){2}[0-9]{2}\.[0-9]{3}Z")


def assert_task_as_recorded(task: dict[str, Any], recorded: dict[str, Any]) -> None:
    """Every field of the task that Marathon 1.1 printed, with a value of its form."""
    [found], [printed] = task["healthCheckResults"], recorded["healthCheckResults"]
    assert set(printed) <= set(found)
    assert found["taskId"] == task["id"]
    assert (found["alive"], found["consecutiveFailures"]) == (True, 0)
    assert found["lastFailure"] is found["lastFailureCause"] is None
    moments = [task["stagedAt"], task["startedAt"], found["firstSuccess"], found["lastSuccess"]]
    assert all(TIME.fullmatch(moment) for moment in (*moments, task["version"]))
    assert task["version"] < task["stagedAt"] <= task["startedAt"] < found["firstSuccess"]
    assert task["id"].startswith("python-app.")
    assert re.fullmatch(r".+-S[0-9]+", task["slaveId"])
    assert [31000 <= port <= 32000 for port in task["ports"]] == [True]


def test_scaling_starts_and_ends_just_the_difference(cluster: Cluster) -> None:
    before = cluster.wait_running("/python-app", 2)
    cluster.wait_deployed()
    answer = cluster.call("PUT", "/v2/apps/python-app", json={"instances": 4})
    assert answer.status_code == requests.codes.ok
    assert set(answer.json()) == {"version", "deploymentId"}
    more = cluster.wait_running("/python-app", 4)
    assert before.items() < more.items()
    cluster.wait_deployed()
    cluster.call("PUT", "/v2/apps/python-app", json={"instances": 1})
    assert cluster.wait_running("/python-app", 1).items() < more.items()
    cluster.wait_deployed()


def test_a_server_that_hangs_is_killed_and_replaced(cluster: Cluster) -> None:
    ((hung, pid),) = cluster.wait_running("/python-app", 1).items()

    def alive() -> bool:
        tasks = cluster.marathon_tasks("/python-app") or {}
        return any(r["alive"] for r in tasks.get(hung, {}).get("healthCheckResults", []))

    until("a healthy server", alive)
    os.kill(pid, signal.SIGSTOP)
    until("another one", lambda: hung not in cluster.live_tasks("/python-app"))
    ((new, _),) = cluster.wait_running("/python-app", 1).items()
    assert new != hung


def test_hello2_has_ended_and_begun_again(cluster: Cluster) -> None:
    """It is short-lived: the list of completed tasks holds all the old ones."""

    def again() -> bool:
        tasks = json.loads(curl("-L", f"{cluster.masters[0].url}/tasks"))["tasks"]
        states = [task["state"] for task in tasks if task["name"] == "hello2"]
        return "TASK_FINISHED" in states and "TASK_RUNNING" in states

    until("a finished and a running task", again)
    cluster.destroy("/hello2")
    cluster.destroy("/python-app")
    assert json.loads(curl(f"{cluster.marathons[2].url}/v2/tasks")) == {"tasks": []}
