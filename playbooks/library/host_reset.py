#!/usr/bin/python
"""Ansible module: take the cluster off a host: services, tasks, configuration, data."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_reset
short_description: Stop the services of this toolkit, end their tasks, remove files and data
description:
  - Packages, users and the Docker engine stay, and what role dns_client changed.
options:
  data:
    description: Directories with data of services, removed with what is in them.
    type: list
    elements: str
    default: []
author: mesostk
"""

EXAMPLES = r"""
- name: Take the cluster off the host
  host_reset:
    data: [/var/lib/mesos, /var/lib/zookeeper/version-2]
"""

RETURN = r"""
services:
  description: Services that were, or in check mode would be, stopped and removed.
  type: list
  returned: always
tasks:
  description: Number of processes and containers of tasks that were ended.
  type: int
  returned: always
paths:
  description: Paths that were, or in check mode would be, removed.
  type: list
  returned: always
"""

import contextlib
import glob
import json
import os
import shutil
import signal
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule

RECORDS = "/etc/mesostk/services"
LAID = "/etc/mesostk/files"
UNITS = "/etc/systemd/system"
MARK = "Written by Ansible (role service)"
PROGRAMS = "/opt/mesostk/"

# What is reached from outside first, what the others stand on last.
STOP_ORDER = ("haproxy", "marathon-lb", "mesos-dns", "marathon", "mesos-agent", "mesos-master")

PATHS = (
    "/etc/mesos",
    "/etc/mesos-master",
    "/etc/mesos-slave",
    "/etc/mesos-agent",
    "/etc/mesos-secrets",
    "/etc/marathon",
    "/etc/mesos-dns",
    "/etc/marathon-lb",
    "/etc/mesostk",
    "/etc/zookeeper/conf/zoo.cfg",
    "/etc/zookeeper/conf/myid",
    "/var/lib/zookeeper/myid",
    "/opt/mesostk",
    "/usr/local/lib/mesostk",
    "/var/cache/mesostk",
    "/var/lib/marathon-lb",
    "/run/mesostk",
    "/run/mesos",
)

# Processes of tasks get this long to be gone after they were killed.
GONE_S = 10.0


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout + done.stderr).strip()


def records():
    found = []
    for path in glob.glob(os.path.join(RECORDS, "*.json")):
        with open(path) as file:
            found.append(json.load(file))
    order = {name: number for number, name in enumerate(STOP_ORDER)}
    return sorted(found, key=lambda one: (order.get(one["name"], len(order)), one["name"]))


def own_unit(record):
    """Path of the unit if this toolkit wrote it; None for one of the distribution."""
    path = os.path.join(UNITS, record["unit"])
    with contextlib.suppress(OSError), open(path) as file:
        if MARK in file.read():
            return path
    return None


def laid():
    """What roles put down as laid by them (host_files, option record): secrets elsewhere, say."""
    for path in glob.glob(os.path.join(LAID, "*.json")):
        with open(path) as file:
            yield from json.load(file)["files"]


def processes():
    """pid → (parent, session, command line) of every process."""
    found = {}
    for path in glob.glob("/proc/[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            with open(path + "/stat") as file:
                fields = file.read().rpartition(")")[2].split()
            with open(path + "/cmdline", "rb") as file:
                command = file.read().replace(b"\0", b" ").decode(errors="replace")
            found[int(os.path.basename(path))] = (int(fields[1]), int(fields[3]), command)
    return found


def of_tasks(table):
    """Processes below the agent's launcher and supervisors, which outlive a stopped agent."""
    found = {
        pid
        for pid, (_, _, command) in table.items()
        if command.startswith(PROGRAMS) and "mesostk.agent" in command
    }
    others = {0, 1, table[os.getpid()][1]}
    while True:
        # A daemon that a task left behind has no parent there any more, but its session.
        sessions = {table[pid][1] for pid in found} - others
        more = {
            pid
            for pid, (parent, session, _) in table.items()
            if pid not in found and (parent in found or session in sessions)
        }
        if not more:
            return found - {os.getpid()}
        found |= more


def end_tasks():
    """Number of processes and containers that were killed."""
    ended = set()
    end = time.monotonic() + GONE_S
    while time.monotonic() < end:
        left = of_tasks(processes())
        if not left:
            break
        ended |= left
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    containers = []
    if shutil.which("docker"):
        code, text = run("docker", "ps", "-aq", "--filter", "name=^/?mesos-")
        containers = text.split() if code == 0 else []
        if containers:
            run("docker", "rm", "-f", "-v", *containers)
    return len(ended) + len(containers)


def is_safe(path):
    """Whether `path` is a data directory and no part of the system."""
    parts = os.path.normpath(path).split("/")
    return (
        os.path.isabs(path) and len(parts) >= 4 and parts[1] in ("var", "srv", "opt", "data", "mnt")
    )


def links():
    """Commands of ours among those of the system."""
    for path in glob.glob("/usr/sbin/*") + glob.glob("/usr/bin/*"):
        if os.path.islink(path) and os.readlink(path).startswith(PROGRAMS):
            yield path


def remove(path):
    # The module of an interrupted run may be at it, too.
    while os.path.lexists(path):
        with contextlib.suppress(FileNotFoundError):
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)


def remove_block(path, marker):
    """Whether the part of `path` between the marker's lines was there; it is not afterwards."""
    with open(path) as file:
        text = file.read()
    head, found, rest = text.partition(f"# BEGIN {marker}\n")
    _, ended, tail = rest.partition(f"# END {marker}\n")
    if not (found and ended):
        return False
    # Written in place: in a container the file is a mount point.
    with open(path, "w") as file:
        file.write(head + tail)
    return True


def main():
    module = AnsibleModule(
        argument_spec={"data": {"type": "list", "elements": "str", "default": []}},
        supports_check_mode=True,
    )
    for path in module.params["data"]:
        if not is_safe(path):
            module.fail_json(
                msg=f"{path} is not removed: data are below /var, /srv, /opt, /data, /mnt"
            )
    found = records()
    units = [path for record in found if (path := own_unit(record)) is not None]
    names = [record["name"] for record in found if own_unit(record) is not None]
    wanted = (*PATHS, *module.params["data"], *units, *laid(), *links())
    paths = sorted({path for path in wanted if os.path.lexists(path)})
    ended = 0
    if not module.check_mode:
        for name in names:
            code, text = run("systemctl", "disable", "--now", name + ".service")
            if code != 0:
                module.fail_json(msg=f"{name} cannot be stopped: {text}")
        ended = end_tasks()
        for path in paths:
            # What was in a directory that is gone already is gone, too.
            remove(path)
        if remove_block("/etc/hosts", "mesostk cluster"):
            paths.append("/etc/hosts (the part that is ours)")
        run("systemctl", "daemon-reload")
        run("systemctl", "reset-failed")
    module.exit_json(
        changed=bool(paths or names or ended), services=names, tasks=ended, paths=paths
    )


if __name__ == "__main__":
    main()
