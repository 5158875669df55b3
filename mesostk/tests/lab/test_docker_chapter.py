"""The tutorial's Docker chapter: its commands and its app documents, unchanged, in the lab.

All its apps run at once. Images come from the lab's registry, which has small stand-ins for them.
"""

import functools
import re
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import requests

from mesostk.ops.lab import Host
from mesostk.ops.paths import data_root
from mesostk.testing.labs import ANSWER_S, Cluster, mesostk, page, until

pytestmark = [pytest.mark.lab, pytest.mark.docker, pytest.mark.root, pytest.mark.timeout(1800)]

APPS = ("ubuntu", "python-app", "bridged-webapp", "nginx", "nginx-internal", "nginx-external")
#: Task, container and main process of each container.
CONTAINERS = """
docker ps -q --no-trunc | xargs -r docker inspect \\
    -f '{{index .Config.Labels "MESOS_TASK_ID"}} {{.Name}} {{.State.Pid}}'
"""

LISTEN = (
    "import socket; s = socket.socket(2, 2); s.bind((str(), 161)); "
    'open("/got", "wb").write(s.recv(99))'
)


def agents(cluster: Cluster) -> list[Host]:
    return [host for host in cluster.hosts if host.is_agent]


def tasks_of(cluster: Cluster, app: str) -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = cluster.ask("GET", f"/v2/apps/{app}/tasks").json()["tasks"]
    return tasks


def host_of(cluster: Cluster, task: dict[str, Any]) -> Host:
    return next(host for host in cluster.hosts if host.address == task["host"])


