"""Hosts of a running cluster: empty them for maintenance, add, remove and replace them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from mesostk.cli.completing import complete_host
from mesostk.cli.contexts import ContextOption
from mesostk.cli.output import Format, FormatOption, JsonOption, chosen, errors, progress, say
from mesostk.cli.runs import recorded, say_estimate, the_ledger
from mesostk.errors import ConfigError
from mesostk.ops import lab as labs
from mesostk.ops.inventory import groups
from mesostk.ops.rolling import change_steps

if TYPE_CHECKING:
    from mesostk.ops.docker_lab import DockerLab

commands = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Hosts of the cluster: add, remove, replace."
)

HostArguments = Annotated[list[str], typer.Argument(metavar="HOST…", autocompletion=complete_host)]
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


def _join(lab: DockerLab, names: Sequence[str], form: Format, *old: str) -> None:
    """Make hosts of a lab, or what of them an interrupted run left unmade; write the inventory."""
    for name in names:
        with progress(form) as shown:
            lab.reshape(labs.with_host(lab.spec, name, *old), shown, name)


def _leave(lab: DockerLab, names: Sequence[str], form: Format) -> None:
    """Remove hosts of a lab that are still there; write the inventory."""
    spec = lab.spec
    for name in names:
        spec = labs.without_host(spec, name)
    with progress(form) as shown:
        lab.reshape(spec, shown)


def _not_left(
    lab: DockerLab, verb: str, leaving: Sequence[str], joining: Sequence[str], hosts: Path
) -> Sequence[str]:
    """Those of `leaving` that are to leave the lab yet. Raises ConfigError for who is not in it.

    A lab's host is removed when all else is done, and is in no inventory then: a playbook that runs
    again after an interruption could not find it.
    """
    there = {host.name for host in lab.spec.hosts()}
    was_cut_off = there.issuperset(joining) and the_ledger().was_cut_off(
        verb, (*leaving, *joining), str(hosts.absolute())
    )
    left = [name for name in leaving if name in there or not was_cut_off]
    for name in left:
        labs.named(lab.spec, name)
    for name in joining:
        labs.with_host(lab.spec, name, *left)
    return left


def _change(
    verb: str,
    playbook: str,
    variables: Callable[[Sequence[str]], dict[str, object]],
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
    """Run the playbook with `variables`, which depend on who is to leave.

    Hosts of a lab are made before it and removed after it.
    """
    given = extra_vars_of(extra_var or ())
    lab = _lab_of(inventory, context)
    hosts = inventory_of(inventory, context)
    if check:
        given |= variables(leaving)
        unchanged = "Nothing was changed."
        say(look(playbook, hosts, unchanged, form, check=True, extra_vars=given).output())
        return
    left = leaving if lab is None else _not_left(lab, verb, leaving, joining, hosts)
    with recorded(verb, context=context, inventory=hosts) as entry:
        if lab is not None:
            _join(lab, joining, form, *left)
        if left or not leaving:
            if form is Format.TABLE:
                say_estimate(verb, hosts, change_steps(groups(hosts), left, joining))
            given |= variables(left)
            outcome = look(playbook, hosts, done, form, entry=entry, extra_vars=given)
            remember_cluster(outcome, hosts, None if inventory else context)
        else:
            say(f"{done} An interrupted run had done all but this.")
        if lab is not None and leaving:
            _leave(lab, left, form)


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
        _change(
            "node add",
            "add_node",
            lambda _left: {
                "node": ",".join(hosts),
                "later": ",".join(later or ()),
                "node_allow_even": allow_even,
            },
            extra_var,
            f"{', '.join(hosts)}: part of the cluster.",
            inventory,
            context,
            chosen(output, as_json),
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
        _change(
            "node remove",
            "remove_node",
            lambda left: {"node": ",".join(left), "node_allow_even": allow_even},
            extra_var,
            f"{', '.join(hosts)}: no part of the cluster any more.",
            inventory,
            context,
            chosen(output, as_json),
            check=check,
            leaving=hosts,
        )


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
        _change(
            "node replace",
            "replace_node",
            lambda _left: {"old": old, "new": new},
            extra_var,
            f"{new} is in the place of {old}, which must not be switched on as it was.",
            inventory,
            context,
            chosen(output, as_json),
            check=check,
            leaving=[old],
            joining=[new],
        )
