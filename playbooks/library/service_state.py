#!/usr/bin/python
"""Ansible module: which services of a host are due for a (re)start, and the doing of it.

A restart is due by comparison, not by notification: each unit records, when it starts, the hash of
the configuration it started with (`service-hash --record`), and is due when the files on disk hash
to something else. A run that dies half-way therefore loses no restart.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_state
short_description: Report services that are due for a start or restart, or bring one up
description:
  - Reads the records that role C(service) writes below C(/etc/mesostk/services).
options:
  name:
    description: Service to bring up; without it nothing changes and all services are reported.
    type: str
  wait_s:
    description: Seconds to wait until the service is healthy; a limit for what hangs.
    type: int
    default: 180
  advice:
    description: What to do next; said at the end of a failure.
    type: str
    default: ""
author: mesostk
"""

EXAMPLES = r"""
- name: Find what is due
  service_state:
  register: services

- name: Bring the master to its configuration
  service_state:
    name: mesos-master
"""

RETURN = r"""
services:
  description: >-
    A record for each service with name, due (none, start or restart), why, watch (its paths),
    restarts, up_s (seconds), leader, place: where it comes in a rolling restart (failing, then
    standby, then leader), and a ZooKeeper's id.
  type: list
  returned: always
"""

import glob
import json
import os
import socket
import subprocess
import time

from ansible.module_utils.asking import ask, zookeeper_mode
from ansible.module_utils.basic import AnsibleModule

RECORDS = "/etc/mesostk/services"
STARTED = "/run/mesostk"
HASHER = "/usr/local/lib/mesostk/service-hash"
MYID = "/etc/zookeeper/conf/myid"
JOURNAL_LINES = "25"


def http(url, call=None):
    """Status and body of GET `url`, or of POST of `call`; (0, reason) when nobody answers."""
    try:
        status, _, body = ask("GET" if call is None else "POST", url, call)
    except (OSError, ValueError) as error:
        return 0, str(error).encode()
    return status, body


def engine_says(path, timeout=5.0):
    """None when a Docker engine answers at the socket, else what is wrong."""
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(timeout)
            sock.connect(path)
            sock.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            line = sock.recv(4096).decode(errors="replace").partition("\r\n")[0]
    except OSError as error:
        return f"{path}: {error}"
    return None if " 200 " in line else f"{path} answers {line!r}"


def is_healthy(record):
    """None when the service does its work, else what it says instead."""
    probe = record["health"]
    if probe["kind"] == "zookeeper":
        mode, said = zookeeper_mode(probe["address"], probe["port"])
        return None if mode else said
    if probe["kind"] == "docker":
        return engine_says(probe["socket"])
    status, body = http(probe["url"])
    if status != probe.get("status", 200):
        said = body.decode(errors="replace").strip()[:200]
        return f"{probe['url']} answers {status or 'nothing'}: {said}"
    if "key" in probe:
        value = json.loads(body).get(probe["key"])
        if value != probe["equals"]:
            return f"{probe['url']} has {probe['key']} = {value}, not yet {probe['equals']}"
    return None


def is_leader(record):
    """Whether this member leads now; members that lead are restarted last."""
    probe = record.get("leader")
    if not probe:
        return False
    if probe["kind"] == "zookeeper":
        return zookeeper_mode(probe["address"], probe["port"])[0] == "leader"
    status, body = http(probe["url"])
    if status != 200:
        return False
    try:
        return json.loads(body).get(probe["key"]) == probe["equals"]
    except (ValueError, AttributeError):
        return False


def agent_id(record):
    """Id that an agent has of the master, None for other services and while it does not answer."""
    url = record.get("agent_api")
    if not url:
        return None
    status, body = http(url, call={"type": "GET_AGENT"})
    if status != 200:
        return None
    return json.loads(body)["get_agent"]["agent_info"].get("id", {}).get("value")


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout + done.stderr).strip()


def properties(unit):
    wanted = "ActiveState,SubState,UnitFileState,NeedDaemonReload,MainPID"
    _, text = run("systemctl", "show", "-p", wanted, unit)
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def read(path):
    try:
        with open(path) as file:
            return file.read().strip()
    except FileNotFoundError:
        return None


