"""Tasks: list them, and read what they write."""

from __future__ import annotations

import codecs
import sys
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from mesostk.cli import contexts
from mesostk.cli.clients import Marathon, Masters, Sandbox, last_told, sandbox_of
from mesostk.cli.completing import complete_app, complete_task
from mesostk.cli.contexts import ContextOption
from mesostk.cli.output import (
    Format,
    FormatOption,
    JsonOption,
    Table,
    chosen,
    errors,
    say,
    short_id,
)
from mesostk.errors import ConfigError, MesostkError, Rejected

#: READ_FILE has no events; `tail -f` of a file without inotify looks once a second, too.
_FOLLOW_S = 0.5
#: What READ_FILE gives at most in one answer (spec/mesos §4.2: 16 memory pages).
_CHUNK = 65536

_COLOURS = (36, 33, 32, 35, 34, 31)


def tasks(
    app: Annotated[str | None, typer.Argument(metavar="[APP]", autocompletion=complete_app)] = None,
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """List tasks, of one app or of all."""
    with errors():
        found = Marathon(contexts.current(context)).tasks(app)
        table = Table(("TASK", "STATE", "HOST", "PORTS", "HEALTH", "STARTED"), "id")
        for task in sorted(found, key=lambda one: str(one["id"])):
            state = str(task.get("state", "")).removeprefix("TASK_").lower()
            table.add(
                (
                    str(task["id"]),
                    state,
                    str(task.get("host", "")),
                    " ".join(map(str, task.get("ports") or [])),
                    health_of(task),
                    str(task.get("startedAt") or "-"),
                ),
                task,
            )
        table.show(chosen(output, as_json), "No task runs.")


def health_of(task: Mapping[str, Any]) -> str:
    """healthy, unhealthy, or - where nothing is known."""
    results = task.get("healthCheckResults") or []
    if not results:
        return "-"
    return "healthy" if all(one["alive"] for one in results) else "unhealthy"


# -- logs ---------------------------------------------------------------------------------------


class _Reader:
    """One task's file, read in order; `tail_bytes` of it at first, whole lines only."""

    def __init__(self, task_id: str, sandbox: Sandbox, name: str, prefix: str) -> None:
        self.task_id = task_id
        self._sandbox = sandbox
        self._name = name
        self._prefix = prefix
        self._offset = 0
        self._partial = ""
        # A character may be cut by the end of a piece; it is put together with the next one.
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def skip_to_last(self, lines: int) -> None:
        """Print the last `lines` lines that are there; later reads go on behind them."""
        size, _ = self._sandbox.read(self._name, 0, 0)
        data, start = b"", size
        while start > 0 and data.count(b"\n") <= lines:
            begin = max(0, start - _CHUNK)
            data = self._sandbox.read(self._name, begin, start - begin)[1] + data
            start = begin
        self._offset = size
        *whole, partial = data.split(b"\n")
        kept = whole[-lines:] if lines else []
        self._print(b"".join(line + b"\n" for line in kept) + partial)

    def read_on(self) -> bool:
        """Print what has come; False when there was nothing new."""
        size, data = self._sandbox.read(self._name, self._offset, _CHUNK)
        if size < self._offset:  # rotated: it begins anew
            self._offset = 0
            return True
        self._offset += len(data)
        self._print(data)
        return bool(data)

    def _print(self, data: bytes) -> None:
        *whole, self._partial = (self._partial + self._decoder.decode(data)).split("\n")
        for line in whole:
            sys.stdout.write(f"{self._prefix}{line}\n")
        sys.stdout.flush()

    def finish(self) -> None:
        """Print a last line that has no end."""
        last = self._partial + self._decoder.decode(b"", final=True)
        if last:
            sys.stdout.write(f"{self._prefix}{last}\n")
        self._partial = ""


def _prefix(index: int, task_id: str, *, many: bool) -> str:
    if not many:
        return ""
    if not sys.stdout.isatty():
        return f"{task_id} | "
    return f"\033[{_COLOURS[index % len(_COLOURS)]}m{task_id} |\033[0m "


def _task_ids(marathon: Marathon, masters: Masters, target: str) -> list[str]:
    """Tasks that `target`, an app or a task, means."""
    try:
        found = sorted(str(task["id"]) for task in marathon.tasks(target))
    except Rejected as error:
        if error.status != 404:
            raise
        if masters.task(target) is not None:
            return [target]
        task = long_id(marathon, target)
        if task is None:
            why = f"there is neither an app nor a task {target!r}; look at `mesostk tasks`"
            raise Rejected(404, why) from error
        return [task]
    return found


def long_id(marathon: Marathon, short: str) -> str | None:
    """The task that a list on a terminal shows as `short`; None if there is none."""
    return next((str(t["id"]) for t in marathon.tasks() if short_id(str(t["id"])) == short), None)


def logs(
    target: Annotated[str, typer.Argument(metavar="APP|TASK", autocompletion=complete_task)],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as more comes.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="Last lines first.")] = 20,
    stderr: Annotated[bool, typer.Option("--stderr", help="stderr instead of stdout.")] = False,
    file: Annotated[str | None, typer.Option(help="Another file of the sandbox.")] = None,
    previous: Annotated[
        bool, typer.Option("-p", "--previous", help="Of the app's task that ended last.")
    ] = False,
    context: ContextOption = None,
) -> None:
    """Print what tasks write; of an app, all tasks at once, new ones too.

    Of an app that has no task with output at the moment, what the one that ended last wrote.
    """
    with errors():
        if file is not None and stderr:
            raise ConfigError("--file and --stderr exclude each other")
        if previous and follow:
            raise ConfigError(
                "--previous and --follow exclude each other: an ended task writes no more"
            )
        name = file or ("stderr" if stderr else "stdout")
        chosen_context = contexts.current(context)
        marathon, masters = Marathon(chosen_context), Masters(chosen_context)
        if previous:
            if not _show_ended(masters, target, name, lines):
                raise Rejected(404, f"no ended task of {target} with a file {name!r} is known")
            return
        readers: dict[str, _Reader] = {}
        while True:
            ids = _task_ids(marathon, masters, target)
            for task_id in ids:
                if task_id not in readers:
                    prefix = _prefix(len(readers), task_id, many=target != task_id)
                    reader = _opened(masters, task_id, name, prefix, lines)
                    if reader is not None:
                        readers[task_id] = reader
            if not follow:
                break
            _follow(readers, ids)
        if not readers and not _show_ended(masters, target, name, lines):
            raise Rejected(404, _nothing_to_show(target, name, has_tasks=bool(ids)))
        for reader in readers.values():
            reader.finish()


