"""`mesos-dns` as a process beside real masters, agents and Marathons, and BIND around it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.query
import dns.rcode
import pytest
import requests

from mesostk.testing.processes import Cluster, Unit, until
from mesostk.testing.requirements import require_program, require_root

LOCAL = "127.0.0.1"

#: Below those that the kernel gives out by itself.
_PORTS = itertools.count(20_500 + os.getpid() % 1000 * 10)


def free_port() -> int:
    """Free for UDP and TCP at this moment, another one at each call."""
    for port in itertools.islice(_PORTS, 1000):
        with contextlib.ExitStack() as stack:
            try:
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    sock = stack.enter_context(socket.socket(socket.AF_INET, kind))
                    sock.bind((LOCAL, port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


class Dns:
    """One server of its own."""

    def __init__(self, directory: Path, name: str = "mesos-dns", **keys: Any) -> None:
        self.port = free_port()
        http_port = free_port()
        config = {
            "listener": LOCAL, "port": self.port, "HTTPListener": LOCAL, "httpPort": http_port,
            "IPSources": ["host"], "externalon": False, "ttl": 5, **keys,
        }  # fmt: skip
        path = directory / f"{name}.json"
        path.write_text(json.dumps(config))
        argv = [sys.executable, "-m", "mesostk.dns.daemon", f"-config={path}"]
        self.unit = Unit(name, argv, directory, f"http://{LOCAL}:{http_port}")

    def __enter__(self) -> Dns:  # noqa: PYI034 # no subclasses
        self.unit.start()
        until("health", lambda: self.health()["healthy"])
        return self

    def __exit__(self, *_: object) -> None:
        code = self.unit.stop()
        assert code == 0, self.unit.tail()

    def ask(self, name: str, kind: str = "A", *, port: int = 0) -> dns.message.Message | None:
        """None while nobody answers."""
        query, where = dns.message.make_query(name, kind), port or self.port
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            # Connected, it is told at once that nobody listens there yet.
            sock.connect((LOCAL, where))
            try:
                return dns.query.udp(query, LOCAL, timeout=60, port=where, sock=sock)
            except (dns.exception.Timeout, OSError):
                return None

    def ips(self, name: str, *, port: int = 0) -> list[str]:
        reply = self.ask(name, port=port)
        return [] if reply is None else sorted(str(d) for rrset in reply.answer for d in rrset)

    def get(self, path: str) -> Any:
        answer = requests.get(self.unit.url + path, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def zone(self) -> set[str]:
        """Every record of every task."""
        frameworks = self.get("/v1/enumerate")["frameworks"]
        tasks = [task for framework in frameworks for task in framework["tasks"]]
        return {
            f"{record['name']} {record['rtype']} {record['host']}"
            for task in tasks
            for record in task["records"] or ()
        }

    def health(self) -> dict[str, Any]:
        answer = self.unit.get("/v1/health")
        return {"healthy": False} if answer is None else answer.json()

    def figure(self, name: str) -> float:
        return float(self.get("/metrics/snapshot")[f"mesos_dns/{name}"])


def deploy(cluster: Cluster, app_id: str, instances: int = 1) -> None:
    marathon = until("a Marathon", cluster.marathon)
    app = {
        "id": app_id, "cmd": "sleep 3600", "cpus": 0.01, "mem": 8, "instances": instances,
        "portDefinitions": [{"port": 0, "name": "http", "protocol": "tcp"}],
    }  # fmt: skip
    answer = requests.put(f"{marathon.url}/v2/apps{app_id}", json=app, timeout=60)
    assert answer.status_code in (200, 201), answer.text


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("dns-cluster")) as cluster:
        cluster.start()
        deploy(cluster, "/shop/web", 2)
        cluster.wait_running("/shop/web", 2)
        yield cluster


def answers_of_both(server: Dns, name: str) -> list[list[str]]:
    """The different answers of twenty queries."""
    answers = [server.ips(name) for _ in range(20)]
    return [answer for number, answer in enumerate(answers) if answer not in answers[:number]]


def agent_ip(cluster: Cluster) -> str:
    return cluster.agents[0].url.split("//")[1].split(":")[0]


def test_tasks_of_a_real_cluster_have_names_while_they_run(
    cluster: Cluster, tmp_path: Path
) -> None:
    with Dns(tmp_path, masters=[cluster.master_url], workers=2) as server:
        until("names", lambda: server.ips("web-shop.marathon.mesos") == [agent_ip(cluster)])
        assert server.health()["mode"] == "stream"
        deploy(cluster, "/other")
        until("a new name", lambda: server.ips("other.marathon.mesos"))
        # Queries of this process come from many ports, so both processes are asked.
        answers = partial(answers_of_both, server, "other.marathon.mesos")
        until("the name of both", lambda: answers() == [[agent_ip(cluster)]])
        reply = server.ask("_http._web-shop._tcp.marathon.mesos", "SRV")
        assert reply is not None
        ports = {data.port for rrset in reply.answer for data in rrset}
        assert len(ports) == 2
        cluster.destroy("/other")
        until("no name of both", lambda: answers() == [[]])
        gone = server.ask("other.marathon.mesos")
        assert gone is not None
        assert gone.rcode() == dns.rcode.NXDOMAIN
        master = cluster.master_url.split(":")[0]
        for name in ("leader.mesos", "master.mesos", "master0.mesos"):
            assert server.ips(name) == [master]
        assert server.ips("slave.mesos") == [agent_ip(cluster)]
        # Figures of the second process come once a second.
        until("figures of both", lambda: server.figure("mesos") >= 20)
        assert server.figure("staleness_s") < 60


def test_servers_side_by_side_answer_alike_and_one_is_enough(
    cluster: Cluster, tmp_path: Path
) -> None:
    keys: dict[str, Any] = {"masters": [cluster.master_url]}
    with Dns(tmp_path, "first", **keys) as first:
        with Dns(tmp_path, "second", **keys) as second:
            deploy(cluster, "/twice", 2)
            service = "_twice._tcp.marathon.mesos"

            def ports(server: Dns) -> set[int]:
                reply = server.ask(service, "SRV")
                answers = [] if reply is None else reply.answer
                return {data.port for rrset in answers for data in rrset}

            until("both instances in both", lambda: len(ports(first) & ports(second)) == 2)
            assert ports(first) == ports(second)
            until("both serve one zone", lambda: first.zone() == second.zone())
        cluster.destroy("/twice")
        until("the other one goes on", lambda: not ports(first))


def test_the_http_interface_shows_the_same(cluster: Cluster, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"mesosAuthentication": "basic",
            "mesosCredentials": {"principal": "dns", "secret": "geheim"}}  # fmt: skip
    with Dns(tmp_path, masters=[cluster.master_url], **keys) as server:
        until("names", lambda: server.ips("web-shop.marathon.mesos"))
        ip = agent_ip(cluster)
        assert server.get("/v1/version")["Service"] == "Mesos-DNS"
        config = server.get("/v1/config/")
        assert (config["TTL"], config["MesosCredentials"]["Secret"]) == (5, "****")
        assert server.get("/v1/hosts/web-shop.marathon.mesos.") == [
            {"host": "web-shop.marathon.mesos.", "ip": ip}
        ]
        assert server.get("/v1/hosts/nope.mesos") == [{"host": "", "ip": ""}]
        services = server.get("/v1/services/_Web-shop._tcp.marathon.mesos")
        assert len(services) == 2
        assert services[0]["service"] == "_Web-shop._tcp.marathon.mesos"
        assert services[0]["ip"] == ip
        assert server.get("/v1/services/nope")[0]["port"] == ""
        frameworks = server.get("/v1/enumerate")["frameworks"]
        (marathon,) = [one for one in frameworks if one["name"] == "marathon"]
        assert [task["name"] for task in marathon["tasks"]] == ["web.shop", "web.shop"]
        records = marathon["tasks"][0]["records"]
        assert {one["rtype"] for one in records} == {"A", "SRV"}
        zone = server.get("/v1/axfr")
        assert zone["Records"]["As"]["web-shop.marathon.mesos."] == [ip]
        assert zone["Domain"] == "mesos"
        get, url = requests.get, server.unit.url
        assert get(f"{url}/v1/hosts/x/ports", timeout=60).status_code == 501
        assert get(f"{url}/v1/nope", timeout=60).text == "404: Page Not Found"
        refused = get(f"{url}/v1/version", headers={"Accept": "text/html"}, timeout=60)
        assert refused.status_code == 406
        assert requests.post(f"{url}/v1/version", timeout=60).status_code == 405
        assert requests.head(f"{url}/v1/version", timeout=60).status_code == 405
        assert "mesos_dns_rrsets" in get(f"{url}/metrics", timeout=60).text
    with Dns(tmp_path, masters=[cluster.master_url], enumerationOn=False) as server:
        for path in ("/v1/enumerate", "/v1/axfr"):
            assert requests.get(server.unit.url + path, timeout=60).status_code == 404


def test_an_original_master_without_the_stream_is_polled(cluster: Cluster, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"eventStream": False, "refreshSeconds": 1}
    with Dns(tmp_path, masters=[cluster.master_url], **keys) as server:
        until("names", lambda: server.ips("web-shop.marathon.mesos") == [agent_ip(cluster)])
        assert server.health()["mode"] == "poll"
        deploy(cluster, "/polled")
        until("a new name", lambda: server.ips("polled.marathon.mesos"))
        cluster.destroy("/polled")
        until("no name", lambda: not server.ips("polled.marathon.mesos"))


def test_names_outlive_the_master_and_follow_it_when_it_is_back(
    cluster: Cluster, tmp_path: Path
) -> None:
    with Dns(tmp_path, masters=[cluster.master_url]) as server:
        until("names", lambda: server.ips("web-shop.marathon.mesos"))
        master = cluster.masters[0]
        master.kill(restart=False)
        until("the stream is lost", lambda: server.health()["mode"] == "")
        assert server.ips("web-shop.marathon.mesos") == [agent_ip(cluster)]
        until("it gets old", lambda: server.figure("staleness_s") > 1)
        master.start()
        until("the stream is back", lambda: server.health()["mode"] == "stream")
        # Agents come back one by one; until then their tasks keep their names.
        assert server.ips("web-shop.marathon.mesos") == [agent_ip(cluster)]
        cluster.wait_ready()
        until("both tasks", lambda: server.figure("tasks") == 2)
        deploy(cluster, "/later")
        until("a new name", lambda: server.ips("later.marathon.mesos"))
        cluster.destroy("/later")


def test_with_a_limit_what_is_too_old_is_not_answered(tmp_path: Path) -> None:
    with Cluster(tmp_path, agents=0, marathons=0) as cluster:
        cluster.start()
        keys: dict[str, Any] = {"stalenessLimitSeconds": 2, "masters": [cluster.master_url]}
        with Dns(tmp_path, **keys) as server:
            until("the leader", lambda: server.ips("leader.mesos"))
            cluster.masters[0].kill(restart=False)

            def refuses() -> bool:
                reply = server.ask("leader.mesos")
                return reply is not None and reply.rcode() == dns.rcode.SERVFAIL

            until("SERVFAIL", refuses)
            assert not server.health()["healthy"]
            cluster.masters[0].start()
            until("answers again", lambda: server.ips("leader.mesos"))


@pytest.mark.zookeeper
def test_the_leader_is_found_in_zookeeper_and_followed(tmp_path: Path) -> None:
    with Cluster(tmp_path, masters=2, agents=1, marathons=0, zookeepers=1) as cluster:
        cluster.start()
        with Dns(tmp_path, zk=cluster.master_url) as server:
            first = cluster.wait_leader()
            until("both masters", lambda: len(server.ips("master.mesos")) == 2)
            led = first.url.split("//")[1].split(":")[0]
            until("the leader", lambda: server.ips("leader.mesos") == [led])
            assert server.ips("master0.mesos") == server.ips("leader.mesos")
            first.kill(restart=False)
            second = cluster.wait_leader()
            ip = second.url.split("//")[1].split(":")[0]
            until("the new leader", lambda: server.ips("leader.mesos") == [ip])
            assert server.ips("slave.mesos") == [agent_ip(cluster)]
            assert cluster.zookeeper is not None
            cluster.zookeeper.stop()
            until("nobody leads", lambda: server.health()["mode"] == "")
            assert server.ips("slave.mesos") == [agent_ip(cluster)]


def test_a_configuration_that_is_wrong_ends_with_one_line(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"masters": ["localhost"]}')
    argv = [sys.executable, "-m", "mesostk.dns.daemon", "-config", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"ERROR: {path}: Masters: ")
    assert done.stderr.count("\n") == 1


def test_before_a_master_is_heard_other_names_are_answered_already(tmp_path: Path) -> None:
    server = Dns(tmp_path, masters=["127.0.0.1:1"])
    server.unit.start()
    try:
        reply = until("an answer", lambda: server.ask("leader.mesos"))
        assert reply.rcode() == dns.rcode.SERVFAIL
        other = server.ask("example.com")
        assert other is not None
        assert other.rcode() == dns.rcode.REFUSED
    finally:
        assert server.unit.stop() == 0, server.unit.tail()


# -- BIND ------------------------------------------------------------------------------------------


class Bind:
    """A named of its own."""

    def __init__(self, port: int, zones: str) -> None:
        self._program = require_program("named", "bind9")
        # Its user must be able to read the files, which it cannot below pytest's directories.
        self.directory = Path(tempfile.mkdtemp(prefix="named-"))
        self.port = port
        (self.directory / "example.test").write_text(
            "$TTL 30\n@ SOA ns hostmaster 1 60 60 60 60\n@ NS ns\nns A 127.0.0.1\n"
            "www A 192.0.2.80\n"
        )
        (self.directory / "named.conf").write_text(
            f'options {{ directory "{self.directory}"; pid-file none;'
            f" listen-on port {port} {{ {LOCAL}; }}; listen-on-v6 {{ none; }};"
            " recursion yes; dnssec-validation no; empty-zones-enable no; };\n"
            "controls { };\n"
            'zone "example.test" { type primary; file "example.test"; };\n' + zones
        )
        self._log = (self.directory / "log").open("wb")

    def __enter__(self) -> Bind:  # noqa: PYI034 # no subclasses
        argv = [self._program, "-g", "-c", str(self.directory / "named.conf"), "-n", "1"]
        self._process = subprocess.Popen(argv, stdout=self._log, stderr=self._log)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)
        self._log.close()
        shutil.rmtree(self.directory)

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")[-3000:]


def test_bind_asks_us_for_our_domain_and_we_ask_bind_for_the_rest(
    cluster: Cluster, tmp_path: Path
) -> None:
    bind_port = free_port()
    keys: dict[str, Any] = {"externalon": True, "resolvers": [f"{LOCAL}:{bind_port}"]}
    with Dns(tmp_path, masters=[cluster.master_url], **keys) as server:
        forward = (
            f'zone "mesos" {{ type forward; forward only;'
            f" forwarders {{ {LOCAL} port {server.port}; }}; }};\n"
        )
        with Bind(bind_port, forward) as bind:
            until("names by way of BIND", lambda: server.ips("leader.mesos", port=bind.port))
            name = "web-shop.marathon.mesos"
            try:
                until("a task", lambda: server.ips(name, port=bind.port) == [agent_ip(cluster)])
            except AssertionError:
                raise AssertionError(bind.log()) from None

            def gone() -> bool:
                reply = server.ask("nope.marathon.mesos", port=bind.port)
                # SERVFAIL is what BIND says while we are slow.
                return reply is not None and reply.rcode() == dns.rcode.NXDOMAIN

            until("no such name", gone)
            until("the rest", lambda: server.ips("www.example.test") == ["192.0.2.80"])


def test_bind_follows_the_zone_as_a_secondary(cluster: Cluster, tmp_path: Path) -> None:
    bind_port = free_port()
    keys: dict[str, Any] = {"axfrAllowed": ["127.0.0.0/8"], "notify": [f"{LOCAL}:{bind_port}"]}
    with Dns(tmp_path, masters=[cluster.master_url], **keys) as server:
        secondary = (
            f'zone "mesos" {{ type secondary; file "mesos.zone"; masterfile-format text;'
            f" primaries {{ {LOCAL} port {server.port}; }}; }};\n"
        )
        with Bind(bind_port, secondary) as bind:
            name = "web-shop.marathon.mesos"
            until("the zone", lambda: server.ips(name, port=bind.port) == [agent_ip(cluster)])
            deploy(cluster, "/told")
            # By NOTIFY, for the refresh time of the zone is a minute.
            until("a notification", lambda: "received notify for zone 'mesos'" in bind.log())
            try:
                until("a new name", lambda: server.ips("told.marathon.mesos", port=bind.port))
            except AssertionError:
                raise AssertionError(bind.log()) from None
            cluster.destroy("/told")


def test_delv_takes_our_answers(cluster: Cluster, tmp_path: Path) -> None:
    delv = require_program("delv", "bind9-dnsutils")
    with Dns(tmp_path, masters=[cluster.master_url]) as server:
        until("names", lambda: server.ips("web-shop.marathon.mesos"))
        argv = [delv, f"@{LOCAL}", "-p", str(server.port), "-i", "+noroot",
                "web-shop.marathon.mesos", "A"]  # fmt: skip
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert agent_ip(cluster) in done.stdout, done.stdout + done.stderr


@pytest.mark.root
def test_the_resolver_of_the_system_takes_our_answers(cluster: Cluster, tmp_path: Path) -> None:
    """glibc asks port 53 of what /etc/resolv.conf names: here in a mount namespace of its own."""
    require_root()
    unshare = require_program("unshare", "util-linux")
    address = cluster.addresses[99]
    keys: dict[str, Any] = {"masters": [cluster.master_url], "listener": address, "port": 53}
    (tmp_path / "resolv.conf").write_text(f"nameserver {address}\nsearch marathon.mesos\n")
    script = f"mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && getent ahosts $1"
    with Dns(tmp_path, **keys):
        for name in ("web-shop.marathon.mesos", "web-shop"):

            def found(name: str = name) -> str | None:
                argv = [unshare, "--mount", "sh", "-c", script, "sh", name]
                done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
                assert "mount" not in done.stderr, done.stderr
                return done.stdout if done.returncode == 0 else None

            assert agent_ip(cluster) in until("an address", found)
