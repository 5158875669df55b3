"""`mesostk exec`: a program, or a terminal, in a running task.

::

    stdin ─▶ raw mode ─▶ ATTACH_CONTAINER_INPUT ─▶ agent ─▶ the program
    stdout, stderr ◀──── LAUNCH_NESTED_CONTAINER_SESSION ◀──┘      WAIT ─▶ our exit code

Two connections to the agent: one brings its output and is the session, the other takes the input.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import sys
import termios
import threading
import tty
import uuid
from collections.abc import Iterator
from typing import Annotated, Any

import requests
import typer

from mesostk.cli import contexts
from mesostk.cli.clients import Marathon, Masters, message_of
from mesostk.cli.completing import complete_task
from mesostk.cli.contexts import ContextOption
from mesostk.cli.credentials import Credential, refused
from mesostk.cli.output import errors
from mesostk.cli.tasks import long_id
from mesostk.errors import MesostkError, Rejected, Unavailable
from mesostk.wire.recordio import Decoder, encode_record

_JSON = "application/json"
_PIECE = 64 * 1024

#: Between heartbeats of the input, which keep a silent connection open.
_BEAT_S = 30.0

#: For a connection to be made; output may stay away for as long as it likes.
_CONNECT_S = 5.0


def execute(
    task: Annotated[str, typer.Argument(metavar="TASK", autocompletion=complete_task)],
    command: Annotated[list[str], typer.Argument(metavar="COMMAND [ARG]…")],
    interactive: Annotated[
        bool, typer.Option("-i", "--interactive", help="Pass stdin on.")
    ] = False,
    terminal: Annotated[bool, typer.Option("-t", "--tty", help="Make a terminal.")] = False,
    user: Annotated[str | None, typer.Option("-u", "--user", help="Run as this user.")] = None,
    context: ContextOption = None,
) -> None:
    """Run a program beside a task, e.g. mesostk exec TASK -it -- sh; its exit code is ours."""
    with errors():
        chosen = contexts.current(context)
        masters = Masters(chosen)
        agent, parent = _container_of(masters, _task_of(chosen, task))
        who = masters.credential
        session = Session(agent, parent, who, interactive=interactive, is_tty=terminal)
        raise typer.Exit(session.run(command, user))


def _task_of(context: contexts.Context, target: str) -> str:
    """The task that a task id, or an app with one task, means."""
    if Masters(context).task(target) is not None:
        return target
    try:
        found = [str(task["id"]) for task in Marathon(context).tasks(target)]
    except (Rejected, Unavailable):
        found = []
    if len(found) == 1:
        return found[0]
    if found:
        raise Rejected(
            400, f"{target} has {len(found)} tasks; name one: {', '.join(sorted(found))}"
        )
    try:
        task = long_id(Marathon(context), target)
    except (Rejected, Unavailable):
        task = None
    if task is not None:
        return task
    raise Rejected(404, f"there is neither an app nor a task {target!r}; look at `mesostk tasks`")


def _container_of(masters: Masters, task_id: str) -> tuple[str, dict[str, Any]]:
    """Where the task's agent is, and the id of its container."""
    task = masters.task(task_id)
    if task is None or task["state"] not in ("TASK_RUNNING", "TASK_KILLING"):
        state = task["state"] if task is not None else "unknown"
        raise Rejected(400, f"task {task_id} does not run (it is {state})")
    ids = [
        status["container_status"]["container_id"]
        for status in task["statuses"]
        if "container_id" in status.get("container_status", {})
    ]
    if not ids:
        raise Rejected(400, f"no container of task {task_id} is known yet; try again")
    for agent in masters.slaves():
        if agent["id"] == task["slave_id"]:
            return "http://" + str(agent["pid"]).partition("@")[2], dict(ids[-1])
    raise Rejected(404, f"agent {task['slave_id']} of task {task_id} is not registered any more")


