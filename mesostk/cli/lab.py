"""Labs: whole clusters on one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mesostk.cli import apps, cluster, contexts, status
from mesostk.cli.clients import Manner, Marathon
from mesostk.cli.output import (
    Format,
    FormatOption,
    JsonOption,
    Table,
    chosen,
    errors,
    progress,
    say,
)
from mesostk.cli.runs import recorded
from mesostk.errors import ConfigError, MesostkError
from mesostk.ops.lab import (
    DriverName,
    Lab,
    LabSpec,
    Release,
    Topology,
    default_masters,
    existing,
    plan,
    to_remove,
)
from mesostk.ops.ledger import Run
from mesostk.ops.paths import data_root
from mesostk.ops.progress import Progress

commands = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="A whole cluster on this machine."
)

NameOption = Annotated[str, typer.Option("--name", help="Which lab.")]

#: Seconds that the first app gets to run.
_APP_S = 300.0


def context_of(lab: Lab) -> contexts.Context:
    """Addresses of a lab's cluster."""
    inventory = lab.state_dir / "inventory"
    endpoints = lab.endpoints()
    return contexts.Context(
        masters=list(endpoints.masters),
        marathons=list(endpoints.marathons),
        inventory=str(inventory) if inventory.is_dir() else "",
        lab=lab.spec.name,
        dns=list(endpoints.dns),
        balancers=list(endpoints.balancers),
    )


def _first_app(context: contexts.Context, shown: Progress) -> None:
    source = data_root() / "examples" / "hello2.json"
    (app,) = apps.read_apps(str(source))
    marathon = Marathon(context)
    shown.step("Deploying the tutorial's hello2")
    events = marathon.events(3.0)
    answer = marathon.put_app(app, Manner(force=True))
    apps.wait(marathon, events, answer["deploymentId"], ["/hello2"], shown, _APP_S)


