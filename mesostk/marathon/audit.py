"""The history: who changed what and when, kept for `--audit_days`.

::

    command ─▶ carried out ─▶ AuditEntry in the same commit ─▶ /v2/audit, newest first
                                              └─ older than the limit, or too many ─▶ removed

An entry is as durable as the change itself. Refused and dry requests leave none.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from mesostk.marathon import paths, plan, repository
from mesostk.marathon.events import Caller, Command
from mesostk.marathon.plan import Change
from mesostk.marathon.repository import Deployment
from mesostk.marathon.state import State, Turn
from mesostk.marathon.timestamps import iso, next_version
from mesostk.marathon.versions import changed_fields
from mesostk.wire.marathon import AppDefinition, AuditChange, AuditEntry

#: A new leader reads all; an autoscaler that changes an app each minute fills that in four days.
MAX_ENTRIES: Final = 5000

#: Changes named in one entry; `PUT` of thousands of apps is told by its deployment.
MAX_CHANGES: Final = 100

#: Removed per look, so that a long history goes in pieces.
MAX_REMOVED: Final = 200


def book(
    state: State,
    turn: Turn,
    command: Command,
    deployment: Deployment | None = None,
    detail: str | None = None,
) -> None:
    """Write down that `command` was carried out, by `deployment` if it made one."""
    _write(state, turn, command.caller, deployment, detail, force=command.force)


def book_own(state: State, turn: Turn, deployment: Deployment, detail: str) -> None:
    """Write down what this Marathon decided itself: an entry without a caller."""
    _write(state, turn, Caller(client_ip=""), deployment, detail, force=True)


def _write(
    state: State,
    turn: Turn,
    caller: Caller,
    deployment: Deployment | None,
    detail: str | None,
    *,
    force: bool,
) -> None:
    if state.settings.audit_s <= 0:
        return
    at = next_version(turn.wall_s, next(reversed(state.audit), None))
    touched = () if deployment is None else tuple(deployment.after)
    entry = AuditEntry(
        timestamp=at,
        user=caller.user,
        client_ip=caller.client_ip,
        forwarded_for=caller.forwarded_for,
        method=caller.method,
        uri=caller.uri,
        force=force,
        deployment_id=None if deployment is None else deployment.id,
        version=None if deployment is None else deployment.version,
        changes=tuple(_change(state, deployment, id) for id in touched[:MAX_CHANGES])
        if deployment is not None
        else (),
        omitted=max(0, len(touched) - MAX_CHANGES),
        detail=detail,
    )
    state.audit[at] = entry
    turn.put(repository.audit_path(at), repository.write(entry))


def _change(state: State, deployment: Deployment, id: str) -> AuditChange:
    before = _stored(state, id, deployment.before[id])
    after = _stored(state, id, deployment.after[id])
    return AuditChange(
        app=id,
        change=plan.kind(Change(before=before, after=after)),
        fields=() if before is None or after is None else changed_fields(before, after),
        before=deployment.before[id],
        after=deployment.after[id],
    )


def _stored(state: State, id: str, version: str | None) -> AppDefinition | None:
    return None if version is None else state.versions.get(id, {}).get(version)


def forget_old(state: State, turn: Turn) -> None:
    """Remove entries that are too old or too many, some at a time."""
    limit = iso(turn.wall_s - state.settings.audit_s)
    surplus = len(state.audit) - MAX_ENTRIES
    old = [
        at
        for number, at in enumerate(islice(state.audit, MAX_REMOVED))
        if at < limit or number < surplus
    ]
    for at in old:
        del state.audit[at]
        turn.delete(repository.audit_path(at))


def entries(
    state: State, *, app: str | None, user: str | None, since: str | None, limit: int
) -> list[AuditEntry]:
    """The newest `limit` entries, newest first: of `app` or below it, by `user`, after `since`."""
    found = (
        entry
        for at, entry in reversed(state.audit.items())
        if (since is None or at > since)
        and (user is None or entry.user == user)
        and (app is None or any(_concerns(change, app) for change in entry.changes))
    )
    return list(islice(found, limit))


def _concerns(change: AuditChange, id: str) -> bool:
    return change.app == id or paths.is_below(change.app, id)
