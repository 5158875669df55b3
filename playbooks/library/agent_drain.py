#!/usr/bin/python
"""Ansible module: empty an agent, give it back, or tell the master that it is gone.

Runs on any host that reaches the masters and Marathons; the agent's own host is not asked.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: agent_drain
short_description: Deactivate, evacuate, drain, reactivate or mark gone an agent
options:
  agent:
    description: Agent as address:port.
    type: str
    required: true
  masters:
    description: Masters as address:port.
    type: list
    elements: str
    required: true
  marathons:
    description: Marathons as address:port.
    type: list
    elements: str
    default: []
  state:
    description:
      - C(deactivated) keeps new tasks away; C(evacuated) has Marathon replace what runs there, each
        task only after its replacement is healthy; C(drained) ends what is left; C(active) takes
        all of that back; C(gone) says that the agent never returns, and unlike the others is well
        with an agent that no master knows.
    choices: [deactivated, evacuated, drained, active, gone]
    type: str
    required: true
  grace_s:
    description: Seconds that a task may take to end when it is drained; 0 leaves it to the task.
    type: int
    default: 0
  wait_s:
    description: Seconds to wait for the state.
    type: int
    default: 600
author: mesostk
"""

EXAMPLES = r"""
- name: Have Marathon move its tasks
  agent_drain:
    agent: 10.0.3.51:5051
    masters: [10.0.3.11:5050]
    marathons: [10.0.3.11:8080]
    state: evacuated
"""

RETURN = r"""
agent_id:
  description: Id of the agent, empty where no master knows it.
  type: str
  returned: success
left:
  description: What stayed on an evacuated agent, for DRAIN_AGENT to end, and why.
  type: list
  returned: success
"""

import select
import sys
import time

from ansible.module_utils.asking import ask_json
from ansible.module_utils.basic import AnsibleModule

POLL_S = 0.2
TELL_S = 5.0
# For an agent that registers just now; for masters that elect a leader, as long as is allowed.
FIND_S = 10.0


class Problem(Exception):
    """It cannot be done; the message says why."""


class Cluster:
    """The leading master and some Marathon, each found anew at every call: leaders change."""

    def __init__(self, masters, marathons, agent):
        self.masters = masters
        self.marathons = marathons
        self.agent = agent

    def leader(self):
        reasons = []
        for master in self.masters:
            try:
                status, headers, _ = ask_json("GET", f"http://{master}/redirect")
            except OSError as error:
                reasons.append(f"{master}: {error}")
                continue
            if status == 307:
                return "http:" + headers["Location"]
            reasons.append(f"{master}: answers {status}")
        raise Problem("no master knows who leads: " + "; ".join(reasons))

    def call(self, kind, **body):
        """One operator call; (status, answer)."""
        url = self.leader() + "/api/v1"
        status, _, answer = ask_json("POST", url, {"type": kind, kind.lower(): body})
        return status, answer

    def known(self):
        """What the master says of the agent, None if it does not know it."""
        _, _, body = ask_json("GET", self.leader() + "/slaves")
        if not isinstance(body, dict):
            raise Problem(f"the master answers /slaves with {body!r}")
        for one in (*body["slaves"], *body.get("recovered_slaves", ())):
            if one.get("pid", "").partition("@")[2] == self.agent:
                return one
        host = self.agent.rpartition(":")[0]
        for one in body.get("recovered_slaves", ()):
            if one.get("hostname") == host:
                return one
        return None

    def marathon(self, method, path):
        """Answer of the first Marathon that serves; 404 where there is no Marathon at all."""
        reasons = []
        for one in self.marathons:
            try:
                status, _, body = ask_json(method, f"http://{one}{path}")
            except OSError as error:
                reasons.append(f"{one}: {error}")
                continue
            if status < 400:
                return body
            reasons.append(f"{one}: {status} {body}")
        if not self.marathons:
            return {"instances": []}
        raise Problem("no Marathon answers: " + "; ".join(reasons))


