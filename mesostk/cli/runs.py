"""The run ledger: what was changed by whom, and running again what did not end well."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer

import mesostk
from mesostk.cli import contexts
from mesostk.cli.output import (
    INTERRUPTED,
    Format,
    FormatOption,
    JsonOption,
    Table,
    ago,
    chosen,
    errors,
    print_table,
    say,
    show_record,
)
from mesostk.errors import ConfigError, MesostkError
from mesostk.ops import ledger
from mesostk.ops.ledger import Entry, Ledger, Run
from mesostk.ops.paths import ledger_dir

commands = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="What was changed, by whom, when."
)


def the_ledger() -> Ledger:
    """The ledger of this machine, or the one that MESOSTK_LEDGER_DIR names."""
    return Ledger(ledger_dir())


@contextmanager
def recorded(
    verb: str, *, context: str | None = None, inventory: Path | str | None = None
) -> Iterator[Run]:
    """Write the run down before the work begins, and how it ended after it.

    Goes inside `errors()`. A failure keeps its type and gains a note that names the run.
    """
    run = the_ledger().begin(
        verb,
        sys.argv[1:],
        version=mesostk.__version__,
        context=contexts.current_name(context) or "",
        inventory=str(Path(inventory).absolute()) if inventory else "",
    )
    with run:
        try:
            yield run
        except typer.Exit as error:
            run.end(_OUTCOMES.get(error.exit_code, "failed"))
            raise
        except KeyboardInterrupt:
            run.end("interrupted", "by the keyboard")
            say(f"run {run.id}: go on with `mesostk runs resume {run.id}`")
            raise
        except Exception as error:
            run.end("failed", str(error))
            if not isinstance(error, ConfigError):
                error.add_note(f"run {run.id}; once mended: `mesostk runs resume {run.id}`")
            raise
        run.end("done")


#: The longest steps that an estimate names.
_STEPS_NAMED = 3

_OUTCOMES: dict[int, ledger.Outcome] = {0: "done", INTERRUPTED: "interrupted"}


def say_estimate(verb: str, inventory: Path, steps: Mapping[str, int] | None = None) -> None:
    """How long it takes: by `steps` (name → how often), else as it took before; silence where
    nothing is known."""
    entries, where = the_ledger().entries(), str(inventory.absolute())
    if steps is not None:
        by_step = ledger.estimate_steps(entries, steps, where)
        if by_step.runs:
            say(estimate_text(by_step))
            return
    found = ledger.estimate_run(entries, verb, where)
    if found is not None:
        times = f"the last {found.runs} times" if found.runs > 1 else "the last time"
        say(f"This took {ago(found.seconds)} {times}.")


def estimate_text(time: ledger.Estimate) -> str:
    """An estimate by steps as a sentence that names the longest of them."""
    longest = sorted(time.steps, key=lambda one: -one.seconds * one.times)[:_STEPS_NAMED]
    parts = [
        f"{one.name} {f'{one.times} × ' if one.times > 1 else ''}{ago(one.seconds)}"
        for one in longest
    ]
    rest = f"; never done before: {', '.join(time.unknown)}" if time.unknown else ""
    return f"About {ago(time.seconds)}: {', '.join(parts)}{rest}."


def complete_run(incomplete: str) -> list[str]:
    """Ids of runs for tab completion, the newest first."""
    found = reversed(the_ledger().entries())
    return [one.id for one in found if one.id.startswith(incomplete)][:50]


RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="Its id, or the beginning or end of it.", autocompletion=complete_run
    ),
]


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _took(entry: Entry) -> str:
    return "-" if entry.seconds is None else ago(entry.seconds)


@commands.command("list")
def list_runs(
    number: Annotated[int, typer.Option("-n", help="How many, the newest last.", min=1)] = 20,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """List what was changed, the newest last."""
    with errors():
        book = the_ledger()
        table = Table(("RUN", "STARTED", "WHO", "COMMAND", "OUTCOME", "TOOK", "CHANGED"), "id")
        for one in book.entries()[-number:]:
            command = " ".join(one.arguments)
            row = (one.id, _when(one.started_at), one.who, command, one.outcome, _took(one))
            table.add((*row, str(one.changed)), msgspec.to_builtins(one))
        table.show(chosen(output, as_json), "Nothing was changed from here yet.")
        if book.unreadable:
            raise MesostkError("unreadable, remove them: " + "; ".join(book.unreadable))


@commands.command("show")
def show_run(
    run: RunArgument, output: FormatOption = Format.TABLE, as_json: JsonOption = False
) -> None:
    """Show one run: command, outcome, steps with their times, logs."""
    with errors():
        entry = the_ledger().find(run)
        form = chosen(output, as_json)
        if form is Format.NAME:
            print(entry.id)
        elif form is not Format.TABLE:
            show_record(msgspec.to_builtins(entry), form)
        else:
            _describe(entry)


def _describe(entry: Entry) -> None:
    rows = [
        ("run", entry.id),
        ("command", "mesostk " + " ".join(entry.arguments)),
        ("in", f"{entry.directory} on {entry.machine}, mesostk {entry.version}"),
        ("by", entry.who),
        ("started", _when(entry.started_at)),
        ("outcome", f"{entry.outcome} after {_took(entry)}".removesuffix(" after -")),
        ("hosts", f"{entry.hosts}, {entry.changed} changes" if entry.hosts else ""),
        ("context", entry.context),
        ("inventory", entry.inventory),
        ("resumes", entry.resumes),
    ]
    for name, value in rows:
        if value:
            print(f"{name:<10} {value}")
    for path in entry.logs:
        gone = "" if Path(path).exists() else " (removed since: the newest 20 are kept)"
        print(f"{'log':<10} {path}{gone}")
    if entry.message:
        print(f"\n{entry.message}")
    if entry.steps:
        print_table(("STEP", "TOOK"), [(one.name, f"{one.seconds:.1f} s") for one in entry.steps])
    if entry.outcome in ("failed", "interrupted"):
        why = ledger.why_not_resumed(entry)
        say(why if why is not None else f"Go on with `mesostk runs resume {entry.id}`.")


@commands.command("resume")
def resume(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="The newest that failed or was interrupted if not given.",
            autocompletion=complete_run,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the command only.")] = False,
) -> None:
    """Run again what failed or was interrupted; what it has done already is left alone."""
    with errors():
        book = the_ledger()
        entry = book.last_unfinished() if run is None else book.find(run)
        why = ledger.why_not_resumed(entry)
        if why is not None:
            raise MesostkError(why)
        say(f"In {entry.directory}: mesostk {' '.join(entry.arguments)}")
        if dry_run:
            return
        try:
            os.chdir(entry.directory)
        except OSError as error:
            raise ConfigError(f"{entry.directory}, where run {entry.id} was: {error}") from error
        environ = {
            **os.environ,
            "MESOSTK_RESUMES": entry.id,
            "MESOSTK_LEDGER_DIR": str(ledger_dir()),
        }
        if entry.context:
            environ["MESOSTK_CONTEXT"] = entry.context
        # The same command in a process of its own: nothing of this one can be in its way.
        again = [sys.executable, "-m", "mesostk", *entry.arguments]
        os.execve(again[0], again, environ)  # noqa: S606 # no shell is wanted