def assess(record):
    """What the service needs: ("none" | "start" | "restart", why)."""
    unit = properties(record["unit"])
    if unit.get("ActiveState") not in ("active", "reloading", "activating"):
        return "start", f"it is {unit.get('ActiveState', 'unknown')}"
    _, on_disk = run(HASHER, record["name"])
    started_with = read(os.path.join(STARTED, record["name"] + ".started"))
    if started_with != on_disk:
        return "restart", "its configuration or release changed since it started"
    if unit.get("ActiveState") == "activating":
        return "restart", "it does not come up"
    if unit.get("UnitFileState") != "enabled":
        return "start", "it is not enabled"
    if unit.get("NeedDaemonReload") == "yes":
        return "start", "systemd has not read its unit"
    return "none", ""


def uptime(unit):
    """How often systemd restarted the unit by itself, and seconds since its last start."""
    _, text = run("systemctl", "show", "-p", "NRestarts,ActiveEnterTimestampMonotonic", unit)
    known = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    since_s = int(known.get("ActiveEnterTimestampMonotonic") or 0) / 1e6
    return {
        "restarts": int(known.get("NRestarts") or 0),
        "up_s": time.clock_gettime(time.CLOCK_MONOTONIC) - since_s if since_s else 0.0,
    }


def report():
    found = []
    for path in sorted(glob.glob(os.path.join(RECORDS, "*.json"))):
        with open(path) as file:
            record = json.load(file)
        due, why = assess(record)
        leader = due != "start" and is_leader(record)
        # A member that does no work is mended first: its restart costs nothing.
        failing = due == "start" or is_healthy(record) is not None
        found.append(
            {
                "name": record["name"],
                "due": due,
                "why": why,
                "leader": leader,
                "place": "leader" if leader else "failing" if failing else "standby",
                "watch": record["watch"],
                **uptime(record["unit"]),
                "zookeeper_id": read(MYID) if record["name"] == "zookeeper" else None,
            }
        )
    return found


def journal(unit):
    return run("journalctl", "-u", unit, "-n", JOURNAL_LINES, "--no-pager", "-o", "cat")[1]


def bring_up(module, record):
    wait_s = module.params["wait_s"]
    advice = "\n" + module.params["advice"] if module.params["advice"] else ""
    due, why = assess(record)
    name, unit = record["name"], record["unit"]
    id_before = agent_id(record) if due == "restart" else None
    if due == "none":
        said = is_healthy(record)
        if said is None:
            module.exit_json(changed=False, services=[])
    if module.check_mode:
        module.exit_json(changed=due != "none", services=[{"name": name, "due": due, "why": why}])
    commands = [("systemctl", "daemon-reload"), ("systemctl", "enable", unit)]
    if due != "none":
        # --no-block: readiness is asked of the service itself, with a limit and its own words.
        verb = "restart" if due == "restart" else "start"
        commands += [("systemctl", "reset-failed", unit), ("systemctl", "--no-block", verb, unit)]
    for command in commands:
        code, text = run(*command)
        if code != 0 and "reset-failed" not in command:
            module.fail_json(msg=f"{' '.join(command)}: {text}\n{journal(unit)}{advice}")
    end = time.monotonic() + wait_s
    said = "it was not asked yet"
    while time.monotonic() < end:
        if assess(record)[0] == "none":
            said = is_healthy(record)
            id_now = agent_id(record) if said is None and id_before is not None else None
            if id_now != id_before and id_now is not None:
                module.fail_json(
                    msg=f"{name} came back as agent {id_now}, not as {id_before}: its tasks "
                    f"count as lost. Its last journal lines:\n{journal(unit)}{advice}"
                )
            if said is None and id_now == id_before:
                module.exit_json(
                    changed=due != "none", services=[{"name": name, "due": due, "why": why}]
                )
            said = said or "it does not tell its id"
        else:
            said = assess(record)[1]
        time.sleep(0.2)
    module.fail_json(
        msg=f"{name} is not healthy after {wait_s} s: {said}. Its last journal lines:\n"
        f"{journal(unit)}\nLook further with: journalctl -u {unit} -e{advice}"
    )


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str"},
            "wait_s": {"type": "int", "default": 180},
            "advice": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    name = module.params["name"]
    if name is None:
        module.exit_json(changed=False, services=report())
    text = read(os.path.join(RECORDS, name + ".json"))
    if text is None:
        if module.check_mode:
            module.exit_json(changed=True, services=[])
        module.fail_json(msg=f"{RECORDS}/{name}.json is missing; run its role first")
    bring_up(module, json.loads(text))


if __name__ == "__main__":
    main()
