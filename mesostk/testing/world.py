"""A seeded world: masters, agents and Marathons with everything around them, and what goes wrong.

::

    World(seed) ─▶ run(t) in peace ─▶ chaos(t): faults at effects and from outside ─▶ heal
                ─▶ settle(t): wanted = running, one view ─▶ rest: the history is right, too

    world = World(7, agents=3, marathons=2)
    world.prove()                       raises Broken, or what a core's check() found, with the log
"""

# ruff: noqa: SLF001  # the table names methods of its class

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from mesostk.testing.faults import Kind
from mesostk.testing.simagent import AgentShell
from mesostk.testing.simframework import FrameworkShell
from mesostk.testing.simhost import Broken, Ground, Host, Process
from mesostk.testing.simmarathon import MarathonShell
from mesostk.testing.simmaster import MasterShell
from mesostk.testing.simnet import Network, Stream
from mesostk.testing.simoperator import Operator
from mesostk.testing.simoracle import Oracle
from mesostk.testing.simproc import Run
from mesostk.testing.simroles import Steering, Wanderer
from mesostk.testing.simshapes import Plain, Pod, Shape, checked, pair, resident, service, team
from mesostk.testing.simuser import AppUser, User
from mesostk.testing.simzk import Ensemble
from mesostk.wire import json

#: Virtual seconds: in peace, with faults, and the most that may pass until all is well again.
PEACE_S = 15.0
CHAOS_S = 150.0
SETTLE_S = 600.0
#: After it settled a world must stay so for this long; seconds.
REST_S = 40.0
#: How long most faults from outside last, and how far apart they are on average; seconds.
FAULT_S = (0.5, 30.0)
GAP_S = 7.0

#: How the apps of a world behave, in turn.
COMMANDS = ("exit 1", "hang", "exit 0")
#: What else there is in a world, each as often as it is named.
KINDS = ("plain", "service", "service", "pair", "resident", "pod")
#: Of each agent.
CPUS = 6


