"""A lab of real daemons as ordinary processes: no root, no Docker, no Java unless it is there.

Every host has a loopback address of its own, so that daemons keep their usual ports. With more
than one master the first master's address also serves one ZooKeeper.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import requests

from mesostk.errors import ConfigError, Unavailable
from mesostk.ops import lab, zookeeper
from mesostk.ops.lab import Endpoints, Host, HostState, HostStatus, LabSpec
from mesostk.ops.processes import Process, ProcessTable, end_all, listens, wait_until
from mesostk.ops.progress import Progress

MASTER_PORT, AGENT_PORT, MARATHON_PORT, ZOOKEEPER_PORT = 5050, 5051, 8080, 2181
DNS_HTTP_PORT = 8123
#: Port 53 is for the superuser; the other one is usual where something else has that.
DNS_PORT = 53 if os.geteuid() == 0 else 8053
#: A loaded machine of 2 cores; 2-4 s on an idle one.
_START_LIMIT_S = 180.0
#: A supervisor gives a task 3 s after SIGTERM, then kills it.
_TASK_GRACE_S = 5.0
_DAEMON_GRACE_S = 5.0
#: Tasks of all agents share the machine's ports, so each agent offers ports of its own. The blocks
#: end below 32768, where the kernel begins to hand out ports itself.
_FIRST_PORT, _PORTS_PER_AGENT = 31_000, 150


class LocalLab:
    """A lab whose hosts are loopback addresses; see `lab.Lab` for the methods."""

    def __init__(self, spec: LabSpec, state_dir: Path) -> None:
        self.spec = spec
        self.state_dir = state_dir.absolute()
        self.table = ProcessTable(self.state_dir)
        self._zookeeper = zookeeper.Member(
            self.state_dir / "data" / "zookeeper", spec.hosts()[0].address, ZOOKEEPER_PORT
        )
        self._http = requests.Session()
        self._http.trust_env = False  # a proxy cannot reach this machine's loopback addresses

    @property
    def _zk_address(self) -> str | None:
        return self.spec.hosts()[0].address if self.spec.masters > 1 else None

    def endpoints(self) -> Endpoints:
        """Where the daemons listen."""
        masters = self.spec.in_group("mesos_masters")
        return Endpoints(
            masters=tuple(f"http://{host.address}:{MASTER_PORT}" for host in masters),
            marathons=tuple(f"http://{host.address}:{MARATHON_PORT}" for host in masters),
            zookeeper=None
            if self._zk_address is None
            else f"zk://{self._zk_address}:{ZOOKEEPER_PORT}",
            dns=(f"http://{self._dns_host.address}:{DNS_HTTP_PORT}",),
        )

    @property
    def _dns_host(self) -> Host:
        """One server is enough where all of them are one machine."""
        return self.spec.in_group("mesos_dns")[0]

    # what should run

    def _processes(self, host: Host) -> Iterator[Process]:
        """What `host` should run, in the order of starting."""
        commands = {
            "zookeeper": (self._ensemble, ZOOKEEPER_PORT),
            "mesos-master": (self._master, MASTER_PORT),
            "marathon": (self._marathon, MARATHON_PORT),
            "mesos-agent": (self._agent, AGENT_PORT),
            "mesos-dns": (self._dns, DNS_PORT),
        }
        for daemon in self._daemons(host):
            command, port = commands[daemon]
            yield Process(
                name=f"{host.name}.{daemon}",
                argv=command(host),
                address=host.address,
                port=port,
            )

    def _daemons(self, host: Host) -> list[str]:
        """Kinds of what `host` should run, in the order of starting."""
        daemons = []
        if host.address == self._zk_address:
            daemons.append("zookeeper")
        if host.is_master:
            daemons += ["mesos-master", "marathon"]
        if host.is_agent:
            daemons.append("mesos-agent")
        if host == self._dns_host:
            daemons.append("mesos-dns")
        return daemons

    def _ensemble(self, _host: Host) -> tuple[str, ...]:
        zookeeper.write_config(self._zookeeper, 1, peers=[])
        return tuple(self._zookeeper.command())

    def _master(self, host: Host) -> tuple[str, ...]:
        flags = [
            f"--ip={host.address}",
            f"--port={MASTER_PORT}",
            f"--hostname={host.address}",
            f"--cluster={self.spec.name}",
            f"--work_dir={self._data(host, 'master')}",
        ]
        if self._zk_address is not None:
            quorum = self.spec.masters // 2 + 1
            flags += [f"--zk=zk://{self._zk_address}:{ZOOKEEPER_PORT}/mesos", f"--quorum={quorum}"]
        return (*_program("mesos-master"), *flags)

    def _marathon(self, host: Host) -> tuple[str, ...]:
        flags = [
            f"--master={self._master_url()}",
            f"--http_address={host.address}",
            f"--http_port={MARATHON_PORT}",
            f"--hostname={host.address}",
        ]
        if self._zk_address is None:
            flags += [f"--state_dir={self._data(host, 'marathon')}"]
        else:
            flags += [f"--zk=zk://{self._zk_address}:{ZOOKEEPER_PORT}/marathon"]
        return (*_program("marathon"), *flags)

    def _agent(self, host: Host) -> tuple[str, ...]:
        agents = self.spec.in_group("mesos_agents")
        first = _FIRST_PORT + agents.index(host) * _PORTS_PER_AGENT
        memory_mib = psutil.virtual_memory().total // (1 << 20) // (len(agents) + 1)
        return (
            *_program("mesos-agent"),
            f"--master={self._master_url()}",
            f"--ip={host.address}",
            f"--port={AGENT_PORT}",
            f"--hostname={host.address}",
            f"--work_dir={self._data(host, 'agent')}",
            f"--runtime_dir={self._data(host, 'run')}",
            f"--resources=mem:{memory_mib};ports:[{first}-{first + _PORTS_PER_AGENT - 1}]",
            "--launcher=posix",
            "--no-switch_user",
            # a handful of agents on one machine cannot stampede
            "--registration_backoff_factor=100ms",
        )

    def _dns(self, host: Host) -> tuple[str, ...]:
        config = {
            "masters": [
                f"{one.address}:{MASTER_PORT}" for one in self.spec.in_group("mesos_masters")
            ],
            "listener": host.address,
            "port": DNS_PORT,
            "httpPort": DNS_HTTP_PORT,
            # names of other domains are the business of the machine's own resolver
            "externalOn": False,
            "IPSources": ["host"],
        }
        if self._zk_address is not None:
            config["zk"] = self._master_url()
        path = self._data(host, "dns") / "config.json"
        path.write_text(json.dumps(config, indent=2) + "\n")
        return (*_program("mesos-dns"), f"-config={path}")

    def _master_url(self) -> str:
        if self._zk_address is not None:
            return f"zk://{self._zk_address}:{ZOOKEEPER_PORT}/mesos"
        return f"{self.spec.hosts()[0].address}:{MASTER_PORT}"

    def _data(self, host: Host, part: str) -> Path:
        path = self.state_dir / "data" / host.name / part
        path.mkdir(parents=True, exist_ok=True)
        return path

    # up and down

    def up(self, progress: Progress) -> None:
        """Start what does not run; wait for a leader, every agent and Marathon."""
        with lab.changing(self.state_dir):
            self._up(progress)

    def _up(self, progress: Progress) -> None:
        if self._zk_address is not None and (why := zookeeper.zookeeper_missing()) is not None:
            raise ConfigError(
                f"{self.spec.masters} masters need a ZooKeeper: {why}; or --masters 1"
            )
        lab.save_spec(self.state_dir, self.spec)
        hosts = self.spec.hosts()
        wanted = [process for host in hosts for process in self._processes(host)]
        missing = [process for process in wanted if self.table.find(process.name) is None]
        progress.step(f"Starting {len(missing)} of {len(wanted)} daemons")
        for process in missing:
            progress.detail(process.name)
            self.table.start(process)
        for process in wanted:
            self.table.resume(process.name)
        progress.step("Waiting for the daemons to listen")
        for process in wanted:
            self._wait_listening(process)
        progress.step("Waiting for a leading master")
        self._wait(lambda: self._leader() is not None, "mesos-master1.mesos-master")
        progress.step(f"Waiting for {self.spec.agents} agents to register")
        self._wait(lambda: self._registered() >= self.spec.agents, "mesos-slave1.mesos-agent")
        progress.step("Waiting for Marathon")
        self._wait(self._marathon_leads, "mesos-master1.marathon")
        progress.done(f"{self.spec.masters} masters and {self.spec.agents} agents are up")

    def _wait(self, condition: Callable[[], bool], suspect: str) -> None:
        """Wait for `condition`; give up at once if `suspect`, which should bring it about, ends."""

        def settled() -> bool:
            if self.table.find(suspect) is None:
                raise Unavailable(f"{suspect} has ended:\n{self.table.tail(suspect)}")
            return condition()

        def describe() -> str:
            return (
                f"the lab is not ready after {_START_LIMIT_S:.0f} s; "
                f"the end of {self.table.log(suspect)}:\n{self.table.tail(suspect)}"
            )

        wait_until(settled, _START_LIMIT_S, describe)

    def _names(self, host: Host) -> list[str]:
        return [f"{host.name}.{daemon}" for daemon in self._daemons(host)]

    def _ask(self, url: str) -> requests.Response | None:
        try:
            answer = self._http.get(url, timeout=5, allow_redirects=False)
        except requests.RequestException:
            return None
        return answer if answer.status_code == requests.codes.ok else None

    def _leader(self) -> str | None:
        """URL of the master that answers for the cluster."""
        for url in self.endpoints().masters:
            if self._ask(f"{url}/slaves") is not None:
                return url
        return None

    def _registered(self) -> int:
        leader = self._leader()
        answer = None if leader is None else self._ask(f"{leader}/slaves")
        if answer is None:
            return 0
        return sum(bool(agent["active"]) for agent in answer.json()["slaves"])

    def _marathon_leads(self) -> bool:
        for url in self.endpoints().marathons:
            answer = self._ask(f"{url}/v2/info")
            if answer is not None and answer.json().get("frameworkId"):
                return True
        return False

    def down(self, progress: Progress, *, purge: bool) -> None:
        """End the daemons and every task that they started, remove all state."""
        del purge  # nothing is cached
        with lab.changing(self.state_dir):
            self._down(progress)

    def _down(self, progress: Progress) -> None:
        progress.step("Ending tasks and daemons")
        # Marathon first, so that it does not replace the tasks; an agent's supervisors and tasks
        # outlive it and are found by their mark.
        names = [name for host in self.spec.hosts() for name in self._names(host)]
        for daemon in ("marathon", "mesos-agent", "mesos-dns", "mesos-master", "zookeeper"):
            found = (self.table.find(name) for name in names if name.endswith(f".{daemon}"))
            end_all([process for process in found if process is not None], _DAEMON_GRACE_S)
        for _ in range(5):  # a process that was just forked is found in the next round
            left = self.table.marked()
            if not left:
                break
            end_all(left, _TASK_GRACE_S)
        lab.forget(self.state_dir)
        progress.done(f"lab {self.spec.name} is gone")

    # one host

    def status(self) -> list[HostStatus]:
        """What each host's daemons are."""
        return [self._status_of(host) for host in self.spec.hosts()]

    def _status_of(self, host: Host) -> HostStatus:
        names = self._names(host)
        missing = [name for name in names if self.table.find(name) is None]
        paused = [name for name in names if self.table.is_paused(name)]
        state: HostState = "running"
        if len(missing) == len(names):
            state = "stopped"
        elif missing:
            state = "broken"
        elif paused:
            state = "partitioned"
        detail = f"not running: {', '.join(missing)}" if missing else ""
        return HostStatus(host=host, state=state, detail=detail)

    def stop(self, host: str) -> None:
        """Kill the host's daemons at once; tasks stay, as they do when an agent is killed."""
        for name in self._names(lab.named(self.spec, host)):
            self.table.kill(name)

    def start(self, host: str) -> None:
        """Start those of the host's daemons that do not run, and wait until they listen."""
        for process in self._processes(lab.named(self.spec, host)):
            if self.table.find(process.name) is None:
                self.table.start(process)
                self._wait_listening(process)

    def _wait_listening(self, process: Process) -> None:
        self._wait(lambda: listens(process.address, process.port), process.name)

    def pause(self, host: str) -> None:
        """The same as `partition`: there is no network of its own that could be cut."""
        self.partition(host)

    def partition(self, host: str) -> None:
        """Pause the host's daemons: for everyone else it no longer answers. Its tasks go on."""
        for name in self._names(lab.named(self.spec, host)):
            self.table.pause(name)

    def heal(self, host: str) -> None:
        """Resume the host's daemons."""
        for name in self._names(lab.named(self.spec, host)):
            self.table.resume(name)


def _program(name: str) -> tuple[str, ...]:
    """The command of a daemon: its script beside this Python, or through `-c` where none is."""
    script = Path(sys.executable).parent / name
    if script.exists():
        return (str(script),)
    module = name.removeprefix("mesos-")
    return (
        sys.executable,
        "-c",
        f"from mesostk.{module}.daemon import main; raise SystemExit(main())",
    )
