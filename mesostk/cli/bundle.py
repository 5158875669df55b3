"""Bundles: everything an installation needs, for hosts without a way out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mesostk.cli.output import Format, FormatOption, JsonOption, Table, chosen, errors, progress
from mesostk.ops import bundle
from mesostk.ops.paths import bundles_dir, wheelhouse_dir

commands = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="All that an installation takes from elsewhere, as one file.",
)


@commands.command("create")
def create(
    target: Annotated[
        Path, typer.Option("--to", help="The file; some 300 MB without images.")
    ] = Path("mesostk-bundle.tar"),
    image: Annotated[
        list[str] | None, typer.Option("--image", help="Also this image of the local engine.")
    ] = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Fetch packages, wheels and images for hosts of this machine's release; needs a network."""
    with errors():
        form = chosen(output, as_json)
        with progress(form) as shown:
            lock = bundle.create(target, wheelhouse_dir(), image or (), shown)
            shown.done(f"Install from it with: mesostk cluster deploy --bundle {target}")
        _show(lock, form)


@commands.command("show")
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The bundle.")],
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Check every sum of a bundle, and say what it is for."""
    with errors():
        _, lock = bundle.open_bundle(file, bundles_dir())
        _show(lock, chosen(output, as_json))


def _show(lock: bundle.Lock, form: Format) -> None:
    table = Table(("RELEASE", "DEBIAN", "MACHINE", "PYTHON", "PACKAGES", "IMAGES"), "release")
    table.add(
        (
            lock.release,
            lock.debian,
            lock.machine,
            lock.python,
            str(len(lock.debs)),
            ", ".join(lock.images) or "-",
        ),
        {
            "release": lock.release,
            "debian": lock.debian,
            "machine": lock.machine,
            "python": lock.python,
            "debs": lock.debs,
            "images": list(lock.images),
            "files": lock.files,
        },
    )
    table.show(form, "")
