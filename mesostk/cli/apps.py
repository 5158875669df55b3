"""Apps: deploy, scale, list, destroy, and the waiting for deployments."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Annotated, Any, TypeVar

import typer

from mesostk.cli import contexts, definitions
from mesostk.cli.clients import EventStream, Manner, Marathon
from mesostk.cli.completing import complete_app
from mesostk.cli.contexts import ContextOption
from mesostk.cli.output import (
    INTERRUPTED,
    Format,
    FormatOption,
    JsonOption,
    Table,
    chosen,
    errors,
    progress,
    say,
    show_record,
    tell,
)
from mesostk.cli.runs import recorded
from mesostk.errors import ConfigError, MesostkError, Rejected, Unavailable
from mesostk.ops.progress import Progress

T = TypeVar("T")

#: Seconds of silence after which the state is looked at again: an event may have been missed.
_SILENCE_S = 3.0

#: Between two questions to Marathons of which nobody leads.
_AGAIN_S = 0.5

#: Reasons that an error names; `mesostk why` has all.
_REASONS = 3

#: Exit code of `plan --exit-code` where something would change.
CHANGES = 3

ForceOption = Annotated[
    bool, typer.Option("--force", help="Go on even if another deployment holds the app.")
]
RestartOption = Annotated[
    bool,
    typer.Option(
        "--restart/--no-restart", help="No: change labels and the like, and restart nothing."
    ),
]
WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is done.")]
TimeoutOption = Annotated[float, typer.Option(help="Seconds to wait at most.", min=1)]


AppArgument = Annotated[
    str, typer.Argument(metavar="APP", help="App id.", autocompletion=complete_app)
]


# -- reading definitions ----------------------------------------------------------------------


def read_apps(source: str) -> list[dict[str, Any]]:
    """The app definitions in a JSON file, or on standard input for `-`.

    One app, or a list of them. Raises ConfigError naming file, line and what is expected.
    """
    parsed = definitions.read(source)
    apps = parsed if isinstance(parsed, list) else [parsed]
    for app in apps:
        if not isinstance(app, dict) or not isinstance(app.get("id"), str) or not app["id"]:
            raise ConfigError(f'{source}: an app is an object with "id", "cmd" …')
    return apps


# -- waiting ------------------------------------------------------------------------------------


def state_of(app: Mapping[str, Any]) -> str:
    """One word for people: running, deploying, waiting, unhealthy, suspended."""
    if app.get("tasksUnhealthy"):
        return "unhealthy"
    if app.get("deployments"):
        return "deploying"
    if app["instances"] == 0:
        return "suspended"
    return "running" if app.get("tasksRunning", 0) >= app["instances"] else "waiting"


def _where(marathon: Marathon, app_id: str) -> str:
    """How far an app is, in a few words."""
    try:
        app = marathon.app(app_id)
    except Rejected:
        return f"{app_id}: gone"
    text = f"{app_id}: {app.get('tasksRunning', 0)} of {app['instances']} running"
    if app.get("healthChecks"):
        text += f", {app.get('tasksHealthy', 0)} healthy"
    failure = app.get("lastTaskFailure")
    if failure and app.get("tasksRunning", 0) < app["instances"]:
        text += f"; last failure: {failure.get('state')} {failure.get('message', '')}".rstrip()
    return text


def _why_stuck(marathon: Marathon, app_ids: Sequence[str]) -> str:
    """What keeps the apps from being as they are wanted, as Marathon tells it."""
    told = []
    for app_id in app_ids:
        try:
            reasons = marathon.why(app_id)["reasons"]
        except Rejected:
            continue  # it is gone
        told += [f"{app_id}: {reason}" for reason in reasons[-_REASONS:]]
    return "; ".join(told)


def wait(
    marathon: Marathon,
    events: EventStream,
    deployment: str,
    app_ids: Sequence[str],
    shown: Progress,
    timeout_s: float,
) -> None:
    """Return when the deployment has succeeded.

    `events` were opened before it was asked for, and are closed here. Raises MesostkError if it is
    cancelled or not done after `timeout_s`, with what is known of the reason.
    """
    end = time.monotonic() + timeout_s
    view = _View(marathon, app_ids, shown)
    while True:
        with closing(events):
            if deployment not in {one["id"] for one in _answer(marathon.deployments, end)}:
                return
            _answer(view.show, end)
            for event in events:
                if _ended(event, deployment):
                    return
                if event.get("eventType") == "status_update_event":
                    _answer(view.show, end)
                if time.monotonic() > end:
                    break
        if time.monotonic() > end:
            why = _why_stuck(marathon, app_ids)
            raise MesostkError(
                f"not done after {timeout_s:g} s ({view.where}{'; ' + why if why else ''}). "
                f"The deployment {deployment} goes on; see `mesostk why {app_ids[0]}`"
            )
        events = _answer(lambda: marathon.events(min(_SILENCE_S, timeout_s)), end)


def _answer(ask: Callable[[], T], end: float) -> T:
    """What `ask` gives, asked again until `end`: between two leaders the deployment goes on."""
    while True:
        try:
            return ask()
        except Unavailable:
            if time.monotonic() > end:
                raise
            time.sleep(_AGAIN_S)


class _View:
    """What is shown of the apps while they change; the same words are not said twice."""

    def __init__(self, marathon: Marathon, app_ids: Sequence[str], shown: Progress) -> None:
        self._marathon = marathon
        self._app_ids = app_ids
        self._shown = shown
        self.where = ""

    def show(self) -> None:
        """Say how far the apps are now."""
        where = "; ".join(_where(self._marathon, app_id) for app_id in self._app_ids)
        if where != self.where:
            self._shown.detail(where)
            self.where = where


def _ended(event: Mapping[str, Any], deployment: str) -> bool:
    if event.get("id") != deployment:
        return False
    if event.get("eventType") == "deployment_failed":
        reason = event.get("reason")
        raise MesostkError(
            f"deployment {deployment} was cancelled" + (f": {reason}" if reason else "")
        )
    return event.get("eventType") == "deployment_success"


def change(
    marathon: Marathon,
    what: str,
    app_ids: Sequence[str],
    calls: Sequence[Any],
    *,
    wanted: bool,
    timeout_s: float,
    output: Format = Format.TABLE,
) -> list[str]:
    """Make the calls, each of which answers with a deployment, and wait for all if `wanted`."""
    deployments = []
    with progress(output) as shown:
        shown.step(what)
        streams = [marathon.events(_SILENCE_S) for _ in calls] if wanted else []
        try:
            deployments += [call()["deploymentId"] for call in calls]
            for events, deployment in zip(streams, deployments, strict=False):
                wait(marathon, events, deployment, app_ids, shown, timeout_s)
        except KeyboardInterrupt:
            say(f"detached; the deployment goes on: see `mesostk apps`, {', '.join(deployments)}")
            raise typer.Exit(INTERRUPTED) from None
        finally:
            for events in streams:
                events.close()
    return deployments


# -- commands -----------------------------------------------------------------------------------


def deploy(
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="JSON files, or - .")],
    force: ForceOption = False,
    restart: RestartOption = True,
    roll_back_after: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", min=1, help="Go back to what was if it is not done by then."
        ),
    ] = None,
    wait_for_it: WaitOption = True,
    timeout: TimeoutOption = 300,
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Create or update apps and pods, and wait until they run."""
    with errors():
        apps = [app for source in files for app in read_apps(source)]
        marathon = Marathon(contexts.current(context))
        ids = ["/" + str(app["id"]).strip("/") for app in apps]
        how = Manner(force=force, may_restart=restart, timeout_s=roll_back_after)
        calls = [lambda app=app: marathon.put_app(app, how) for app in apps]
        form = chosen(output, as_json)
        with recorded("deploy", context=context):
            done = change(
                marathon,
                f"Deploying {', '.join(ids)}",
                ids,
                calls,
                wanted=wait_for_it,
                timeout_s=timeout,
                output=form,
            )
        _show_changed(ids, done, form)
        if wait_for_it:
            found = [marathon.app(app_id) for app_id in ids]
            if form is Format.TABLE:
                show_apps(found, form)
            _fail_if_not_up(found)


