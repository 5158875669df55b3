#!/usr/bin/python
"""Ansible module: what on a host would make an installation fail, all at once; changes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_check
short_description: Report what stands in the way of an installation on a host
description:
  - Looks at addresses, names, ports, peers, disks, Python, control groups, and data that another
    cluster left. Connects to the peers' ports, writes nothing.
options:
  address:
    description: Address by which the other hosts reach this one.
    type: str
    required: true
  asked_at:
    description: The control node's clock, in seconds since the epoch.
    type: float
    required: true
  listens:
    description: Ports that services of this host listen at, as dicts of port and service.
    type: list
    elements: dict
    default: []
  reaches:
    description: Ports of other hosts that are needed, as dicts of host, address and port.
    type: list
    elements: dict
    default: []
  disks:
    description: Path to MiB that are to be free there.
    type: dict
    default: {}
  data:
    description: Directories with data of a service, as dicts of path and service.
    type: list
    elements: dict
    default: []
  zookeeper_id:
    description: Number of this member of the ensemble, where it is one.
    type: int
  zookeeper_data_dir:
    description: Where ZooKeeper's data are.
    type: str
    default: /var/lib/zookeeper
  cgroups:
    description: Controllers that are needed.
    type: list
    elements: str
    default: []
  python:
    description: Interpreter of the daemons; empty for the newest python3 on the path.
    type: str
    default: ""
author: mesostk
"""

EXAMPLES = r"""
- name: Look at the host
  host_check:
    address: 10.0.3.11
    asked_at: 1795000000.0
    listens: [{port: 5050, service: mesos-master}]
    reaches: [{host: m2, address: 10.0.3.12, port: 2181}]
"""

RETURN = r"""
findings:
  description: Dicts of level (error or warning), problem and remedy.
  type: list
  returned: always
unreached:
  description: Those of C(reaches) that nobody answers for, each with the reason.
  type: list
  returned: always
ensemble:
  description: ZooKeeper members whose data this host has, number to address; empty without data.
  type: dict
  returned: always
clock_s:
  description: The host's clock in seconds since the epoch.
  type: float
  returned: always
asked_at:
  description: The clock of the control node before the question.
  type: float
  returned: always
"""

import contextlib
import errno
import glob
import json
import os
import re
import shutil
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule

RECORDS = "/etc/mesostk/services"
ZOO_CFG = "/etc/zookeeper/conf/zoo.cfg"
SERVER = re.compile(r"server\.(\d+)\s*=\s*(\S+?):\d+:\d+")
PYTHONS = ("python3.13", "python3.12", "python3.11", "python3")
OLDEST_PYTHON = (3, 11)

# Of a file system; logs and sandboxes fill the rest within days.
FULL = 0.95

# A firewall that drops packets answers nothing; a host that is there answers within this time.
CONNECT_S = 3.0
CONNECTIONS = 32


def finding(problem, remedy, level="error"):
    return {"level": level, "problem": problem, "remedy": remedy}


def is_ours(service):
    """Whether this toolkit installed `service` here."""
    return os.path.exists(os.path.join(RECORDS, service + ".json"))


def check_system():
    if not os.path.isdir("/run/systemd/system"):
        yield finding("systemd does not run there", "boot the host with systemd")
    if shutil.which("apt-get") is None:
        yield finding(
            "it has no apt-get", "use Debian 12 or 13 or Ubuntu 24.04: the roles install with apt"
        )
    done = subprocess.run(
        ["timedatectl", "show", "-p", "NTPSynchronized", "--value"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.stdout.strip() == "no":
        yield finding(
            "its clock is not synchronised", "install chrony or systemd-timesyncd", "warning"
        )


def check_address(address):
    """The address is this host's own, as it must be for daemons to bind to it."""
    try:
        resolved = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)
    except OSError as error:
        yield finding(
            f"the name {address} has no address there ({error})",
            "put it into DNS or /etc/hosts, or set common_address to an address",
        )
        return
    for family, kind, _, _, where in resolved:
        with socket.socket(family, kind) as probe:
            try:
                probe.bind((where[0], 0))
                return
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
    shown = address if resolved[0][4][0] == address else f"{address} ({resolved[0][4][0]})"
    yield finding(
        f"{shown} is the address of none of its network cards",
        "set common_address to the address by which the other hosts reach it",
    )


def listeners():
    """(port, address as hex, inode) of every TCP socket that listens."""
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError), open(path) as file:
            for line in list(file)[1:]:
                fields = line.split()
                if fields[3] == "0A":
                    where, port = fields[1].split(":")
                    yield int(port, 16), where, fields[9]


def is_loopback(where):
    """Whether the hexadecimal address of /proc/net is one that only the host itself reaches."""
    if len(where) == 8:
        return where.endswith("7F")
    return where == "00000000000000000000000001000000"


