"""Agents: list them, and say why a framework is not offered what they have."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from mesostk.cli import contexts
from mesostk.cli.clients import Masters
from mesostk.cli.completing import complete_framework
from mesostk.cli.contexts import ContextOption
from mesostk.cli.output import (
    Format,
    FormatOption,
    JsonOption,
    Table,
    ago,
    chosen,
    errors,
    show_record,
    tell,
)


def agents(
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """List the agents: state, what is used, attributes."""
    with errors():
        table = Table(("HOST", "ID", "STATE", "CPUS", "MEM", "DISK", "ATTRIBUTES", "SINCE"), "id")
        for agent in sorted(Masters(contexts.current(context)).slaves(), key=_place):
            table.add(_row(agent), agent)
        table.show(chosen(output, as_json), "No agent is registered.")


def _place(agent: dict[str, Any]) -> tuple[str, str]:
    return (str(agent["hostname"]), str(agent["id"]))


def _row(agent: dict[str, Any]) -> tuple[str, ...]:
    total, used = agent["resources"], agent["used_resources"]
    amounts = (f"{used[name]:g}/{total[name]:g}" for name in ("cpus", "mem", "disk"))
    attributes = " ".join(f"{name}={value}" for name, value in agent["attributes"].items())
    since = ago(time.time() - float(agent["registered_time"]))
    return (str(agent["hostname"]), str(agent["id"]), state_of(agent), *amounts, attributes, since)


def state_of(agent: dict[str, Any]) -> str:
    """One word: active, draining, drained, deactivated or disconnected."""
    if "drain_info" in agent:
        return str(agent["drain_info"]["state"]).lower()
    if agent.get("deactivated"):
        return "deactivated"
    return "active" if agent["active"] else "disconnected"


def explain_offers(
    framework: Annotated[
        str, typer.Argument(metavar="FRAMEWORK", autocompletion=complete_framework)
    ],
    role: Annotated[str | None, typer.Option(help="Only this role.")] = None,
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Say, agent by agent, why a framework (id or name) is offered nothing."""
    with errors():
        query = {"framework": framework}
        if role is not None:
            query["role"] = role
        told = Masters(contexts.current(context)).call("GET", "/explain-offers", query=query)
        if chosen(output, as_json) not in (Format.TABLE, Format.NAME):
            show_record(told, chosen(output, as_json))
            return
        for part in told["roles"]:
            if part["reason"] is not None:
                tell(f"role {part['role']}: {part['reason']}")
            table = Table(("ROLE", "HOST", "OFFERED", "WHY NOT"), "agent_id")
            for agent in part["agents"]:
                offered = "yes" if agent["offered"] else "no"
                why = agent["reason"] or ""
                table.add((part["role"], agent["hostname"], offered, why), agent)
            table.show(chosen(output, as_json), "No agent is registered.")
