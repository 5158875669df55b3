"""Real ZooKeeper servers as plain processes on loopback, for tests and for the local lab.

::

    Ensemble(dir, members=3).start() ─▶ java … QuorumPeerMain zoo.cfg     (one process a member)
                                        waits until `srvr` says leader, follower or standalone

A member is ready when its quorum serves, which an open port does not tell.
"""

from __future__ import annotations

import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mesostk.errors import Unavailable

#: Debian's package `zookeeper` puts the server here; the manifest names what it needs.
ZOOKEEPER_JAR: Final = Path("/usr/share/java/zookeeper.jar")

#: Logs to standard error; without any binding the server would log nothing. May be absent.
LOGGING_JAR: Final = ZOOKEEPER_JAR.with_name("slf4j-simple.jar")

#: A JVM on a busy 2-core machine, three of them at once.
START_TIMEOUT_S: Final = 120.0
STOP_TIMEOUT_S: Final = 10.0

#: Where `free_ports` looks: below the agents' (31000-32000) and the kernel's own (from 32768).
_FREE_PORTS: Final = range(21_000, 31_000)

#: Milliseconds; sessions may be as short as 2 ticks, so tests of expiry need not wait for long.
TICK_MS: Final = 500


def zookeeper_missing() -> str | None:
    """Why no ZooKeeper server can be started here, or None if one can."""
    if shutil.which("java") is None:
        return "no `java` on the PATH; apt-get install zookeeper"
    if not ZOOKEEPER_JAR.exists():
        return f"no {ZOOKEEPER_JAR}; apt-get install zookeeper"
    return None


def mode_of(host: str, port: int) -> str | None:
    """`leader`, `follower` or `standalone` of a server; None while it does not serve."""
    try:
        with socket.create_connection((host, port), timeout=1.0) as sock:
            sock.sendall(b"srvr")
            answer = b""
            while chunk := sock.recv(4096):
                answer += chunk
    except OSError:
        return None
    for text in answer.decode(errors="replace").splitlines():
        if text.startswith("Mode: "):
            return text.removeprefix("Mode: ")
    return None


class Member:
    """One server's process; may be stopped, killed, paused and started again."""

    def __init__(self, directory: Path, ip: str, client_port: int, admin_heap_mb: int = 96) -> None:
        self.directory = directory
        self.ip = ip
        self.client_port = client_port
        self._heap_mb = admin_heap_mb
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return None if self._process is None else self._process.pid

    @property
    def address(self) -> str:
        """`ip:port` for clients."""
        return f"{self.ip}:{self.client_port}"

    def command(self) -> list[str]:
        """What runs the server, once `write_config` has written its configuration."""
        return [
            "java",
            f"-Xmx{self._heap_mb}m",
            # A short-lived server on few cores: the big collectors and compilers cost more than
            # they give.
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Dzookeeper.admin.enableServer=false",
            "-Dzookeeper.4lw.commands.whitelist=srvr,ruok,mntr",
            "-Dzookeeper.forceSync=no",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp",
            f"{ZOOKEEPER_JAR}:{LOGGING_JAR}",
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
            str(self.directory / "zoo.cfg"),
        ]

    def launch(self) -> None:
        """Start the process; `wait_serving` tells when it is of use."""
        if self._process is not None and self._process.poll() is None:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "zookeeper.out").open("ab") as out:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def mode(self) -> str | None:
        """`leader`, `follower`, `standalone`, or None while it does not serve."""
        return mode_of(self.ip, self.client_port)

    def wait_serving(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return once it serves clients; Unavailable with the end of its log otherwise."""
        deadline = time.monotonic() + timeout_s
        while True:
            # Asked first: where another server holds the port, that one would answer.
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                why = "ended" if ended else f"does not serve after {timeout_s:g} s"
                raise Unavailable(f"ZooKeeper at {self.address} {why}:\n{self.tail()}")
            if self.mode() is not None:
                return
            time.sleep(0.05)

    def tail(self, lines: int = 20) -> str:
        """The end of what the server wrote."""
        try:
            text = (self.directory / "zookeeper.out").read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not help."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """SIGKILL, as when the host loses power."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nobody answers."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)


