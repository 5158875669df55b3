"""The cluster at one glance."""

from __future__ import annotations

import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from mesostk.cli import contexts
from mesostk.cli.apps import show_apps
from mesostk.cli.clients import Marathon, Masters, Members
from mesostk.cli.contexts import Context, ContextOption
from mesostk.cli.credentials import Credential, credential_of
from mesostk.cli.output import (
    Format,
    FormatOption,
    JsonOption,
    ago,
    chosen,
    errors,
    print_table,
    show_record,
)
from mesostk.errors import MesostkError, Unavailable


def _host_port(url: str) -> str:
    return url.removeprefix("https://").removeprefix("http://").rstrip("/")


def member_states(context: Context) -> list[dict[str, Any]]:
    """Each master and Marathon by itself: leading, standby, or what is wrong with it."""
    found, who = [], credential_of(context)
    for url in context.masters:
        state, detail = _master_state(url, who)
        found.append(
            {"kind": "master", "address": _host_port(url), "state": state, "detail": detail}
        )
    for url in context.marathons:
        state, detail = _marathon_state(url, context.marathons, who)
        found.append(
            {"kind": "marathon", "address": _host_port(url), "state": state, "detail": detail}
        )
    return found


def _master_state(url: str, who: Credential | None) -> tuple[str, str]:
    try:
        metrics = Members("master", [url], who).call("GET", "/metrics/snapshot")
    except MesostkError as error:
        return "unreachable", str(error)
    return ("leading" if metrics.get("master/elected") == 1 else "standby"), ""


#: What a standby puts on the answers that it passes on. Source: spec/marathon §1.2.
_VIA = "X-Marathon-Via"


def _marathon_state(url: str, marathons: Sequence[str], who: Credential | None) -> tuple[str, str]:
    member = Members("Marathon", [url], who)
    try:
        answer = member.request("GET", "/v2/info")
        if answer.status_code >= HTTPStatus.BAD_REQUEST:
            raise member.refused(answer)
    except MesostkError as error:
        return "unreachable", str(error)
    info = answer.json()
    others = {_host_port(each) for each in marathons} - {_host_port(url)}
    # A leader may call itself by another name than the one by which it is known here.
    if _VIA in answer.headers or info.get("leader") in others:
        return "standby", ""
    # Not told by an original Marathon.
    refused = [f"{one['role']} ({one['reason']})" for one in info.get("refusedRoles", ())]
    return "leading", f"roles refused by the master: {', '.join(refused)}" if refused else ""


#: What says of each service of the edge that it does its work.
_EDGE_HEALTH = {"mesos-dns": "/v1/health", "marathon-lb": "/_haproxy_health_check"}


def edge_states(context: Context) -> list[dict[str, Any]]:
    """Each Mesos-DNS and load balancer by itself: serving, or what is wrong with it."""
    found = []
    for kind, urls in (("mesos-dns", context.dns), ("marathon-lb", context.balancers)):
        for url in urls:
            state, detail = "serving", ""
            try:
                # An original Mesos-DNS knows no such path, and shows by its 404 that it is there.
                Members(kind, [url]).request("GET", _EDGE_HEALTH[kind])
            except MesostkError as error:
                state, detail = "unreachable", str(error)
            found.append(
                {"kind": kind, "address": _host_port(url), "state": state, "detail": detail}
            )
    return found


def agent_rows(agents: list[dict[str, Any]], now: float) -> list[tuple[str, ...]]:
    """Agents as rows: host, state, cpus and mem used of all, since when."""
    rows: list[tuple[str, ...]] = []
    for agent in sorted(agents, key=lambda one: str(one["hostname"])):
        state = "active" if agent["active"] else "inactive"
        if agent.get("deactivated"):
            state = "deactivated"
        total, used = agent["resources"], agent["used_resources"]
        rows.append(
            (
                str(agent["hostname"]),
                state,
                f"{used['cpus']:g}/{total['cpus']:g}",
                f"{used['mem']:g}/{total['mem']:g}",
                ago(now - float(agent["registered_time"])),
            )
        )
    return rows


def collect(context: Context) -> dict[str, Any]:
    """Everything that the page shows; parts that cannot be had are named in `problems`."""
    state: dict[str, Any] = {"members": member_states(context), "problems": []}
    masters, marathon = Masters(context), Marathon(context)
    for key, ask in (
        ("agents", masters.slaves),
        ("frameworks", masters.frameworks),
        ("apps", marathon.apps),
        ("deployments", marathon.deployments),
    ):
        try:
            state[key] = ask()
        except MesostkError as error:
            state[key] = []
            state["problems"].append(str(error))
    return state


def show(context: Context, output: Format) -> None:
    """Print the page. Raises Unavailable if a part of it cannot be had."""
    state = collect(context)
    if output is not Format.TABLE:
        show_record(state, output)
    else:
        rows = [
            (str(one["kind"]), str(one["address"]), str(one["state"]), str(one["detail"]))
            for one in state["members"]
        ]
        print_table(("MEMBER", "ADDRESS", "STATE", ""), rows)
        if state["agents"]:
            columns = ("AGENT", "STATE", "CPUS", "MEM", "SINCE")
            print_table(columns, agent_rows(state["agents"], time.time()))
        if state["apps"]:
            show_apps(state["apps"], Format.TABLE)
    if state["problems"]:
        raise Unavailable("; ".join(state["problems"]))


def status(
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Show masters, agents and apps."""
    with errors():
        show(contexts.current(context), chosen(output, as_json))