def owner_of(inode):
    """`name (pid N)` of the process that has the socket."""
    for path in glob.glob("/proc/[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(path) == f"socket:[{inode}]":
                pid = path.split("/")[2]
                with open(f"/proc/{pid}/comm") as file:
                    return f"{file.read().strip()} (pid {pid})"
    return "another process"


def check_ports(listens):
    wanted = {one["port"]: one["service"] for one in listens if not is_ours(one["service"])}
    taken = {}
    for port, where, inode in listeners():
        if port in wanted and not is_loopback(where):
            taken.setdefault(port, inode)
    for port, inode in sorted(taken.items()):
        yield finding(
            f"port {port}, which {wanted[port]} needs, is taken by {owner_of(inode)}",
            "stop and disable that, or give one of the two another port",
        )


def reach(peer):
    """The peer with the reason why it cannot be reached; None if its host answers."""
    try:
        with socket.create_connection((peer["address"], int(peer["port"])), CONNECT_S):
            return None
    except ConnectionRefusedError:
        # Nothing listens there yet, but the host says so itself.
        return None
    except socket.gaierror:
        reason = "its name has no address"
    except TimeoutError:
        reason = "no answer"
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
    return {**peer, "reason": reason}


def unreached(peers):
    if not peers:
        return []
    with ThreadPoolExecutor(min(CONNECTIONS, len(peers))) as pool:
        return [found for found in pool.map(reach, peers) if found is not None]


def existing(path):
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def check_disks(disks):
    """Room on each file system; paths on the same one add up."""
    wanted = {}
    for path, mib in sorted(disks.items()):
        device = os.stat(existing(path)).st_dev
        paths, sum_mib = wanted.get(device, ([], 0))
        wanted[device] = ([*paths, path], sum_mib + int(mib))
    for paths, mib in wanted.values():
        at = existing(paths[0])
        free = shutil.disk_usage(at).free >> 20
        if free < mib:
            yield finding(
                f"{free} MiB are free for {', '.join(paths)}, {mib} MiB are needed",
                "make room there, or mount a larger disk",
            )
        usage = shutil.disk_usage(at)
        if usage.total and usage.free < usage.total * (1 - FULL):
            yield finding(
                f"only {100 * usage.free / usage.total:.1f} % are free for {', '.join(paths)}",
                "make room there before it is full: old logs, sandboxes and releases first",
                "warning",
            )
        inodes = os.statvfs(at)
        if inodes.f_files and inodes.f_favail < 10_000:
            yield finding(
                f"{inodes.f_favail} inodes are free for {', '.join(paths)}",
                "remove small files there, or make the file system with more inodes",
            )


def check_data(data):
    for one in data:
        path, service = one["path"], one["service"]
        if not is_ours(service) and os.path.isdir(path) and os.listdir(path):
            yield finding(
                f"{path} has data of another {service}",
                f"move it away, or set validate_keep_data if {service} is to go on with it",
            )


def zookeeper_member(data_dir):
    """Number of the member whose data are there; None where there are none."""
    if not os.path.isdir(os.path.join(data_dir, "version-2")):
        return None
    try:
        with open(os.path.join(data_dir, "myid")) as file:
            there = file.read().strip()
    except OSError:
        return None
    return int(there) if there.isdigit() else None


def ensemble(address, data_dir):
    """Number → address of the members that this host was configured with and has data of."""
    member = zookeeper_member(data_dir)
    if member is None or not is_ours("zookeeper"):
        return {}
    try:
        with open(ZOO_CFG) as file:
            found = [SERVER.match(line) for line in file]
    except OSError:
        return {}
    # A single member has no such lines.
    return {one[1]: one[2] for one in found if one} or {str(member): address}


def check_zookeeper_id(number, data_dir):
    there = zookeeper_member(data_dir)
    if there is not None and there != number:
        yield finding(
            f"it is member {there} of the ensemble, the inventory makes it {number}",
            f"set zookeeper_id: {there} for it, since a member's number may never change",
        )


def cgroup_controllers():
    """Controllers that are mounted, of either version."""
    found = set()
    with open("/proc/self/mounts") as file:
        for line in file:
            _, where, kind, options, *_ = line.split()
            if kind == "cgroup":
                found.update(options.split(","))
            elif kind == "cgroup2":
                with (
                    contextlib.suppress(OSError),
                    open(os.path.join(where, "cgroup.controllers")) as names,
                ):
                    found.update(names.read().split())
    return found


def check_cgroups(wanted):
    missing = sorted(set(wanted) - cgroup_controllers()) if wanted else []
    if missing:
        yield finding(
            f"control groups cannot limit {' and '.join(missing)}: no such controller is mounted",
            "boot with cgroup_enable=memory, or take docker and cgroups/* out of the agent's flags",
        )


def check_python(named):
    candidates = [named] if named else [p for name in PYTHONS if (p := shutil.which(name))]
    said = "not there"
    for path in candidates:
        try:
            done = subprocess.run(
                [path, "-I", "-c", "import json, sys; print(json.dumps(sys.version_info[:2]))"],
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError as error:
            said = error.strerror
            continue
        if done.returncode == 0:
            version = tuple(json.loads(done.stdout))
            if version >= OLDEST_PYTHON:
                return
            said = f"Python {version[0]}.{version[1]}"
    yield finding(
        f"{named or 'python3'} is {said}, the daemons need 3.11 or newer",
        "install a newer one beside it and name it in mesostk_python",
    )


def main():
    many = {"type": "list", "elements": "dict", "default": []}
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "asked_at": {"type": "float", "required": True},
            "listens": many,
            "reaches": many,
            "disks": {"type": "dict", "default": {}},
            "data": many,
            "zookeeper_id": {"type": "int"},
            "zookeeper_data_dir": {"type": "str", "default": "/var/lib/zookeeper"},
            "cgroups": {"type": "list", "elements": "str", "default": []},
            "python": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    params = module.params
    clock_s = time.time()
    found = [
        *check_system(),
        *check_address(params["address"]),
        *check_ports(params["listens"]),
        *check_disks(params["disks"]),
        *check_data(params["data"]),
        *check_cgroups(params["cgroups"]),
        *check_python(params["python"]),
    ]
    members = {}
    if params["zookeeper_id"] is not None:
        found += check_zookeeper_id(params["zookeeper_id"], params["zookeeper_data_dir"])
        members = ensemble(params["address"], params["zookeeper_data_dir"])
    module.exit_json(
        changed=False,
        findings=found,
        unreached=unreached(params["reaches"]),
        ensemble=members,
        clock_s=clock_s,
        asked_at=params["asked_at"],
    )


if __name__ == "__main__":
    main()
