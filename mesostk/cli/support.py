"""One archive of what support wants to see of a cluster: logs, configurations, states."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
import typer

import mesostk
from mesostk.cli.cluster import InventoryOption, inventory_of, run
from mesostk.cli.contexts import ContextOption
from mesostk.cli.output import (
    Format,
    FormatOption,
    JsonOption,
    chosen,
    errors,
    progress,
    show_record,
)
from mesostk.cli.runs import the_ledger
from mesostk.errors import MesostkError
from mesostk.ops.inventory import addresses
from mesostk.ops.paths import labs_dir

#: Runs of the ledger that go with it.
_RUNS = 50


def support_bundle(
    to: Annotated[
        Path | None,
        typer.Option("--to", help="The archive [default: mesostk-support-TIME.tar.gz]."),
    ] = None,
    lines: Annotated[int, typer.Option(help="Lines of each service's journal.", min=1)] = 2000,
    inventory: InventoryOption = None,
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Gather logs, configurations without secrets, and states of all hosts in one archive."""
    with errors():
        form = chosen(output, as_json)
        hosts = inventory_of(inventory, context)
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        top = f"mesostk-support-{stamp}"
        archive = to or Path(f"{top}.tar.gz")
        if archive.exists():
            raise MesostkError(f"{archive} exists: remove it, or name another with --to")
        with (
            tempfile.TemporaryDirectory(prefix="mesostk-support-") as name,
            progress(form) as shown,
        ):
            directory = Path(name)
            known = addresses(hosts)
            run(
                "support_bundle",
                hosts,
                shown,
                labs_dir() / "runs",
                extra_vars={"support_bundle_dir": name, "support_bundle_lines": lines},
            )
            missing = [host for host in known if not (directory / f"{host}.tar.gz").exists()]
            pack(
                archive,
                top,
                directory,
                {"about.json": _about(known, missing), "runs.json": _runs()},
            )
            shown.done(f"{archive}, {archive.stat().st_size >> 10} KiB")
        if form is not Format.TABLE:
            show_record({"archive": str(archive.absolute()), "missing": missing}, form)
        if missing:
            raise MesostkError(f"without {', '.join(missing)}, which could not be looked at")


def _about(hosts: Mapping[str, str], missing: list[str]) -> bytes:
    about = {
        "version": mesostk.__version__,
        "made_at": time.time(),
        "hosts": hosts,
        "missing": missing,
    }
    return msgspec.json.format(msgspec.json.encode(about), indent=2)


def _runs() -> bytes:
    """The last runs; what was secret in their command lines was never written down."""
    return msgspec.json.format(msgspec.json.encode(the_ledger().entries()[-_RUNS:]), indent=2)


def pack(archive: Path, top: str, hosts: Path, more: Mapping[str, bytes]) -> None:
    """One archive below `top` of `hosts/*.tar.gz`, a directory each, and of `more`; mode 0600.

    What a host sent is read as data: only plain files, by names that stay below its directory.
    """
    partial = archive.with_name(archive.name + ".part")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as out:
            for name, data in more.items():
                _add(out, f"{top}/{name}", data)
            for path in sorted(hosts.glob("*.tar.gz")):
                host = path.name.removesuffix(".tar.gz")
                with tarfile.open(path) as one:
                    for member in one:
                        content = one.extractfile(member) if member.isfile() else None
                        if content is not None and ".." not in Path(member.name).parts:
                            _add(out, f"{top}/{host}/{member.name.lstrip('/')}", content.read())
        shutil.move(partial, archive)
    finally:
        partial.unlink(missing_ok=True)


def _add(out: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(data), 0o600, int(time.time())
    out.addfile(member, io.BytesIO(data))
