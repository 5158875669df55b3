"""Clusters of real hosts: the playbooks, with progress and clear failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from mesostk.cli import contexts
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
from mesostk.errors import ConfigError, MesostkError
from mesostk.ops import bundle, ledger
from mesostk.ops.ansible import Outcome, run_playbook
from mesostk.ops.paths import bundles_dir, labs_dir
from mesostk.ops.progress import Progress

InventoryOption = Annotated[
    Path | None,
    typer.Option("--inventory", "-i", help="Inventory; that of the context if not given."),
]
LimitOption = Annotated[list[str] | None, typer.Option("--limit", help="Only these hosts.")]
TagsOption = Annotated[list[str] | None, typer.Option("--tags", help="Only these tags.")]
CheckOption = Annotated[bool, typer.Option("--check", help="Say what would change only.")]
DiffOption = Annotated[bool, typer.Option("--diff", help="Show the changes of files.")]
VarsOption = Annotated[
    list[str] | None, typer.Option("--extra-var", "-e", help="NAME=VALUE for the playbook.")
]


def failure_text(outcome: Outcome) -> str:
    """All failures of a run: equal ones of several hosts once, each with its remedy."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for one in outcome.failures:
        groups.setdefault((one.task, one.message, one.remedy), []).append(one.host)
    parts = []
    for (task, message, remedy), hosts in groups.items():
        lines = message.strip().splitlines()
        where = ", ".join(host for host in hosts if host)
        text = f"{where}{': ' if where else ''}{task}:\n  " + "\n  ".join(lines)
        parts.append(text + (f"\n  remedy: {remedy}" if remedy else ""))
    return "\n".join([*parts, f"Ansible's own output: {outcome.log}"])


def run(
    playbook: str,
    inventory: Path,
    shown: Progress,
    log_dir: Path,
    *,
    limit: Sequence[str] = (),
    tags: Sequence[str] = (),
    check: bool = False,
    diff: bool = False,
    extra_vars: dict[str, object] | None = None,
    entry: ledger.Run | None = None,
) -> Outcome:
    """Run a playbook, as a part of the ledger's `entry`.

    Raises MesostkError with every failure and the path of the log.
    """
    outcome = run_playbook(
        playbook,
        inventory,
        shown,
        log_dir,
        limit=limit,
        tags=tags,
        check=check,
        diff=diff,
        extra_vars=extra_vars,
        run=entry,
    )
    if outcome.rc != 0:
        raise MesostkError(f"playbook {playbook} failed\n{failure_text(outcome)}")
    return outcome


def inventory_of(given: Path | None, context: str | None) -> Path:
    """The inventory to work on: the one given, else that of the context; ConfigError without."""
    if given is not None:
        return given
    known = contexts.current(context).inventory
    if not known:
        raise ConfigError("this context has no inventory: name one with --inventory")
    return Path(known)


class _Endpoints(msgspec.Struct, kw_only=True):
    """What `verify.yml` tells of a cluster: `address:port` of each member."""

    masters: list[str]
    marathons: list[str]
    dns: list[str]
    balancers: list[str]


def context_name(inventory: Path) -> str:
    """What a cluster is called that is known by its inventory: the directory's name.

    Of `prod/hosts.yml`, `prod/` and `prod/inventory/` that is `prod`.
    """
    path = inventory.resolve()
    if path.is_file():
        path = path.parent
    return path.parent.name if path.name == "inventory" and path.parent.name else path.name


def remember_cluster(outcome: Outcome, inventory: Path, named: str | None) -> str | None:
    """Make the cluster known to the other commands, if the run came as far as verifying it.

    Returns the name of its context, None if there is none.
    """
    told = outcome.told.get("cluster_endpoints")
    if told is None:
        return None
    found = msgspec.convert(told, _Endpoints)
    urls = {
        kind: [f"http://{one}" for one in members]
        for kind, members in msgspec.structs.asdict(found).items()
    }
    known = contexts.load()
    path = str(inventory.resolve())
    # A context of the same inventory keeps its name, and its lab.
    of_inventory = [
        name
        for name, one in known.contexts.items()
        if one.inventory and str(Path(one.inventory).resolve()) == path
    ]
    name = named or (of_inventory[0] if of_inventory else context_name(inventory))
    before = known.contexts.get(name, contexts.Context(masters=[], marathons=[]))
    kept = {"lab": before.lab, "credential": before.credential}
    made = contexts.Context(masters=urls.pop("masters"), marathons=urls.pop("marathons"))
    contexts.remember(name, msgspec.structs.replace(made, inventory=path, **urls, **kept))
    return name


