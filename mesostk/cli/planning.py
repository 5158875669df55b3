"""What a deployment of hosts and apps would change, in one view, and nothing is changed."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import typer

from mesostk.cli import contexts
from mesostk.cli.apps import CHANGES, plan_table, read_apps
from mesostk.cli.clients import Manner, Marathon, Masters
from mesostk.cli.cluster import (
    InventoryOption,
    LimitOption,
    VarsOption,
    extra_vars_of,
    inventory_of,
    look,
)
from mesostk.cli.contexts import ContextOption
from mesostk.cli.output import (
    Format,
    FormatOption,
    JsonOption,
    chosen,
    errors,
    print_table,
    say,
    show_record,
)
from mesostk.cli.runs import estimate_text, the_ledger
from mesostk.errors import ConfigError, MesostkError, Unavailable
from mesostk.ops import ledger
from mesostk.ops.ansible import Outcome
from mesostk.ops.restarts import AgentShare, HostChange, Step, steps

#: Groups that the role marathon_lb serves where nothing else is said.
_GROUPS = ["external", "internal"]


def plan(
    files: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE…]", help="App definitions to plan, too.")
    ] = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="End with 3 if anything would change.")
    ] = False,
    diff: Annotated[bool, typer.Option("--diff/--no-diff", help="Show the lines, too.")] = True,
    lb_group: Annotated[
        list[str] | None, typer.Option(help="HAPROXY_GROUP that the balancers serve.")
    ] = None,
    inventory: InventoryOption = None,
    limit: LimitOption = None,
    extra_var: VarsOption = None,
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Show what deploying hosts and FILEs would change: files, restarts, apps, HAProxy."""
    with errors():
        form = chosen(output, as_json)
        apps = [app for source in files or () for app in read_apps(source)]
        hosts = inventory_of(inventory, context)
        outcome = look(
            "site",
            hosts,
            "Nothing was changed.",
            form,
            check=True,
            diff=True,
            limit=limit or (),
            extra_vars=extra_vars_of(extra_var or ()),
        )
        known = _context(context)
        due = steps(outcome.changes, outcome.services, _shares(known, outcome))
        planned = _app_changes(known, apps)
        groups = frozenset(lb_group or _GROUPS)
        haproxy = haproxy_difference(_apps_now(known), apps, groups) if apps else ""
        counts = {step.play: step.batches for step in due}
        time = ledger.estimate_steps(the_ledger().entries(), counts, str(hosts.absolute()))
        if form is Format.TABLE:
            _show_hosts(outcome.changes, diff=diff)
            _show_steps(due, time)
            if apps:
                plan_table(planned).show(form, "No app would change.")
                print("HAProxy" + (f":\n{haproxy}" if haproxy else " would stay as it is."))
        else:
            show_record(_record(outcome.changes, due, time, planned, haproxy), form)
        if exit_code and (outcome.changes or due or planned or haproxy):
            raise typer.Exit(CHANGES)


def _record(
    changes: Sequence[HostChange],
    due: Sequence[Step],
    time: ledger.Estimate,
    planned: Sequence[Mapping[str, Any]],
    haproxy: str,
) -> dict[str, object]:
    return {
        "hosts": msgspec.to_builtins(changes),
        "restarts": msgspec.to_builtins(due),
        "estimate": msgspec.to_builtins(time),
        "apps": list(planned),
        "haproxy": haproxy,
    }


def _context(named: str | None) -> contexts.Context | None:
    """The cluster's addresses, None where it is not yet known: a first deployment is planned."""
    try:
        return contexts.current(named)
    except ConfigError:
        if named is not None:
            raise
        return None


# -- hosts ----------------------------------------------------------------------------------------


def _shares(known: contexts.Context | None, outcome: Outcome) -> dict[str, AgentShare]:
    """What the agents offer now by host name of the inventory; empty where no master answers."""
    if known is None:
        return {}
    try:
        agents = Masters(known).slaves()
    except Unavailable:
        return {}
    addresses: Mapping[str, str] = outcome.told.get("cluster_hosts", {})
    by_address = {address: host for host, address in addresses.items()}
    found = {}
    for agent in agents:
        address = str(agent["pid"]).partition("@")[2].rpartition(":")[0]
        total = agent["resources"]
        host = by_address.get(address, str(agent["hostname"]))
        found[host] = AgentShare(float(total["cpus"]), float(total["mem"]))
    return found