class Ensemble:
    """One standalone server, or several that form a quorum.

    `client_ports` fixes the ports (a lab), else free ones are taken (tests); `ips` may give each
    member its own loopback address.
    """

    def __init__(
        self,
        directory: Path,
        members: int = 1,
        ips: Sequence[str] | None = None,
        client_ports: Sequence[int] | None = None,
    ) -> None:
        addresses = list(ips) if ips is not None else ["127.0.0.1"] * members
        # Three ports a member, all taken at once so that no two are the same.
        free = free_ports(addresses[0], 3 * members)
        ports = list(client_ports) if client_ports is not None else free[:members]
        self.members = [
            Member(directory / f"zk{index + 1}", ip, port)
            for index, (ip, port) in enumerate(zip(addresses, ports, strict=True))
        ]
        peers = list(zip(addresses, free[members::2], free[members + 1 :: 2], strict=True))
        for index, member in enumerate(self.members):
            write_config(member, index + 1, peers)

    @property
    def hosts(self) -> str:
        """`ip:port,ip:port` for a `zk://` URL."""
        return ",".join(member.address for member in self.members)

    def url(self, path: str) -> str:
        """`zk://hosts/path`."""
        return f"zk://{self.hosts}{path}"

    def start(self) -> None:
        """Start every member and wait until all serve; Unavailable if one does not."""
        missing = zookeeper_missing()
        if missing is not None:
            raise Unavailable(f"cannot start ZooKeeper: {missing}")
        try:
            for member in self.members:
                member.launch()
            for member in self.members:
                member.wait_serving()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop every member."""
        for member in self.members:
            member.resume()
            member.stop()

    def leader(self) -> Member:
        """The member that leads, once one does; Unavailable if none comes to."""
        return self._member_that("leads", ("leader", "standalone"))

    def follower(self) -> Member:
        """Some member that follows, once one does; Unavailable if none comes to."""
        return self._member_that("follows", ("follower",))

    def _member_that(self, does: str, modes: Sequence[str]) -> Member:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            for member in self.members:
                if member.mode() in modes:
                    return member
            time.sleep(0.05)
        raise Unavailable(f"no member of the ensemble {does}")


def write_config(member: Member, number: int, peers: Sequence[tuple[str, int, int]]) -> None:
    """Write `zoo.cfg` and `myid`; `peers` are (ip, quorum port, election port) of all members."""
    data = member.directory / "data"
    data.mkdir(parents=True, exist_ok=True)
    lines = [
        f"tickTime={TICK_MS}",
        "initLimit=20",
        "syncLimit=10",
        f"dataDir={data}",
        f"clientPort={member.client_port}",
        f"clientPortAddress={member.ip}",
        "maxClientCnxns=0",
        f"maxSessionTimeout={60_000}",
    ]
    if len(peers) > 1:
        lines += [
            f"server.{n}={ip}:{quorum}:{election}"
            for n, (ip, quorum, election) in enumerate(peers, 1)
        ]
    (member.directory / "zoo.cfg").write_text("\n".join(lines) + "\n")
    (data / "myid").write_text(f"{number}\n")


def free_ports(ip: str, count: int) -> list[int]:
    """`count` different ports that nobody listens on now.

    Below those that the kernel gives to outgoing connections, lest one takes the port before the
    server that it is for has started.
    """
    found: list[int] = []
    for port in random.sample(_FREE_PORTS, len(_FREE_PORTS)):
        if len(found) == count:
            return found
        with socket.socket() as sock:
            try:
                sock.bind((ip, port))
            except OSError:
                continue
        found.append(port)
    raise Unavailable(f"no free ports at {ip} from {_FREE_PORTS.start} to {_FREE_PORTS.stop - 1}")
