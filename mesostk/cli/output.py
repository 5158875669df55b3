"""How the command talks: tables, JSON, progress, errors. Colours only on a terminal."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from mesostk.errors import ConfigError, MesostkError
from mesostk.ops.progress import Lines, Progress, Silent

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

FAILED, USAGE, INTERRUPTED = 1, 2, 130


class Format(StrEnum):
    """What `-o` takes."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


#: The options that every command which prints something has.
FormatOption = Annotated[
    Format, typer.Option("-o", "--output", help="How to print: for people or for programs.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Short for -o json.")]


def chosen(output: Format, as_json: bool) -> Format:
    """The format that the two options mean together."""
    return Format.JSON if as_json else output


def console(*, error: bool = False) -> Console:
    """A console on standard output, or on standard error."""
    from rich.console import Console

    return Console(stderr=error, highlight=False, soft_wrap=False)


#: What drives a terminal: C0 but for tab and end of line, DEL, C1.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}


def printable(text: str) -> str:
    """Text with control characters spelled out: some of it was written by strangers."""
    return text.translate(_CONTROLS)


def tell(text: str) -> None:
    """A line of the result."""
    print(printable(text))


class Table:
    """Rows for people, records for programs: `columns` are shown, `records` are the whole truth."""

    def __init__(self, columns: Sequence[str], name: str) -> None:
        self.columns = columns
        self._name = name
        self.rows: list[Sequence[str]] = []
        self.records: list[dict[str, object]] = []

    def add(self, row: Sequence[str], record: dict[str, object]) -> None:
        """One entry in both forms; `record[name]` is what `-o name` prints."""
        self.rows.append(row)
        self.records.append(record)

    def show(self, output: Format, empty: str) -> None:
        """Print in the chosen format; `empty` is what people read where there is nothing."""
        if output is Format.NAME:
            for record in self.records:
                tell(str(record[self._name]))
        elif output is not Format.TABLE:
            show_record(self.records, output)
        elif self.rows:
            print_table(self.columns, self.rows)
        else:
            tell(empty)


#: Of a task or an instance of Marathon: of which app, the beginning of its own name, and the
#: container of a pod.
_LONG_ID = re.compile(
    r"(?P<app>.+)\.instance-(?P<own>[0-9a-f]{8})-[0-9a-f-]{27}(?:\.(?P<part>[a-z0-9_-]+)\.\d+)?"
)