class World:
    """See the module's text. What is not given is drawn from the seed, `kinds` from KINDS."""

    def __init__(
        self,
        seed: int,
        *,
        masters: int = 3,
        agents: int | None = None,
        marathons: int | None = None,
        apps: int | None = None,
        framework: bool | None = None,
        crews: bool | None = None,
        roles: bool = False,
        kinds: Sequence[str] | None = None,
    ) -> None:
        self.seed = seed
        ground = self.ground = Ground(seed)
        self.loop, self.rng, self.faults = ground.loop, ground.rng, ground.faults
        self.ensemble = Ensemble(ground)
        self.net = Network(ground)
        agents = self.rng.randint(2, 4) if agents is None else agents
        marathons = self.rng.randint(1, 3) if marathons is None else marathons
        apps = self.rng.randint(2, 3) if apps is None else apps
        framework = self.rng.random() < 0.5 if framework is None else framework
        control = [Host(f"m{n}", f"10.0.3.{10 + n}") for n in range(1, max(masters, marathons) + 1)]
        self.masters = [
            MasterShell(ground, f"master{n}", host, self.ensemble, self.net)
            for n, host in enumerate(control[:masters], 1)
        ]
        self.marathons = [
            MarathonShell(ground, f"marathon{n}", host, self.ensemble, self.net, self._find)
            for n, host in enumerate(control[:marathons], 1)
        ]
        self.agents = [
            AgentShell(
                ground,
                f"agent{n}",
                Host(f"s{n}", f"10.0.3.{50 + n}"),
                self.ensemble,
                self.net,
                CPUS,
            )
            for n in range(1, agents + 1)
        ]
        #: A second framework, in half of the worlds.
        draws = random.Random(f"{seed} crews")
        crews = draws.random() < 0.5 if crews is None else crews
        self.frameworks: list[FrameworkShell] = []
        if framework:
            made = draws if crews else None
            jobs = FrameworkShell(ground, "jobs", control[-1], self.ensemble, self.net, crews=made)
            self.frameworks.append(jobs)
        #: A framework of several roles, an app in a role of its own, and what is promised to roles.
        self.steering: Steering | None = None
        draws = random.Random(f"{seed} roles")
        if roles:
            self.steering = Steering(draws)
            teams = Wanderer(draws)
            self.frameworks.append(
                FrameworkShell(ground, "teams", control[0], self.ensemble, self.net, wanderer=teams)
            )
        self.hosts = control + [agent.host for agent in self.agents]
        self.user = User(ground, Host("u", "10.0.3.9"), self.net, self.marathons)
        if kinds is None:
            kinds = ["run", *(self.rng.choice(KINDS) for _ in range(1, apps))]
        for n, kind in enumerate(kinds):
            self._want(f"/app{n}", kind)
        if self.steering is not None:
            self.user.apps["/own"] = AppUser(self.user, "/own", team(draws), "run", 2)
        #: Which epoch each master's life leads, and since when, by `name.life`.
        self.epoch_of_life: dict[str, int] = {}
        self.led_at: dict[str, float] = {}
        self.operator = Operator(self)
        self._repairs: dict[int, Callable[[], None]] = {}
        self.oracle = Oracle(self)
        for shell in self.masters:
            shell.on_lead.append(self._led)
        for process in self.processes():
            self.loop.later(self.rng.uniform(0.0, 1.0), process.start)
        self.user.start()

    def _want(self, id: str, kind: str) -> None:
        """Have the user care for something of a kind."""
        most, command = len(self.agents), "serve"
        shape: Shape
        if kind in {"run", "plain"}:
            shape, most = Plain(), 2 * most
            command = "run" if kind == "run" else self.rng.choice(COMMANDS)
        elif kind == "pod":
            shape, command, most = Pod(), "run", 2
        elif kind == "resident":
            shape, command, most = resident(self.rng), "run", 2
        elif kind == "pair":
            shape = pair(self.rng)
        elif kind == "checked":
            shape = checked(self.rng)
        else:
            shape = service(self.rng)
        self.user.apps[id] = AppUser(self.user, id, shape, command, most)

    def _find(self, process: Process, hostname: str, port: int) -> Run | None:
        """What runs on a host with a port, as far as `process` can reach it."""
        for agent in self.agents:
            if agent.host.name == hostname and not self.net.is_parted(process.host, agent.host):
                for run in agent.processes.alive():
                    if run.spec.env.get("PORT0") == str(port):
                        return run
        return None

    def processes(self) -> list[Process]:
        """All daemons of the project."""
        return [*self.masters, *self.marathons, *self.agents, *self.frameworks]

    def _electable(self) -> list[MasterShell | MarathonShell]:
        return [*self.masters, *self.marathons]

    def leaders(self) -> list[Process]:
        """Those that hold themselves for leaders."""
        return [shell for shell in self._electable() if shell.is_alive and shell.epoch is not None]

    def _led(self, shell: MasterShell) -> None:
        if shell.epoch is not None:
            life = f"{shell.name}.{shell.life}"
            self.epoch_of_life[life] = shell.epoch
            self.led_at[life] = self.loop.now

    # -- a whole run ----------------------------------------------------------------------------

    def prove(self) -> None:
        """Peace, chaos, healing, rest; raises Broken with the seed and what went wrong before."""
        try:
            self.run(PEACE_S)
            self.chaos(CHAOS_S)
            self.heal()
            self.settle()
            self.run(REST_S)
            why = self.oracle.why_not_settled()
            if why is not None:
                raise Broken(f"it did not stay settled: {why}")
            self.oracle.at_rest()
            for process in self.processes():
                process.check()
        except Exception as error:
            raise Broken(self.report(error)) from error

    def report(self, error: Exception) -> str:
        """The seed, what is wrong, the faults and the last lines of all logs."""
        asked = [f"{user.id} {line}" for user in self.user.apps.values() for line in user.log]
        return "\n".join(
            [
                f"seed {self.seed} at {self.loop.now:.3f}: {type(error).__name__}: {error}",
                "faults:",
                *self.faults.log,
                "requests:",
                *asked,
                "log:",
                *self.ground.log,
            ]
        )

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.loop.run(self.loop.now + seconds)

    def settle(self, most_s: float = SETTLE_S) -> None:
        """Wait until all is well; Broken with what is not after `most_s`."""
        end = self.loop.now + most_s
        why: str | None = "nothing was looked at"
        while why is not None:
            if self.loop.now >= end:
                raise Broken(f"not settled after {most_s:g} s: {why}")
            self.run(2.0)
            why = self.oracle.why_not_settled()

    # -- faults from outside --------------------------------------------------------------------

    def chaos(self, seconds: float) -> None:
        """Everything may go wrong for `seconds`."""
        self.faults.is_on = True
        end = self.loop.now + seconds
        while self.loop.now < end:
            self.run(min(self.rng.expovariate(1 / GAP_S), end - self.loop.now))
            kind = self.faults.draw()
            where = STRIKES[kind](self)
            if where is not None:
                self.faults.note(kind, where)

    def heal(self) -> None:
        """Nothing goes wrong any more, and what was broken is repaired; the user comes to rest."""
        self.faults.is_on = False
        for repair in list(self._repairs.values()):
            repair()
        for process in self.processes():
            process.resume()
        self.user.rest()
        for framework in self.frameworks:
            framework.is_resting = True

    def until(self, seconds: float, repair: Callable[[], None]) -> None:
        """Have `repair` done after `seconds`, or when the world heals."""
        number = len(self.faults.log) + self.loop.events

        def once() -> None:
            if self._repairs.pop(number, None) is not None:
                repair()

        while number in self._repairs:
            number += 1
        self._repairs[number] = once
        self.loop.later(seconds, once)

    def for_a_while(self) -> float:
        """How long something lasts; seconds."""
        return self.rng.uniform(*FAULT_S)

    def _one(self, processes: list[Process]) -> Process | None:
        alive = [p for p in processes if p.is_alive and not p.is_paused]
        return self.rng.choice(alive) if alive else None

    def _kill(self) -> str | None:
        process = self._one(self.processes())
        return None if process is None else _crashed(process)

    def _kill_leader(self) -> str | None:
        process = self._one(self.leaders())
        return None if process is None else _crashed(process)

    def _pause(self) -> str | None:
        leaders = self.leaders()
        process = self._one(leaders if leaders and self.rng.random() < 0.6 else self.processes())
        if process is None:
            return None
        seconds = self.rng.uniform(5.0, 30.0)
        process.pause(seconds)
        if isinstance(process, MasterShell) and process.epoch is not None:
            self.loop.later(seconds, lambda: self._mislead(process))
        return f"{process.name} for {seconds:.1f} s"

    def _mislead(self, master: MasterShell) -> None:
        """A former leader that does not know it yet is told to agents, by servers that lag."""
        for agent in self.agents:
            if master.is_alive and master.core is not None:
                agent.mislead(json.encode(master.core.info))

    def _expire(self) -> str | None:
        clients = [c for c in self.ensemble.clients if c.session_id is not None]
        if not clients:
            return None
        client = self.rng.choice(clients)
        client.expire()
        return client.process.name

    def _step_clock(self) -> str:
        host = self.rng.choice(self.hosts)
        step = self.rng.choice((-1, 1)) * self.rng.choice((0.5, 30.0, 5000.0))
        host.offset_s += step
        for process in host.daemons:
            process.clock_stepped()
        return f"{host.name} by {step:g} s"

    def _stream(self) -> Stream | None:
        streams = [s for s in self.net.open_streams() if s.client_open and s.server_open]
        return self.rng.choice(streams) if streams else None

    def _cut(self) -> str | None:
        stream = self._stream()
        if stream is None:
            return None
        stream.cut()
        return f"{stream.client.name} - {stream.server.name}"

    def _half_open(self) -> str | None:
        stream = self._stream()
        if stream is None:
            return None
        knows = self.rng.random() < 0.5
        stream.half_open(client_knows=knows)
        return (
            f"{stream.client.name} - {stream.server.name}, told {'client' if knows else 'server'}"
        )

    def _part(self) -> str | None:
        one, other = self.rng.sample(self.hosts, 2)
        if self.net.is_parted(one, other):
            return None
        self.net.part(one, other)
        seconds = 2 * self.for_a_while()
        self.until(seconds, lambda: self.net.join(one, other))
        return f"{one.name} - {other.name} for {seconds:.1f} s"

    def _part_from_zk(self) -> str | None:
        host = self.rng.choice(self.hosts)
        if host.name in self.ensemble.cut_hosts:
            return None
        self.ensemble.cut(host.name)
        seconds = self.for_a_while()
        self.until(seconds, lambda: self.ensemble.mend(host.name))
        return f"{host.name} for {seconds:.1f} s"

    def _zk_down(self) -> str | None:
        if not self.ensemble.has_quorum:
            return None
        self.ensemble.set_quorum(has_quorum=False)
        seconds = self.for_a_while()
        self.until(seconds, lambda: self.ensemble.set_quorum(has_quorum=True))
        return f"for {seconds:.1f} s"

    def _fill_disk(self) -> str | None:
        agent = self.rng.choice(self.agents)
        if agent.disk.is_full:
            return None
        agent.disk.is_full = True
        seconds = self.for_a_while()
        self.until(seconds, lambda: setattr(agent.disk, "is_full", False))
        return f"{agent.name} for {seconds:.1f} s"

    def _cut_power(self) -> str | None:
        agent = self.rng.choice(self.agents)
        if not agent.has_power:
            return None
        seconds = self.for_a_while()
        agent.cut_power(seconds)
        return f"{agent.name} for {seconds:.1f} s"

    def _sicken(self) -> str | None:
        """A service does not answer for a while, for reasons of its own."""
        now = self.loop.now
        runs = [run for a in self.agents for run in a.processes.alive() if run.serves(now)]
        if not runs:
            return None
        run = self.rng.choice(runs)
        seconds = self.rng.uniform(1.0, 15.0)
        run.well_at = now + seconds
        return f"{run.task_id} for {seconds:.1f} s"

    def _evacuate(self) -> str | None:
        """Marathon is asked to leave an agent."""
        agent = self.rng.choice(self.agents)
        if agent.core is None or agent.core.state.agent_id is None:
            return None
        self.user.evacuate(agent.core.state.agent_id.value)
        return agent.name


def _crashed(process: Process) -> str:
    process.crash("killed")
    return process.name


#: What each fault from outside does; it tells where it struck, None if it found no victim.
STRIKES: dict[Kind, Callable[[World], str | None]] = {
    Kind.KILL_PROCESS: World._kill,
    Kind.KILL_LEADER: World._kill_leader,
    Kind.PAUSE: World._pause,
    Kind.EXPIRE_SESSION: World._expire,
    Kind.CLOCK_STEP: World._step_clock,
    Kind.CUT_LINK: World._cut,
    Kind.HALF_OPEN: World._half_open,
    Kind.PARTITION: World._part,
    Kind.ZK_PARTITION: World._part_from_zk,
    Kind.ZK_OUTAGE: World._zk_down,
    Kind.DISK_FULL: World._fill_disk,
    Kind.POWER_CUT: World._cut_power,
    Kind.TAKEN_OUT: lambda world: world.operator.take_out(),
    Kind.MARKED_GONE: lambda world: world.operator.mark_gone(),
    Kind.MAINTENANCE: lambda world: world.operator.maintain(),
    Kind.QUOTA: lambda world: world.operator.limit(),
    Kind.SICK_TASK: World._sicken,
    Kind.EVACUATED: World._evacuate,
}
