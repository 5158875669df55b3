#!/usr/bin/python
"""Ansible module: ask the running cluster whether it is one."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_verify
short_description: Check quorum, leaders, agents and, with a probe app, the whole chain
description:
  - Asks the services themselves, again and again until all is well or the time is over, and then
    reports all that is not well yet. The probe app is run once the rest is well, and taken away.
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
  dns:
    description: >-
      Servers of Mesos-DNS as address:port; each must know the leading master's name, and the probe
      app's.
    type: list
    elements: str
    default: []
  dns_http:
    description: Their HTTP interfaces as address:port; each must know the leading master's name.
    type: list
    elements: str
    default: []
  dns_domain:
    description: Domain that they answer for.
    type: str
    default: mesos
  balancers:
    description: Addresses of load balancers; each must pass a request on to the probe app.
    type: list
    elements: str
    default: []
  balancer_groups:
    description: Groups that the balancers serve, of which the probe app is one.
    type: list
    elements: str
    default: []
  probe:
    description: Whether to run an app through Marathon and remove it again.
    type: bool
    default: false
  wait_s:
    description: Seconds until what is not well is reported; a limit for what hangs.
    type: int
    default: 180
author: mesostk
"""

EXAMPLES = r"""
- name: Verify
  cluster_verify:
    zookeepers: [10.0.3.11:2181]
    masters: [10.0.3.11:5050]
    agents: [10.0.3.51:5051]
    marathons: [10.0.3.11:8080]
    dns: [10.0.3.60:53]
    dns_http: [10.0.3.60:8123]
    balancers: [10.0.3.61]
    balancer_groups: [internal]
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

import os
import socket
import struct
import time
import uuid

from ansible.module_utils.asking import TIMEOUT_S, ask_json, zookeeper_mode
from ansible.module_utils.basic import AnsibleModule


class Finding(Exception):
    """Something is not well (yet); the message says what, and where to look."""


def http(method, url, body=None):
    """Status, headers and parsed body."""
    try:
        return ask_json(method, url, body)
    except OSError as error:
        raise Finding(f"{url} cannot be reached: {error}") from error


def mode_of(member):
    address, port = member.rsplit(":", 1)
    mode, said = zookeeper_mode(address, int(port))
    if mode is None:
        raise Finding(
            f"ZooKeeper {member} does not serve ({said}): look at journalctl -u zookeeper there"
        )
    return mode


class Report:
    """What is well and what is not; a check that finds something does not keep others from it."""

    def __init__(self):
        self.well = []
        self.ill = []

    def ask(self, check, *arguments):
        """What `check` returns; None where it finds something, which is kept."""
        try:
            return check(*arguments)
        except Finding as finding:
            self.ill.append(str(finding))
            return None

    def check(self, check, *arguments):
        """Keep what `check` says, which is what is well, or its finding."""
        said = self.ask(check, *arguments)
        if said is not None:
            self.well.append(said)

    def one_leader(self, kind, told):
        """The leader that all name in `told`, member → leader or None; None if there is not one."""
        named = {leader for leader in told.values() if leader is not None}
        if len(named) > 1:
            self.ill.append(f"the {kind} do not agree who leads: {told}")
        if len(named) != 1:
            return None
        (leader,) = named
        if None not in told.values():
            self.well.append(f"{kind}: {len(told)}, {leader} leads")
        return leader


def check_zookeepers(report, members):
    modes = {member: report.ask(mode_of, member) for member in members}
    leaders = [member for member, mode in modes.items() if mode in ("leader", "standalone")]
    if None in modes.values():
        return
    if len(leaders) != 1:
        report.ill.append(f"ZooKeeper has {len(leaders)} leaders: {modes}")
    else:
        report.well.append(f"ZooKeeper: {len(members)} members, {leaders[0]} leads")


def leader_of_master(master):
    status, headers, body = http("GET", f"http://{master}/redirect")
    if status != 307:
        raise Finding(f"master {master} knows no leader: {status} {body}")
    return headers["Location"].removeprefix("//")


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


def leader_of_marathon(marathon):
    status, _, body = http("GET", f"http://{marathon}/v2/leader")
    if status != 200:
        raise Finding(f"Marathon {marathon} knows no leader: {status} {body}")
    return body["leader"]


def dns_addresses(server, name):
    """How many A records `server` has for `name`, asked by UDP as every client asks."""
    address, port = server.rsplit(":", 1)
    ident = os.urandom(2)
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = labels + b"\0" + struct.pack("!HH", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT_S)
        try:
            sock.connect((address, int(port)))
            sock.send(ident + struct.pack("!HHHHH", 0x0100, 1, 0, 0, 0) + question)
            answer = sock.recv(4096)
        except OSError as error:
            raise Finding(f"Mesos-DNS {server} does not answer: {error}") from error
    if len(answer) < 12 or answer[:2] != ident:
        raise Finding(f"Mesos-DNS {server} answers {answer!r}")
    flags, _, count = struct.unpack_from("!HHH", answer, 2)
    return 0 if flags & 0x000F else count


def check_names(servers, name):
    for server in servers:
        if dns_addresses(server, name) == 0:
            raise Finding(f"Mesos-DNS {server} has no address for {name}: look at its log")
    return f"Mesos-DNS: {len(servers)} know {name}"


def check_names_by_http(servers, name):
    for server in servers:
        url = f"http://{server}/v1/hosts/{name}"
        status, _, body = http("GET", url)
        if status != 200 or not body or not body[0]["ip"]:
            raise Finding(f"Mesos-DNS has no address for {name}: {url} answers {status} {body}")
    return f"Mesos-DNS: {len(servers)} know {name} by HTTP"


def check_balancers(balancers, port, body):
    for balancer in balancers:
        url = f"http://{balancer}:{port}/"
        status, _, text = http("GET", url)
        if status != 200 or str(text).strip() != body:
            raise Finding(
                f"{url} does not lead to the probe app ({status} {str(text)[:80]!r}): "
                "`mesostk lb status` says what the balancer has"
            )
    return f"marathon-lb: {len(balancers)} pass requests on, on port {port}"


def probe_app(params):
    """One task that answers every request with the app's name."""
    name = f"mesostk-verify-{uuid.uuid4().hex[:8]}"
    app = {
        "id": f"/{name}",
        "cmd": f"echo {name} >index.html; exec python3 -m http.server $PORT0",
        "cpus": 0.01,
        "mem": 32,
        "instances": 1,
        "portDefinitions": [{"port": 0, "protocol": "tcp"}],
    }
    if params["balancer_groups"]:
        app["labels"] = {"HAPROXY_GROUP": ",".join(params["balancer_groups"])}
    return app


