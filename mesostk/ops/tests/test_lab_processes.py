"""Processes of a local lab, with real ones that are cheap."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from mesostk.errors import ConfigError
from mesostk.ops.processes import (
    PidFile,
    Process,
    ProcessTable,
    end_all,
    listens,
    require_port,
    wait_until,
)

ADDRESS = "127.0.9.1"
#: Forks a child that leaves the session and outlives its parent, as a task outlives its agent.
FORKING = (
    "import os, time\n"
    "if os.fork() == 0:\n"
    "    os.setsid()\n"
    "    os.execvpe('sleep', ['sleep', '600'], {**os.environ})\n"
    "print('forked', flush=True)\n"
    "time.sleep(600)\n"
)


@pytest.fixture
def table(tmp_path: Path) -> Iterator[ProcessTable]:
    table = ProcessTable(tmp_path / "lab")
    table.directory.mkdir()
    yield table
    end_all(table.marked(), grace_s=0.0)


def sleeper(name: str = "one", *, port: int = 20_001, code: str = "") -> Process:
    argv = (sys.executable, "-c", code or "import time; time.sleep(600)")
    return Process(name=name, argv=argv, address=ADDRESS, port=port)


def test_started_process_is_found_and_ended(table: ProcessTable) -> None:
    table.start(sleeper())
    process = table.find("one")
    assert process is not None
    table.end("one", grace_s=5.0)
    assert table.find("one") is None
    assert table.find("never") is None


def test_number_that_another_process_got_since_is_not_ours(table: ProcessTable) -> None:
    table.start(sleeper())
    path = table.directory / "run" / "one.json"
    record = msgspec.json.decode(path.read_bytes(), type=PidFile)
    path.write_bytes(msgspec.json.encode(PidFile(record.pid, record.started - 60.0)))
    assert table.find("one") is None
    table.end("one", grace_s=0.0)  # must not kill it
    assert psutil.pid_exists(record.pid)


@pytest.mark.parametrize("content", [b"", b"{", b'{"pid": "x", "started": 1}'])
def test_damaged_pid_file_means_not_running(table: ProcessTable, content: bytes) -> None:
    (table.directory / "run").mkdir()
    (table.directory / "run" / "one.json").write_bytes(content)
    assert table.find("one") is None


def test_what_a_dead_daemon_forked_is_found_by_its_mark(table: ProcessTable) -> None:
    table.start(sleeper(code=FORKING))
    wait_until(lambda: "forked" in table.tail("one"), 60.0, lambda: table.tail("one"))
    table.kill("one")
    wait_until(lambda: len(table.marked()) == 1, 60.0, lambda: str(table.marked()))
    end_all(table.marked(), grace_s=5.0)
    assert table.marked() == []


def test_process_that_ignores_sigterm_is_killed(table: ProcessTable) -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('ready', flush=True); time.sleep(600)"
    )
    table.start(sleeper(code=code))
    wait_until(lambda: "ready" in table.tail("one"), 60.0, lambda: table.tail("one"))
    table.end("one", grace_s=0.2)
    assert table.marked() == []


def test_paused_process_is_told_from_a_running_one_and_can_be_ended(table: ProcessTable) -> None:
    table.start(sleeper())
    assert not table.is_paused("one")
    table.pause("one")
    wait_until(lambda: table.is_paused("one"), 60.0, lambda: "not paused")
    table.resume("one")
    wait_until(lambda: not table.is_paused("one"), 60.0, lambda: "still paused")
    table.pause("one")
    table.end("one", grace_s=5.0)
    assert table.find("one") is None


def test_users_settings_for_a_real_cluster_do_not_reach_the_daemons(
    table: ProcessTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESOS_MASTER", "zk://production:2181/mesos")
    monkeypatch.setenv("MARATHON_ZK", "zk://production:2181/marathon")
    table.start(sleeper())
    process = table.find("one")
    assert process is not None
    # Empty in the midst of its exec.
    wait_until(lambda: bool(process.environ()), 60.0, lambda: "no environment")
    environ = process.environ()
    assert not {"MESOS_MASTER", "MARATHON_ZK"} & environ.keys()
    assert environ["PATH"] == os.environ["PATH"]


def test_taken_port_is_refused_with_address_and_remedy(table: ProcessTable) -> None:
    with socket.socket() as server:
        server.bind((ADDRESS, 0))
        server.listen()
        port = server.getsockname()[1]
        assert listens(ADDRESS, port)
        with pytest.raises(ConfigError, match=rf"one needs {ADDRESS}:{port}: .*--subnet"):
            table.start(sleeper(port=port))
    assert table.find("one") is None
    assert not listens(ADDRESS, port)
    require_port(ADDRESS, port, "one")


def test_address_that_is_not_this_machines_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1:5050"):
        require_port("192.0.2.1", 5050, "one")


def test_process_that_is_gone_takes_a_signal_in_silence(table: ProcessTable) -> None:
    table.start(sleeper())
    process = table.find("one")
    assert process is not None
    process.send_signal(signal.SIGKILL)
    process.wait(60.0)
    table.pause("one")
    table.resume("one")
    assert table.find("one") is None
