"""Real daemons as processes: started, killed, paused and restarted as systemd does.

::

    Cluster(dir, masters=3, agents=2)      a block of loopback addresses, 127.40-59.x, of its own
      ├─ Ensemble                          ZooKeeper servers, see `mesostk.ops.zookeeper`
      └─ Unit "mesos-master1" …            one daemon: argv, log, and a thread that starts it again
           start ─▶ runs ──ends──▶ waits RESTART_S ─▶ runs …   until stop() or kill(restart=False)

Everything that a cluster starts carries a mark in its environment, which tasks inherit: that is
how `close` finds and ends, by pid, what is left of it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import pluggy
import pytest
import requests

from mesostk.ops.processes import MARK, ProcessTable, end_all
from mesostk.ops.zookeeper import Ensemble
from mesostk.testing.addresses import AddressBlock, Addresses
from mesostk.testing.marked import tasks_of

T = TypeVar("T")

#: `RestartSec` of the units that the roles install.
RESTART_S: Final = 1.0

#: For anything that 2 busy cores do in a second or two: only what hangs takes longer.
LIMIT_S: Final = 120.0

#: Between two looks at a condition that nothing announces.
LOOK_S: Final = 0.05

MASTER_PORT, AGENT_PORT, MARATHON_PORT = 5050, 5051, 8080

#: Modules behind the commands; run through this Python, so that what is tested is this checkout.
_MODULES: Final = {"mesos-master": "master", "mesos-agent": "agent", "marathon": "marathon"}

#: Settings of the machine's own daemons that tests must not inherit.
_FOREIGN: Final = ("MESOS_", "MARATHON_", "LIBPROCESS_", "NOTIFY_SOCKET")


def until(what: str, probe: Callable[[], T | None], limit_s: float = LIMIT_S) -> T:
    """What `probe` returns once that is true in a condition; AssertionError after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < deadline, f"not after {limit_s:g} s: {what}"
        time.sleep(LOOK_S)


def command(daemon: str, *flags: str) -> list[str]:
    """What runs `mesos-master`, `mesos-agent` or `marathon` with `flags`."""
    code = f"import sys; from mesostk.{_MODULES[daemon]}.daemon import main; sys.exit(main())"
    return [sys.executable, "-c", code, *flags]