def _nothing_to_show(target: str, name: str, *, has_tasks: bool) -> str:
    if has_tasks:
        return f"no task of {target} has a file {name!r} yet"
    return f"{target} has no task; look at `mesostk apps`"


def _show_ended(masters: Masters, target: str, name: str, lines: int) -> bool:
    """Print the end of what the app's last ended task wrote; False if there is nothing of it."""
    task = masters.last_ended_task(target)
    if task is None:
        return False
    task_id = str(task["id"])
    reader = _opened(masters, task_id, name, _prefix(0, task_id, many=True), lines)
    if reader is None:
        return False
    reader.finish()
    state = str(task["state"]).removeprefix("TASK_").lower()
    ended = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(last_told(task)))
    say(f"{task_id} has ended: {state} at {ended}")
    return True


def _opened(masters: Masters, task_id: str, name: str, prefix: str, lines: int) -> _Reader | None:
    """A reader that has printed the last lines; None if the file is not there (yet)."""
    try:
        reader = _Reader(task_id, sandbox_of(masters, task_id), name, prefix)
        reader.skip_to_last(lines)
    except Rejected as error:
        if error.status != 404:
            raise
        # A task that has just been launched: the agent has not made its sandbox, or the master
        # has not heard of it.
        return None
    return reader


def _follow(readers: dict[str, _Reader], alive: list[str]) -> None:
    """Read on for a few rounds; then the caller looks for new tasks."""
    for _ in range(6):
        for task_id, reader in list(readers.items()):
            try:
                while reader.read_on():
                    pass
            except MesostkError as error:
                say(f"{task_id}: {error}")
                del readers[task_id]
                continue
            if task_id not in alive:
                reader.finish()
                say(f"{task_id} has ended")
                del readers[task_id]
        time.sleep(_FOLLOW_S)