@pytest.fixture(scope="module")
def deployed(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with all apps of the chapter."""
    for name in APPS:
        cluster.create((data_root() / "examples" / f"{name}.json").read_bytes())
    yield cluster
    for name in APPS:
        cluster.ask("DELETE", f"/v2/apps/{name}?force=true")


@pytest.fixture
def chapter(deployed: Cluster) -> Cluster:
    """The cluster with all apps running, and healthy where they have checks.

    A test before may have cost some of them their host.
    """

    def ready() -> bool:
        embedded = "embed=apps.counts&embed=apps.tasks&embed=apps.deployments"
        listed = deployed.ask("GET", f"/v2/apps?{embedded}").json()["apps"]
        mine = [app for app in listed if app["id"].strip("/") in APPS]
        return len(mine) == len(APPS) and all(
            # None that still ends beside them, either.
            [task["state"] for task in app["tasks"]] == ["TASK_RUNNING"] * app["instances"]
            and not app["deployments"]
            and (not app.get("healthChecks") or app["tasksHealthy"] == app["instances"])
            for app in mine
        )

    until("all apps of the chapter run and are healthy", ready)
    return deployed


def test_hello_world_runs_on_every_agent(cluster: Cluster) -> None:
    for host in agents(cluster):
        assert "Hello from Docker!" in cluster.run(host, "docker run --rm hello-world")


def test_settings_of_the_chapter_are_on_every_agent(cluster: Cluster) -> None:
    for host in agents(cluster):
        flags = "cd /etc/mesos-slave; paste containerizers executor_registration_timeout"
        assert cluster.run(host, flags).split() == ["docker,mesos", "5mins"]


def test_date_loop_writes_into_its_sandbox(chapter: Cluster) -> None:
    (task,) = tasks_of(chapter, "ubuntu")
    shown = chapter.run(host_of(chapter, task), "docker ps --format '{{.Image}} {{.Names}}'")
    assert re.search(r"^libmesos/ubuntu mesos-[0-9a-f-]{36}$", shown, re.MULTILINE)

    def said() -> bool:
        done = mesostk("logs", "ubuntu", "--context", chapter.lab.spec.name, "-n", "3")
        return re.search(r"\d\d:\d\d:\d\d", done.stdout) is not None

    until("the time of day is in the sandbox's stdout", said)


def test_two_web_servers_answer_on_the_ports_that_marathon_names(chapter: Cluster) -> None:
    def serve() -> bool:
        # Three checks in a row that a busy machine answers late cost a task its place.
        tasks = tasks_of(chapter, "python-app")
        alive = [one["alive"] for task in tasks for one in task["healthCheckResults"]]
        urls = {f"http://{task['host']}:{task['ports'][0]}/" for task in tasks}
        shown = [requests.get(url, timeout=ANSWER_S).text for url in urls]
        return alive == [True, True] and ["Directory listing" in one for one in shown] == alive

    until("both are healthy and show their directory", serve)


def test_bridged_web_app_has_its_static_tcp_and_udp_ports(chapter: Cluster) -> None:
    (task,) = tasks_of(chapter, "bridged-webapp")
    assert task["ports"] == [31240, 31241]
    assert "Directory listing" in page(f"http://{task['host']}:31240/")
    # The tutorial's app listens on no UDP port: somebody has to in its container.
    host = host_of(chapter, task)
    name = chapter.run(host, "docker ps -q --filter publish=31241/udp").strip()
    chapter.run(host, f"docker exec -d {name} python3 -c '{LISTEN}'; docker exec {name} touch /got")
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def arrived() -> bool:
        sender.sendto(b"to port 161", (task["host"], 31241))
        return "to port 161" in chapter.run(host, f"docker exec {name} cat /got")

    with sender:
        until("a datagram to port 31241 arrives at port 161 of the container", arrived)


def test_nginx_answers_in_host_and_in_bridge_mode(chapter: Cluster) -> None:
    (task,) = tasks_of(chapter, "nginx")
    assert "Welcome to nginx!" in page(f"http://{task['host']}/")
    for name in ("nginx-internal", "nginx-external"):
        (task,) = tasks_of(chapter, name)
        assert "Welcome to nginx!" in page(f"http://{task['host']}:{task['ports'][0]}/")


def test_agents_report_what_a_container_uses(chapter: Cluster) -> None:
    (task,) = tasks_of(chapter, "ubuntu")
    url = f"http://{task['host']}:5051/containers"

    def used() -> dict[str, Any] | None:
        listed = requests.get(url, timeout=ANSWER_S).json()
        found = [one for one in listed if one["executor_id"].startswith("ubuntu.")]
        statistics = dict(found[0]["statistics"])
        return statistics if statistics["mem_rss_bytes"] > 0 else None

    found = until("what its processes use is known", used)
    assert found["mem_rss_bytes"] < found["mem_limit_bytes"] == 128 << 20


def containers(cluster: Cluster, host: Host) -> dict[str, str]:
    """Task → container and main process, of those that run there."""
    lines = cluster.run(host, CONTAINERS).splitlines()
    return {line.split()[0]: line for line in lines if line.startswith(APPS)}


def must_have_outlived(cluster: Cluster, host: Host, before: dict[str, str], id: str) -> None:
    """The task runs on, and all others of `before` that Marathon has not replaced since.

    It replaces those whose checks fail, as they may on a busy machine.
    """

    def runs() -> dict[str, str] | None:
        # An agent that was away for long counts as unreachable until it is heard again.
        tasks = [task for app in APPS for task in tasks_of(cluster, app)]
        states = {str(task["id"]): str(task["state"]) for task in tasks}
        return states if states[id] == "TASK_RUNNING" else None

    now = containers(cluster, host)
    states = until(f"{id} runs", runs)
    kept = [one for one in before if states.get(one) == "TASK_RUNNING"]
    assert id in kept
    assert {one: now.get(one) for one in kept} == {one: before[one] for one in kept}


def main_pids(cluster: Cluster, host: Host, units: tuple[str, ...]) -> list[str]:
    """The services' main processes, 0 for one that has none."""
    return cluster.run(host, f"systemctl show -p MainPID --value {' '.join(units)}").split()


def are_back(cluster: Cluster, host: Host, units: tuple[str, ...], old: Sequence[str] = ()) -> bool:
    """Whether the services run, other processes than `old`, the engine and the agent work."""
    pids = main_pids(cluster, host, units)
    works = cluster.run(host, "docker version >/dev/null 2>&1 && echo yes || echo no").strip()
    if works != "yes" or len(pids) != len(units) or {*pids} & {"0", *old}:
        return False
    url = f"http://{host.address}:5051/metrics/snapshot"
    return bool(requests.get(url, timeout=ANSWER_S).json()["slave/registered"] == 1)


@pytest.mark.parametrize("units", [("docker",), ("mesos-agent",), ("docker", "mesos-agent")])
def test_containers_outlive_kills_of_the_engine_and_of_the_agent(
    chapter: Cluster, units: tuple[str, ...]
) -> None:
    (task,) = tasks_of(chapter, "bridged-webapp")
    host = host_of(chapter, task)
    before = containers(chapter, host)
    old = main_pids(chapter, host, units)
    chapter.run(host, f"systemctl kill -s KILL --kill-whom=main {' '.join(units)}")
    until(f"{units} are back", functools.partial(are_back, chapter, host, units, old))
    must_have_outlived(chapter, host, before, task["id"])


def test_host_that_was_switched_off_comes_back_with_new_containers(chapter: Cluster) -> None:
    (task,) = tasks_of(chapter, "bridged-webapp")
    host, name = host_of(chapter, task), chapter.lab.spec.name
    old = chapter.run(host, "docker ps -q --no-trunc").split()
    assert mesostk("lab", "stop", host.name, "--name", name).returncode == 0
    started = mesostk("lab", "start", host.name, "--name", name)
    assert started.returncode == 0, started.stderr
    back = functools.partial(are_back, chapter, host, ("docker", "mesos-agent"))
    until("engine and agent of the host are back", back)

    def replaced() -> bool:
        now = tasks_of(chapter, "bridged-webapp")
        return (
            [one["state"] for one in now] == ["TASK_RUNNING"]
            and now[0]["id"] != task["id"]
            and [one["alive"] for one in now[0]["healthCheckResults"]] == [True]
        )

    until("another task runs in its stead and is healthy", replaced)
    running = chapter.run(host, "docker ps -q --no-trunc").split()
    assert not set(old) & set(running)
    (now,) = tasks_of(chapter, "bridged-webapp")
    assert "Directory listing" in page(f"http://{now['host']}:31240/")


def test_engine_is_replaced_under_running_containers(chapter: Cluster) -> None:
    (task,) = tasks_of(chapter, "nginx")
    host = host_of(chapter, task)
    before = containers(chapter, host)
    engine = "systemctl show -p MainPID --value docker"
    old = chapter.run(host, engine)
    chapter.run(
        host,
        "apt-get -qq -o Acquire::Retries=3 update; "
        "DEBIAN_FRONTEND=noninteractive apt-get -qq install --reinstall docker.io >/dev/null 2>&1; "
        "systemctl restart docker",
    )
    assert chapter.run(host, engine) != old
    must_have_outlived(chapter, host, before, task["id"])


def test_check_mode_shows_the_engine_of_dockers_own_repository(cluster: Cluster) -> None:
    host = agents(cluster)[0]
    cluster.run(host, "mkdir -p /srv/docker; echo a key >/srv/docker/gpg")
    own = {"docker_source": "docker", "docker_repository": "file:///srv/docker"}
    outcome = cluster.playbook("site", check=True, diff=True, limit=[host.name], extra_vars=own)
    line = "deb [signed-by=/etc/apt/keyrings/docker.asc] file:///srv/docker bookworm stable"
    assert f"+{line}" in outcome.output()
    assert "no docker-ce" in cluster.run(host, "dpkg -s docker-ce 2>/dev/null || echo no docker-ce")


#: bcrypt of the password "secret", which is the only kind that the registry takes.
ACCOUNT = "tutorial:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"

GUARDED_REGISTRY = f"""
mkdir -p /etc/guarded && cd /etc/guarded
echo '{ACCOUNT}' >htpasswd
sed -e s/:5000/127.0.0.1:5001/ /etc/docker/registry/config.yml >config.yml
echo 'auth: {{htpasswd: {{realm: lab, path: /etc/guarded/htpasswd}}}}' >>config.yml
systemctl is-active -q guarded-registry || systemd-run -q --unit guarded-registry \\
    docker-registry serve /etc/guarded/config.yml
curl -s -o /dev/null --retry 50 --retry-connrefused --retry-delay 1 http://127.0.0.1:5001/v2/
echo secret | docker --config /etc/guarded/login login -u tutorial --password-stdin 127.0.0.1:5001
mkdir -p .docker && cp login/config.json .docker/ && tar -czf docker.tar.gz .docker
"""


def test_image_of_a_guarded_registry_is_pulled_with_the_apps_credentials(chapter: Cluster) -> None:
    for host in agents(chapter):
        assert "Login Succeeded" in chapter.run(host, GUARDED_REGISTRY)
    app = {
        "id": "guarded",
        "cmd": "sleep 1000",
        "cpus": 0.1,
        "mem": 32,
        "container": {
            "type": "DOCKER",
            "docker": {"image": "127.0.0.1:5001/libmesos/ubuntu", "forcePullImage": True},
        },
    }

    def failed_without() -> bool:
        found = chapter.ask("GET", "/v2/apps/guarded?embed=app.lastTaskFailure").json()["app"]
        return "credentials" in str(found.get("lastTaskFailure", {}).get("message"))

    def runs() -> bool:
        return [task["state"] for task in tasks_of(chapter, "guarded")] == ["TASK_RUNNING"]

    try:
        chapter.create(app)
        until("the pull without credentials fails, and why is told", failed_without)
        guarded = {**app, "uris": ["file:///etc/guarded/docker.tar.gz"]}
        answer = chapter.ask("PUT", "/v2/apps/guarded?force=true", json=guarded)
        assert answer.status_code == 200, answer.text
        until("it runs with the credentials that were fetched for it", runs)
        name = chapter.lab.spec.name

        def pulled() -> bool:
            told = mesostk("logs", "guarded", "--context", name, "--stderr", "-n", "50").stdout
            print(told)
            done = "Status: Image is up to date" in told or "Status: Downloaded newer image" in told
            return done and "Pulling image '127.0.0.1:5001/libmesos/ubuntu'" in told

        until("its log tells of the pull", pulled)
    finally:
        chapter.ask("DELETE", "/v2/apps/guarded?force=true")


def test_deleted_apps_leave_no_container_running(deployed: Cluster) -> None:
    for name in APPS:
        deployed.ask("DELETE", f"/v2/apps/{name}?force=true")
    left = "docker ps -q; ss -Htuln 'sport = :31240 or sport = :31241'"

    def ended() -> bool:
        return not any(deployed.run(host, left).strip() for host in agents(deployed))

    until("no container runs, and their ports are free", ended)
