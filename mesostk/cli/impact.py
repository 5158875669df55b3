"""What would be lost with a host, before it is taken away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from mesostk.cli import contexts
from mesostk.cli.clients import Marathon, Masters
from mesostk.cli.completing import complete_agent
from mesostk.cli.contexts import Context, ContextOption
from mesostk.cli.observation import (
    agent_of,
    app_of,
    ensembles,
    host_of,
    zookeeper_modes,
    zookeepers,
)
from mesostk.cli.output import (
    Format,
    FormatOption,
    JsonOption,
    chosen,
    errors,
    print_table,
    show_record,
    tell,
)
from mesostk.cli.status import edge_states, member_states
from mesostk.errors import ConfigError
from mesostk.ops.impact import AppImpact, EnsembleImpact, app_impacts, ensemble_impact
from mesostk.ops.inventory import addresses


def impact(
    host: Annotated[
        str,
        typer.Argument(
            metavar="HOST",
            help="Name in the inventory, address, or an agent's host name or id.",
            autocompletion=complete_agent,
        ),
    ],
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Say what would be lost with a host: apps below minimum health, fits, quorum."""
    with errors():
        known = contexts.current(context)
        masters = Masters(known)
        slaves = masters.slaves()
        names = names_of(host, known, slaves)
        lost = frozenset(str(one["id"]) for one in slaves if _names(one) & names)
        states = [*member_states(known), *edge_states(known)]
        modes = zookeeper_modes(zookeepers(masters))
        services = [
            found
            for one in ensembles(states, modes)
            if (found := ensemble_impact(one, names)) is not None
        ]
        if not lost and not services:
            hosts = ", ".join(sorted(str(one["hostname"]) for one in slaves))
            raise ConfigError(f"no part of the cluster is on {host!r}; there are agents on {hosts}")
        apps = Marathon(known).call("GET", "/v2/apps", query={"embed": "apps.tasks"})["apps"]
        falls = app_impacts([app_of(app) for app in apps], [agent_of(one) for one in slaves], lost)
        others = _other_tasks(masters, lost)
        form = chosen(output, as_json)
        if form is Format.TABLE:
            _show(host, services, falls, others)
        else:
            show_record(
                {
                    "host": host,
                    "agents": sorted(lost),
                    "services": [
                        {**msgspec.to_builtins(one), "fails": one.fails} for one in services
                    ],
                    "apps": [{**msgspec.to_builtins(one), "falls": one.falls} for one in falls],
                    "other_tasks": others,
                },
                form,
            )


def _names(slave: Mapping[str, Any]) -> frozenset[str]:
    return frozenset((str(slave["id"]), str(slave["hostname"]), host_of(str(slave["pid"]))))


def names_of(host: str, context: Context, slaves: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Every name that `host` has: its address in the inventory, and what its agent is called."""
    found = {host}
    if context.inventory:
        found |= {
            where for name, where in addresses(Path(context.inventory)).items() if name == host
        }
    for slave in slaves:
        if _names(slave) & found:
            found |= _names(slave)
    return frozenset(found)


def _other_tasks(masters: Masters, lost: frozenset[str]) -> dict[str, int]:
    """Tasks of frameworks other than Marathon that are on the agents `lost`, by framework."""
    if not lost:
        return {}
    names = {str(one["id"]): str(one["name"]) for one in masters.frameworks()}
    tasks = masters.call("GET", "/tasks", query={"limit": "1000000"})["tasks"]
    found = Counter(
        names.get(str(one["framework_id"]), str(one["framework_id"]))
        for one in tasks
        if one["slave_id"] in lost and one["state"] in ("TASK_RUNNING", "TASK_STAGING")
    )
    found.pop("marathon", None)
    return dict(found)


def _show(
    host: str,
    services: Sequence[EnsembleImpact],
    apps: Sequence[AppImpact],
    others: Mapping[str, int],
) -> None:
    if services:
        rows = [
            (
                one.name,
                f"{one.left} of {one.members}",
                str(one.needed),
                "lost" if one.fails else ("another leads" if one.leads else "goes on"),
                ", ".join(one.silent),
            )
            for one in services
        ]
        print_table(("SERVICE", "LEFT", "NEEDED", "OUTCOME", "SILENT NOW"), rows)
    if apps:
        app_rows = [
            (
                one.app,
                str(one.lost),
                f"{one.left} of {one.instances}",
                str(one.needed),
                "below minimum health" if one.falls else "enough",
                _fits(one),
            )
            for one in apps
        ]
        print_table(("APP", "LOST", "LEFT", "NEEDED", "AT ONCE", "THEN"), app_rows)
    else:
        print(f"No app has an instance on {host}.")
    for name, count in others.items():
        tell(f"Framework {name} loses {count} tasks; what it does then is its own affair.")
    if any(one.falls for one in apps):
        print(f"`mesostk drain {host}` moves the instances away first, without a gap.")


def _fits(one: AppImpact) -> str:
    if not one.unplaced:
        return "all fit elsewhere"
    return f"{one.unplaced} fit nowhere: {'; '.join(one.reasons)}"
