"""Another release on every host, newer or older, and what runs where."""

from __future__ import annotations

from typing import Annotated

import typer

import mesostk
from mesostk.cli import backup
from mesostk.cli.cluster import (
    CheckOption,
    DiffOption,
    InventoryOption,
    LimitOption,
    TagsOption,
    VarsOption,
    extra_vars_of,
    inventory_of,
    look,
    show,
)
from mesostk.cli.contexts import ContextOption
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
from mesostk.cli.runs import recorded, say_estimate
from mesostk.ops.inventory import groups
from mesostk.ops.rolling import upgrade_steps

_VERB = "cluster upgrade"


def upgrade(
    to: Annotated[
        str, typer.Option("--to", help="Release, also an older one; this one if not given.")
    ] = "",
    backed_up: Annotated[
        bool, typer.Option("--backup/--no-backup", help="Make a backup in ./backups first.")
    ] = True,
    inventory: InventoryOption = None,
    limit: LimitOption = None,
    tags: TagsOption = None,
    check: CheckOption = False,
    diff: DiffOption = False,
    extra_var: VarsOption = None,
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Bring every host to another release, one at a time, while the tasks run on.

    Stops at the first host that does not become healthy; an older release is the way back.
    """
    with errors():
        form = chosen(output, as_json)
        hosts = inventory_of(inventory, context)
        variables = {**extra_vars_of(extra_var or ()), "mesostk_version": to}
        options: dict[str, object] = {
            "limit": limit or (),
            "tags": tags or (),
            "diff": diff,
            "extra_vars": variables,
        }
        if check:
            outcome = look("upgrade", hosts, "Nothing was changed.", form, check=True, **options)
        else:
            if form is Format.TABLE:
                serial = str(variables.get("upgrade_agents_serial", "20%"))
                say_estimate(_VERB, hosts, upgrade_steps(groups(hosts), serial))
            with recorded(_VERB, context=context, inventory=hosts) as entry:
                if backed_up:
                    with progress(form) as shown:
                        file, _ = backup.take(hosts, None, shown, entry)
                        shown.done(f"Backup: {file}")
                done = f"Every host runs {to or f'mesostk {mesostk.__version__}'}."
                outcome = look("upgrade", hosts, done, form, entry=entry, **options)
        if diff or check:
            say(outcome.output())
        show(outcome, form)


def facts(
    inventory: InventoryOption = None,
    limit: LimitOption = None,
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Show what each host is and runs: system, Python, release, services."""
    with errors():
        form = chosen(output, as_json)
        hosts = inventory_of(inventory, context)
        outcome = look("facts", hosts, "The hosts were asked.", form, limit=limit or ())
        table = Table(("HOST", "SYSTEM", "PYTHON", "RELEASE", "FREE MIB", "SERVICES"), "host")
        for host, told in sorted(outcome.told.get("cluster_facts", {}).items()):
            services = " ".join(
                one["name"] + {"leader": "*", "failing": "!"}.get(one["place"], "")
                for one in told["services"]
            )
            row = (told["system"], told["python"], told["release"], str(told["free_mib"]), services)
            table.add((host, *row), {"host": host, **told})
        table.show(form, "No host answers.")
