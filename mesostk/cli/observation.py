"""The running cluster as its public interfaces show it, for the commands that judge it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from mesostk.cli.clients import Masters
from mesostk.marathon.constraints import Placement, spell_number
from mesostk.ops.impact import Agent, App, Ensemble, Instance
from mesostk.ops.zookeeper import mode_of


def host_of(address: str) -> str:
    """`10.0.3.11` of `10.0.3.11:5050`, `http://10.0.3.11:5050` or `master@10.0.3.11:5050`."""
    netloc = urlsplit(address).netloc if "://" in address else address.rpartition("@")[2]
    return netloc.rpartition(":")[0] or netloc


# -- ensembles ------------------------------------------------------------------------------------


def zookeepers(masters: Masters) -> list[tuple[str, int]]:
    """Members that the leading master was told of; empty for a master without ZooKeeper."""
    text = str(masters.call("GET", "/flags")["flags"].get("zk") or "")
    hosts = text.removeprefix("zk://").partition("/")[0].rpartition("@")[2]
    found = []
    for one in hosts.split(","):
        host, _, port = one.partition(":")
        if host:
            found.append((host, int(port or 2181)))
    return found


def zookeeper_modes(members: Sequence[tuple[str, int]]) -> dict[str, str | None]:
    """Leader, follower or standalone by the member's host; None where it does not serve."""
    return {host: mode_of(host, port) for host, port in members}


#: Kinds of members, and what their services are called.
_SERVICES = {
    "master": "mesos-master",
    "marathon": "marathon",
    "mesos-dns": "mesos-dns",
    "marathon-lb": "marathon-lb",
}


def ensembles(
    states: Sequence[Mapping[str, Any]], modes: Mapping[str, str | None]
) -> list[Ensemble]:
    """Every service of several members, by `status.member_states`, `edge_states` and
    `zookeeper_modes`."""
    found = []
    if modes:
        leaders = [host for host, mode in modes.items() if mode in ("leader", "standalone")]
        found.append(
            Ensemble(
                name="zookeeper",
                members=tuple(modes),
                serving=frozenset(host for host, mode in modes.items() if mode is not None),
                leader=leaders[0] if leaders else "",
                needs_quorum=True,
            )
        )
    for kind, name in _SERVICES.items():
        mine = [
            (host_of(str(one["address"])), one["state"]) for one in states if one["kind"] == kind
        ]
        leading = [host for host, state in mine if state == "leading"]
        found.append(
            Ensemble(
                name=name,
                members=tuple(host for host, _ in mine),
                serving=frozenset(host for host, state in mine if state != "unreachable"),
                leader=leading[0] if leading else "",
            )
        )
    return [one for one in found if one.members]


# -- agents and apps ------------------------------------------------------------------------------


def agent_of(slave: Mapping[str, Any]) -> Agent:
    """An entry of `/slaves` with what is free there."""
    total, used = slave["resources"], slave["used_resources"]
    fault = (slave.get("domain") or {}).get("fault_domain") or {}
    return Agent(
        id=str(slave["id"]),
        place=Placement(
            hostname=str(slave["hostname"]),
            attributes={
                name: spell_number(value) if isinstance(value, int | float) else str(value)
                for name, value in slave["attributes"].items()
            },
            region=(fault.get("region") or {}).get("name"),
            zone=(fault.get("zone") or {}).get("name"),
        ),
        cpus=float(total["cpus"]) - float(used["cpus"]),
        mem_mib=float(total["mem"]) - float(used["mem"]),
        disk_mib=float(total["disk"]) - float(used["disk"]),
        is_active=bool(slave["active"]) and not slave.get("deactivated"),
    )


def app_of(app: Mapping[str, Any]) -> App:
    """An app of `/v2/apps?embed=apps.tasks`."""
    checked = bool(app.get("healthChecks"))
    return App(
        id=str(app["id"]),
        instances=int(app["instances"]),
        cpus=float(app["cpus"]),
        mem_mib=float(app["mem"]),
        disk_mib=float(app.get("disk") or 0),
        minimum=float((app.get("upgradeStrategy") or {}).get("minimumHealthCapacity", 1.0)),
        constraints=tuple(tuple(rule) for rule in app.get("constraints") or ()),
        is_resident=app.get("residency") is not None,
        tasks=tuple(
            Instance(
                str(task.get("slaveId")),
                str(task["state"]),
                not checked or _is_healthy(task),
            )
            for task in app.get("tasks") or ()
        ),
    )


def _is_healthy(task: Mapping[str, Any]) -> bool:
    results = [one for one in task.get("healthCheckResults") or () if one]
    return bool(results) and all(one.get("alive") for one in results)
