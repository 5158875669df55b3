"""Ansible filters over the inventory: addresses, quorum, and what is wrong with it.

`findings` is the check that opens every playbook: pure, all problems at once, each with its remedy.
An address is `common_address`, else `ansible_host`, else the inventory name, so that no host needs
facts of another one.
"""

from __future__ import annotations

import ipaddress

#: Groups that the playbooks know; a host must be in one at least.
GROUPS = ("zookeeper", "mesos_masters", "mesos_agents", "marathon", "mesos_dns", "marathon_lb")

#: What a load balancer serves that is not told otherwise: the default of role marathon_lb, which
#: other plays do not see.
BALANCER_GROUPS = ("external", "internal")

#: Variables of other toolkits or older releases, and what they are called here.
RENAMED = {
    "mesos_quorum": "mesos_master_quorum",
    "mesos_slave_attributes": "mesos_agent_attributes",
    "mesos_slave_resources": "mesos_agent_resources",
    "mesos_containerizers": "mesos_agent_containerizers",
    "zookeeper_myid": "zookeeper_id",
}


def address(host, hostvars):
    """Address of `host` that the other hosts reach it by."""
    known = hostvars[host]
    for name in ("common_address", "ansible_host"):
        value = known.get(name)
        if value:
            return str(value)
    return str(host)


def addresses(hosts, hostvars):
    """Addresses of `hosts`, in their order."""
    return [address(host, hostvars) for host in hosts]


def endpoints(hosts, hostvars, port, default=None):
    """`address:port` of each host; `port` is a number, or a variable of the host with a default."""
    if default is None:
        return [f"{one}:{port}" for one in addresses(hosts, hostvars)]
    return [f"{address(host, hostvars)}:{hostvars[host].get(port, default)}" for host in hosts]


def balancer_groups(hosts, hostvars):
    """Groups of apps that the load balancers `hosts` serve, all together; never `*` itself."""
    found = {
        group
        for host in hosts
        for group in hostvars[host].get("marathon_lb_groups", BALANCER_GROUPS)
    }
    # A balancer of all groups wants an app to have one, whichever it is.
    return sorted(found - {"*"}) or ["external"]


def zk_url(hosts, hostvars, path, port=2181):
    """`zk://a:2181,b:2181/path`"""
    members = ",".join(f"{one}:{port}" for one in addresses(hosts, hostvars))
    return f"zk://{members}{path}"


def template_files(templates, prefix):
    """Name → text as files for the module host_files, each at `prefix` + name."""
    return [{"path": prefix + name, "content": text} for name, text in sorted(templates.items())]


def majority(hosts):
    """Smallest number of `hosts` that is more than half of them."""
    return len(hosts) // 2 + 1


def zookeeper_ids(hosts, hostvars):
    """Host → id: `zookeeper_id` where it is set, else the first free number from 1.

    An id that is set explicitly never moves when a host is added before it or removed.
    """
    given = {}
    for host in hosts:
        value = hostvars[host].get("zookeeper_id")
        if value is not None:
            given[host] = int(value)
    free = (number for number in range(1, 256) if number not in given.values())
    return {host: given[host] if host in given else next(free) for host in hosts}


def _finding(where, problem, remedy):
    return {"where": where, "problem": problem, "remedy": remedy}


def _group_findings(groups, in_cluster):
    for name in ("zookeeper", "mesos_masters", "mesos_agents"):
        if not groups.get(name):
            yield _finding(f"group {name}", "it has no host", "add at least one host to it")
    members = len(groups.get("zookeeper", ()))
    if members and members % 2 == 0:
        yield _finding(
            "group zookeeper",
            f"{members} hosts: an even number survives no more failures than {members - 1}",
            f"use {members - 1} or {members + 1} hosts",
        )
    for host in sorted(set(groups.get("all", ())) - in_cluster - {"localhost"}):
        yield _finding(
            f"host {host}",
            "it is in none of the groups " + ", ".join(GROUPS),
            "put it into a group or take it out of the inventory",
        )


def _address_findings(in_cluster, hostvars):
    owner = {}
    for host in sorted(in_cluster):
        one = address(host, hostvars)
        if one in owner:
            yield _finding(
                f"host {host}",
                f"it has the address {one} of {owner[one]}",
                "give each host its own common_address or ansible_host",
            )
        owner.setdefault(one, host)
        try:
            parsed = ipaddress.ip_address(one)
        except ValueError:
            continue
        if parsed.is_loopback and len(in_cluster) > 1:
            yield _finding(
                f"host {host}",
                f"the other hosts cannot reach {one}",
                "set common_address to the address of its network card",
            )


def _id_findings(groups, hostvars):
    owner = {}
    for host in groups.get("zookeeper", ()):
        value = hostvars[host].get("zookeeper_id")
        if value is None:
            continue
        if not str(value).isdigit() or not 1 <= int(value) <= 255:
            yield _finding(
                f"host {host}", f"zookeeper_id is {value!r}", "use a number from 1 to 255"
            )
        elif int(value) in owner:
            yield _finding(
                f"host {host}",
                f"zookeeper_id {value} is that of {owner[int(value)]} too",
                "give each host its own",
            )
        else:
            owner[int(value)] = host


def _variable_findings(groups, in_cluster, hostvars):
    masters = len(groups.get("mesos_masters", ()))
    for host in sorted(in_cluster):
        for old, new in RENAMED.items():
            if old in hostvars[host]:
                yield _finding(f"host {host}", f"variable {old} is not known", f"call it {new}")
    for host in groups.get("mesos_masters", ()):
        quorum = hostvars[host].get("mesos_master_quorum")
        if quorum is not None and not masters // 2 < int(quorum) <= masters:
            yield _finding(
                f"host {host}",
                f"mesos_master_quorum {quorum} is not a majority of {masters} masters",
                f"leave it out, or use {masters // 2 + 1}",
            )


def findings(groups, hostvars):
    """All that is wrong with the inventory: a list of {where, problem, remedy}."""
    in_cluster = {host for name in GROUPS for host in groups.get(name, ())}
    return [
        *_group_findings(groups, in_cluster),
        *_address_findings(in_cluster, hostvars),
        *_id_findings(groups, hostvars),
        *_variable_findings(groups, in_cluster, hostvars),
    ]


class FilterModule:
    """What Ansible loads."""

    def filters(self):
        return {
            "balancer_groups": balancer_groups,
            "cluster_address": address,
            "cluster_addresses": addresses,
            "cluster_endpoints": endpoints,
            "cluster_findings": findings,
            "majority": majority,
            "template_files": template_files,
            "zk_url": zk_url,
            "zookeeper_ids": zookeeper_ids,
        }
