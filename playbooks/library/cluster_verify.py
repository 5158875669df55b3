#!/usr/bin/python
"""Ansible module: ask the running cluster whether it is one."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_verify
short_description: Check quorum, leaders, agents and, with a probe app, the whole chain
description:
  - Asks the services themselves, again and again until all is well or the time is over, and then
    reports every finding. Leaves nothing behind.
options:
  zookeepers:
    description: Members as address:port.
    type: list
    elements: str
    required: true
  masters:
    description: Masters as address:port.
    type: list
    elements: str
    required: true
  agents:
    description: Agents as address:port.
    type: list
    elements: str
    required: true
  marathons:
    description: Marathons as address:port.
    type: list
    elements: str
    default: []
  probe:
    description: Whether to run an app through Marathon and remove it again.
    type: bool
    default: false
  wait_s:
    description: Seconds until what is not well is reported.
    type: int
    default: 60
author: mesostk
"""

EXAMPLES = r"""
- name: Verify
  cluster_verify:
    zookeepers: [10.0.3.11:2181]
    masters: [10.0.3.11:5050]
    agents: [10.0.3.51:5051]
    marathons: [10.0.3.11:8080]
    probe: true
"""

RETURN = r"""
leader:
  description: Leading master as host:port.
  type: str
  returned: success
checks:
  description: What was checked and found well.
  type: list
  returned: success
"""

import json
import socket
import time
import urllib.error
import urllib.request
import uuid

from ansible.module_utils.basic import AnsibleModule

TIMEOUT_S = 5.0


class Finding(Exception):
    """Something is not well (yet); the message says what, and where to look."""


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer here, not something to follow."""

    def redirect_request(self, *_args):
        return None


OPENER = urllib.request.build_opener(NoRedirect, urllib.request.ProxyHandler({}))


def http(method, url, body=None):
    """Status, headers and parsed body."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method)
    request.add_header("Content-Type", "application/json")
    try:
        with OPENER.open(request, timeout=TIMEOUT_S) as answer:
            status, headers, text = answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            status, headers, text = error.code, error.headers, error.read()
    except OSError as error:
        raise Finding(f"{url} cannot be reached: {error}") from error
    try:
        return status, headers, json.loads(text) if text else None
    except ValueError:
        return status, headers, text.decode(errors="replace")


def zookeeper_mode(member):
    address, port = member.rsplit(":", 1)
    try:
        with socket.create_connection((address, int(port)), TIMEOUT_S) as connection:
            connection.sendall(b"srvr")
            text = b""
            while chunk := connection.recv(4096):
                text += chunk
    except OSError as error:
        raise Finding(f"ZooKeeper {member} cannot be reached: {error}") from error
    for line in text.decode(errors="replace").splitlines():
        if line.startswith("Mode: "):
            return line[6:]
    raise Finding(f"ZooKeeper {member} has no quorum: look at journalctl -u zookeeper there")


def check_zookeepers(members):
    modes = {member: zookeeper_mode(member) for member in members}
    leaders = [member for member, mode in modes.items() if mode in ("leader", "standalone")]
    if len(leaders) != 1:
        raise Finding(f"ZooKeeper has {len(leaders)} leaders: {modes}")
    return f"ZooKeeper: {len(members)} members, {leaders[0]} leads"


def leading_master(masters):
    answers = {}
    for master in masters:
        status, headers, body = http("GET", f"http://{master}/redirect")
        if status != 307:
            raise Finding(f"master {master} knows no leader: {status} {body}")
        answers[master] = headers["Location"].removeprefix("//")
    if len(set(answers.values())) != 1:
        raise Finding(f"the masters do not agree who leads: {answers}")
    return next(iter(answers.values()))


def check_agents(leader, agents):
    status, _, body = http("GET", f"http://{leader}/slaves")
    if status != 200:
        raise Finding(f"master {leader} answers {status} to /slaves: {body}")
    active = {one["pid"].partition("@")[2] for one in body["slaves"] if one["active"]}
    missing = sorted(set(agents) - active)
    if missing:
        raise Finding(
            f"agents {', '.join(missing)} are not registered with {leader}: "
            "look at journalctl -u mesos-agent there"
        )
    return f"agents: {len(agents)} registered"


def leading_marathon(marathons):
    leaders = set()
    for marathon in marathons:
        status, _, body = http("GET", f"http://{marathon}/v2/leader")
        if status != 200:
            raise Finding(f"Marathon {marathon} knows no leader: {status} {body}")
        leaders.add(body["leader"])
    if len(leaders) != 1:
        raise Finding(f"the Marathons do not agree who leads: {sorted(leaders)}")
    return leaders.pop()


def run_probe(marathon, deadline):
    """An app of one task from deployment to removal."""
    url = f"http://{marathon}/v2/apps"
    app = {
        "id": f"/mesostk-verify-{uuid.uuid4().hex[:8]}",
        "cmd": "sleep 600",
        "cpus": 0.01,
        "mem": 16,
        "instances": 1,
    }
    status, _, body = http("POST", url, app)
    if status != 201:
        raise Finding(f"Marathon {marathon} does not take an app: {status} {body}")
    try:
        while True:
            status, _, body = http("GET", url + app["id"])
            if status == 200 and body["app"]["tasksRunning"] == 1:
                return "probe app: a task ran"
            if time.monotonic() > deadline:
                queue = http("GET", f"http://{marathon}/v2/queue")[2]
                raise Finding(f"the probe app {app['id']} does not run; the queue says {queue}")
            time.sleep(0.1)
    finally:
        http("DELETE", url + app["id"])


def verify(params, deadline):
    """Names of the checks that are well; raises the first `Finding`."""
    checks = [check_zookeepers(params["zookeepers"])]
    leader = leading_master(params["masters"])
    checks.append(f"masters: {len(params['masters'])}, {leader} leads")
    checks.append(check_agents(leader, params["agents"]))
    if params["marathons"]:
        marathon = leading_marathon(params["marathons"])
        checks.append(f"Marathon: {len(params['marathons'])}, {marathon} leads")
        if params["probe"]:
            checks.append(run_probe(marathon, deadline))
    return leader, checks


def main():
    many = {"type": "list", "elements": "str"}
    module = AnsibleModule(
        argument_spec={
            "zookeepers": {**many, "required": True},
            "masters": {**many, "required": True},
            "agents": {**many, "required": True},
            "marathons": {**many, "default": []},
            "probe": {"type": "bool", "default": False},
            "wait_s": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    params = {**module.params}
    if module.check_mode:
        params["probe"] = False
    deadline = time.monotonic() + params["wait_s"]
    while True:
        try:
            leader, checks = verify(params, deadline)
            module.exit_json(changed=False, leader=leader, checks=checks)
        except Finding as finding:
            if time.monotonic() > deadline:
                module.fail_json(msg=f"{finding} (asked for {params['wait_s']} s)")
        time.sleep(0.5)


if __name__ == "__main__":
    main()
