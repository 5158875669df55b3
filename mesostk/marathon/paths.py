"""Ids of apps and groups: absolute paths such as `/prod/db/master`; the root group is `/`.

Source: spec/marathon §2.1 (id), §3.4 (safe path, reversed name).
"""

from __future__ import annotations

import re

ROOT = "/"

_LABEL = "(?:[a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9])"
_SEGMENT = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}")

#: Last segments that are words of the API itself.
RESERVED = frozenset({"restart", "tasks", "versions", ".", ".."})

#: ZooKeeper and DNS names carry the id; the original has no limit and fails later.
MAX_LENGTH = 1024

#: Trees of groups are walked recursively, and a longer name fits into no DNS name.
MAX_DEPTH = 64


def absolute(id: str, base: str = ROOT) -> str:
    """`id` seen from group `base`, with `.` and `..` resolved; above the root there is the root."""
    parts = [] if id.startswith("/") else segments(base)
    for part in segments(id):
        if part == "..":
            if parts:
                parts.pop()
        elif part != ".":
            parts.append(part)
    return "/" + "/".join(parts)


def segments(path: str) -> list[str]:
    """The parts between slashes; none for the root."""
    return [part for part in path.split("/") if part]


def parent(path: str) -> str:
    """The enclosing group; the root is its own."""
    return path.rpartition("/")[0] or ROOT


def ancestors(path: str) -> list[str]:
    """Every group above `path`, the root first; none for the root."""
    parts = segments(path)
    return ["/" + "/".join(parts[:depth]) for depth in range(len(parts))]


def is_below(path: str, group: str) -> bool:
    """Whether `path` is inside `group`, at any depth; nothing is inside itself."""
    return path != group and (group == ROOT or path.startswith(group + "/"))


def safe(path: str) -> str:
    """`/a/b` → `a_b`, as task ids begin."""
    return "_".join(segments(path))


def unsafe(name: str) -> str:
    """`a_b` → `/a/b`: reverses `safe`, since ids hold no underscore."""
    return "/" + name.replace("_", "/")


def reversed_name(path: str) -> str:
    """`/a/b` → `b.a`: the name of tasks and discovery, from which mesos-dns makes its records."""
    return ".".join(reversed(segments(path)))


def why_invalid(path: str) -> str | None:
    """Why an absolute `path` cannot be an id, or None."""
    if path == ROOT:
        return "Path should not be the root path '/'"
    if len(path) > MAX_LENGTH:
        return f"id is longer than {MAX_LENGTH} characters"
    if len(segments(path)) > MAX_DEPTH:
        return f"id is more than {MAX_DEPTH} groups deep"
    for part in segments(path):
        if _SEGMENT.fullmatch(part) is None:
            return (
                f"must fully match regular expression '^(({_LABEL}\\.)*{_LABEL})$' between "
                f"slashes: '{part[:64]}' does not; use lower-case letters, digits, '-' and '.'"
            )
    if segments(path)[-1] in RESERVED:
        return f"must not end with any of [{', '.join(sorted(RESERVED))}]"
    return None
