"""Role names and their hierarchy. Source: Mesos `src/common/roles.cpp`, docs/roles.md."""

from __future__ import annotations

import re

#: The role of what is reserved to nobody.
UNRESERVED = "*"

#: The original has no limit; each level costs the allocator a node, and a body may hold 100,000.
MAX_CHARACTERS = 1024

_FORBIDDEN = re.compile(r"[\s\x08]")


def why_not_role(role: str) -> str | None:
    """Why `role` is not a role name; None if it is one (`*` included)."""
    if role == UNRESERVED:
        return None
    if not role:
        return "Empty role name is invalid"
    if len(role) > MAX_CHARACTERS:
        return f"Role '{role[:40]}…' is longer than {MAX_CHARACTERS} characters"
    if role.startswith("/") or role.endswith("/"):
        return f"Role '{role}' cannot start or end with a slash"
    for part in role.split("/"):
        reason = _why_not_component(part)
        if reason is not None:
            return f"Invalid role '{role}': {reason}"
    return None


def _why_not_component(part: str) -> str | None:
    if not part:
        return "adjacent slashes are not allowed"
    if part in {".", "..", UNRESERVED}:
        return f"component '{part}' is not allowed"
    if part.startswith("-"):
        return f"component '{part}' cannot start with '-'"
    if _FORBIDDEN.search(part):
        return f"component '{part}' contains whitespace or a backspace"
    return None


def is_strict_subrole(role: str, ancestor: str) -> bool:
    """Whether `role` is below `ancestor`: `eng/web` is below `eng`."""
    return role.startswith(ancestor + "/")


def ancestors(role: str) -> tuple[str, ...]:
    """Nearest first, without the role itself: `a/b/c` gives `a/b`, `a`."""
    parts = role.split("/")
    return tuple("/".join(parts[:length]) for length in range(len(parts) - 1, 0, -1))
