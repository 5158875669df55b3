"""Which cluster a command talks to.

A context is a name for a cluster's addresses; `lab up` and `cluster deploy` write one, so that no
URL need be typed. Kept in `~/.config/mesostk/contexts.json` (`MESOSTK_CONFIG` names another file);
`--context` and `MESOSTK_CONTEXT` choose one for a single command.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from mesostk.base import regular
from mesostk.base.flagtext import decode_json
from mesostk.cli.output import Format, FormatOption, JsonOption, Table, chosen, errors, say
from mesostk.errors import ConfigError

commands = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Clusters that this command knows."
)


class Context(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Addresses of one cluster: base URLs, any member of a kind is as good as another."""

    masters: list[str]
    marathons: list[str]
    inventory: str = ""
    lab: str = ""
    #: HTTP interfaces of Mesos-DNS and of the load balancers; empty: beside masters and Marathons.
    dns: list[str] = []
    balancers: list[str] = []
    #: Path of a file with principal and secret, where the cluster asks for them.
    credential: str = ""


class Contexts(msgspec.Struct, kw_only=True):
    """The whole file."""

    current: str = ""
    contexts: dict[str, Context] = msgspec.field(default_factory=dict)


def config_path() -> Path:
    """The file that contexts are kept in."""
    if named := os.environ.get("MESOSTK_CONFIG"):
        return Path(named)
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "mesostk" / "contexts.json"


def load() -> Contexts:
    """What is known; empty at first. Raises ConfigError if the file is not what was written."""
    path = config_path()
    try:
        return decode_json(regular.read(path), Contexts)
    except FileNotFoundError:
        return Contexts()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; correct or remove it") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise ConfigError(f"{path}: {error}; correct or remove it") from error


def save(known: Contexts) -> None:
    """Replace the file."""
    path = config_path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    try:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(known), indent=2) + b"\n")
        partial.chmod(0o600)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def remember(name: str, context: Context) -> None:
    """Add or replace a context and make it the current one."""
    known = load()
    known.contexts[name] = context
    known.current = name
    save(known)


def forget(name: str) -> None:
    """Remove a context; nothing happens where there is none."""
    known = load()
    if known.contexts.pop(name, None) is not None:
        if known.current == name:
            known.current = ""
        save(known)


def current(named: str | None = None) -> Context:
    """The context to use. Raises ConfigError, with the remedy, where there is none."""
    known = load()
    name = current_name(named)
    if name is None:
        have = f"; known: {', '.join(known.contexts)}" if known.contexts else ""
        raise ConfigError(
            "no cluster is chosen: `mesostk lab up` makes one, "
            f"`mesostk context use NAME` chooses one{have}"
        )
    if name not in known.contexts:
        have = ", ".join(known.contexts) or "none"
        raise ConfigError(f"context {name!r} is not known (known: {have})")
    return known.contexts[name]


def current_name(named: str | None = None) -> str | None:
    """Name of the context to use, known or not; None where none is chosen."""
    return named or os.environ.get("MESOSTK_CONTEXT") or load().current or None


def complete(incomplete: str) -> list[str]:
    """Names for tab completion."""
    try:
        return [name for name in load().contexts if name.startswith(incomplete)]
    except ConfigError:
        return []


ContextOption = Annotated[
    str | None,
    typer.Option(
        "--context", help="Cluster to talk to instead of the current one.", autocompletion=complete
    ),
]


@commands.command("list")
def list_contexts(output: FormatOption = Format.TABLE, as_json: JsonOption = False) -> None:
    """List the known clusters."""
    with errors():
        known = load()
        table = Table(("", "NAME", "MARATHON", "MASTERS"), "name")
        for name, context in known.contexts.items():
            mark = "*" if name == known.current else ""
            record = {"name": name, "current": bool(mark), **msgspec.to_builtins(context)}
            table.add((mark, name, " ".join(context.marathons), " ".join(context.masters)), record)
        table.show(chosen(output, as_json), "No cluster is known; `mesostk lab up` makes one.")


@commands.command("use")
def use(name: Annotated[str, typer.Argument(autocompletion=complete)]) -> None:
    """Choose the cluster that commands talk to."""
    with errors():
        current(name)
        known = load()
        known.current = name
        save(known)
        say(f"Commands talk to {name} now.")


@commands.command("add")
def add(
    name: str,
    marathon: Annotated[list[str], typer.Option(help="Marathon's URL; may be given repeatedly.")],
    master: Annotated[list[str], typer.Option(help="A master's URL; may be given repeatedly.")],
    dns: Annotated[
        list[str] | None, typer.Option(help="URL of a Mesos-DNS, port 8123; else on the masters.")
    ] = None,
    lb: Annotated[
        list[str] | None, typer.Option(help="URL of a balancer, port 9090; else beside Marathon.")
    ] = None,
    credential: Annotated[
        str, typer.Option(help='File of {"principal":…,"secret":…}, where the cluster asks for it.')
    ] = "",
) -> None:
    """Make a cluster known that was not made by this command."""
    with errors():
        given = (master, marathon, dns or [], lb or [])
        for url in (url for urls in given for url in urls):
            if not url.startswith(("http://", "https://")):
                raise ConfigError(f"{url!r} is no URL; write http://HOST:PORT")
        masters, marathons, names, balancers = [[url.rstrip("/") for url in urls] for urls in given]
        path = str(Path(credential).expanduser().absolute()) if credential else ""
        if path and not Path(path).is_file():
            raise ConfigError(f"credential {path}: there is no such file")
        remember(
            name,
            Context(
                masters=masters,
                marathons=marathons,
                dns=names,
                balancers=balancers,
                credential=path,
            ),
        )
        say(f"Commands talk to {name} now.")


@commands.command("remove")
def remove(name: Annotated[str, typer.Argument(autocompletion=complete)]) -> None:
    """Forget a cluster; the cluster itself is left alone."""
    with errors():
        current(name)
        forget(name)
