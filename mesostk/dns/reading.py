"""What masters tell, read into facts: the operator API's events, and the document of /state.

Pure. An entry that cannot be read costs itself only: the original gives up a whole /state for one
agent without a `pid`, and then serves what it knew for ever. Source: spec/dns-lb-autoscale.md §1.4
and §1.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from mesostk.dns import facts
from mesostk.dns.facts import Agent, Change, Framework, Port, Task
from mesostk.dns.records import address_type
from mesostk.errors import WireError
from mesostk.wire import json, mesos, operator
from mesostk.wire.mesos import TERMINAL_STATES

RUNNING = "TASK_RUNNING"

#: Labels of a status by which containerizers told a task's address before network infos.
DOCKER_LABEL = "Docker.NetworkSettings.IPAddress"
MESOS_LABEL = "MesosContainerizer.NetworkSettings.IPAddress"

_RANGE = re.compile(r"\s*(\d{1,5})(?:\s*-\s*(\d{1,5}))?\s*")

T = TypeVar("T")


def host_and_port(pid: str) -> tuple[str, int] | None:
    """Of `slave(1)@10.0.3.51:5051`; None if there is none."""
    host, colon, port = pid.rpartition("@")[2].rpartition(":")
    host = host.strip("[]")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        return None
    return host, int(port)


# -- the event stream ---------------------------------------------------------------------------


class Told(msgspec.Struct, frozen=True):
    """What an event means; `resync` says why the whole state has to be asked for."""

    changes: tuple[Change, ...] = ()
    resync: str | None = None


def read_event(
    event: operator.Event,
    tasks: Mapping[tuple[str, str], Task],
    agents: Mapping[str, Agent],
    frameworks: Mapping[str, Framework],
) -> Told:
    """The changes in `event`, given what is known so far. HEARTBEAT and unknown types: none."""
    if event.subscribed is not None:
        return Told((snapshot_of(event.subscribed.get_state or operator.State()),))
    if event.task_added is not None:
        task = _task(event.task_added.task)
        if task.framework_id not in frameworks or task.agent_id not in agents:
            return Told(
                (facts.TaskPut(task),), f"task {task.id} is of an unknown agent or framework"
            )
        return Told((facts.TaskPut(task),))
    if event.task_updated is not None:
        return _updated(event.task_updated, tasks)
    if event.agent_added is not None:
        return _agent_added(event.agent_added.agent)
    if event.agent_removed is not None:
        return Told((facts.AgentGone(event.agent_removed.agent_id.value),))
    framework = event.framework_added or event.framework_updated
    if framework is not None:
        return Told((facts.FrameworkPut(_framework(framework.framework.framework_info)),))
    if event.framework_removed is not None:
        info = event.framework_removed.framework_info
        return Told((facts.FrameworkGone("" if info.id is None else info.id.value),))
    return Told()


def _agent_added(added: operator.Agent) -> Told:
    agent = _agent(added)
    if agent is None:
        return Told()
    # Tasks that a returning agent brings are told by nobody but the whole state.
    back = added.reregistered_time is not None
    return Told((facts.AgentPut(agent),), f"agent {agent.id} came back" if back else None)


def _updated(update: operator.TaskUpdated, tasks: Mapping[tuple[str, str], Task]) -> Told:
    status = update.status
    key = (update.framework_id.value, status.task_id.value)
    if update.state in TERMINAL_STATES:
        return Told((facts.TaskGone(*key),))
    task = tasks.get(key)
    if task is None:
        return Told(resync=f"task {key[1]} is not known")
    running = update.state == RUNNING
    if status.state == RUNNING:
        netinfo, docker, by_mesos = _addresses_of(status)
        task = msgspec.structs.replace(
            task, is_running=running, netinfo=netinfo, docker=docker, mesos=by_mesos
        )
    else:
        task = msgspec.structs.replace(task, is_running=running)
    return Told((facts.TaskPut(task),))


def snapshot_of(state: operator.State) -> facts.Snapshot:
    """The whole state, as SUBSCRIBED tells it."""
    agents = state.get_agents or operator.Agents()
    frameworks = state.get_frameworks or operator.Frameworks()
    tasks = state.get_tasks or operator.Tasks()
    read = [_agent(one) for one in agents.agents]
    return facts.Snapshot(
        agents=tuple(one for one in read if one is not None),
        frameworks=tuple(_framework(one.framework_info) for one in frameworks.frameworks),
        tasks=tuple(_task(one) for one in tasks.tasks if one.state not in TERMINAL_STATES),
        missing_agents=frozenset(
            one.id.value for one in agents.recovered_agents if one.id is not None
        ),
    )


def _agent(agent: operator.Agent) -> Agent | None:
    info = agent.agent_info
    if info.id is None:
        return None
    place = host_and_port(agent.pid or "")
    host, port = place if place is not None else (info.hostname, info.port)
    return Agent(info.id.value, host, port)


def _framework(info: mesos.FrameworkInfo) -> Framework:
    return Framework("" if info.id is None else info.id.value, info.name, info.hostname or "")


def _task(task: mesos.Task) -> Task:
    running = [one for one in task.statuses if one.state == RUNNING]
    latest = max(running, key=lambda one: one.timestamp or 0.0, default=None)
    netinfo, docker, by_mesos = ((), (), ()) if latest is None else _addresses_of(latest)
    discovery = task.discovery
    ports = () if discovery is None or discovery.ports is None else discovery.ports.ports
    return Task(
        id=task.task_id.value,
        name=task.name,
        framework_id=task.framework_id.value,
        agent_id=task.agent_id.value,
        is_running=task.state == RUNNING,
        ports=tuple(_ports(task.resources)),
        discovery_name="" if discovery is None or discovery.name is None else discovery.name,
        discovery_ports=tuple(
            Port(one.number, one.name or "", one.protocol or "")
            for one in ports
            if 0 <= one.number < 65536
        ),
        netinfo=netinfo,
        docker=docker,
        mesos=by_mesos,
    )


def _ports(resources: Iterable[mesos.Resource]) -> Iterable[int]:
    for resource in resources:
        if resource.name == "ports" and resource.ranges is not None:
            for part in resource.ranges.range:
                yield from range(max(0, part.begin), min(65535, part.end) + 1)


_Ips = tuple[str, ...]


def _addresses_of(status: mesos.TaskStatus) -> tuple[_Ips, _Ips, _Ips]:
    """Addresses that a status tells: in network infos, in docker's label, in Mesos' label."""
    infos = () if status.container_status is None else status.container_status.network_infos
    told = [ip.ip_address or "" for info in infos for ip in info.ip_addresses]
    labels = () if status.labels is None else status.labels.labels
    pairs = [(label.key, label.value or "") for label in labels]
    return _valid(told), _labelled(pairs, DOCKER_LABEL), _labelled(pairs, MESOS_LABEL)


def _labelled(pairs: Iterable[tuple[str, str]], key: str) -> _Ips:
    return _valid(value for name, value in pairs if name == key)


def _valid(ips: Iterable[str]) -> _Ips:
    return tuple(dict.fromkeys(ip for ip in ips if address_type(ip)))


# -- /state -------------------------------------------------------------------------------------


class _StateLabel(msgspec.Struct):
    key: str = ""
    value: str = ""


class _StateIp(msgspec.Struct):
    ip_address: str = ""


class _StateNetwork(msgspec.Struct):
    ip_addresses: list[_StateIp] = []
    #: Before Mesos 0.26.
    ip_address: str = ""


class _StateContainer(msgspec.Struct):
    network_infos: list[_StateNetwork] = []


class _StateStatus(msgspec.Struct):
    state: str = ""
    timestamp: float = 0.0
    labels: list[_StateLabel] = []
    container_status: _StateContainer | None = None


class _StatePort(msgspec.Struct):
    number: int
    name: str = ""
    protocol: str = ""


class _StatePorts(msgspec.Struct):
    ports: list[_StatePort] = []


class _StateDiscovery(msgspec.Struct):
    name: str = ""
    ports: _StatePorts | None = None


class _StateResources(msgspec.Struct):
    ports: str = ""


class _StateTask(msgspec.Struct):
    id: str
    slave_id: str
    state: str
    name: str = ""
    resources: _StateResources | None = None
    statuses: list[_StateStatus] = []
    discovery: _StateDiscovery | None = None


class _StateFramework(msgspec.Struct):
    name: str
    id: str = ""
    pid: str = ""
    hostname: str = ""
    tasks: list[msgspec.Raw] = []


class _StateAgent(msgspec.Struct):
    id: str
    pid: str = ""
    hostname: str = ""
    port: int = 5051


class _State(msgspec.Struct):
    leader: str = ""
    frameworks: list[msgspec.Raw] = []
    slaves: list[msgspec.Raw] = []
    recovered_slaves: list[msgspec.Raw] = []


class StateRead(msgspec.Struct, frozen=True):
    """A /state as facts; `leader` is `host:port`; `skipped` says what could not be read."""

    leader: str
    snapshot: facts.Snapshot
    skipped: tuple[str, ...] = ()


def read_state(body: bytes) -> StateRead:
    """The document of /state; WireError if it is none, or names no leader."""
    state = json.decode(body, _State)
    place = host_and_port(state.leader)
    if place is None:
        raise WireError(f"/state names no leader ({state.leader!r}): this master does not lead")
    skipped: list[str] = []
    frameworks: list[Framework] = []
    tasks: list[Task] = []
    for found in _read_all(state.frameworks, _StateFramework, "framework", skipped):
        # Documents without ids are of no Mesos that still runs, but the name tells as much.
        framework_id = found.id or found.name
        pid = host_and_port(found.pid)
        host = found.hostname if pid is None else pid[0]
        frameworks.append(
            Framework(framework_id, found.name, host, None if pid is None else pid[1])
        )
        tasks += [
            _state_task(task, framework_id)
            for task in _read_all(found.tasks, _StateTask, "task", skipped)
            if task.state not in TERMINAL_STATES
        ]
    agents = []
    for agent in _read_all(state.slaves, _StateAgent, "agent", skipped):
        host, port = host_and_port(agent.pid) or (agent.hostname, agent.port)
        agents.append(Agent(agent.id, host, port))
    missing = _read_all(state.recovered_slaves, _StateAgent, "recovered agent", skipped)
    snapshot = facts.Snapshot(
        tuple(agents), tuple(frameworks), tuple(tasks), frozenset(one.id for one in missing)
    )
    host = f"[{place[0]}]" if ":" in place[0] else place[0]
    return StateRead(f"{host}:{place[1]}", snapshot, tuple(skipped))


def _read_all(raws: Sequence[Any], type: type[T], what: str, skipped: list[str]) -> list[T]:
    found = []
    for raw in raws:
        try:
            found.append(json.decode(bytes(raw), type))
        except WireError as error:
            skipped.append(f"{what}: {error}")
    return found


def _state_task(task: _StateTask, framework_id: str) -> Task:
    latest = max(
        (one for one in task.statuses if one.state == RUNNING),
        key=lambda one: one.timestamp,
        default=_StateStatus(),
    )
    container = latest.container_status
    told: list[str] = []
    for info in () if container is None else container.network_infos:
        told += [ip.ip_address for ip in info.ip_addresses] or [info.ip_address]
    pairs = [(label.key, label.value) for label in latest.labels]
    discovery = task.discovery or _StateDiscovery()
    ports = () if discovery.ports is None else discovery.ports.ports
    return Task(
        id=task.id,
        name=task.name,
        framework_id=framework_id,
        agent_id=task.slave_id,
        is_running=task.state == RUNNING,
        ports=tuple(ports_of("" if task.resources is None else task.resources.ports)),
        discovery_name=discovery.name,
        discovery_ports=tuple(
            Port(one.number, one.name, one.protocol) for one in ports if 0 <= one.number < 65536
        ),
        netinfo=_valid(told),
        docker=_labelled(pairs, DOCKER_LABEL),
        mesos=_labelled(pairs, MESOS_LABEL),
    )


def ports_of(text: str) -> list[int]:
    """The ports of `[31000-31001, 31010-31010]`; also of single ones, which crash the original."""
    found: list[int] = []
    for part in text.strip().strip("[]").split(","):
        match = _RANGE.fullmatch(part)
        if match is not None:
            begin = int(match[1])
            end = begin if match[2] is None else int(match[2])
            found += range(begin, min(end, 65535) + 1)
    return found
