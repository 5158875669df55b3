"""What masters tell, read into facts: the operator API's events, and the document of /state.

Pure. An entry that cannot be read costs itself only: the original gives up a whole /state for one
agent without a `pid`, and then serves what it knew for ever. Source: spec/dns-lb-autoscale.md §1.4
and §1.5.

What tells a whole cluster is read in `Steps`, entry by entry, so that queries are answered
meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from mesostk.base.units import whole_number
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

#: Work in small steps, each well below a millisecond; what it returns is the result.
Steps = Generator[None, None, T]


def at_once(steps: Steps[T]) -> T:
    """The result of `steps`, without a pause."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # a generator's result has no type


def host_and_port(pid: str) -> tuple[str, int] | None:
    """Of `slave(1)@10.0.3.51:5051`; None if there is none."""
    host, colon, port = pid.rpartition("@")[2].rpartition(":")
    host = host.strip("[]")
    number = whole_number(port)
    if not colon or not host or number is None or not 0 < number < 65536:
        return None
    return host, number


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
    """The changes in `event`, given what is known so far; none in HEARTBEAT and unknown types.

    SUBSCRIBED is read by `read_greeting`.
    """
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
        info = framework.framework.framework_info
        known = frameworks.get("" if info.id is None else info.id.value)
        return Told((facts.FrameworkPut(_framework(info, known)),))
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


class _RawTasks(msgspec.Struct, frozen=True):
    tasks: list[msgspec.Raw] = []


class _RawFrameworks(msgspec.Struct, frozen=True):
    frameworks: list[msgspec.Raw] = []


class _RawAgents(msgspec.Struct, frozen=True):
    agents: list[msgspec.Raw] = []
    recovered_agents: list[msgspec.Raw] = []


class _RawState(msgspec.Struct, frozen=True):
    get_tasks: _RawTasks = _RawTasks()
    get_frameworks: _RawFrameworks = _RawFrameworks()
    get_agents: _RawAgents = _RawAgents()


class _RawSubscribed(msgspec.Struct, frozen=True):
    get_state: _RawState = _RawState()
    heartbeat_interval_seconds: float | None = None


class _RawGreeting(msgspec.Struct, frozen=True):
    subscribed: _RawSubscribed | None = None


class Greeting(msgspec.Struct, frozen=True):
    """SUBSCRIBED, the first event of a stream."""

    snapshot: facts.Snapshot
    heartbeat_s: float | None = None
    skipped: tuple[str, ...] = ()


def read_greeting(record: bytes, known: Mapping[str, Framework]) -> Steps[Greeting | None]:
    """SUBSCRIBED in steps; None if `record` is another event. WireError if it is no JSON.

    `known` are the frameworks so far, for what the stream does not tell.
    """
    greeting = json.decode(record, _RawGreeting).subscribed
    if greeting is None:
        return None
    state = greeting.get_state
    skipped: list[str] = []
    tasks: list[Task] = []
    for task in _each(state.get_tasks.tasks, mesos.Task, "task", skipped):
        if task is not None and task.state not in TERMINAL_STATES:
            tasks.append(_task(task))
        yield
    agents: list[Agent] = []
    for agent in _each(state.get_agents.agents, operator.Agent, "agent", skipped):
        if agent is not None and (read := _agent(agent)) is not None:
            agents.append(read)
        yield
    missing: set[str] = set()
    recovered = state.get_agents.recovered_agents
    for gone in _each(recovered, mesos.AgentInfo, "recovered agent", skipped):
        if gone is not None and gone.id is not None:
            missing.add(gone.id.value)
        yield
    frameworks: list[Framework] = []
    raws = state.get_frameworks.frameworks
    for framework in _each(raws, operator.Framework, "framework", skipped):
        if framework is not None:
            info = framework.framework_info
            frameworks.append(_framework(info, known.get("" if info.id is None else info.id.value)))
        yield
    snapshot = facts.Snapshot(tuple(agents), tuple(frameworks), tuple(tasks), frozenset(missing))
    return Greeting(snapshot, greeting.heartbeat_interval_seconds, tuple(skipped))


def _agent(agent: operator.Agent) -> Agent | None:
    info = agent.agent_info
    if info.id is None:
        return None
    place = host_and_port(agent.pid or "")
    host, port = place if place is not None else (info.hostname, info.port)
    return Agent(info.id.value, host, port)


def _framework(info: mesos.FrameworkInfo, known: Framework | None) -> Framework:
    """The stream tells no `pid`: where a scheduler that has one listens is kept from before."""
    framework_id = "" if info.id is None else info.id.value
    if known is not None and known.port is not None:
        return Framework(framework_id, info.name, known.host, known.port)
    return Framework(framework_id, info.name, info.hostname or "")


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


def read_state(body: bytes) -> Steps[StateRead]:
    """The document of /state, in steps; WireError if it is none, or names no leader."""
    state = json.decode(body, _State)
    place = host_and_port(state.leader)
    if place is None:
        raise WireError(f"/state names no leader ({state.leader!r}): this master does not lead")
    skipped: list[str] = []
    frameworks: list[Framework] = []
    tasks: list[Task] = []
    for found in _each(state.frameworks, _StateFramework, "framework", skipped):
        yield
        if found is None:
            continue
        # Documents without ids are of no Mesos that still runs, but the name tells as much.
        framework_id = found.id or found.name
        pid = host_and_port(found.pid)
        host = found.hostname if pid is None else pid[0]
        frameworks.append(
            Framework(framework_id, found.name, host, None if pid is None else pid[1])
        )
        for task in _each(found.tasks, _StateTask, "task", skipped):
            yield
            if task is not None and task.state not in TERMINAL_STATES:
                tasks.append(_state_task(task, framework_id))
    agents = []
    for agent in _each(state.slaves, _StateAgent, "agent", skipped):
        yield
        if agent is not None:
            host, port = host_and_port(agent.pid) or (agent.hostname, agent.port)
            agents.append(Agent(agent.id, host, port))
    missing = _each(state.recovered_slaves, _StateAgent, "recovered agent", skipped)
    snapshot = facts.Snapshot(
        tuple(agents),
        tuple(frameworks),
        tuple(tasks),
        frozenset(one.id for one in missing if one is not None),
    )
    host = f"[{place[0]}]" if ":" in place[0] else place[0]
    return StateRead(f"{host}:{place[1]}", snapshot, tuple(skipped))


def _each(raws: Iterable[Any], type: type[T], what: str, skipped: list[str]) -> Iterable[T | None]:
    """Each entry; None for one that cannot be read, with the reason in `skipped`."""
    for raw in raws:
        try:
            yield json.decode(bytes(raw), type)
        except WireError as error:
            skipped.append(f"{what}: {error}")
            yield None


# -- /state-summary -----------------------------------------------------------------------------


def read_schedulers(body: bytes) -> dict[str, tuple[str, int]]:
    """Host and port by framework id of those that speak libprocess. WireError if it is no JSON."""
    found = {}
    frameworks = json.decode(body, _State).frameworks
    for framework in _each(frameworks, _StateFramework, "framework", []):
        pid = None if framework is None else host_and_port(framework.pid)
        if framework is not None and pid is not None:
            found[framework.id] = pid
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
