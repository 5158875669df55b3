"""Tab completion of what a cluster knows: apps, tasks, agents, hosts, frameworks.

A shell waits for these, so they answer within a second, and where there is no cluster, no right or
no sense in its answer, with nothing. Ids of apps are completed as paths are, a group at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import typer

from mesostk.cli import contexts
from mesostk.cli.clients import Marathon, Masters
from mesostk.cli.contexts import Context
from mesostk.cli.output import short_id
from mesostk.errors import MesostkError

#: Longer than that, and whoever pressed the key believes that the shell hangs.
PATIENCE_S = 1.0


def complete_app(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids of apps and pods, a group at a time."""
    return along_paths(known(ctx, _apps), incomplete)


def complete_task(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids of tasks, short ones where they are enough; before them apps, by which they are found."""
    found = known(ctx, _apps_and_tasks)
    apps = along_paths([id for id in found if id.startswith("/")], incomplete)
    return [*apps, *task_ids([id for id in found if not id.startswith("/")], incomplete)]


def complete_agent(ctx: typer.Context, incomplete: str) -> list[str]:
    """Host names of agents."""
    return [name for name in known(ctx, _agents) if name.startswith(incomplete)]


def complete_framework(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of frameworks."""
    return [name for name in known(ctx, _frameworks) if name.startswith(incomplete)]


def complete_host(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of hosts in the inventory, where that is a YAML file: Ansible takes too long to ask."""
    return [name for name in known(ctx, _hosts) if name.startswith(incomplete)]


def _hosts(context: Context) -> list[str]:
    import yaml

    try:
        text = Path(context.inventory).read_text()
        return sorted(_names_in(yaml.safe_load(text)))
    except (OSError, yaml.YAMLError):
        return []


def _names_in(inventory: object) -> set[str]:
    """All keys of mappings called `hosts`; a pattern such as `web[1:3]` is no name."""
    found: set[str] = set()
    waiting = [inventory]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            hosts = part.get("hosts")
            names = hosts if isinstance(hosts, dict) else {}
            found |= {str(name) for name in names if "[" not in str(name)}
            waiting += [value for key, value in part.items() if key not in ("hosts", "vars")]
    return found


def _apps(context: Context) -> list[str]:
    return [str(app["id"]) for app in Marathon(context).apps()]


def _apps_and_tasks(context: Context) -> list[str]:
    marathon = Marathon(context)
    return [*_apps(context), *(str(task["id"]) for task in marathon.tasks())]


def _agents(context: Context) -> list[str]:
    return sorted({str(agent["hostname"]) for agent in Masters(context).slaves()})


def _frameworks(context: Context) -> list[str]:
    return sorted({str(one["name"]) for one in Masters(context).frameworks()})


def known(ctx: typer.Context, ask: Callable[[Context], list[str]]) -> list[str]:
    """What the cluster of the command line answers in time; nothing for whatever goes wrong."""
    found: list[str] = []

    def fill() -> None:
        try:
            found.extend(ask(contexts.current(ctx.params.get("context"))))
        except (MesostkError, LookupError, TypeError, ValueError):
            return  # no cluster, or something else answers at its address: there is no one to tell

    # Time limits of a connection do not end names that are not resolved, nor answers that trickle.
    asking = threading.Thread(target=fill, daemon=True)
    asking.start()
    asking.join(PATIENCE_S)
    return [] if asking.is_alive() else found


def along_paths(ids: Iterable[str], incomplete: str) -> list[str]:
    """The next step from `incomplete` to each of `ids`: `/shop/` for a group, or the whole id.

    Where all lead into one group, what is in it: a shell puts a blank after the only answer.
    Without a slash at the beginning, as it is typed, none is put there.
    """
    rooted = incomplete.startswith("/") or not incomplete
    fitting = [id if rooted else id.removeprefix("/") for id in ids]
    fitting = sorted({id for id in fitting if id.startswith(incomplete)})
    at = max(len(incomplete), 1 if rooted else 0)
    while True:
        steps = sorted({_step(id, at) for id in fitting})
        if len(steps) != 1 or not steps[0].endswith("/"):
            return steps
        at = len(steps[0])


def _step(id: str, at: int) -> str:
    slash = id.find("/", at)
    return id if slash < 0 else id[: slash + 1]


def task_ids(ids: Iterable[str], incomplete: str) -> list[str]:
    """The short ids that begin so; the long ones where those say it better or are not unique."""
    by_short: dict[str, list[str]] = {}
    for id in ids:
        by_short.setdefault(short_id(id), []).append(id)
    found = []
    for short, meant in by_short.items():
        if len(meant) == 1 and short.startswith(incomplete):
            found.append(short)
        else:
            found += [id for id in meant if id.startswith(incomplete)]
    return sorted(found)
