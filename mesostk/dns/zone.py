"""The zone: facts in, names out, changed name by name.

::

    Change ─▶ apply ─▶ what was made of the old fact goes, what the new one makes comes
                         └─▶ changed: the names whose answers are different now

Nothing is kept of a record but its place below its name: what a fact made is worked out again when
it goes. So 10,000 tasks with a dozen records each fit into some 50 MB. Several facts may make the
same record; it is there as long as one of them is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

from mesostk.dns import facts
from mesostk.dns.facts import Agent, Change, Framework, Task
from mesostk.dns.labels import domain_part
from mesostk.dns.records import (
    AAAA,
    SRV,
    A,
    Record,
    Rules,
    address_type,
    agent_records,
    framework_records,
    master_records,
    task_records,
)

#: One value as it is, or several with how many facts made each.
_Values = str | dict[str, int]

_TaskKey = tuple[str, str]


class Zone:
    """All names of one cluster."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.agents: dict[str, Agent] = {}
        self.frameworks: dict[str, Framework] = {}
        self.tasks: dict[_TaskKey, Task] = {}
        self.masters = facts.Masters(None)
        #: Names whose answers may be different since the owner of this set cleared it.
        self.changed: set[str] = set()
        self._hosts: dict[str, tuple[str, ...]] = {}
        #: By type and name.
        self._tables: dict[str, dict[str, _Values]] = {A: {}, AAAA: {}, SRV: {}}
        #: SRV names by target, one for each record: their answers carry the target's addresses.
        self._pointers: dict[str, tuple[str, ...]] = {}
        self._on_agent: dict[str, set[_TaskKey]] = {}
        self._of_framework: dict[str, set[_TaskKey]] = {}
        self._add(master_records(self.masters, rules))

    # -- asking ----------------------------------------------------------------------------------

    def __contains__(self, name: str) -> bool:
        return any(name in table for table in self._tables.values())

    def values(self, name: str, kind: str) -> list[str]:
        """Values of a name, which is in lower case and without its last dot; in order of coming."""
        values = self._tables[kind].get(name)
        if values is None:
            return []
        return [values] if isinstance(values, str) else list(values)

    def names(self) -> list[str]:
        """Every name, in no order."""
        return list({name for table in self._tables.values() for name in table})

    def __len__(self) -> int:
        """How many sets of records of one name and type there are."""
        return sum(map(len, self._tables.values()))

    def by_task(self) -> Iterator[tuple[Framework, Task, list[Record]]]:
        """Each running task with what it makes, frameworks in order."""
        for framework_id, framework in self.frameworks.items():
            for key in sorted(self._of_framework.get(framework_id, ())):
                task = self.tasks[key]
                if task.is_running:
                    yield framework, task, self._of_task(task)

    def unresolved(self) -> set[str]:
        """Hosts of agents and frameworks that are names, and not resolved."""
        hosts = [agent.host for agent in self.agents.values()]
        hosts += [framework.host for framework in self.frameworks.values()]
        return {
            host for host in hosts if host and host not in self._hosts and not address_type(host)
        }

    def hosts(self) -> Mapping[str, tuple[str, ...]]:
        """Addresses of hosts that are known by name."""
        return self._hosts

    # -- changing --------------------------------------------------------------------------------

    def apply(self, change: Change) -> None:
        """Take one change in; `changed` grows by the names it touches."""
        self._HANDLERS[type(change)](self, change)

    def steps(self, change: Change) -> Iterator[Change]:
        """`change` as small ones, which do the same when each is applied before the next is drawn.

        What touches every task of a framework or of the cluster takes as long as there are tasks.
        """
        if isinstance(change, facts.Snapshot):
            yield from self._to_snapshot(change)
            return
        keys: Iterable[_TaskKey] = ()
        if isinstance(change, facts.FrameworkGone):
            keys = self._of_framework.get(change.framework_id, ())
        elif isinstance(change, facts.AgentGone):
            keys = self._on_agent.get(change.agent_id, ())
        for key in list(keys):
            yield facts.TaskGone(*key)
        yield change

    def _masters(self, change: facts.Masters) -> None:
        self._swap(master_records(self.masters, self.rules), master_records(change, self.rules))
        self.masters = change

    def _agent_put(self, change: facts.AgentPut) -> None:
        old, new = self.agents.get(change.agent.id), change.agent
        if old == new:
            return
        keys = self._on_agent.get(new.id, set())
        before = self._all_of(keys) + self._of_agent(old)
        self.agents[new.id] = new
        self._swap(before, self._all_of(keys) + self._of_agent(new))

    def _agent_gone(self, change: facts.AgentGone) -> None:
        for key in list(self._on_agent.get(change.agent_id, ())):
            self._drop_task(key)
        old = self.agents.get(change.agent_id)
        self._swap(self._of_agent(old), [])
        self.agents.pop(change.agent_id, None)

    def _framework_put(self, change: facts.FrameworkPut) -> None:
        old, new = self.frameworks.get(change.framework.id), change.framework
        if old == new:
            return
        # Only its name is in those of its tasks.
        renamed = old is None or old.name != new.name
        keys = self._of_framework.get(new.id, set()) if renamed else set()
        before = self._all_of(keys) + self._of_scheduler(old)
        self.frameworks[new.id] = new
        self._swap(before, self._all_of(keys) + self._of_scheduler(new))

    def _framework_gone(self, change: facts.FrameworkGone) -> None:
        for key in list(self._of_framework.get(change.framework_id, ())):
            self._drop_task(key)
        old = self.frameworks.get(change.framework_id)
        self._swap(self._of_scheduler(old), [])
        self.frameworks.pop(change.framework_id, None)

    def _task_put(self, change: facts.TaskPut) -> None:
        new = change.task
        old = self.tasks.get(new.key)
        if old == new:
            return
        before = [] if old is None else self._of_task(old)
        if old is not None and old.agent_id != new.agent_id:
            self._on_agent[old.agent_id].discard(old.key)
        self.tasks[new.key] = new
        self._on_agent.setdefault(new.agent_id, set()).add(new.key)
        self._of_framework.setdefault(new.framework_id, set()).add(new.key)
        self._swap(before, self._of_task(new))

    def _task_gone(self, change: facts.TaskGone) -> None:
        self._drop_task((change.framework_id, change.task_id))

    def _drop_task(self, key: _TaskKey) -> None:
        task = self.tasks.get(key)
        if task is None:
            return
        self._swap(self._of_task(task), [])
        del self.tasks[key]
        self._on_agent[task.agent_id].discard(key)
        self._of_framework[task.framework_id].discard(key)

    def _resolved(self, change: facts.Resolved) -> None:
        host = change.host
        agents = [agent for agent in self.agents.values() if agent.host == host]
        schedulers = [one for one in self.frameworks.values() if one.host == host]
        keys = {key for agent in agents for key in self._on_agent.get(agent.id, ())}

        def made() -> list[Record]:
            parts = [self._all_of(keys)]
            parts += [self._of_agent(agent) for agent in agents]
            parts += [self._of_scheduler(framework) for framework in schedulers]
            return [record for part in parts for record in part]

        before = made()
        if agents or schedulers:
            self._hosts[host] = change.ips
        else:
            self._hosts.pop(host, None)
        self._swap(before, made())

    def _snapshot(self, change: facts.Snapshot) -> None:
        for one in self._to_snapshot(change):
            self.apply(one)

    def _to_snapshot(self, change: facts.Snapshot) -> Iterator[Change]:
        """Go over to what is told, by way of differences only."""
        missing = change.missing_agents
        frameworks = {framework.id for framework in change.frameworks}
        agents = {agent.id for agent in change.agents}
        tasks = {task.key for task in change.tasks}
        for key, task in list(self.tasks.items()):
            if key not in tasks and task.agent_id not in missing:
                yield facts.TaskGone(*key)
        # A framework that is told by its agents only is not there while they are missing.
        waited = {task.framework_id for task in self.tasks.values() if task.agent_id in missing}
        for framework_id in set(self.frameworks) - frameworks - waited:
            yield facts.FrameworkGone(framework_id)
        for agent_id in set(self.agents) - agents - missing:
            yield facts.AgentGone(agent_id)
        for agent in change.agents:
            if self.agents.get(agent.id) != agent:
                yield facts.AgentPut(agent)
        for framework in change.frameworks:
            if self.frameworks.get(framework.id) != framework:
                yield facts.FrameworkPut(framework)
        for task in change.tasks:
            if self.tasks.get(task.key) != task:
                yield facts.TaskPut(task)

    _HANDLERS: ClassVar[dict[type[Any], Callable[[Zone, Any], None]]] = {
        facts.Masters: _masters,
        facts.AgentPut: _agent_put,
        facts.AgentGone: _agent_gone,
        facts.FrameworkPut: _framework_put,
        facts.FrameworkGone: _framework_gone,
        facts.TaskPut: _task_put,
        facts.TaskGone: _task_gone,
        facts.Resolved: _resolved,
        facts.Snapshot: _snapshot,
    }

    # -- what facts make -------------------------------------------------------------------------

    def _ips(self, host: str) -> tuple[str, ...]:
        found = self._hosts.get(host)
        if found is not None:
            return found
        return (host,) if address_type(host) else ()

    def _of_agent(self, agent: Agent | None) -> list[Record]:
        return [] if agent is None else agent_records(agent, self._ips(agent.host), self.rules)

    def _of_scheduler(self, framework: Framework | None) -> list[Record]:
        if framework is None:
            return []
        return framework_records(framework, self._ips(framework.host), self.rules)

    def _of_task(self, task: Task) -> list[Record]:
        agent = self.agents.get(task.agent_id)
        framework = self.frameworks.get(task.framework_id)
        if agent is None or framework is None:
            return []
        part = domain_part(framework.name, self.rules.rfc952)
        return task_records(task, part, self._ips(agent.host), self.rules)

    def _all_of(self, keys: Iterable[_TaskKey]) -> list[Record]:
        return [record for key in sorted(keys) for record in self._of_task(self.tasks[key])]

    # -- the index -------------------------------------------------------------------------------

    def _swap(self, before: list[Record], after: list[Record]) -> None:
        if before == after:
            return
        if not before:
            self._add(after)
            return
        # Counted, so that what stays is not touched: its answers stay as they are.
        leaving, coming = Counter(before), Counter(after)
        self._remove((leaving - coming).elements())
        self._add((coming - leaving).elements())

    def _add(self, records: Iterable[Record]) -> None:
        tables, pointers, changed = self._tables, self._pointers, self.changed
        for name, kind, value in records:
            table = tables[kind]
            values = table.get(name)
            table[name] = value if values is None else _with(values, value)
            changed.add(name)
            if kind == SRV:
                target = value.rpartition(":")[0]
                pointers[target] = (*pointers.get(target, ()), name)
            elif name in pointers:
                changed.update(pointers[name])

    def _remove(self, records: Iterable[Record]) -> None:
        for name, kind, value in records:
            table = self._tables[kind]
            values = _without(table[name], value)
            if values is None:
                del table[name]
            else:
                table[name] = values
            self.changed.add(name)
            if kind == SRV:
                self._unpoint(value.rpartition(":")[0], name)
            else:
                self.changed.update(self._pointers.get(name, ()))

    def _unpoint(self, target: str, name: str) -> None:
        names = list(self._pointers[target])
        names.remove(name)
        if names:
            self._pointers[target] = tuple(names)
        else:
            del self._pointers[target]

    def check(self) -> None:
        """Assert that the index is what the facts make; for tests."""
        made = master_records(self.masters, self.rules)
        for agent in self.agents.values():
            made += self._of_agent(agent)
        for framework in self.frameworks.values():
            made += self._of_scheduler(framework)
        for task in self.tasks.values():
            made += self._of_task(task)
        wanted = Counter(made)
        found: Counter[Record] = Counter()
        for kind, table in self._tables.items():
            for name, values in table.items():
                counts = {values: 1} if isinstance(values, str) else values
                for value, count in counts.items():
                    found[Record(name, kind, value)] += count
        assert found == wanted, f"missing {wanted - found}, left over {found - wanted}"
        pointing = Counter(
            (record.value.rpartition(":")[0], record.name)
            for record in wanted.elements()
            if record.type == SRV
        )
        kept = Counter((target, name) for target, all in self._pointers.items() for name in all)
        assert kept == pointing


def _with(values: _Values, value: str) -> _Values:
    if isinstance(values, str):
        values = {values: 1}
    values[value] = values.get(value, 0) + 1
    return values


def _without(values: _Values, value: str) -> _Values | None:
    if isinstance(values, str):
        assert values == value
        return None
    values[value] -= 1
    if not values[value]:
        del values[value]
    if not values:
        return None
    if len(values) == 1:
        ((only, count),) = values.items()
        return only if count == 1 else values
    return values