def check_reached(params, app, framework):
    """Every name server and every balancer leads to the app that runs."""
    name = app["id"].strip("/")
    checks = []
    if params["dns"]:
        checks.append(check_names(params["dns"], f"{name}.{framework}.{params['dns_domain']}"))
    if params["balancers"]:
        port = app["portDefinitions"][0]["port"]
        checks.append(check_balancers(params["balancers"], port, name))
    return checks


def run_probe(marathon, params, app, deadline):
    """What is well of an app of one task, from its deployment to its removal."""
    url = f"http://{marathon}/v2/apps{app['id']}?force=true"
    status, _, info = http("GET", f"http://{marathon}/v2/info")
    if status != 200:
        raise Finding(f"Marathon {marathon} answers {status} to /v2/info: {info}")
    framework = info["marathon_config"]["framework_name"]
    # Not POST: an app that a Marathon which is gone was not asked to remove is still there.
    status, _, body = http("PUT", url, app)
    if status not in (200, 201):
        raise Finding(f"Marathon {marathon} does not take an app: {status} {body}")
    try:
        return wait_for_probe(marathon, params, app, framework, deadline)
    finally:
        status, _, body = http("DELETE", url)
        if status not in (200, 404):
            raise Finding(f"the probe app {app['id']} cannot be removed: {status} {body}")


def wait_for_probe(marathon, params, app, framework, deadline):
    while True:
        status, _, body = http("GET", f"http://{marathon}/v2/apps{app['id']}")
        if status == 200 and body["app"]["tasksRunning"] == 1:
            try:
                return ["probe app: a task ran", *check_reached(params, body["app"], framework)]
            except Finding:
                if time.monotonic() > deadline:
                    raise
        elif time.monotonic() > deadline:
            queue = http("GET", f"http://{marathon}/v2/queue")[2]
            raise Finding(f"the probe app {app['id']} does not run; the queue says {queue}")
        time.sleep(0.1)


def verify(params, app, deadline):
    """The leading master, where one is known, and what is well and what is not."""
    report = Report()
    check_zookeepers(report, params["zookeepers"])
    told = {one: report.ask(leader_of_master, one) for one in params["masters"]}
    leader = report.one_leader("masters", told)
    if leader is not None:
        report.check(check_agents, leader, params["agents"])
    name = f"leader.{params['dns_domain']}"
    if params["dns"]:
        report.check(check_names, params["dns"], name)
    if params["dns_http"]:
        report.check(check_names_by_http, params["dns_http"], name)
    told = {one: report.ask(leader_of_marathon, one) for one in params["marathons"]}
    marathon = report.one_leader("Marathons", told)
    if params["probe"] and marathon is not None and not report.ill:
        report.well += report.ask(run_probe, marathon, params, app, deadline) or []
    return leader, report


def main():
    many = {"type": "list", "elements": "str"}
    module = AnsibleModule(
        argument_spec={
            "zookeepers": {**many, "required": True},
            "masters": {**many, "required": True},
            "agents": {**many, "required": True},
            "marathons": {**many, "default": []},
            "dns": {**many, "default": []},
            "dns_http": {**many, "default": []},
            "dns_domain": {"type": "str", "default": "mesos"},
            "balancers": {**many, "default": []},
            "balancer_groups": {**many, "default": []},
            "probe": {"type": "bool", "default": False},
            "wait_s": {"type": "int", "default": 180},
        },
        supports_check_mode=True,
    )
    params = {**module.params}
    wait_s = params["wait_s"]
    if wait_s < 1:
        module.fail_json(msg=f"verify_wait_s is {wait_s}; give it seconds, 1 or more")
    if module.check_mode:
        params["probe"] = False
    app = probe_app(params)
    deadline = time.monotonic() + wait_s
    while True:
        leader, report = verify(params, app, deadline)
        if not report.ill:
            module.exit_json(changed=False, leader=leader, checks=report.well)
        if module.check_mode:
            # before the first run there is nothing yet that could answer
            checks = [f"in check mode no failure: {finding}" for finding in report.ill]
            module.exit_json(changed=False, leader=leader or "", checks=checks)
        if time.monotonic() > deadline:
            found = "".join(f"\n- {finding}" for finding in report.ill)
            module.fail_json(msg=f"not well after {wait_s} s (verify_wait_s):{found}")
        time.sleep(0.5)


if __name__ == "__main__":
    main()