class Session:
    """One program in a container."""

    def __init__(
        self,
        agent: str,
        parent: dict[str, Any],
        credential: Credential | None,
        *,
        interactive: bool,
        is_tty: bool,
    ) -> None:
        self._url = f"{agent}/api/v1"
        self._credential = credential
        self._id = {"value": str(uuid.uuid4()), "parent": parent}
        self._interactive = interactive
        self._tty = is_tty
        self._over = threading.Event()
        self._wake_read, self._wake = os.pipe()
        self._resized = False
        self._http = self._connection()

    def _connection(self) -> requests.Session:
        http = requests.Session()
        http.trust_env = False  # as for every other command
        http.auth = self._credential.basic if self._credential is not None else None
        return http

    def run(self, argv: list[str], user: str | None) -> int:
        """Run to the end; the exit code is that of the program, 128 + n for signal n."""
        answer = self._launch(argv, user)
        status: list[int | None] = []
        waiting = threading.Thread(target=lambda: status.append(self._wait()), daemon=True)
        waiting.start()
        with answer, _raw_terminal(self._tty and self._interactive):
            if self._interactive:
                threading.Thread(target=self._feed, daemon=True).start()
                if self._tty:
                    signal.signal(signal.SIGWINCH, lambda *_: self._on_resize())
            self._show(answer)
        self._over.set()
        os.write(self._wake, b"x")
        waiting.join(10.0)
        return _exit_code(status[0] if status else None)

    def _launch(self, argv: list[str], user: str | None) -> requests.Response:
        command: dict[str, Any] = {"value": argv[0], "arguments": argv, "shell": False}
        if user is not None:
            command["user"] = user
        term = os.environ.get("TERM")
        if self._tty and term:
            command["environment"] = {"variables": [{"name": "TERM", "value": term}]}
        body: dict[str, Any] = {"container_id": self._id, "command": command}
        if self._tty:
            body["container"] = {"type": "MESOS", "tty_info": {"window_size": _window()}}
        call = {
            "type": "LAUNCH_NESTED_CONTAINER_SESSION",
            "launch_nested_container_session": body,
        }
        try:
            answer = self._http.post(
                self._url, json=call, headers={"Accept": _JSON}, stream=True,
                timeout=(_CONNECT_S, None),
            )  # fmt: skip
        except requests.RequestException as error:
            raise Unavailable(f"the agent cannot be reached: {error}") from error
        if answer.status_code != requests.codes.ok:
            text = message_of(answer)
            raise refused("the agent", answer.status_code, text, self._credential)
        return answer

    def _wait(self) -> int | None:
        call = {"type": "WAIT_CONTAINER", "wait_container": {"container_id": self._id}}
        try:
            with self._connection() as http:
                answer = http.post(self._url, json=call, timeout=(_CONNECT_S, None))
        except requests.RequestException:
            return None
        if answer.status_code != requests.codes.ok:
            return None
        status = answer.json()["wait_container"].get("exit_status")
        return int(status) if status is not None else None

    def _show(self, answer: requests.Response) -> None:
        decoder = Decoder()
        try:
            for chunk in answer.iter_content(None):
                for record in decoder.feed(chunk):
                    _print(json.loads(record))
        except requests.RequestException as error:
            raise MesostkError(
                "the connection to the agent broke, and the program ends with it; the task goes "
                f"on: {error}"
            ) from error

    # -- input -----------------------------------------------------------------------------------

    def _feed(self) -> None:
        """Send what is typed until its end, or that of the program."""
        headers = {"Content-Type": "application/recordio", "Message-Content-Type": _JSON}
        with self._connection() as http, contextlib.suppress(requests.RequestException):
            http.post(self._url, data=self._input(), headers=headers, timeout=(_CONNECT_S, None))

    def _input(self) -> Iterator[bytes]:
        yield _call({"type": "CONTAINER_ID", "container_id": self._id})
        while not self._over.is_set():
            ready, _, _ = select.select([0, self._wake_read], [], [], _BEAT_S)
            if self._resized:
                self._resized = False
                os.read(self._wake_read, 1)
                yield _io({"type": "TTY_INFO", "tty_info": {"window_size": _window()}})
            elif not ready:
                beat = {"interval": {"nanoseconds": int(_BEAT_S * 1e9)}}
                yield _io({"type": "HEARTBEAT", "heartbeat": beat})
            elif 0 in ready:
                data = os.read(0, _PIECE)
                yield _data(data)
                if not data:
                    return

    def _on_resize(self) -> None:
        self._resized = True
        os.write(self._wake, b"x")


def _call(body: dict[str, Any]) -> bytes:
    call = {"type": "ATTACH_CONTAINER_INPUT", "attach_container_input": body}
    return encode_record(json.dumps(call).encode())


def _io(control: dict[str, Any]) -> bytes:
    return _call({"type": "PROCESS_IO", "process_io": {"type": "CONTROL", "control": control}})


def _data(data: bytes) -> bytes:
    body = {"type": "STDIN", "data": base64.b64encode(data).decode()}
    return _call({"type": "PROCESS_IO", "process_io": {"type": "DATA", "data": body}})


def _print(message: dict[str, Any]) -> None:
    if message.get("type") != "DATA":
        return
    data = base64.b64decode(message["data"].get("data", ""))
    stream = sys.stderr if message["data"].get("type") == "STDERR" else sys.stdout
    stream.buffer.write(data)
    stream.buffer.flush()


def _window() -> dict[str, int]:
    size = shutil.get_terminal_size()
    return {"rows": size.lines, "columns": size.columns}


def _exit_code(status: int | None) -> int:
    """Of a wait status; 1 where nobody knows it."""
    if status is None:
        return 1
    return 128 + (status & 0x7F) if status & 0x7F else status >> 8 & 0xFF


@contextlib.contextmanager
def _raw_terminal(wanted: bool) -> Iterator[None]:
    """Have every key go to the program, while this lasts."""
    if not wanted or not os.isatty(0):
        yield
        return
    before = termios.tcgetattr(0)
    tty.setraw(0, termios.TCSADRAIN)  # what was typed already is not lost
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