def short_id(id: str) -> str:
    """`web.25ef0930` for a long id, as lists on a terminal show it and other commands take it."""
    found = _LONG_ID.fullmatch(id)
    if found is None:
        return id
    part = found["part"]
    return f"{found['app']}.{found['own']}" + (f".{part}" if part and part != "_app" else "")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table that fits the terminal; on a pipe, all of every cell.

    What is shown is shown whole, to be copied: text is wrapped between words, and columns for
    which there is no room then are left out, and named below.
    """
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    out = console()
    rows = [[printable(cell) for cell in row] for row in rows]
    if out.is_terminal:
        rows = [[short_id(cell) for cell in row] for row in rows]
        widths = fitting(
            [_widths(column) for column in zip(columns, *rows, strict=True)], out.width
        )
    else:
        whole = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
        widths, out.width = dict(enumerate(whole)), 4096
    table = RichTable(
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold"
    )
    for column, width in widths.items():
        table.add_column(columns[column], overflow="fold", width=width)
    for row in rows:
        table.add_row(*(Text(row[column], style=style_of(row[column])) for column in widths))
    out.print(table)
    hidden = ", ".join(name for at, name in enumerate(columns) if at not in widths)
    if hidden:
        out.print(f"{hidden}: no room here; a wider terminal or -o json shows them", style="dim")


def _widths(column: Sequence[str]) -> tuple[int, int]:
    """How wide a column is, and how narrow it may be: as its longest word."""
    words = (word for cell in column for word in cell.split())
    return max(map(len, column)), max(map(len, words), default=0)


#: Blanks between two columns.
_GAP = 2


def fitting(widths: Sequence[tuple[int, int]], room: int) -> dict[int, int]:
    """The columns that fit into `room`, gaps and all, and how wide each is; the first always does.

    Those before have the first say. Each is between its two `widths`, the widest narrowed first.
    """
    least: dict[int, int] = {}
    for column, (_, narrow) in enumerate(widths):
        if not least or sum(least.values()) + narrow + _GAP * (len(least) + 1) <= room:
            least[column] = narrow
    found = {column: widths[column][0] for column in least}
    over = sum(found.values()) + _GAP * len(found) - room
    while over > 0 and found != least:
        widest = max(found, key=lambda column: (found[column] > least[column], found[column]))
        found[widest] -= 1
        over -= 1
    return found if over <= 0 else {0: max(1, room - _GAP)}


_STYLES = {
    "running": "green",
    "healthy": "green",
    "active": "green",
    "leading": "bold green",
    "unhealthy": "red",
    "failed": "red",
    "lost": "red",
    "broken": "red",
    "unreachable": "red",
    "missing": "red",
    "partitioned": "yellow",
    "stopped": "yellow",
    "deploying": "yellow",
    "staging": "yellow",
    "waiting": "yellow",
}


def style_of(cell: str) -> str:
    """Colour of a cell that is one of the states everybody knows."""
    return _STYLES.get(cell.partition(" ")[0], "")


def show_record(record: object, output: Format) -> None:
    """Anything JSON-like, for programs."""
    if output is Format.YAML:
        import yaml

        print(yaml.safe_dump(record, sort_keys=False), end="")
    else:
        print(json.dumps(record, indent=2))


def say(text: str) -> None:
    """A line for people, on standard error so that standard output stays for results."""
    _say(printable(text))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def fail(message: str, code: int = FAILED) -> NoReturn:
    """One clear line, and the exit code."""
    red, plain = ("\033[31m", "\033[0m") if _coloured() else ("", "")
    _say(f"{red}error:{plain} {printable(message)}")
    raise typer.Exit(code)


def _coloured() -> bool:
    return sys.stderr.isatty() and "NO_COLOR" not in os.environ


@contextmanager
def errors() -> Iterator[None]:
    """Turns what is expected to go wrong into one line and an exit code."""
    try:
        yield
    except ConfigError as error:
        fail(str(error), USAGE)
    except MesostkError as error:
        fail("\n".join([str(error), *getattr(error, "__notes__", ())]))
    except KeyboardInterrupt:
        say("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(FAILED) from None
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        _fail_by_answer(error)
    except OSError as error:
        # A file or a directory of ours; the message has its path.
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _plain(text: str) -> str:
    """As rich shows it character by character."""
    from rich.markup import escape

    return escape(printable(text))


def _fail_by_answer(error: Exception) -> NoReturn:
    """Say where an answer came from that was JSON and not what it should be.

    Any answer may be wrong in any of its parts, which shows where a command uses it. Before the
    first answer, and where somebody asked for it, the error is shown as what it may be: a defect.
    """
    from mesostk.cli.clients import Members

    if Members.last_answer is None or "MESOSTK_TRACEBACK" in os.environ:
        raise error
    what = f"there is no {error}" if isinstance(error, KeyError) else str(error)
    fail(
        f"{Members.last_answer} or an answer before it was not as expected ({what}): does the "
        "address belong to this cluster? `mesostk context list` has all. If it does, this is a "
        "defect: MESOSTK_TRACEBACK=1 shows where"
    )


class Spinner:
    """Progress on a terminal: a line for each step with its seconds, the present one alive."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._console = console(error=True)
        self._monotonic = monotonic
        self._status: Status = self._console.status("")
        self._status.start()
        self._step = ""
        self._since = monotonic()

    def _end_step(self, mark: str) -> None:
        if self._step:
            seconds = self._monotonic() - self._since
            self._console.print(f"{mark} {_plain(self._step)} [dim]{seconds:.1f} s[/dim]")

    def step(self, name: str) -> None:
        """End the step before, begin this one."""
        self._end_step("[green]✔[/green]")
        self._step, self._since = name, self._monotonic()
        self._status.update(_plain(name))

    def detail(self, text: str) -> None:
        """What the step is at."""
        self._status.update(f"{_plain(self._step)}: [dim]{_plain(text)}[/dim]")

    def live(self, text: str) -> None:
        """What the step is at this moment."""
        self.detail(text)

    def note(self, text: str) -> None:
        """A line that stays."""
        self._console.print(f"  {printable(text)}", markup=False)

    def done(self, summary: str) -> None:
        """The operation has ended well."""
        self._end_step("[green]✔[/green]")
        self._step = ""
        self._console.print(printable(summary), markup=False)

    def close(self, *, failed: bool) -> None:
        """Give the terminal back."""
        self._end_step("[red]✘[/red]" if failed else "[green]✔[/green]")
        self._step = ""
        self._status.stop()


@contextmanager
def progress(output: Format = Format.TABLE) -> Iterator[Progress]:
    """A spinner on a terminal, lines on a pipe, nothing for programs."""
    if output is not Format.TABLE:
        yield Silent()
    elif not sys.stderr.isatty():
        yield Lines(sys.stderr)
    else:
        spinner = Spinner()
        try:
            yield spinner
        except BaseException:
            spinner.close(failed=True)
            raise
        spinner.close(failed=False)


def ago(seconds: float) -> str:
    """A duration in one or two units: `45 s`, `3 min`, `2 h 5 min`, `4 d`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d"