def _show_hosts(changes: Sequence[HostChange], *, diff: bool) -> None:
    """Equal changes of several hosts once."""
    groups: dict[tuple[str, str], dict[str, list[str]]] = {}
    for one in changes:
        places = groups.setdefault((one.task, one.path), {})
        places.setdefault(one.difference, []).append(one.host)
    if not groups:
        print("No host would change.")
        return
    rows = [
        (", ".join(dict.fromkeys(h for hosts in places.values() for h in hosts)), path or "-", task)
        for (task, path), places in groups.items()
    ]
    print_table(("HOSTS", "PATH", "TASK"), rows)
    if not diff:
        return
    for (_, path), places in groups.items():
        for text, hosts in places.items():
            if text:
                print(f"{path} on {', '.join(dict.fromkeys(hosts))}:\n{text}\n")


def _show_steps(due: Sequence[Step], time: ledger.Estimate) -> None:
    if not due:
        print("Nothing would be started or restarted.")
        return
    rows = []
    for number, step in enumerate(due, 1):
        how = " > ".join(step.hosts) if step.kind == "restart" else ", ".join(step.hosts)
        rows.append((str(number), step.play, how, step.capacity, "; ".join(step.why)))
    print_table(("", "STEP", "HOSTS, IN ORDER", "MEANWHILE", "WHY"), rows)
    if time.runs:
        print(estimate_text(time))


# -- apps -----------------------------------------------------------------------------------------


def _app_changes(
    known: contexts.Context | None, apps: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    if not apps:
        return []
    if known is None:
        raise ConfigError("apps are planned by a Marathon: choose a cluster with `context use`")
    marathon = Marathon(known)
    return [one for app in apps for one in marathon.plan_app(app, Manner())["apps"]]


def _apps_now(known: contexts.Context | None) -> list[dict[str, Any]]:
    if known is None:
        return []
    answer = Marathon(known).call("GET", "/v2/apps", query={"embed": "apps.tasks"})
    return list(answer["apps"])


def haproxy_difference(
    now: Sequence[Mapping[str, Any]], apps: Sequence[Mapping[str, Any]], groups: frozenset[str]
) -> str:
    """The lines of haproxy.cfg that would differ with `apps` deployed, by the built-in templates.

    Servers are not in it: nobody knows the ports of instances that do not exist yet.
    """
    after = {str(app["id"]): app for app in now}
    for app in apps:
        app_id = "/" + str(app["id"]).strip("/")
        merged = {**after.get(app_id, {}), **app, "id": app_id}
        after[app_id] = merged if merged.get("tasks") else {**merged, "tasks": [placeholder(app)]}
    before_text = _render(now, groups)
    after_text = _render(list(after.values()), groups)
    lines = difflib.unified_diff(
        before_text.splitlines(), after_text.splitlines(), lineterm="", n=2
    )
    return "\n".join(list(lines)[2:])


def placeholder(app: Mapping[str, Any]) -> dict[str, object]:
    """An instance that there will be: an app without any is left out of the file."""
    container = app.get("container") or {}
    mappings = container.get("portMappings") or container.get("docker", {}).get("portMappings")
    count = len(mappings or app.get("portDefinitions") or app.get("ports") or [0])
    return {
        "id": "planned",
        "host": "192.0.2.1",  # an address that is reserved for documents, and never shown
        "ports": list(range(31000, 31000 + count)),
        "state": "TASK_RUNNING",
    }


def _render(apps: Sequence[Mapping[str, Any]], groups: frozenset[str]) -> str:
    from mesostk.lb import bluegreen, model, render
    from mesostk.lb.head import HeadSettings, head
    from mesostk.lb.templates import Templates

    read, unread = model.read_apps(json.dumps({"apps": apps}).encode())
    if unread:
        raise MesostkError("; ".join(f"{one.app_id}: {one.reason}" for one in unread))
    merged, _ = bluegreen.merge(read)
    resolver = model.Resolver(lambda host: host, lambda _task: True)
    made = model.build(merged, model.Settings(groups=groups), resolver)
    for refused in made.refusals:
        say(f"HAProxy leaves out {refused.app_id}: {refused.reason}")
    return render.render(made, Templates(head(HeadSettings())), render.Settings()).structure()
