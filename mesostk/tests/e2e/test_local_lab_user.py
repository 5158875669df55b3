"""`mesostk lab up --driver local` as its user meets it: from the wheel, without any privilege."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mesostk.ops.processes import MARK
from mesostk.testing.addresses import AddressBlock
from mesostk.testing.processes import until
from mesostk.testing.requirements import require_zookeeper
from mesostk.testing.users import Installed, installed_wheel


@pytest.fixture(scope="module")
def user() -> Iterator[Installed]:
    with installed_wheel() as owner:
        yield owner


@pytest.fixture
def subnet() -> Iterator[str]:
    block = AddressBlock()
    yield f"{block[0]}/24"
    block.close()


def left_over(home: Path) -> list[int]:
    """Processes of labs below `home`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK, "").startswith(str(home)):
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def test_a_lab_with_one_master_from_up_to_down(user: Installed, subnet: str) -> None:
    up = ("mesostk", "lab", "up", "--driver", "local", "--masters", "1", "--subnet", subnet)
    started = time.monotonic()
    done = user.run(*up)
    said = done.stdout + done.stderr
    print(f"1 master, 3 agents and a running app after {time.monotonic() - started:.1f} s")
    try:
        assert done.returncode == 0, said
        assert "/hello2" in said
        assert re.search(r"Marathon +http://", said)
        assert "Try next" in said
        live_through(user)
        assert user.ok(*up)  # a second one finds everything there
    finally:
        user.ok("mesostk", "lab", "down")
    assert left_over(user.home) == []
    assert list(user.here.iterdir()) == []
    done = user.run("mesostk", "apps")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def live_through(user: Installed) -> None:
    """Deploy, list, scale, read, destroy: no URL is typed."""
    app = {"id": "/web", "cmd": "echo started; exec sleep 1000", "cpus": 0.1, "mem": 16}
    (user.here / "web.json").write_text(json.dumps(app))
    user.ok("mesostk", "deploy", "web.json")
    user.ok("mesostk", "scale", "/web", "3")
    tasks = json.loads(user.ok("mesostk", "tasks", "/web", "--json"))
    assert [task["state"] for task in tasks] == ["TASK_RUNNING"] * 3
    until("its output", lambda: "started" in user.ok("mesostk", "logs", "/web"))
    apps = {one["id"] for one in json.loads(user.ok("mesostk", "apps", "--json"))}
    assert apps == {"/hello2", "/web"}
    hosts = json.loads(user.ok("mesostk", "lab", "status", "--json"))
    assert {host["state"] for host in hosts} == {"running"}
    assert "127." in user.ok("mesostk", "status")
    user.ok("mesostk", "destroy", "/web")
    assert "/web" not in user.ok("mesostk", "apps")
    (user.here / "web.json").unlink()


@pytest.mark.zookeeper
def test_a_lab_with_three_masters_survives_a_host_that_stops(user: Installed, subnet: str) -> None:
    require_zookeeper()
    up = ("mesostk", "lab", "up", "--driver", "local", "--masters", "3", "--subnet", subnet)
    started = time.monotonic()
    user.ok(*up)
    print(f"3 masters, ZooKeeper, 3 agents, running app after {time.monotonic() - started:.1f} s")
    try:
        hosts = json.loads(user.ok("mesostk", "lab", "status", "--json"))
        assert len(hosts) == 6
        # Not the first, which has the lab's only ZooKeeper.
        user.ok("mesostk", "lab", "stop", "mesos-master2")
        until("the app's list", lambda: "/hello2" in user.run("mesostk", "apps").stdout)
        user.ok("mesostk", "lab", "start", "mesos-master2")
        hosts = json.loads(user.ok("mesostk", "lab", "status", "--json"))
        assert {host["state"] for host in hosts} == {"running"}
    finally:
        user.ok("mesostk", "lab", "down")
    assert left_over(user.home) == []


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["lab", "up", "--driver", "local", "--masters", "2"], 2, "1, 3, 5 or 7"),
        (["lab", "up", "--driver", "cloud"], 2, "'cloud'"),
        (["lab", "up", "--driver", "local", "--subnet", "nonsense"], 2, "subnet"),
        (["lab", "up", "--driver", "local", "--agents", "0"], 2, "agents"),
        (["deploy", "none.json"], 2, "none.json"),
        (["deploy", "broken.json"], 2, "broken.json"),
        (["scale", "/web", "many"], 2, "'instances'"),
        (["apps"], 2, "lab up"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_a_wrong_command_is_one_clear_line(
    user: Installed, words: list[str], code: int, says: str
) -> None:
    (user.here / "broken.json").write_text('{"id": ')
    done = user.run("mesostk", *words)
    (user.here / "broken.json").unlink()
    assert done.returncode == code, done.stdout + done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
