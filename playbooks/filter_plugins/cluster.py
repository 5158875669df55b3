"""Ansible filters over the inventory: addresses, quorum, and what is wrong with it and its hosts.

`findings` is the check that opens every playbook: pure, all problems at once, each with its remedy.
`expectations` is what the module host_check is to look for on a host; its answers are the hosts'
variables `validate_host`, which `findings` judges together with the inventory.
An address is `common_address`, else `ansible_host`, else the inventory name, so that no host needs
facts of another one.
"""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

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


#: Ports by group: variable, its default in the role, service that listens there.
PORTS = {
    "zookeeper": (
        ("zookeeper_client_port", 2181, "zookeeper"),
        ("zookeeper_peer_port", 2888, "zookeeper"),
        ("zookeeper_election_port", 3888, "zookeeper"),
    ),
    "mesos_masters": (("mesos_master_port", 5050, "mesos-master"),),
    "mesos_agents": (("mesos_agent_port", 5051, "mesos-agent"),),
    "marathon": (("marathon_http_port", 8080, "marathon"),),
    "mesos_dns": (
        ("mesos_dns_port", 53, "mesos-dns"),
        ("mesos_dns_http_port", 8123, "mesos-dns"),
    ),
    "marathon_lb": (("marathon_lb_http_port", 9092, "marathon-lb"),),
}

#: Who connects to whom: group → (group, variable of the port).
CONNECTIONS = {
    "zookeeper": (("zookeeper", "zookeeper_peer_port"), ("zookeeper", "zookeeper_election_port")),
    "mesos_masters": (("zookeeper", "zookeeper_client_port"), ("mesos_agents", "mesos_agent_port")),
    "mesos_agents": (
        ("zookeeper", "zookeeper_client_port"),
        ("mesos_masters", "mesos_master_port"),
    ),
    "marathon": (
        ("zookeeper", "zookeeper_client_port"),
        ("mesos_masters", "mesos_master_port"),
        ("marathon", "marathon_http_port"),
    ),
    "mesos_dns": (("zookeeper", "zookeeper_client_port"), ("mesos_masters", "mesos_master_port")),
    "marathon_lb": (("marathon", "marathon_http_port"),),
}

#: MiB that are to be free, by group: path (a variable's name where there is one), its default.
DISKS = {
    "zookeeper": ("zookeeper_data_dir", "/var/lib/zookeeper", 512),
    "mesos_masters": ("mesos_master_work_dir", "/var/lib/mesos/master", 128),
    "mesos_agents": ("mesos_agent_work_dir", "/var/lib/mesos", 1024),
}
#: For the releases below /opt/mesostk: one has 60 MiB, three are kept, one is unpacked.
RELEASES_MIB = 512

#: Seconds by which a host's clock may be off: Marathon and browsers compare times of several hosts.
CLOCK_S = 5.0

_REMEDIES = Path(__file__).resolve().parent.parent / "remedies.json"
REMEDIES = [(one["words"], one["remedy"]) for one in json.loads(_REMEDIES.read_text())]


def address(host, hostvars):
    """Address of `host` that the other hosts reach it by."""
    known = hostvars[host]
    for name in ("common_address", "ansible_host"):
        value = known.get(name)
        if value:
            return str(value)
    return str(host)


def present(hosts, hostvars):
    """Those of `hosts` that are no `cluster_absent`: about to leave, or to join by a later run."""
    return [host for host in hosts if not hostvars[host].get("cluster_absent")]


def addresses(hosts, hostvars):
    """Addresses of those of `hosts` that are present, in their order."""
    return [address(host, hostvars) for host in present(hosts, hostvars)]


def endpoints(hosts, hostvars, port, default=None):
    """`address:port` of each host; `port` is a number, or a variable of the host with a default."""
    if default is None:
        return [f"{one}:{port}" for one in addresses(hosts, hostvars)]
    return [
        f"{address(host, hostvars)}:{hostvars[host].get(port, default)}"
        for host in present(hosts, hostvars)
    ]


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
    """`zk://a:2181,b:2181/path`, by number: another order in the inventory changes no file."""
    numbered = zookeeper_ids(hosts, hostvars)
    members = ",".join(f"{one}:{port}" for one in addresses(numbered, hostvars))
    return f"zk://{members}{path}"


def template_files(templates, prefix):
    """Name → text as files for the module host_files, each at `prefix` + name."""
    return [{"path": prefix + name, "content": text} for name, text in sorted(templates.items())]


def majority(hosts):
    """Smallest number of `hosts` that is more than half of them."""
    return len(hosts) // 2 + 1


def zookeeper_ids(hosts, hostvars):
    """Host → id, by id: `zookeeper_id` where it is set, else the first free number from 1.

    An id that is set explicitly never moves when a host is added before it or removed. A host that
    leaves keeps its number to the end, and has no part in the answer.
    """
    given = {}
    for host in hosts:
        value = str(hostvars[host].get("zookeeper_id", ""))
        if value.isdigit():  # anything else is a finding of the preflight
            given[host] = int(value)
    free = (number for number in range(1, 256) if number not in given.values())
    ids = {host: given[host] if host in given else next(free) for host in hosts}
    return {host: ids[host] for host in sorted(present(hosts, hostvars), key=ids.__getitem__)}