def extra_vars_of(pairs: Sequence[str]) -> dict[str, object]:
    """Variables of `--extra-var NAME=VALUE`. Raises ConfigError for anything else."""
    """NAME=VALUE words as variables. Raises ConfigError, naming the word, for any other."""
    found: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigError(f"--extra-var {pair!r}: write NAME=VALUE")
        found[name] = value
    return found


def show(outcome: Outcome, output: Format) -> None:
    """The counts of every host."""
    table = Table(("HOST", "OK", "CHANGED", "FAILED", "UNREACHABLE"), "host")
    for host, one in sorted(outcome.hosts.items()):
        row = (host, str(one.ok), str(one.changed), str(one.failed), str(one.unreachable))
        table.add(row, {"host": host, **msgspec.to_builtins(one)})
    table.show(output, "The inventory has no host.")


def look(playbook: str, inventory: Path, done: str, output: Format, **options: object) -> Outcome:
    """Run a playbook that changes nothing, or that is told to (`check=True`)."""
    with progress(output) as shown:
        outcome = run(
            playbook,
            inventory,
            shown,
            labs_dir() / "runs",
            **options,  # type: ignore[arg-type] # the options of `run`, passed through
        )
        shown.done(done)
    return outcome


def act(
    verb: str,
    playbook: str,
    inventory: Path,
    done: str,
    output: Format,
    context: str | None = None,
    steps: Mapping[str, int] | None = None,
    **options: object,
) -> Outcome:
    """Run a playbook that changes hosts, as command `verb`: with an entry in the run ledger.

    `steps` are the plays that it will come to, and how often each; they tell how long it takes.
    """
    if output is Format.TABLE:
        say_estimate(verb, inventory, steps)
    with recorded(verb, context=context, inventory=inventory) as entry:
        return look(playbook, inventory, done, output, entry=entry, **options)


def _bundled(source: Path) -> dict[str, object]:
    directory, lock = bundle.open_bundle(source, bundles_dir())
    return bundle.variables(directory, lock)


def deploy(
    inventory: InventoryOption = None,
    limit: LimitOption = None,
    tags: TagsOption = None,
    check: CheckOption = False,
    diff: DiffOption = False,
    extra_var: VarsOption = None,
    from_bundle: Annotated[
        Path | None,
        typer.Option("--bundle", help="Take packages, wheels and images from this bundle only."),
    ] = None,
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Turn the inventory's hosts into the cluster, or bring them back to it."""
    with errors():
        form = chosen(output, as_json)
        hosts = inventory_of(inventory, context)
        bundled = {} if from_bundle is None else _bundled(from_bundle)
        options: dict[str, object] = {
            "limit": limit or (),
            "tags": tags or (),
            "diff": diff,
            "extra_vars": {**bundled, **extra_vars_of(extra_var or ())},
        }
        if check:
            outcome = look("site", hosts, "Nothing was changed.", form, check=True, **options)
        else:
            done = "The hosts are as the inventory says."
            outcome = act("cluster deploy", "site", hosts, done, form, context, None, **options)
        if diff or check:
            say(outcome.output())
        name = None if check else remember_cluster(outcome, hosts, None if inventory else context)
        if name is not None and form is Format.TABLE:
            say(f"Commands talk to {name} now.")
        show(outcome, form)


def validate(
    inventory: InventoryOption = None,
    limit: LimitOption = None,
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Check the inventory and the hosts before anything is touched; `deploy` begins with it."""
    with errors():
        form = chosen(output, as_json)
        hosts = inventory_of(inventory, context)
        done = "Nothing stands in the way of `mesostk cluster deploy`."
        outcome = look("validate", hosts, done, form, limit=limit or ())
        if form is not Format.TABLE:
            show(outcome, form)


def verify(
    inventory: InventoryOption = None,
    timeout: Annotated[
        int, typer.Option(min=1, help="Seconds until what is not well is told.")
    ] = 180,
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Ask the running cluster: quorum, leaders, agents, and a probe app."""
    with errors():
        form = chosen(output, as_json)
        hosts = inventory_of(inventory, context)
        extra = {"verify_wait_s": timeout}
        outcome = look("verify", hosts, "The cluster is well.", form, extra_vars=extra)
        if form is not Format.TABLE:
            show(outcome, form)