def _fail_if_not_up(apps: Sequence[Mapping[str, Any]]) -> None:
    """A task that only just began to run is deployed, too: Marathon waits no longer than that."""
    for app in apps:
        if app.get("tasksRunning", 0) >= app["instances"] and not app.get("tasksUnhealthy"):
            continue
        others = ", ".join(one["id"] for one in app.get("deployments", []))
        if others:
            raise MesostkError(
                f"{app['id']} is as the file says, but deployment {others} of it still goes on; "
                f"`mesostk why {app['id']}`"
            )
        failure = app.get("lastTaskFailure") or {}
        if failure.get("version") == app["version"]:
            told = f"{failure.get('state')} {failure.get('message', '')}".rstrip()
            raise MesostkError(
                f"{app['id']} was deployed and does not stay up: {told}; `mesostk why {app['id']}`"
            )


def plan(
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="JSON files, or - .")],
    restart: RestartOption = True,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="End with 3 if anything would change.")
    ] = False,
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Show what `deploy` would do to each instance, and change nothing."""
    with errors():
        apps = [app for source in files for app in read_apps(source)]
        marathon = Marathon(contexts.current(context))
        changes = [
            one
            for app in apps
            for one in marathon.plan_app(app, Manner(may_restart=restart))["apps"]
        ]
        plan_table(changes).show(chosen(output, as_json), "Nothing would change.")
        if exit_code and changes:
            raise typer.Exit(CHANGES)


def plan_table(changes: Sequence[Mapping[str, Any]]) -> Table:
    """What would be done to each instance of each app."""
    table = Table(("APP", "CHANGE", "INSTANCE", "HOST", "ACTION"), "app")
    for one in changes:
        head = (str(one["app"]), f"{one['change']} {','.join(one['fields'])}".strip())
        rows = [(each["id"], each["host"], each["action"]) for each in one["instances"]]
        if one["launch"]:
            rows.append((f"{one['launch']} new", "-", "launch"))
        for number, row in enumerate(rows or [("-", "-", "-")]):
            table.rows.append((*(head if number == 0 else ("", "")), *row))
        table.records.append(dict(one))
    return table


def why(
    app: AppArgument,
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Say why an app does not run as it should, and since when."""
    with errors():
        found = Marathon(contexts.current(context)).why(app)
        form = chosen(output, as_json)
        if form is Format.NAME:
            tell(found["app"])
        elif form is not Format.TABLE:
            show_record(found, form)
        elif not found["reasons"]:
            tell(f"{found['app']} runs as it should.")
        else:
            tell(f"{found['app']} waits since {found['since']}:")
            for reason in found["reasons"]:
                tell(f"  {reason}")