def _port(host, hostvars, variable):
    for ports in PORTS.values():
        for name, default, _ in ports:
            if name == variable:
                value = str(hostvars[host].get(name, default))
                # Anything else is a finding of the preflight (variables.py).
                return int(value) if value.isdigit() else default
    raise KeyError(variable)


def expectations(host, groups, hostvars):
    """Arguments of host_check for `host`: what it will listen at, reach, keep and need."""
    known = hostvars[host]
    mine = [name for name in GROUPS if host in groups.get(name, ())]
    reaches = {
        (other, _port(other, hostvars, variable))
        for name in mine
        for group, variable in CONNECTIONS[name]
        for other in groups.get(group, ())
        if other != host
    }
    disks, data = {"/opt/mesostk": RELEASES_MIB}, []
    for name in mine:
        if name in DISKS:
            variable, default, mib = DISKS[name]
            disks[str(known.get(variable, default))] = mib
    if not known.get("validate_keep_data"):
        if "zookeeper" in mine:
            path = str(known.get("zookeeper_data_dir", "/var/lib/zookeeper"))
            data.append({"path": path + "/version-2", "service": "zookeeper"})
        if "mesos_agents" in mine:
            path = str(known.get("mesos_agent_work_dir", "/var/lib/mesos"))
            data.append({"path": path + "/meta", "service": "mesos-agent"})
    wanted = {
        "address": address(host, hostvars),
        "listens": [
            {"port": _port(host, hostvars, variable), "service": service}
            for name in mine
            for variable, _, service in PORTS[name]
        ],
        "reaches": [
            {"host": other, "address": address(other, hostvars), "port": port}
            for other, port in sorted(reaches)
        ],
        "disks": disks,
        "data": data,
        "cgroups": _cgroups(mine, known),
        "python": known.get("mesostk_python", ""),
    }
    if "zookeeper" in mine:
        wanted["zookeeper_id"] = zookeeper_ids(groups["zookeeper"], hostvars)[host]
        wanted["zookeeper_data_dir"] = known.get("zookeeper_data_dir", "/var/lib/zookeeper")
    return wanted


def data_paths(host, groups, hostvars):
    """Directories with data of the services that the inventory puts on `host`."""
    known, found = hostvars[host], []
    for name, (variable, default, _) in DISKS.items():
        if host in groups.get(name, ()):
            path = known.get(variable, default)
            # The package owns the directory itself.
            found.append(path + "/version-2" if name == "zookeeper" else path)
    return found


def _cgroups(mine, known):
    isolation = str(known.get("mesos_agent_flags", ""))
    containerizers = str(known.get("mesos_agent_containerizers", ""))
    limits = "docker" in containerizers or "cgroups/" in isolation
    return ["cpu", "memory"] if "mesos_agents" in mine and limits else []


