"""Hosts of a running cluster: empty them for maintenance, add, remove and replace them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mesostk.cli import contexts
from mesostk.cli.cluster import (
    CheckOption,
    InventoryOption,
    VarsOption,
    act,
    extra_vars_of,
    inventory_of,
    look,
    remember_cluster,
)
from mesostk.cli.contexts import ContextOption
from mesostk.cli.output import Format, FormatOption, JsonOption, chosen, errors, progress, say
from mesostk.errors import ConfigError
from mesostk.ops import lab as labs
from mesostk.ops.inventory import groups
from mesostk.ops.rolling import change_steps

if TYPE_CHECKING:
    from mesostk.ops.docker_lab import DockerLab

commands = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Hosts of the cluster: add, remove, replace."
)

HostArguments = Annotated[list[str], typer.Argument(metavar="HOST…")]
TimeoutOption = Annotated[int, typer.Option("--timeout", help="Seconds to wait for each host.")]


def drain(
    hosts: HostArguments,
    grace: Annotated[
        int, typer.Option(help="Seconds that a task may take to end; 0: as long as it wants.")
    ] = 0,
    timeout: TimeoutOption = 600,
    inventory: InventoryOption = None,
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Empty agents for maintenance: replacements run elsewhere before anything is killed."""
    with errors():
        act(
            "drain",
            "drain",
            inventory_of(inventory, context),
            f"{', '.join(hosts)}: drained; `mesostk undrain {' '.join(hosts)}` gives back.",
            chosen(output, as_json),
            context,
            extra_vars={
                "node": ",".join(hosts),
                "drain_grace_s": grace,
                "drain_wait_s": timeout,
            },
        )


def undrain(
    hosts: HostArguments,
    timeout: TimeoutOption = 60,
    inventory: InventoryOption = None,
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Let drained agents take tasks again."""
    with errors():
        act(
            "undrain",
            "undrain",
            inventory_of(inventory, context),
            f"{', '.join(hosts)}: takes tasks again.",
            chosen(output, as_json),
            context,
            extra_vars={"node": ",".join(hosts), "drain_wait_s": timeout},
        )


LaterOption = Annotated[
    list[str] | None,
    typer.Option("--later", help="Host of the inventory that joins by a later run."),
]
EvenOption = Annotated[
    bool, typer.Option("--allow-even", help="Let ZooKeeper have an even number for a while.")
]


def _lab_of(inventory: Path | None, context: str | None) -> DockerLab | None:
    """The lab whose hosts this command may make and remove; None for anybody's own hosts."""
    from mesostk.ops.docker_lab import DockerLab  # the SDK costs 200 ms

    if inventory is not None:
        return None
    name = contexts.current(context).lab
    found = labs.existing(name) if name else None
    if found is not None and not isinstance(found, DockerLab):
        raise ConfigError(f"lab {name!r} has no hosts that could come and go: use --driver docker")
    return found


def _make(lab: DockerLab | None, name: str, form: Format, old: str = "") -> None:
    """A host of a lab is made and written to its inventory, which nobody else owns."""
    if lab is not None:
        spec = labs.with_host(lab.spec, name, old)
        with progress(form) as shown:
            lab.reshape(spec, shown)


def _unmake(lab: DockerLab | None, name: str, form: Format) -> None:
    if lab is not None:
        with progress(form) as shown:
            lab.reshape(labs.without_host(lab.spec, name), shown)


def _change(
    verb: str,
    playbook: str,
    extra_vars: dict[str, object],
    extra_var: Sequence[str] | None,
    done: str,
    inventory: Path | None,
    context: str | None,
    form: Format,
    *,
    check: bool,
    leaving: Sequence[str] = (),
    joining: Sequence[str] = (),
) -> None:
    hosts = inventory_of(inventory, context)
    extra_vars = {**extra_vars_of(extra_var or ()), **extra_vars}
    if check:
        done = "Nothing was changed."
        outcome = look(playbook, hosts, done, form, check=True, extra_vars=extra_vars)
        say(outcome.output())
        return
    steps = change_steps(groups(hosts), leaving, joining)
    outcome = act(verb, playbook, hosts, done, form, context, steps, extra_vars=extra_vars)
    remember_cluster(outcome, hosts, None if inventory else context)


@commands.command("add")
def add(
    hosts: HostArguments,
    later: LaterOption = None,
    allow_even: EvenOption = False,
    check: CheckOption = False,
    extra_var: VarsOption = None,
    inventory: InventoryOption = None,
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Set up hosts that the inventory has by now; those of a lab are made first.

    Other hosts are touched only where they must know: of an agent they learn its name.
    """
    with errors():
        form = chosen(output, as_json)
        lab = _lab_of(inventory, context)
        for host in hosts if not check else ():
            _make(lab, host, form)
        _change(
            "node add",
            "add_node",
            {
                "node": ",".join(hosts),
                "later": ",".join(later or ()),
                "node_allow_even": allow_even,
            },
            extra_var,
            f"{', '.join(hosts)}: part of the cluster.",
            inventory,
            context,
            form,
            check=check,
            joining=hosts,
        )


@commands.command("remove")
def remove(
    hosts: HostArguments,
    allow_even: EvenOption = False,
    check: CheckOption = False,
    extra_var: VarsOption = None,
    inventory: InventoryOption = None,
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Drain hosts, take them out of the cluster, and clean them; dead ones are told off only."""
    with errors():
        form = chosen(output, as_json)
        lab = _lab_of(inventory, context)
        _change(
            "node remove",
            "remove_node",
            {"node": ",".join(hosts), "node_allow_even": allow_even},
            extra_var,
            f"{', '.join(hosts)}: no part of the cluster any more.",
            inventory,
            context,
            form,
            check=check,
            leaving=hosts,
        )
        if not check:
            for host in hosts:
                _unmake(lab, host, form)


@commands.command("replace")
def replace(
    old: str,
    new: str,
    check: CheckOption = False,
    extra_var: VarsOption = None,
    inventory: InventoryOption = None,
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Put host NEW in the place of OLD, dead or alive, whatever it does.

    The quorum arithmetic comes first, and what would lose quorum is refused.
    """
    with errors():
        form = chosen(output, as_json)
        lab = _lab_of(inventory, context)
        if not check:
            _make(lab, new, form, old)
        _change(
            "node replace",
            "replace_node",
            {"old": old, "new": new},
            extra_var,
            f"{new} is in the place of {old}, which must not be switched on as it was.",
            inventory,
            context,
            form,
            check=check,
            leaving=[old],
            joining=[new],
        )
        if not check:
            _unmake(lab, old, form)
