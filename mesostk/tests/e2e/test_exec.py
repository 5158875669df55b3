"""Programs beside running tasks: `mesostk exec`, and the operator API's calls that it stands on."""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from mesostk.testing.processes import LIMIT_S, Cluster, until
from mesostk.testing.requirements import require_root
from mesostk.testing.scheduler import Scheduler, scalars
from mesostk.wire.recordio import Decoder, encode_record

Exec = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("exec"), marathons=0) as cluster:
        cluster.start()
        yield cluster


@pytest.fixture(scope="module")
def parent(bare: Cluster) -> Iterator[dict[str, str]]:
    """The container of a running command task `home`, which has a variable and a file."""
    with Scheduler(bare.masters[0].url) as scheduler:
        task = {
            "name": "home",
            "task_id": {"value": "home"},
            "resources": scalars(cpus=0.1, mem=32),
            "command": {
                "value": "echo here > file; exec sleep 600",
                "environment": {"variables": [{"name": "COLOUR", "value": "green"}]},
            },
        }
        scheduler.launch(scheduler.offer(), task)
        status = scheduler.until_state("home", "TASK_RUNNING")
        file = "slaves/*/frameworks/*/executors/home/runs/latest/file"
        until("its file", lambda: any(each.read_text() for each in bare.work_dir(1).glob(file)))
        yield status["container_status"]["container_id"]


def call(bare: Cluster, kind: str, **body: Any) -> requests.Response:
    message: dict[str, Any] = {"type": kind, kind.lower(): body}
    return requests.post(f"{bare.agents[0].url}/api/v1", json=message, timeout=60)


@pytest.fixture
def run(bare: Cluster, parent: dict[str, str], tmp_path: Path) -> Exec:
    assert parent
    url = bare.masters[0].url
    contexts = tmp_path / "contexts.json"
    environ = {**os.environ, "MESOSTK_CONFIG": str(contexts), "TERM": "xterm"}
    base = [sys.executable, "-m", "mesostk"]
    subprocess.run(
        [*base, "context", "add", "here", "--marathon", url, "--master", url],
        env=environ, check=True, timeout=LIMIT_S,
    )  # fmt: skip

    def start(*words: str, **pipes: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*base, "exec", *words], env=environ, **pipes)

    return start


def finish(process: subprocess.Popen[bytes], data: bytes | None = None) -> tuple[bytes, bytes]:
    out, err = process.communicate(data, timeout=LIMIT_S)
    return out, err