@commands.command("up")
def up(
    driver: Annotated[
        DriverName,
        typer.Option(help="Containers with systemd, plain processes, or what Vagrant makes."),
    ] = "docker",
    name: NameOption = "lab",
    masters: Annotated[int | None, typer.Option(help="1, 3, 5 or 7.")] = None,
    agents: Annotated[int, typer.Option(help="1 to 9.")] = 3,
    subnet: Annotated[str, typer.Option(help="Other addresses, e.g. 10.9.3.0/24.")] = "",
    release: Annotated[Release, typer.Option(help="Debian release of the hosts.")] = "bookworm",
    isolated: Annotated[
        bool, typer.Option("--isolated", help="Give the hosts no route to the outside.")
    ] = False,
    provision: Annotated[
        bool, typer.Option("--provision/--no-provision", help="Run site.yml on the hosts.")
    ] = True,
    topology: Annotated[
        Topology,
        typer.Option(
            help="tutorial: Mesos-DNS and marathon-lb on hosts of their own, .60 and .61."
        ),
    ] = "lab",
    app: Annotated[bool, typer.Option("--app/--no-app", help="Deploy hello2.")] = True,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Make the lab, or repair it; what is right is left alone."""
    with errors():
        form = chosen(output, as_json)
        if driver == "local" and not provision:
            raise ConfigError("--no-provision makes bare hosts, and a local lab has no hosts")
        spec = LabSpec(
            driver=driver,
            name=name,
            masters=default_masters(driver) if masters is None else masters,
            agents=agents,
            subnet=subnet,
            release=release,
            isolated=isolated,
            topology=topology,
        )
        lab = plan(spec)
        with recorded("lab up", context=name) as entry, progress(form) as shown:
            lab.up(shown)
            if not provision:
                shown.done("The hosts are up, with nothing on them.")
                _show_hosts(lab, form)
                return
            context = _provision(lab, shown, entry)
            if app:
                _first_app(context, shown)
            shown.done("The lab is up.")
        status.show(context, form)
        if form is Format.TABLE:
            _say_what_next(context, lab.spec.name)


def _provision(lab: Lab, shown: Progress, entry: Run) -> contexts.Context:
    """Turn the lab's hosts into a cluster that the other commands know; a local lab is one."""
    context = context_of(lab)
    if lab.spec.driver != "local":
        runs = lab.state_dir / "runs"
        cluster.run("site", Path(context.inventory), shown, runs, entry=entry)
    contexts.remember(lab.spec.name, context)
    return context


def _say_what_next(context: contexts.Context, name: str) -> None:
    named = "" if name == "lab" else f" --name {name}"
    say(
        f"Mesos     {context.masters[0]}\n"
        f"Marathon  {context.marathons[0]}/ui/\n\n"
        "Try next:\n"
        "  mesostk apps\n"
        "  mesostk logs -f hello2\n"
        "  mesostk scale hello2 5\n"
        "  mesostk dns hello2\n"
        f"  mesostk lab status{named}"
    )


@commands.command("down")
def down(
    name: NameOption = "lab",
    purge: Annotated[bool, typer.Option(help="Remove the cached host image, too.")] = False,
) -> None:
    """Remove the lab and all that it made."""
    with errors():
        lab = to_remove(name)
        if lab is None:
            say(f"There is no lab {name!r}.")
        else:
            with recorded("lab down", context=name), progress() as shown:
                lab.down(shown, purge=purge)
        contexts.forget(name)


@commands.command("status")
def lab_status(
    name: NameOption = "lab", output: FormatOption = Format.TABLE, as_json: JsonOption = False
) -> None:
    """Show the lab's hosts."""
    with errors():
        _show_hosts(existing(name), chosen(output, as_json))


def _show_hosts(lab: Lab, form: Format) -> None:
    table = Table(("HOST", "ADDRESS", "STATE", "DETAIL"), "host")
    for one in lab.status():
        table.add(
            (one.host.name, one.host.address, one.state, one.detail),
            {
                "host": one.host.name,
                "address": one.host.address,
                "groups": list(one.host.groups),
                "state": one.state,
                "detail": one.detail,
            },
        )
    table.show(form, "The lab has no host.")


def complete_host(incomplete: str) -> list[str]:
    """Host names of the lab for tab completion."""
    try:
        hosts = existing().spec.hosts()
    except MesostkError:
        return []
    return [host.name for host in hosts if host.name.startswith(incomplete)]


HostArguments = Annotated[list[str], typer.Argument(metavar="HOST…", autocompletion=complete_host)]


@commands.command("stop")
def stop(hosts: HostArguments, name: NameOption = "lab") -> None:
    """Switch hosts off, as a power button does."""
    with errors():
        lab = existing(name)
        with recorded("lab stop", context=name):
            for host in hosts:
                lab.stop(host)


@commands.command("start")
def start(hosts: HostArguments, name: NameOption = "lab") -> None:
    """Switch hosts on again."""
    with errors():
        lab = existing(name)
        with recorded("lab start", context=name):
            for host in hosts:
                lab.start(host)


@commands.command("pause")
def pause(hosts: HostArguments, name: NameOption = "lab") -> None:
    """Freeze hosts, who believe afterwards that no time has passed; heal lets them go on."""
    with errors():
        lab = existing(name)
        with recorded("lab pause", context=name):
            for host in hosts:
                lab.pause(host)


@commands.command("partition")
def partition(hosts: HostArguments, name: NameOption = "lab") -> None:
    """Cut hosts off the network; what runs there goes on."""
    with errors():
        lab = existing(name)
        with recorded("lab partition", context=name):
            for host in hosts:
                lab.partition(host)


@commands.command("heal")
def heal(hosts: HostArguments, name: NameOption = "lab") -> None:
    """Connect hosts again, and let paused ones go on."""
    with errors():
        lab = existing(name)
        with recorded("lab heal", context=name):
            for host in hosts:
                lab.heal(host)
