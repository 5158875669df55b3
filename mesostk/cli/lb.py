"""Load balancers: what they do, and deployments through them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from mesostk.cli import contexts, definitions
from mesostk.cli.clients import Members
from mesostk.cli.contexts import Context, ContextOption
from mesostk.cli.output import (
    Format,
    FormatOption,
    JsonOption,
    chosen,
    errors,
    fail,
    print_table,
    say,
    show_record,
)
from mesostk.cli.runs import recorded
from mesostk.errors import ConfigError, Unavailable

#: Where HAProxy serves statistics, and hands marathon-lb's own paths on.
STATS_PORT = 9090

commands = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Load balancers.")

BalancerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--lb", help="A balancer's URL; may be given repeatedly. Else those of the cluster."
    ),
]


def balancers_of(context: Context | None, given: list[str] | None) -> list[str]:
    """The balancers named, those of the context, else port 9090 of every host with a Marathon."""
    if given:
        return [url.rstrip("/") for url in given]
    if context is not None and context.balancers:
        return list(context.balancers)
    marathons = [] if context is None else context.marathons
    hosts = [urlsplit(url).hostname for url in marathons]
    return [f"http://{host}:{STATS_PORT}" for host in dict.fromkeys(hosts) if host]


def route_rows(routes: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Routes as rows: where requests come in, app, servers up of all, requests per second."""
    rows: list[tuple[str, ...]] = []
    for route in routes:
        ways = [f"{host}{route['path'] or ''}" for host in route["vhosts"]]
        if route["bind"]:
            ways.append(route["bind"])
        rows.append(
            (
                " ".join(ways),
                str(route["app_id"]),
                str(route["mode"]),
                f"{route['up']}/{route['servers']}",
                str(route["requests_per_second"]),
            )
        )
    return rows


@commands.command("status")
def status(
    lb: BalancerOption = None,
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Show which host name or port goes to which app, and what is left out and why."""
    output = chosen(output, as_json)
    with errors():
        urls = balancers_of(None if lb else contexts.current(context), lb)
        problems: list[str] = []
        found: dict[str, Any] = {}
        for url in urls:
            try:
                found[url] = Members("marathon-lb", [url]).call("GET", "/_mlb_status")
            except Unavailable as error:
                problems.append(str(error))
        if output is not Format.TABLE:
            show_record(found, output)
        else:
            for url, one in found.items():
                _show(url, one)
        if problems:
            raise Unavailable("; ".join(problems))


def _show(url: str, one: dict[str, Any]) -> None:
    heard = "" if one["marathon"]["connected"] else ", Marathon cannot be heard"
    say(f"{url}{heard}{', ' + one['haproxy'] if one['haproxy'] else ''}")
    columns = ("REACHED AS", "APP", "MODE", "UP", "REQUESTS/S")
    print_table(columns, route_rows(one["routes"]))
    if one["left_out"]:
        rows = [(left["app_id"], left["reason"]) for left in one["left_out"]]
        print_table(("LEFT OUT", "WHY"), rows)


def zdd(
    file: Annotated[Path, typer.Argument(help="The app's JSON.", metavar="APP.json")],
    lb: BalancerOption = None,
    initial_instances: Annotated[int, typer.Option("-i", "--initial-instances")] = 1,
    linear_increase: Annotated[int, typer.Option(help="Instances per step; 0: half again.")] = 0,
    new_instances: Annotated[
        int, typer.Option("-n", "--new-instances", help="Keep both apps, the new one with so many.")
    ] = 0,
    step_delay: Annotated[float, typer.Option("-s", "--step-delay", help="Seconds.")] = 5.0,
    max_wait: Annotated[float, typer.Option("-w", "--max-wait", help="Seconds.")] = 300.0,
    pre_kill_hook: Annotated[str | None, typer.Option(help="Program run before each kill.")] = None,
    resume: Annotated[
        bool, typer.Option("-r", "--resume", help="Go on with a deployment.")
    ] = False,
    complete_cur: Annotated[bool, typer.Option("-c", "--complete-cur", help="All to new.")] = False,
    complete_prev: Annotated[
        bool, typer.Option("-p", "--complete-prev", help="All to old.")
    ] = False,
    force: Annotated[bool, typer.Option("-f", "--force", help="Ask nothing.")] = False,
    dry_run: Annotated[
        bool, typer.Option("-d", "--dry-run", help="Print the app and end.")
    ] = False,
    context: ContextOption = None,
) -> None:
    """Replace an app by a new version without losing a request (blue and green)."""
    from mesostk.lb import deployment
    from mesostk.lb.deployment import Settings, ZddError
    from mesostk.lb.zdd import Deployment, Services

    with errors():
        known = contexts.current(context)
        balancers = balancers_of(known, lb)
        app = _read(file)
        settings = Settings(
            initial_instances=initial_instances,
            linear_increase=linear_increase,
            new_instances=new_instances,
            step_delay_s=step_delay,
            max_wait_s=max_wait,
            complete=complete_cur or complete_prev,
        )
        run = Deployment(
            Services(known.marathons[0], balancers),
            settings,
            say,
            lambda question: force or typer.confirm(question, default=True),
            pre_kill_hook,
        )
        try:
            made, previous = run.prepare(app)
            new, old = _pair(made, previous, resume or complete_cur, complete_prev)
            if dry_run:
                print(json.dumps(made, sort_keys=True, indent=2))
                return
            with recorded("zdd", context=context):
                if new is made:
                    run.create(made)
                if old is not None and not run.swap(new["id"], old["id"]):
                    fail("declined", deployment.DECLINED)
        except ZddError as error:
            fail(str(error), error.code)


def _pair(
    made: dict[str, Any], previous: list[dict[str, Any]], forward: bool, backward: bool
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The app that takes over and the one that goes: of a deployment under way, or a new one."""
    from mesostk.lb import deployment
    from mesostk.lb.deployment import ZddError

    if len(previous) < 2:
        if backward:
            raise ZddError(deployment.ARGUMENTS, "there are no two apps to choose from")
        return made, previous[0] if previous else None
    old, new = deployment.started(previous)[-2:]
    if backward:
        return old, new
    if forward:
        return new, old
    raise ZddError(
        deployment.ARGUMENTS,
        f"{old['id']} and {new['id']} are there: --resume, --complete-cur (all to {new['id']}) or"
        f" --complete-prev (all to {old['id']})",
    )


def _read(file: Path) -> dict[str, Any]:
    app = definitions.read(str(file))
    if not isinstance(app, dict):
        raise ConfigError(f"{file}: an app is an object")
    return app