def scale(
    app: AppArgument,
    instances: Annotated[int, typer.Argument(min=0, help="How many there should be.")],
    force: ForceOption = False,
    wait_for_it: WaitOption = True,
    timeout: TimeoutOption = 300,
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Change the number of an app's instances."""
    with errors():
        form = chosen(output, as_json)
        marathon = Marathon(contexts.current(context))
        app_id = str(marathon.app(app)["id"])
        with recorded("scale", context=context):
            done = change(
                marathon,
                f"Scaling {app_id} to {instances}",
                [app_id],
                [lambda: marathon.scale(app_id, instances, Manner(force=force))],
                wanted=wait_for_it,
                timeout_s=timeout,
                output=form,
            )
        _show_changed([app_id], done, form)


def destroy(
    app: AppArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait_for_it: WaitOption = True,
    timeout: TimeoutOption = 300,
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Kill all tasks of an app and forget it."""
    with errors():
        form = chosen(output, as_json)
        marathon = Marathon(contexts.current(context))
        app_id = str(marathon.app(app)["id"])
        if not yes and sys.stdin.isatty():
            typer.confirm(f"Destroy {app_id}?", abort=True)
        with recorded("destroy", context=context):
            done = change(
                marathon,
                f"Destroying {app_id}",
                [app_id],
                [lambda: marathon.delete_app(app_id)],
                wanted=wait_for_it,
                timeout_s=timeout,
                output=form,
            )
        _show_changed([app_id], done, form)


def _show_changed(app_ids: Sequence[str], deployments: Sequence[str], output: Format) -> None:
    """What was asked for, for programs; people have seen it happen."""
    if output is Format.NAME:
        print("\n".join(app_ids))
    elif output is not Format.TABLE:
        pairs = zip(app_ids, deployments, strict=True)
        show_record([{"id": one, "deploymentId": by} for one, by in pairs], output)


def show_apps(apps: Sequence[Mapping[str, Any]], output: Format) -> None:
    """Apps as a table or as records."""
    table = Table(("APP", "STATE", "RUNNING", "HEALTHY", "CPUS", "MEM", "VERSION"), "id")
    for app in apps:
        healthy = str(app.get("tasksHealthy", 0)) if app.get("healthChecks") else "-"
        table.add(
            (
                str(app["id"]),
                state_of(app),
                f"{app.get('tasksRunning', 0)}/{app['instances']}",
                healthy,
                f"{app['cpus']:g}",
                f"{app['mem']:g}",
                str(app["version"]),
            ),
            dict(app),
        )
    table.show(output, "No app is deployed; `mesostk deploy FILE` deploys one.")


def apps(
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """List the apps."""
    with errors():
        show_apps(Marathon(contexts.current(context)).apps(), chosen(output, as_json))


def show_app(
    app: AppArgument,
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Show one app: definition, tasks, last failure."""
    with errors():
        found = Marathon(contexts.current(context)).app(app)
        form = chosen(output, as_json)
        if form is Format.NAME:
            tell(found["id"])
        elif form is Format.TABLE:
            show_record(found, Format.YAML)
        else:
            show_record(found, form)
