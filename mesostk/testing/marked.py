"""The processes that carry the mark of a test's directory in their environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from mesostk.ops.processes import MARK


def marked(directory: Path) -> Iterator[tuple[int, int, Mapping[str, str]]]:
    """(pid, parent's pid, environment) of every process that carries the mark of `directory`.

    Read from /proc, because hundreds of tasks are looked at again and again.
    """
    mark = f"{MARK}={directory.resolve()}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
            # After the name, which may hold anything and ends with the last parenthesis.
            status = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:  # gone, or another user's
            continue
        if mark in variables:
            pairs = (text.decode(errors="replace").partition("=") for text in variables if text)
            parent = int(status[1])
            yield int(entry.name), parent, {name: value for name, _, value in pairs}


def tasks_of(directory: Path, app: str) -> tuple[dict[str, int]] | None:
    """Task id → pid of the first process of each task of an app; None if one has two of them."""
    parents: dict[str, dict[int, int]] = {}
    for pid, parent, environ in marked(directory):
        task = environ.get("MESOS_TASK_ID")
        if task is not None and environ.get("MARATHON_APP_ID") == app:
            parents.setdefault(task, {})[pid] = parent
    found: dict[str, int] = {}
    for task, family in parents.items():
        first = [pid for pid, parent in family.items() if parent not in family]
        if len(first) != 1:
            return None
        found[task] = first[0]
    return (found,)
