"""What was done to the apps, and what happens now: the audit and the events of Marathon."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Annotated, Any

import typer

from mesostk.cli import contexts
from mesostk.cli.clients import Marathon
from mesostk.cli.completing import complete_app
from mesostk.cli.contexts import ContextOption
from mesostk.cli.output import Format, FormatOption, JsonOption, Table, chosen, errors, say
from mesostk.errors import MesostkError, Unavailable

#: Marathon sends something every 10 s, so a stream that is silent for longer is dead.
_DEAD_S = 30.0

#: An election takes seconds; after this somebody has to look.
_PATIENCE_S = 30.0
_RETRY_S = 0.5


def events(
    kinds: Annotated[
        list[str] | None, typer.Option("--type", help="Only events of this type; may be repeated.")
    ] = None,
    after: Annotated[
        str | None,
        typer.Option(metavar="ID", help="First those since the event of this id, e.g. 3-41."),
    ] = None,
    ids: Annotated[bool, typer.Option("--ids", help="Print the id of each before it.")] = False,
    context: ContextOption = None,
) -> None:
    """Print Marathon's events as they come, one JSON object a line, until interrupted.

    A stream that breaks is resumed where it broke; that nothing is lost, or that it may be because
    another Marathon leads, is said.
    """
    with errors():
        marathon = Marathon(contexts.current(context))
        last = after
        lost_at: float | None = None
        while True:
            try:
                stream = marathon.events(_DEAD_S, last)
            except Unavailable:
                if lost_at is None or time.monotonic() - lost_at > _PATIENCE_S:
                    raise
                time.sleep(_RETRY_S)
                continue
            with closing(stream):
                for event in stream:
                    lost_at = None
                    _warn_of_gap(last, stream.last_id)
                    last = stream.last_id
                    if not kinds or event.get("eventType") in kinds:
                        head = f"{last} " if ids else ""
                        print(head + json.dumps(event), flush=True)
            if last is None or (lost_at and time.monotonic() - lost_at > _PATIENCE_S):
                raise MesostkError(
                    "the event stream ended: Marathon leads no longer or is out of reach"
                )
            lost_at = lost_at or time.monotonic()
            time.sleep(_RETRY_S)


def _warn_of_gap(before: str | None, now: str | None) -> None:
    """Ids are of one leader: the next one does not know what the last one sent."""
    if before is None or now is None or before.partition("-")[0] == now.partition("-")[0]:
        return
    say(f"another Marathon leads: events after {before} may be missing; `mesostk audit` has all")


def audit(
    app: Annotated[str | None, typer.Argument(metavar="[APP]", autocompletion=complete_app)] = None,
    user: Annotated[str | None, typer.Option(help="Only what this user did.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only from this time on, e.g. 2016-06-21T14:00:00.000Z.")
    ] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="At most so many.")] = 20,
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Say who changed what and when, the latest first."""
    with errors():
        found = Marathon(contexts.current(context)).audit(app, user, since, limit)
        table = Table(("TIME", "WHO", "WHAT", "CHANGED"), "timestamp")
        for entry in found:
            who = str(entry.get("user") or entry.get("clientIp") or "marathon")
            table.add((str(entry["timestamp"]), who, _asked(entry), _changed(entry)), entry)
        table.show(chosen(output, as_json), "Nothing was changed that is remembered.")


def _asked(entry: Mapping[str, Any]) -> str:
    force = " (forced)" if entry.get("force") else ""
    asked = f"{entry.get('method', '')} {entry.get('uri', '')}".strip()
    return f"{asked}{force}" if asked else "-"


def _changed(entry: Mapping[str, Any]) -> str:
    words = [
        f"{one['change']} {one['app']} {','.join(one.get('fields', []))}".rstrip()
        for one in entry.get("changes", [])
    ]
    if entry.get("omitted"):
        words.append(f"and {entry['omitted']} more")
    if entry.get("detail"):
        words.append(str(entry["detail"]))
    return "; ".join(words) or "-"
