"""`DELETE /v2/leader?backup=…&restore=…`: what the next leader is asked to do first.

The wishes are saved before the answer; how they are fulfilled is in `inheriting`.
Source: spec/marathon §1.8, §3.12 (backup).
"""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from mesostk.marathon import audit, repository
from mesostk.marathon.events import Abdicate
from mesostk.marathon.refusal import invalid
from mesostk.marathon.repository import HANDOVER, Handover
from mesostk.marathon.state import State, Turn


def why_invalid(uri: str) -> str | None:
    """Why a backup can neither be written to nor read from `uri`; None if it can."""
    parts = urlsplit(uri)
    path = unquote(parts.path)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and len(path) > 1:
        is_file = "\0" not in path and not path.endswith("/")
        return None if is_file else f"Invalid URI: {uri[:200]}"
    return (
        f"Invalid URI or unsupported scheme: {uri[:200]}; use file:///path, on the host of the next"
        " leader, and copy the file from or to there"
    )


def abdicate(state: State, turn: Turn, command: Abdicate) -> None:
    """`DELETE /v2/leader`: book the wishes; the shell gives up the leadership after the answer."""
    for name, uri in (("backup", command.backup), ("restore", command.restore)):
        why = None if uri is None else why_invalid(uri)
        if why is not None:
            raise invalid(f"/{name}", why)
    if command.backup is not None or command.restore is not None:
        wish = Handover(backup=command.backup, restore=command.restore)
        turn.put(HANDOVER, repository.write(wish))
    wishes = {"backup": command.backup, "restore": command.restore}
    named = [f"{name}={uri}" for name, uri in wishes.items() if uri is not None]
    audit.book(state, turn, command, detail=" ".join(["abdicated", *named]))
    turn.reply(command.request, 200, {"message": "Leadership abdicated"})
