"""Backups: what the cluster knows, as one file, and back."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

import mesostk
from mesostk.cli import cluster, contexts
from mesostk.cli.clients import Marathon, Masters
from mesostk.cli.cluster import InventoryOption
from mesostk.cli.contexts import ContextOption
from mesostk.cli.output import (
    Format,
    FormatOption,
    JsonOption,
    Table,
    ago,
    chosen,
    errors,
    progress,
    say,
)
from mesostk.cli.runs import recorded
from mesostk.errors import ConfigError, MesostkError
from mesostk.ops import backup, ledger
from mesostk.ops.backup import Contents, Manifest
from mesostk.ops.inventory import addresses
from mesostk.ops.lab import Lab, LabSpec, plan
from mesostk.ops.paths import labs_dir
from mesostk.ops.progress import Progress

commands = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="What the cluster knows, as one file."
)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]

#: The scratch lab of `verify`; no name that somebody would give to a lab that is to stay.
_SCRATCH = LabSpec(
    driver="docker", name="bkcheck", masters=1, agents=1, subnet="10.0.39.0/24", isolated=True
)


@commands.command("create")
def create(
    target: Annotated[
        Path | None,
        typer.Option("--to", help="The file; by default backups/CLUSTER-TIME.tar.gz here."),
    ] = None,
    inventory: InventoryOption = None,
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Take a backup: records of masters and Marathon, configurations, inventory. Stops nothing."""
    with errors():
        form = chosen(output, as_json)
        hosts = cluster.inventory_of(inventory, context)
        with (
            recorded("backup create", context=context, inventory=hosts) as entry,
            progress(form) as shown,
        ):
            made, manifest = take(hosts, target, shown, entry)
            shown.done(f"{made} holds secrets: keep it where only operators read.")
        _show(manifest, form)


def take(
    inventory: Path, target: Path | None, shown: Progress, entry: ledger.Run | None = None
) -> tuple[Path, Manifest]:
    """Make a backup of the inventory's cluster; its file and what is in it."""
    now = time.time()
    name = cluster.context_name(inventory)
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    file = target if target is not None else Path("backups") / f"{name}-{stamp}.tar.gz"
    with tempfile.TemporaryDirectory(prefix="mesostk-backup-") as scratch:
        directory = Path(scratch)
        cluster.run(
            "backup",
            inventory,
            shown,
            labs_dir() / "runs",
            extra_vars={"backup_dir": scratch},
            entry=entry,
        )
        backup.add_inventory(directory, inventory)
        shown.step("Checking and packing what was taken")
        backup.check_stores(directory)
        manifest = backup.pack(
            directory,
            file,
            cluster=name,
            version=mesostk.__version__,
            taken_at=now,
            hosts=sorted(addresses(inventory)),
        )
    return file, manifest


def _show(manifest: Manifest, form: Format) -> None:
    table = Table(("STORE", "AT", "RECORDS", "EPOCH"), "store")
    for name, one in manifest.stores.items():
        record = {
            "store": name,
            "root": one.root,
            "records": one.records,
            "epoch": one.counter,
            "cluster_id": one.cluster_id,
            "taken_at": one.taken_at,
        }
        table.add((name, one.root, str(one.records), str(one.counter)), record)
    table.show(form, "The backup has no store.")
    if form is Format.TABLE:
        say(f"\nConfiguration of {len(manifest.hosts)} hosts: {', '.join(manifest.hosts)}")
        if manifest.missing:
            say(
                f"Without {', '.join(manifest.missing)}: no answer. Their tasks go on all the same."
            )


@commands.command("show")
def show(
    file: FileArgument, output: FormatOption = Format.TABLE, as_json: JsonOption = False
) -> None:
    """Say what a backup holds, and whether it is whole."""
    with errors(), tempfile.TemporaryDirectory(prefix="mesostk-backup-") as scratch:
        form = chosen(output, as_json)
        manifest = backup.unpack(file, Path(scratch))
        contents = backup.check_stores(Path(scratch))
        _show(manifest, form)
        if form is Format.TABLE:
            say(
                f"{len(contents.apps)} apps, {len(contents.agents)} agents, taken"
                f" {ago(time.time() - manifest.taken_at)} by mesostk {manifest.version}."
            )


@commands.command("verify")
def verify(
    file: FileArgument,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Restore a backup into a scratch cluster without a way out, compare, and take that away."""
    with errors(), tempfile.TemporaryDirectory(prefix="mesostk-backup-") as scratch:
        form = chosen(output, as_json)
        directory = Path(scratch)
        manifest = backup.unpack(file, directory)
        expected = backup.check_stores(directory)
        lab = plan(_SCRATCH)
        with progress(form) as shown:
            try:
                found = _restored(lab, directory, shown)
            finally:
                lab.down(shown, purge=False)
            _compare(expected, found)
            shown.done(f"{file} restores: {len(found.apps)} apps.")
        _show(manifest, form)


def _restored(lab: Lab, directory: Path, shown: Progress) -> Contents:
    """What the daemons of a scratch cluster tell once the backup is restored into it."""
    lab.up(shown)
    inventory = lab.state_dir / "inventory"
    runs = lab.state_dir / "runs"
    cluster.run("site", inventory, shown, runs)
    cluster.run(
        "restore",
        inventory,
        shown,
        runs,
        extra_vars={"restore_dir": str(directory), "restore_verify": False},
    )
    shown.step("Asking what was restored")
    endpoints = lab.endpoints()
    context = contexts.Context(
        masters=list(endpoints.masters), marathons=list(endpoints.marathons), lab=lab.spec.name
    )
    apps = frozenset(str(app["id"]) for app in Marathon(context).apps())
    known = Masters(context).call("GET", "/slaves")
    agents = frozenset(str(one["id"]) for one in (*known["slaves"], *known["recovered_slaves"]))
    return Contents(apps=apps, agents=agents)


def _compare(expected: Contents, found: Contents) -> None:
    for what, lost in (
        ("apps", expected.apps - found.apps),
        ("agents", expected.agents - found.agents),
    ):
        if lost:
            raise MesostkError(f"the scratch cluster lacks {what}: {', '.join(sorted(lost))}")


@commands.command("restore")
def restore(
    file: FileArgument,
    inventory: InventoryOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for the cluster's name.")] = False,
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Bring masters and Marathon back to a backup. Agents and tasks go on."""
    with errors(), tempfile.TemporaryDirectory(prefix="mesostk-backup-") as scratch:
        form = chosen(output, as_json)
        hosts = cluster.inventory_of(inventory, context)
        directory = Path(scratch)
        manifest = backup.unpack(file, directory)
        contents = backup.check_stores(directory)
        name = cluster.context_name(hosts)
        if not yes:
            _ask(name, manifest, contents)
        with (
            recorded("backup restore", context=context, inventory=hosts) as entry,
            progress(form) as shown,
        ):
            cluster.run(
                "restore",
                hosts,
                shown,
                labs_dir() / "runs",
                extra_vars={"restore_dir": scratch},
                entry=entry,
            )
            shown.done(f"The cluster is what it was {ago(time.time() - manifest.taken_at)}.")
        _show(manifest, form)


def _ask(name: str, manifest: Manifest, contents: Contents) -> None:
    say(
        f"{name} goes back to {len(contents.apps)} apps and {len(contents.agents)} agents, as they"
        f" were {ago(time.time() - manifest.taken_at)} in {manifest.cluster}.\n"
        "Masters and Marathon stand still meanwhile; tasks that were started since are ended."
    )
    if typer.prompt("The cluster's name, to go on") != name:
        raise ConfigError("that is not its name: nothing was changed")
