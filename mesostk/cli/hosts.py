"""Hosts of a running cluster: empty them for maintenance, add, remove and replace them."""

from __future__ import annotations

from typing import Annotated

import typer

from mesostk.cli.cluster import InventoryOption, act, inventory_of
from mesostk.cli.contexts import ContextOption
from mesostk.cli.output import Format, FormatOption, JsonOption, chosen, errors

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
