"""The beginning and the end of a cluster: a commented inventory, and taking all of it away."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mesostk.cli import contexts
from mesostk.cli.cluster import InventoryOption, act, context_name, inventory_of, look
from mesostk.cli.contexts import ContextOption
from mesostk.cli.output import Format, FormatOption, JsonOption, chosen, errors, say
from mesostk.errors import ConfigError, MesostkError
from mesostk.ops.inventory import Wanted, initial_inventory, read_host
from mesostk.ops.paths import data_root


def init(
    directory: Annotated[
        Path, typer.Argument(help="Where the inventory is to be, e.g. inventory/prod.")
    ],
    master: Annotated[
        list[str] | None,
        typer.Option("--master", help="ADDRESS or NAME=ADDRESS; 1, 3 or 5 of them."),
    ] = None,
    agent: Annotated[
        list[str] | None, typer.Option("--agent", help="ADDRESS or NAME=ADDRESS; repeatedly.")
    ] = None,
    edge: Annotated[
        list[str] | None,
        typer.Option("--edge", help="Hosts of Mesos-DNS and marathon-lb; else the masters."),
    ] = None,
    user: Annotated[str | None, typer.Option(help="Whom SSH logs in as; needs sudo.")] = None,
    docker: Annotated[
        bool, typer.Option("--docker", help="Install Docker on the agents, and run containers.")
    ] = False,
) -> None:
    """Write a commented inventory from answers or options; asks for what is not given."""
    with errors():
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise ConfigError(f"{directory} exists: name another directory, or edit what is there")
        asks = sys.stdin.isatty()
        if not asks and not (master and agent):
            raise ConfigError("give --master and --agent: nobody is there to be asked")
        masters = master or _ask("Masters (1, 3 or 5 addresses, with ZooKeeper and Marathon)")
        agents = agent or _ask("Agents (addresses)")
        name = user or (
            typer.prompt("User for SSH, who may use sudo", default="admin") if asks else ""
        )
        wanted = Wanted(
            masters=tuple(read_host(one, "master", n) for n, one in enumerate(masters, 1)),
            agents=tuple(read_host(one, "agent", n) for n, one in enumerate(agents, 1)),
            edges=tuple(read_host(one, "edge", n) for n, one in enumerate(edge or (), 1)),
            user=name or "admin",
            docker=docker,
        )
        example = (data_root() / "inventory" / "example" / "group_vars" / "all.yml").read_text()
        for path, text in initial_inventory(wanted, example).items():
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
            print(target)
        say(
            f"Next: mesostk cluster validate -i {directory}\n"
            f"      mesostk cluster plan -i {directory}\n"
            f"      mesostk cluster deploy -i {directory}"
        )


def _ask(question: str) -> list[str]:
    return str(typer.prompt(question + ", separated by blanks")).replace(",", " ").split()


def reset(
    confirm: Annotated[
        str, typer.Option("--confirm", help="The cluster's name, for where nobody can be asked.")
    ] = "",
    check: Annotated[bool, typer.Option("--check", help="Say what would be removed only.")] = False,
    inventory: InventoryOption = None,
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Take the cluster off its hosts, with all its data; asks for its name."""
    with errors():
        hosts = inventory_of(inventory, context)
        # The name that the operator knows it by: of the context, else of the inventory's directory.
        name = (contexts.current_name(context) if inventory is None else None) or context_name(
            hosts
        )
        form = chosen(output, as_json)
        if check:
            outcome = look(
                "reset", hosts, "Nothing was changed.", form, check=True,
                extra_vars={"reset_cluster": name, "reset_confirm": name},
            )  # fmt: skip
            say(outcome.output())
            return
        if not confirm and sys.stdin.isatty():
            say(f"All services, tasks and data of {name} ({hosts}) will be gone.")
            confirm = str(typer.prompt("Type the cluster's name to go on"))
        if confirm != name:
            raise MesostkError(
                f"nothing was changed: the cluster is called {name!r}; say so with --confirm {name}"
            )
        act(
            "cluster reset", "reset", hosts, f"{name} is gone.", form, context,
            extra_vars={"reset_cluster": name, "reset_confirm": name},
        )  # fmt: skip