def is_abandoned():
    """Whether nobody reads the answer any more, which `sshd` tells by closing the pipe to it."""
    poll = select.poll()
    poll.register(sys.__stdout__.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def patiently(end, what, attempt):
    """What `attempt` gives once that is not None; a cluster between two leaders is asked again."""
    said = "it was not asked yet"
    while True:
        if is_abandoned():
            # An interrupted run must not go on draining what the next one gives back.
            raise Problem(f"{what}: the run that asked for it has ended: {said}")
        try:
            done, said = attempt()
            if done is not None:
                return done
        except (OSError, Problem) as error:
            said = str(error)
        if time.monotonic() > end:
            raise Problem(f"{what}: not in time: {said}")
        time.sleep(POLL_S)


def find(cluster, end):
    """The agent; Problem if masters that have a leader do not know it for FIND_S."""
    missing = f"no master has an agent {cluster.agent} registered"
    over = None

    def attempt():
        nonlocal over
        agent = cluster.known()
        over = over or time.monotonic() + FIND_S
        return ((agent,) if agent or time.monotonic() > over else None), missing

    (agent,) = patiently(end, "finding the agent", attempt)
    if agent is None:
        raise Problem(f"finding the agent: {missing}")
    return agent


def deactivate(cluster, end, _params):
    agent = find(cluster, end)
    if agent.get("deactivated"):
        return False, agent["id"], []

    def attempt():
        status, said = cluster.call("DEACTIVATE_AGENT", agent_id={"value": agent["id"]})
        return (True if status == 200 else None), f"the master says {status} {said}"

    return patiently(end, "deactivating", attempt), agent["id"], []


def names(instances):
    return ", ".join(f"{one['app']} ({told_of(one)})" for one in instances)


def told_of(instance):
    """Its condition, and why it is still there; a Marathon before this release says no reasons."""
    return ": ".join([instance["condition"], "; ".join(instance.get("reasons", []))]).rstrip(": ")


def evacuate(cluster, end, _params):
    agent = find(cluster, end)
    path = f"/v2/agents/{agent['id']}/evacuate"
    told, first = -TELL_S, None

    def attempt():
        nonlocal told, first
        if first is None:
            first = cluster.marathon("GET", path)["instances"]
        # Told again now and then: a task may have been on its way there at the first time.
        tell = time.monotonic() - told > TELL_S
        instances = cluster.marathon("POST" if tell else "GET", path)["instances"]
        told = time.monotonic() if tell else told
        leaving = [one for one in instances if one["leaving"]]
        if not leaving:
            return (instances,), ""
        return None, f"{len(leaving)} wait for a healthy replacement elsewhere: {names(leaving)}"

    (left,) = patiently(end, "moving its tasks", attempt)
    return len(left) < len(first), agent["id"], [f"{one['id']} ({told_of(one)})" for one in left]


def drain(cluster, end, params):
    agent = find(cluster, end)
    if agent.get("drain_info", {}).get("state") == "DRAINED":
        return False, agent["id"], []
    call = {"agent_id": {"value": agent["id"]}}
    if params["grace_s"]:
        call["max_grace_period"] = {"seconds": params["grace_s"]}

    def attempt():
        state = (cluster.known() or {}).get("drain_info", {}).get("state")
        if state == "DRAINED":
            return True, ""
        if state != "DRAINING":
            status, said = cluster.call("DRAIN_AGENT", **call)
            return None, f"the master says {status} {said}"
        return None, "it is DRAINING: some task has not ended"

    return patiently(end, "draining", attempt), agent["id"], []


def activate(cluster, end, _params):
    agent = find(cluster, end)

    def take():
        if not (cluster.known() or {"deactivated": True}).get("deactivated"):
            return True, ""
        status, said = cluster.call("REACTIVATE_AGENT", agent_id={"value": agent["id"]})
        return None, f"the master says {status} {said}"

    def stay():
        cluster.marathon("DELETE", f"/v2/agents/{agent['id']}/evacuate")
        return True, ""

    # The master first: a Marathon that is down must not keep the agent from new tasks.
    patiently(end, "reactivating", take)
    patiently(max(end, time.monotonic() + TELL_S), "it takes tasks again, but moves its own", stay)
    return bool(agent.get("deactivated")), agent["id"], []


def forget(cluster, end, _params):
    def look():
        return (cluster.known(),), ""

    (agent,) = patiently(end, "asking the master", look)
    if agent is None:
        return False, "", []

    def attempt():
        if cluster.known() is None:
            return True, ""
        status, said = cluster.call("MARK_AGENT_GONE", agent_id={"value": agent["id"]})
        return None, f"the master says {status} {said}"

    return patiently(end, "marking it gone", attempt), agent["id"], []


STATES = {
    "deactivated": deactivate,
    "evacuated": evacuate,
    "drained": drain,
    "active": activate,
    "gone": forget,
}


def main():
    many = {"type": "list", "elements": "str"}
    module = AnsibleModule(
        argument_spec={
            "agent": {"type": "str", "required": True},
            "masters": {**many, "required": True},
            "marathons": {**many, "default": []},
            "state": {"type": "str", "required": True, "choices": list(STATES)},
            "grace_s": {"type": "int", "default": 0},
            "wait_s": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    params = module.params
    cluster = Cluster(params["masters"], params["marathons"], params["agent"])
    end = time.monotonic() + params["wait_s"]
    try:
        if module.check_mode:
            agent = cluster.known()
            module.exit_json(changed=True, agent_id=(agent or {}).get("id", ""), left=[])
        changed, agent_id, left = STATES[params["state"]](cluster, end, params)
    except (OSError, Problem) as error:
        module.fail_json(msg=f"agent {params['agent']}: {error}")
    module.exit_json(changed=changed, agent_id=agent_id, left=left)


if __name__ == "__main__":
    main()