def _finding(where, problem, remedy, level="error"):
    return {"where": where, "problem": problem, "remedy": remedy, "level": level}


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
    masters = len(groups.get("mesos_masters", ()))
    if masters and masters % 2 == 0:
        yield _finding(
            "group mesos_masters",
            f"{masters} hosts: an even number survives no more failures than {masters - 1}",
            f"use {masters - 1} or {masters + 1} hosts",
            "warning",
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
        if quorum is not None and not (
            str(quorum).isdigit() and masters // 2 < int(quorum) <= masters
        ):
            yield _finding(
                f"host {host}",
                f"mesos_master_quorum {quorum} is not a majority of {masters} masters",
                f"leave it out, or use {masters // 2 + 1}",
            )


def remedy_for(message):
    """What to do about a host that Ansible cannot use, by what it says; empty where unknown."""
    return next((remedy for words, remedy in REMEDIES if words in message), "")


def _failed(host, report):
    """The finding of a host on which the module could not be run at all."""
    parts = [
        str(report[key]) for key in ("msg", "module_stderr", "module_stdout") if report.get(key)
    ]
    lines = [line.strip() for part in parts for line in part.splitlines() if line.strip()]
    # Of a host that is out of reach the last line is what ssh says; those before are Ansible's.
    if report.get("unreachable"):
        lines = [line[max(0, line.rfind("ssh: ")) :] for line in lines[-1:]]
    message = " ".join(lines) or "no reason given"
    what = "it cannot be reached" if report.get("unreachable") else "it cannot be looked at"
    known = remedy_for(message) or "try `ansible -m ping` on it, with -vvv for the reason"
    return _finding(f"host {host}", f"{what}: {message[:300].rstrip('. ')}", known)


def _clock_findings(host, report, now):
    # The host was asked after asked_at and had answered before now: what is outside of these two
    # is surely wrong, however long the question took.
    behind, ahead = report["asked_at"] - report["clock_s"], report["clock_s"] - now
    off, way = (behind, "behind") if behind > 0 else (ahead, "ahead of")
    if off > CLOCK_S:
        yield _finding(
            f"host {host}",
            f"its clock is {off:.0f} s {way} the control node's",
            "synchronise both: install chrony or systemd-timesyncd",
        )


def _reach_findings(reports, lost):
    """One finding for each port that cannot be reached, with all the hosts that cannot."""
    blocked = {}
    for host, report in sorted(reports.items()):
        for one in report.get("unreached", ()):
            # That a host which is down does not answer the others either is no news.
            if one["host"] not in lost:
                key = (one["host"], one["address"], one["port"], one["reason"])
                blocked.setdefault(key, []).append(host)
    for (host, where, port, reason), hosts in sorted(blocked.items()):
        yield _finding(
            f"host {host}",
            f"{', '.join(hosts)} cannot reach its {where}:{port} ({reason})",
            f"let them through the firewall to port {port}; is common_address right?",
        )


def _membership_findings(groups, hostvars, reports):
    """An inventory whose ensemble is more than one member away from that which runs.

    A member whose host has its data under a new address is the member that it was.
    """
    running = {tuple(sorted(one.get("ensemble", {}).items())) for one in reports.values()} - {()}
    if not running:
        return
    numbers = zookeeper_ids(groups.get("zookeeper", ()), hostvars)
    hosts = {str(number): host for host, number in numbers.items()}
    wanted = {number: address(host, hostvars) for number, host in hosts.items()}
    moved = {number for number, host in hosts.items() if reports.get(host, {}).get("ensemble")}
    for members in sorted(running):
        before = dict(members)
        differs = {n for n in before.keys() | wanted.keys() if before.get(n) != wanted.get(n)}
        changed = sorted(differs - (moved & before.keys()), key=int)
        # A host that would have another number is a finding of its own.
        stay = {before.get(n) for n in changed} & {wanted.get(n) for n in changed}
        leave = [f"{n} ({before[n]})" for n in changed if n in before and before[n] not in stay]
        join = [f"{n} ({wanted[n]})" for n in changed if n in wanted and wanted[n] not in stay]
        if len(leave) + len(join) < 2:
            continue
        one_for_one = len(leave) == len(join) == 1
        parts = (", ".join(leave) + " would leave", ", ".join(join) + " would join")
        what = " and ".join(part for part, who in zip(parts, (leave, join), strict=True) if who)
        yield _finding(
            "group zookeeper",
            f"members {what} at once, and two majorities could decide without each other",
            "one host takes the place of another by `mesostk node replace OLD NEW`"
            if one_for_one
            else "change one at a time, by `mesostk node add` and `mesostk node remove`",
        )


def _host_findings(groups, in_cluster, hostvars, now):
    reports = {
        host: hostvars[host]["validate_host"]
        for host in sorted(in_cluster)
        if "validate_host" in hostvars[host]
    }
    lost = {host for host, report in reports.items() if "findings" not in report}
    for host, report in reports.items():
        if host in lost:
            yield _failed(host, report)
            continue
        for one in report["findings"]:
            yield _finding(f"host {host}", one["problem"], one["remedy"], one["level"])
        yield from _clock_findings(host, report, now)
    yield from _reach_findings(reports, lost)
    yield from _membership_findings(groups, hostvars, reports)


def finding_text(found):
    """A report for people: errors first, equal findings of several hosts as one."""
    where = {}
    for one in sorted(found, key=lambda one: one["level"]):
        where.setdefault((one["level"], one["problem"], one["remedy"]), []).append(one["where"])
    lines = []
    for (level, problem, remedy), places in where.items():
        names = ", ".join(places)
        if len(places) > 1 and all(place.startswith("host ") for place in places):
            names = "hosts " + ", ".join(place[5:] for place in places)
        mark = "warning: " if level == "warning" else ""
        end = "" if remedy.endswith("?") else "."
        lines.append(f"- {mark}{names}: {problem}. Remedy: {remedy}{end}")
    return "\n".join(lines)


def members(groups):
    """Hosts that are in a group which the playbooks know."""
    return {host for name in GROUPS for host in groups.get(name, ())}


def findings(groups, hostvars, now=0.0):
    """All that is wrong with the inventory and with the hosts that were looked at.

    A list of {where, problem, remedy, level}; `now` is the control node's clock in seconds since
    the epoch, after the hosts have answered.
    """
    in_cluster = members(groups)
    return [
        *_group_findings(groups, in_cluster),
        *_address_findings(in_cluster, hostvars),
        *_id_findings(groups, hostvars),
        *_variable_findings(groups, in_cluster, hostvars),
        *_host_findings(groups, in_cluster, hostvars, now),
    ]


class FilterModule:
    """What Ansible loads."""

    def filters(self):
        return {
            "balancer_groups": balancer_groups,
            "cluster_address": address,
            "cluster_addresses": addresses,
            "cluster_endpoints": endpoints,
            "cluster_data": data_paths,
            "cluster_findings": findings,
            "cluster_present": present,
            "cluster_members": lambda groups: sorted(members(groups)),
            "finding_text": finding_text,
            "host_expectations": expectations,
            "majority": majority,
            "template_files": template_files,
            "zk_url": zk_url,
            "zookeeper_ids": zookeeper_ids,
        }
