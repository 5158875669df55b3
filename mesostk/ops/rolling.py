"""The plays of verbs that go from host to host, as often as they come on an inventory: pure.

::

    inventory ─▶ groups ─▶ upgrade_steps | change_steps ─▶ {play: times} ─▶ ledger.estimate_steps

The names are those of the playbooks, by which the ledger knows their times; a test holds the two
together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

Groups = Mapping[str, Sequence[str]]

#: Group → service, in the order in which upgrade.yml brings them to another release.
_UPGRADED = {
    "mesos_masters": "mesos-master",
    "mesos_agents": "mesos-agent",
    "marathon": "marathon",
    "mesos_dns": "mesos-dns",
    "marathon_lb": "marathon-lb",
}

#: Group → services whose configuration names its members: what restarts when one comes or goes.
_NAMED_IN = {
    "zookeeper": ("zookeeper", "mesos-master", "mesos-agent", "marathon", "mesos-dns"),
    "mesos_masters": ("mesos-dns",),
    "marathon": ("marathon-lb",),
}

#: Group → the play of converge.yml that configures it.
_CONFIGURED = {
    "zookeeper": "Configure ZooKeeper",
    "mesos_masters": "Configure the masters",
    "mesos_agents": "Configure the agents",
    "marathon": "Configure Marathon",
    "mesos_dns": "Configure Mesos-DNS",
    "marathon_lb": "Configure marathon-lb",
}

_SERVICES = {"zookeeper": "zookeeper", **_UPGRADED}


def upgrade_steps(groups: Groups, agents_serial: str = "20%") -> dict[str, int]:
    """Plays of upgrade.yml; `agents_serial` is upgrade_agents_serial, a number or a share."""
    found = {
        "Check the inventory and the hosts": 1,
        "Install the release beside the one that runs": 1,
    }
    for group, service in _UPGRADED.items():
        if count := len(groups.get(group, ())):
            size = _batch(agents_serial, count) if group == "mesos_agents" else 1
            found[f"Upgrade {service}"] = math.ceil(count / size)
    return {**found, "Ask the cluster": 1}


def _batch(serial: str, hosts: int) -> int:
    """How many of `hosts` go at a time, as Ansible counts them."""
    match = re.fullmatch(r"(\d+)(%?)", serial)
    if match is None:
        return 1
    number = int(match[1])
    return max(1, hosts * number // 100 if match[2] else number)


def change_steps(
    groups: Groups, leaving: Sequence[str] = (), joining: Sequence[str] = ()
) -> dict[str, int]:
    """Plays of change_members.yml that cost time, for hosts that leave and hosts that join.

    Agents concern nobody else; any other group has all hosts configured, and those restarted whose
    configuration names its members.
    """
    touched = [name for name in _SERVICES if {*leaving, *joining} & {*groups.get(name, ())}]
    others_know = any(name != "mesos_agents" for name in touched)
    found = {"See which hosts answer": 1}
    if "mesos_agents" in touched and set(leaving) & set(groups["mesos_agents"]):
        found["Drain the agents"] = 1
    if leaving:
        found["Take out of service who leaves"] = 1
    if joining or others_know:
        found["Prepare every host"] = 1
        configured = _SERVICES if others_know else touched
        found |= {_CONFIGURED[name]: 1 for name in configured if groups.get(name)}
    found |= {f"Start {_SERVICES[name]}": 1 for name in touched if _of(groups, name, joining)}
    restarted = {service for name in touched for service in _NAMED_IN.get(name, ())}
    for name, service in _SERVICES.items():
        members = set(groups.get(name, ())) - {*leaving, *joining}
        if service in restarted and members:
            found[f"Restart {service}"] = len(members)
    return {**found, "Ask the cluster": 1}


def _of(groups: Groups, name: str, hosts: Sequence[str]) -> list[str]:
    return [host for host in hosts if host in groups.get(name, ())]