def test_a_program_sees_the_tasks_sandbox_and_environment_and_its_code_is_told(run: Exec) -> None:
    process = run(
        "home", "--", "sh", "-c", "cat file; echo $COLOUR; echo wrong >&2; exit 7",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert finish(process) == (b"here\ngreen\n", b"wrong\n")
    assert process.returncode == 7


def test_a_program_that_closes_its_output_is_left_to_end_by_itself(run: Exec) -> None:
    process = run(
        "home", "--", "sh", "-c", "echo first; exec >&- 2>&-; sleep 0.3; exit 7",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert finish(process) == (b"first\n", b"")
    assert process.returncode == 7


def test_stdin_goes_through_to_its_end(run: Exec) -> None:
    data = os.urandom(2_000_000)
    process = run("home", "-i", "--", "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert finish(process, data)[0] == data
    assert process.returncode == 0


def test_a_terminal_is_one(run: Exec) -> None:
    ours, theirs = os.openpty()
    process = run("home", "-it", "--", "sh", stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""

    def say(words: bytes, answer: bytes) -> None:
        nonlocal seen
        seen = b""
        os.write(ours, words)
        while answer not in seen:
            ready, _, _ = select.select([ours], [], [], LIMIT_S)
            assert ready, seen
            seen += os.read(ours, 65536)

    say(b"tty; echo $TERM; echo co''lour=$COLOUR\n", b"colour=green")
    assert b"/dev/pts/" in seen
    assert b"xterm" in seen
    say(b"stty size | tr ' ' x; echo do''ne\n", b"done")
    # Once it says so it has the terminal; what comes earlier may be the shell's, and be lost.
    say(b"sh -c \"echo sleep''ing; exec sleep 600\"\n", b"sleeping")
    say(b"\x03", b"# ")  # what is typed while the shell takes the signal in, it drops
    say(b"echo st''ill $?\n", b"still 130")
    os.write(ours, b"exit 3\n")
    assert process.wait(LIMIT_S) == 3
    os.close(ours)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("nobody", "--", "true"), "neither an app nor a task 'nobody'"),
        (("home", "--", "/no/such/program"), "cannot execute '/no/such/program'"),
        (("home", "-u", "nobodyatall", "--", "true"), ""),
    ],
)
def test_what_cannot_be_run_is_told(run: Exec, words: tuple[str, ...], text: str) -> None:
    process = run(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, err = finish(process)
    if text:
        assert process.returncode == 1
        assert text in err.decode()
    else:
        assert process.returncode == 0  # this agent switches no users


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_the_end_of_the_connection_ends_a_session(bare: Cluster, parent: dict[str, str]) -> None:
    child = {"value": str(uuid.uuid4()), "parent": parent}
    body = {
        "type": "LAUNCH_NESTED_CONTAINER_SESSION",
        "launch_nested_container_session": {
            "container_id": child,
            "command": {"value": "(sleep 600 & echo $!; wait)"},
        },
    }
    url = f"{bare.agents[0].url}/api/v1"
    with requests.post(url, json=body, stream=True, timeout=60) as stream:
        assert stream.headers["Content-Type"] == "application/json"
        chunks = stream.iter_content(None)  # the connection ends with it
        [record] = Decoder().feed(next(chunks))
        pid = int(base64.b64decode(json.loads(record)["data"]["data"]))
        assert not is_gone(pid)
    until("the end of the session", lambda: is_gone(pid))


def test_who_hangs_up_at_once_leaves_nothing(bare: Cluster, parent: dict[str, str]) -> None:
    agent = bare.agents[0]
    host, _, port = agent.url.removeprefix("http://").partition(":")

    def files() -> int:
        return len(list(Path(f"/proc/{agent.pid}/fd").iterdir()))

    def sleepers() -> list[str]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                found += [path.parent.name] * path.read_bytes().startswith(b"sleep\x00987")
        return found

    before = files()
    for number in range(20):
        child = {"value": f"gone-{number}", "parent": parent}
        body = json.dumps(
            {
                "type": "LAUNCH_NESTED_CONTAINER_SESSION",
                "launch_nested_container_session": {
                    "container_id": child,
                    "command": {"value": "exec sleep 987"},
                },
            }
        ).encode()
        head = "POST /api/v1 HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        with socket.create_connection((host, int(port)), timeout=LIMIT_S) as peer:
            peer.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            if number % 2:
                peer.recv(1)
    until("the end of every session", lambda: not sleepers())
    until("all files closed", lambda: files() <= before + 2)


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Cluster]:
    """An agent that puts its tasks into cgroups."""
    require_root()
    root = f"mesostk-test-{uuid.uuid4()}"
    flags = ["--launcher=linux", f"--cgroups_root={root}"]
    with Cluster(tmp_path, marathons=0, agent_flags=flags) as cluster:
        cluster.start()
        yield cluster
    until("the end of its cgroups", lambda: removed(root))


def removed(root: str) -> bool:
    """Remove cgroups called `root`; False as long as something in them has not ended."""
    for top in Path("/sys/fs/cgroup").glob(f"**/{root}"):
        for directory in (*top.iterdir(), top):
            if directory.is_dir():
                with contextlib.suppress(OSError):
                    directory.rmdir()
    return not any(Path("/sys/fs/cgroup").glob(f"**/{root}"))


def test_a_session_is_within_the_limits_of_its_task(limited: Cluster) -> None:
    with Scheduler(limited.masters[0].url) as scheduler:
        task = {
            "name": "home",
            "task_id": {"value": "home"},
            "resources": scalars(cpus=0.1, mem=64),
            "command": {"value": "sleep 600"},
        }
        scheduler.launch(scheduler.offer(), task)
        status = scheduler.until_state("home", "TASK_RUNNING")
        parent = status["container_status"]["container_id"]
        child = {"value": "look", "parent": parent}
        launched = {"container_id": child, "command": {"value": "cat /proc/self/cgroup >> cgroup"}}
        assert call(limited, "LAUNCH_NESTED_CONTAINER", **launched).status_code == 200
        answer = call(limited, "WAIT_NESTED_CONTAINER", container_id=child).json()
        assert answer["wait_nested_container"] == {"exit_status": 0}
        [told] = limited.work_dir(1).glob("slaves/*/frameworks/*/executors/home/runs/*-*/**/cgroup")
        assert parent["value"] in told.read_text()
        # What has ended beside it has not taken the task along.
        assert call(limited, "KILL_CONTAINER", container_id=parent, signal=15).status_code == 200
        ended = scheduler.until_state("home", "TASK_FAILED")
        assert "signal" in ended["message"]


def test_a_nested_container_runs_is_waited_for_and_removed(
    bare: Cluster, parent: dict[str, str]
) -> None:
    child = {"value": "beside", "parent": parent}
    launched = {"container_id": child, "command": {"value": "echo in; read x < wait; exit 4"}}
    assert call(bare, "LAUNCH_NESTED_CONTAINER", **launched).status_code == 200
    assert call(bare, "LAUNCH_NESTED_CONTAINER", **launched).status_code == 202
    assert call(bare, "ATTACH_CONTAINER_OUTPUT", container_id=child).status_code == 500
    until("its end", lambda: call(bare, "REMOVE_NESTED_CONTAINER", container_id=child).ok)
    assert call(bare, "WAIT_NESTED_CONTAINER", container_id=child).status_code == 404


def test_a_standalone_container_is_killed_by_signal(bare: Cluster) -> None:
    alone = {"value": "alone"}
    body = {
        "container_id": alone,
        "command": {"value": "trap 'exit 5' TERM; echo up > up; while :; do sleep 0.05; done"},
        "resources": scalars(cpus=0.1, mem=32),
    }
    assert call(bare, "LAUNCH_CONTAINER", **body).status_code == 200
    sandbox = bare.work_dir(1) / "containers" / "alone"
    until("a trap", (sandbox / "up").exists)
    answers: list[requests.Response] = []
    waiting = threading.Thread(
        target=lambda: answers.append(call(bare, "WAIT_CONTAINER", container_id=alone))
    )
    waiting.start()
    assert call(bare, "REMOVE_CONTAINER", container_id=alone).status_code == 500
    killed = call(bare, "KILL_CONTAINER", container_id=alone, signal=int(signal.SIGTERM))
    assert killed.status_code == 200
    waiting.join(LIMIT_S)
    assert answers[0].json()["wait_container"] == {"exit_status": 5 << 8}
    assert call(bare, "REMOVE_CONTAINER", container_id=alone).status_code == 200
    assert not sandbox.exists()


def test_several_may_watch_and_one_may_type(bare: Cluster, parent: dict[str, str]) -> None:
    child = {"value": "shared", "parent": parent}
    url = f"{bare.agents[0].url}/api/v1"
    body = {
        "type": "LAUNCH_CONTAINER",
        "launch_container": {
            "container_id": child,
            "command": {"value": "read x; echo got $x"},
            "container": {"type": "MESOS", "tty_info": {}},
        },
    }
    assert requests.post(url, json=body, timeout=60).status_code == 200
    attach = {"type": "ATTACH_CONTAINER_OUTPUT", "attach_container_output": {"container_id": child}}
    recordio = {"Accept": "application/recordio", "Message-Accept": "application/json"}
    streams = [
        requests.post(url, json=attach, headers=recordio, stream=True, timeout=60) for _ in "ab"
    ]
    assert streams[0].headers["Content-Type"] == "application/recordio"
    assert streams[0].headers["Message-Content-Type"] == "application/json"
    begun, release = threading.Event(), threading.Event()

    def typed() -> Iterator[bytes]:
        for part in (
            {"type": "CONTAINER_ID", "container_id": child},
            {"type": "PROCESS_IO", "process_io": {"type": "DATA", "data": {
                "type": "STDIN", "data": base64.b64encode(b"this\n").decode()}}},
        ):  # fmt: skip
            message = {"type": "ATTACH_CONTAINER_INPUT", "attach_container_input": part}
            yield encode_record(json.dumps(message).encode())
            begun.set()  # asked for more: what was yielded is sent
            release.wait(LIMIT_S if part["type"] == "CONTAINER_ID" else 0)

    headers = {"Content-Type": "application/recordio", "Message-Content-Type": "application/json"}
    first: list[int] = []
    typing = threading.Thread(
        target=lambda: first.append(
            requests.post(url, data=typed(), headers=headers, timeout=60).status_code
        )
    )
    typing.start()
    assert begun.wait(LIMIT_S)
    for _ in range(10):  # what was sent before these requests has been read when they are answered
        assert requests.get(f"{bare.agents[0].url}/health", timeout=60).ok

    def refused() -> bool:
        part = {"type": "CONTAINER_ID", "container_id": child}
        message = {"type": "ATTACH_CONTAINER_INPUT", "attach_container_input": part}
        data = encode_record(json.dumps(message).encode())
        return requests.post(url, data=data, headers=headers, timeout=60).status_code == 409

    until("a second typist refused", refused)
    release.set()
    typing.join(LIMIT_S)
    assert first == [200]
    for stream in streams:
        decoder, told = Decoder(), b""
        for chunk in stream.iter_content(None):
            for record in decoder.feed(chunk):
                told += base64.b64decode(json.loads(record)["data"]["data"])
        assert told.replace(b"\r", b"").endswith(b"got this\n")


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("WAIT_CONTAINER", {"container_id": {"value": "none"}}, 404),
        ("KILL_CONTAINER", {"container_id": {"value": "none"}}, 404),
        ("ATTACH_CONTAINER_OUTPUT", {"container_id": {"value": "none"}}, 404),
        ("REMOVE_CONTAINER", {"container_id": {"value": "none"}}, 200),
        ("LAUNCH_CONTAINER", {"container_id": {"value": "a.b"}, "command": {"value": "x"}}, 400),
        ("LAUNCH_CONTAINER", {"container_id": {"value": "../x"}, "command": {"value": "x"}}, 400),
        ("LAUNCH_CONTAINER", {"container_id": {"value": "x"}, "command": {"value": "x"}}, 400),
        ("LAUNCH_NESTED_CONTAINER", {"container_id": {"value": "x"}}, 400),
        (
            "LAUNCH_NESTED_CONTAINER",
            {"container_id": {"value": "x", "parent": {"value": "no"}}, "command": {"value": "x"}},
            404,
        ),
    ],
)
def test_calls_that_cannot_be_done_are_refused(
    bare: Cluster, kind: str, body: dict[str, Any], status: int
) -> None:
    answer = call(bare, kind, **body)
    assert (answer.status_code, bool(answer.text) or status == 200) == (status, True)


def test_a_session_ends_with_the_agent_and_says_so(bare: Cluster, run: Exec) -> None:
    """The last test: the agent is restarted, its task goes on."""
    agent = bare.agents[0]

    def answers() -> bool:
        try:
            return requests.get(f"{agent.url}/state", timeout=60).ok
        except requests.ConnectionError:
            return False

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    told = (
        (agent.stop, 128 + signal.SIGKILL, b"The agent stops, and this session with it"),
        (lambda: agent.kill(restart=False), 1, b"the connection to the agent broke"),
    )
    for end_agent, code, words in told:
        process = run("home", "--", "sh", "-c", "echo $$; exec sleep 600", **pipes)
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        end_agent()
        _, err = process.communicate(timeout=LIMIT_S)
        assert words in b" ".join(err.split())
        assert process.returncode == code
        agent.start()
        until("the end of the program", functools.partial(is_gone, pid))
        until("the agent", answers)
    process = run("home", "--", "cat", "file", **pipes)
    assert finish(process)[0] == b"here\n"