def environment(directory: Path) -> dict[str, str]:
    """A daemon's environment: ours without settings of other clusters, with the mark."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(_FOREIGN)}
    return {**kept, MARK: str(directory.resolve())}


def run_once(
    argv: Iterable[str], directory: Path, limit_s: float = LIMIT_S, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run a daemon that is expected to end by itself; stderr is joined to stdout."""
    return subprocess.run(
        list(argv),
        cwd=directory,
        env={**environment(directory), **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=limit_s,
        check=False,
    )


def resources(number: int) -> str:
    """Of the agent with that number; tasks share the machine's ports, so no two agents do."""
    first = 31_000 + 250 * number
    return f"cpus:32;mem:16384;disk:10000;ports:[{first}-{first + 249}]"


class Unit:
    """One daemon and whoever starts it again when it ends."""

    def __init__(
        self,
        name: str,
        argv: list[str],
        directory: Path,
        url: str,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.argv = argv
        self.environ = {} if environ is None else environ
        self.directory = directory
        self.url = url
        self.log = directory / f"{name}.log"
        #: Exit codes of the runs that have ended, -9 for SIGKILL.
        self.codes: list[int] = []
        self._popen: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        popen = self._popen
        return popen.pid if popen is not None and popen.returncode is None else None

    def start(self) -> None:
        """Keep it running from now on."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._stopping.clear()
        self._spawn()
        self._thread = threading.Thread(target=self._keep, name=self.name, daemon=True)
        self._thread.start()

    def _spawn(self) -> None:
        with self.log.open("ab") as out:
            self._popen = subprocess.Popen(
                self.argv,
                cwd=self.directory,
                env={**environment(self.directory), **self.environ},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _keep(self) -> None:
        while True:
            assert self._popen is not None
            self.codes.append(self._popen.wait())
            if self._stopping.wait(RESTART_S):
                return
            self._spawn()

    def signal(self, number: int) -> None:
        """Send a signal to the process, if there is one."""
        if self._popen is not None:
            self._popen.send_signal(number)

    def kill(self, *, restart: bool = True) -> None:
        """SIGKILL; returns when the process is gone. It comes back after RESTART_S, or never."""
        if not restart:
            self._stopping.set()
        ended, runs = len(self.codes), self.pid is not None
        self.signal(signal.SIGKILL)
        if runs:  # else it has just ended by itself
            until(f"the end of {self.name}", lambda: len(self.codes) > ended)
        if not restart:
            self._join()

    def stop(self, grace_s: float = 60.0) -> int:
        """End it for good: SIGTERM, after `grace_s` SIGKILL. Its last exit code."""
        self._stopping.set()
        if self.pid is not None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
        if self._thread is not None:
            self._thread.join(grace_s)
            if self._thread.is_alive():
                self.signal(signal.SIGKILL)
        self._join()
        return self.codes[-1] if self.codes else 0

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def pause(self) -> None:
        """SIGSTOP: its connections stay open and nobody answers."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def get(self, path: str, timeout_s: float = 5.0) -> requests.Response | None:
        """The answer without following a redirect; None while nobody answers."""
        return ask(self.url + path, timeout_s)

    def tail(self, lines: int = 40) -> str:
        """The end of what it logged."""
        if not self.log.exists():
            return "(never started)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def ask(url: str, timeout_s: float = 5.0) -> requests.Response | None:
    """GET without following a redirect; None while nobody answers."""
    try:
        return requests.get(url, timeout=timeout_s, allow_redirects=False)
    except (requests.ConnectionError, requests.Timeout):
        return None


class Cluster:
    """Masters, agents, Marathons and, with more than one master, ZooKeeper.

    `session_s` is the ZooKeeper session timeout of masters and Marathons, `environs` what is set in
    the environment of some units, by name. Nothing runs before `start`; a `with` block closes it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        masters: int = 1,
        agents: int = 1,
        marathons: int = 1,
        zookeepers: int = 0,
        session_s: float = 6.0,  # a busy machine does not lose it by itself
        master_flags: Iterable[str] = (),
        agent_flags: Iterable[str] = (),
        marathon_flags: Iterable[str] = (),
        addresses: Addresses | None = None,
        environs: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.directory = directory
        self.session_s = session_s
        self.addresses: Addresses = AddressBlock() if addresses is None else addresses
        self._environs = {} if environs is None else environs
        self.zookeeper = self._ensemble(zookeepers) if zookeepers else None
        self.masters = [self._master(number, master_flags) for number in range(1, masters + 1)]
        self.agents = [self._agent(number, agent_flags) for number in range(1, agents + 1)]
        self.marathons = [
            self._marathon(number, marathon_flags) for number in range(1, marathons + 1)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # what it is made of

    def _ensemble(self, members: int) -> Ensemble:
        ips = [self.addresses[number] for number in range(21, 21 + members)]
        return Ensemble(self.directory / "zookeeper", members, ips)

    def _master(self, number: int, more: Iterable[str]) -> Unit:
        ip = self.addresses[10 + number]
        flags = [f"--ip={ip}", f"--hostname={ip}", "--cluster=test", *more]
        if self.zookeeper is None:
            flags.append(f"--work_dir={self.directory / 'master'}")
        else:
            flags.append(f"--zk={self.zookeeper.url('/mesos')}")
            flags.append(f"--zk_session_timeout={self.session_s:g}secs")
        return self._unit("mesos-master", number, ip, MASTER_PORT, flags)

    def _agent(self, number: int, more: Iterable[str]) -> Unit:
        ip = self.addresses[50 + number]
        flags = [
            f"--master={self.master_url}",
            f"--ip={ip}",
            f"--hostname={ip}",
            f"--work_dir={self.work_dir(number)}",
            f"--runtime_dir={self.work_dir(number) / 'run'}",
            f"--resources={resources(number)}",
            "--registration_backoff_factor=100ms",
            *more,
        ]
        if "--switch_user" not in flags:
            flags.append("--no-switch_user")
        if not any(flag.startswith("--launcher=") for flag in flags):
            flags.append("--launcher=posix")
        return self._unit("mesos-agent", number, ip, AGENT_PORT, flags)

    def _marathon(self, number: int, more: Iterable[str]) -> Unit:
        ip = self.addresses[10 + number]
        flags = [f"--master={self.master_url}", f"--http_address={ip}", f"--hostname={ip}", *more]
        if self.zookeeper is None:
            flags.append(f"--state_dir={self.directory / 'marathon'}")
        else:
            flags.append(f"--zk={self.zookeeper.url('/marathon')}")
            flags.append(f"--zk_session_timeout={self.session_s * 1000:g}")
        return self._unit("marathon", number, ip, MARATHON_PORT, flags)

    def _unit(self, daemon: str, number: int, ip: str, port: int, flags: list[str]) -> Unit:
        name = f"{daemon}{number}"
        argv = [*self.addresses.enter(ip), *command(daemon, *flags)]
        environ = self._environs.get(name, {})
        return Unit(name, argv, self.directory, f"http://{ip}:{port}", environ)

    @property
    def master_url(self) -> str:
        """What agents and frameworks are told about the master."""
        if self.zookeeper is not None:
            return self.zookeeper.url("/mesos")
        return f"{self.addresses[11]}:{MASTER_PORT}"

    def work_dir(self, number: int) -> Path:
        """Of the agent with that number, from 1."""
        return self.directory / f"agent{number}"

    @property
    def units(self) -> list[Unit]:
        """Every daemon but ZooKeeper."""
        return [*self.masters, *self.agents, *self.marathons]

    # life

    def start(self) -> None:
        """Start what is not running, and return when an app could be deployed."""
        if self.zookeeper is not None:
            self.zookeeper.start()
        for unit in self.units:
            unit.start()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Return once a master leads, every agent is registered and Marathon is subscribed."""
        wanted = len(self.agents)
        until(f"{wanted} registered agents", lambda: len(self.active_agents()) == wanted)
        if self.marathons:
            until("a subscribed Marathon", self.is_subscribed)

    def close(self) -> None:
        """End every daemon, then every task, by pid."""
        for unit in self.units:
            unit.resume()
        for unit in [*self.marathons, *self.agents, *self.masters]:
            unit.stop()
        if self.zookeeper is not None:
            self.zookeeper.stop()
        end_all(ProcessTable(self.directory).marked(), grace_s=0.0)
        self.addresses.close()

    def report(self) -> Iterator[tuple[str, str]]:
        """(title, text) of what tells why a test failed."""
        for unit in self.units:
            yield f"{unit.name} pid={unit.pid} ended={unit.codes}", unit.tail()
        if self.zookeeper is not None:
            for member in self.zookeeper.members:
                yield f"zookeeper {member.address}", member.tail()

    # who leads, and what it knows

    def leader(self, *, but: Unit | None = None) -> Unit | None:
        """The master that serves the cluster now; `but` is not asked."""
        for master in self.masters:
            if master is but:
                continue
            answer = master.get("/slaves")
            if answer is not None and answer.status_code == requests.codes.ok:
                return master
        return None

    def wait_leader(self, limit_s: float = LIMIT_S) -> Unit:
        return until("a leading master", self.leader, limit_s)

    def active_agents(self) -> dict[str, dict[str, Any]]:
        """Agents that the leading master counts as connected, by id."""
        leader = self.leader()
        answer = None if leader is None else leader.get("/slaves")
        if answer is None or answer.status_code != requests.codes.ok:
            return {}
        return {agent["id"]: agent for agent in answer.json()["slaves"] if agent["active"]}

    def marathon(self) -> Unit | None:
        """A Marathon that answers, by itself or for the leader."""
        for unit in self.marathons:
            answer = unit.get("/v2/info")
            if answer is not None and answer.status_code == requests.codes.ok:
                return unit
        return None

    def leading_marathon(self) -> Unit:
        """The Marathon that the others call their leader."""

        def leading() -> Unit | None:
            for unit in self.marathons:
                answer = unit.get("/v2/leader")
                if answer is None or answer.status_code != requests.codes.ok:
                    continue
                url = f"http://{answer.json()['leader']}"
                return next((one for one in self.marathons if one.url == url), None)
            return None

        return until("a leading Marathon", leading)

    def is_subscribed(self) -> bool:
        """Whether Marathon leads and is registered with the leading master."""
        unit = self.marathon()
        answer = None if unit is None else unit.get("/v2/info")
        if answer is None or answer.status_code != requests.codes.ok:
            return False
        framework = answer.json()["frameworkId"]
        leader = self.leader()
        known = None if leader is None else leader.get("/frameworks")
        if framework is None or known is None or known.status_code != requests.codes.ok:
            return False
        return any(one["id"] == framework and one["active"] for one in known.json()["frameworks"])

    # apps and tasks

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """A request to some Marathon that answers; one that only reads is tried again."""

        def asked() -> tuple[requests.Response] | None:
            unit = until("a Marathon that answers", self.marathon)
            try:
                answer = requests.request(method, unit.url + path, timeout=60, **options)
            except requests.ConnectionError:
                if method not in ("GET", "HEAD"):
                    raise
                return None
            away = answer.status_code in (502, 503) and method in ("GET", "HEAD")
            return None if away else (answer,)

        return until(f"an answer to {method} {path}", asked)[0]

    def marathon_tasks(self, app: str) -> dict[str, dict[str, Any]] | None:
        """Marathon's tasks of an app, by id; None while it does not answer."""
        unit = self.marathon()
        answer = None if unit is None else unit.get(f"/v2/apps{app}/tasks")
        if answer is None or answer.status_code != requests.codes.ok:
            return None
        return {task["id"]: task for task in answer.json()["tasks"]}

    def wait_running(self, app: str, count: int, limit_s: float = LIMIT_S) -> dict[str, int]:
        """Task id → pid, once Marathon and the agents agree on `count` running and nothing else."""

        def agreed() -> dict[str, int] | None:
            told = self.marathon_tasks(app)
            if told is None or len(told) != count:
                return None
            if any(task["state"] != "TASK_RUNNING" for task in told.values()):
                return None
            live = self.live_tasks(app)
            return live if set(live) == set(told) else None

        return until(f"{count} running tasks of {app}", agreed, limit_s)

    def live_tasks(self, app: str) -> dict[str, int]:
        """Task id → pid of the first process of each task; AssertionError if a task has two.

        Two at one look may be a moment's: processes begin and end while they are read.
        """
        return until(f"one process of each task of {app}", lambda: tasks_of(self.directory, app))[0]

    def apps(self) -> list[str]:
        """Ids of Marathon's apps."""
        return [app["id"] for app in self.call("GET", "/v2/apps").json()["apps"]]

    def destroy(self, app: str) -> None:
        """Delete an app; return when none of its processes, and no deployment, is left."""
        gone = (requests.codes.ok, requests.codes.not_found)
        path, force = f"/v2/apps{app}", {"force": "true"}
        until("its deletion", lambda: self.call("DELETE", path, params=force).status_code in gone)
        until(f"the end of {app}", lambda: not self.live_tasks(app))
        self.wait_deployed()

    def wait_deployed(self, limit_s: float = LIMIT_S) -> None:
        """Return once no deployment is under way."""
        until("no deployment", lambda: self.call("GET", "/v2/deployments").json() == [], limit_s)


@pytest.hookimpl(hookwrapper=True)
def attach_logs(item: pytest.Item) -> Generator[None, pluggy.Result[pytest.TestReport], None]:
    """A `conftest.py`'s `pytest_runtest_makereport`: a failure shows what the daemons logged."""
    outcome = yield
    report = outcome.get_result()
    if not report.failed:
        return
    used = {id(value): value for value in getattr(item, "funcargs", {}).values()}
    for value in used.values():
        if isinstance(value, Cluster):
            report.sections += value.report()
