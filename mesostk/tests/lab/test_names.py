"""The tutorial's topology: its two chapters about names and load balancing, in Docker containers;
and every way in which a host comes to know the cluster's names.

A small lab of its own: names and load balancing have hosts of their own, which the shared lab does
not. Mesos-DNS answers on port 8053 behind a BIND, as in the tutorial; the agent asks that BIND by
resolv.conf, the balancer's host asks Mesos-DNS itself by systemd-resolved.
"""

import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mesostk.ops import lab
from mesostk.ops.lab import Host, Lab, LabSpec
from mesostk.ops.paths import data_root
from mesostk.ops.progress import Silent
from mesostk.testing.labs import Cluster, mesostk, page, until
from mesostk.testing.requirements import require_docker, require_root

pytestmark = [
    *(pytest.mark.lab, pytest.mark.docker, pytest.mark.root, pytest.mark.beside),
    pytest.mark.timeout(3600),
]

SPEC = LabSpec(
    driver="docker", name="names", masters=1, agents=1, subnet="10.0.34.0/24", topology="tutorial"
)
MASTER, AGENT, DNS, BALANCER = SPEC.hosts()

GROUP_VARS = {
    "mesos_dns": "{mesos_dns_port: 8053, mesos_dns_external: false}",
}
HOST_VARS = {
    AGENT.name: "{dns_client_mode: resolv_conf}",
    DNS.name: "{dns_client_mode: bind, dns_client_port: 8053}",
    BALANCER.name: "{dns_client_mode: resolved, dns_client_port: 8053}",
}
#: The lab's image has neither: the role configures what a host has.
PACKAGES = {
    AGENT.name: "bind9-dnsutils",
    DNS.name: "bind9",
    BALANCER.name: "systemd-resolved",
}
INSTALL = """
systemctl unmask systemd-resolved.service 2>/dev/null
apt-get -qq -o Acquire::Retries=3 update
DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends {packages} >/dev/null
"""


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The hosts with what they need, and with the settings of each; nothing of mesostk yet."""
    require_docker()
    require_root()
    it = lab.plan(SPEC)
    with pytest.MonkeyPatch.context() as patch:
        # for as long as this lab is used; the shared one has its own
        patch.setenv("MESOSTK_CONFIG", str(tmp_path_factory.mktemp("config") / "contexts.json"))
        yield from made(it, tmp_path_factory.mktemp("runs"))


def made(it: Lab, runs: Path) -> Iterator[Cluster]:
    """`it` with its hosts up, taken away at the end."""
    try:
        it.up(Silent())
        cluster = Cluster(it, runs)
        for kind, texts in (("group_vars", GROUP_VARS), ("host_vars", HOST_VARS)):
            for name, text in texts.items():
                path = cluster.inventory / kind / f"{name}.yml"
                path.parent.mkdir(exist_ok=True)
                path.write_text(text + "\n")
        for host in SPEC.hosts():
            if host.name in PACKAGES:
                cluster.run(host, INSTALL.format(packages=PACKAGES[host.name]), limit_s=900)
        yield cluster
    finally:
        it.down(Silent(), purge=False)


def deploy(cluster: Cluster) -> None:
    done = mesostk("cluster", "deploy", "-i", str(cluster.inventory), timeout_s=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Commands talk to names now." in done.stderr


def services(cluster: Cluster, host: Host) -> set[str]:
    return {name.split()[1] for name in cluster.starts() if name.startswith(f"{host.name} ")}


@pytest.fixture(scope="module")
def deployed(names: Cluster) -> Cluster:
    deploy(names)
    return names


def told(cluster: Cluster, host: Host, command: str, *words: str) -> str:
    """What the command prints there, once `words` are in it: a lookup may come too late."""

    def said() -> str | None:
        text = cluster.run(host, f"{command} || true")
        return text if all(word in text for word in words) else None

    return until(f"{command} tells {words}", said)


def test_names_and_balancing_run_on_hosts_of_their_own(deployed: Cluster) -> None:
    assert services(deployed, DNS) == {"mesos-dns"}
    assert services(deployed, BALANCER) == {"marathon-lb", "haproxy"}
    assert services(deployed, MASTER) == {"zookeeper", "mesos-master", "marathon"}
    assert services(deployed, AGENT) == {"docker", "mesos-agent"}


def test_edge_runs_without_privileges_but_for_low_ports(deployed: Cluster) -> None:
    script = """
    pid=$(systemctl show -p MainPID --value {unit})
    awk '/^(Uid|CapEff|NoNewPrivs):/ {{ print $2 }}' /proc/$pid/status
    """
    bind_only = f"{1 << 10:016x}"  # CAP_NET_BIND_SERVICE
    for host, unit, capabilities in (
        (DNS, "mesos-dns", bind_only),
        (BALANCER, "haproxy", bind_only),
        (BALANCER, "marathon-lb", f"{0:016x}"),
    ):
        uid, effective, no_new = deployed.run(host, script.format(unit=unit)).split()
        assert uid != "0", unit
        assert effective == capabilities, unit
        assert no_new == "1", unit


def test_deployed_cluster_is_reached_without_an_address(deployed: Cluster) -> None:
    assert deployed.inventory.is_dir()

    def is_told(words: Sequence[str], wanted: str) -> bool:
        done = mesostk(*words)
        print(done.stdout, done.stderr)
        return done.returncode == 0 and wanted in done.stdout + done.stderr

    for words, wanted in (
        (("dns", "leader"), MASTER.address),
        (("lb", "status"), f"http://{BALANCER.address}:9090"),
    ):
        until(f"{words} tells {wanted}", functools.partial(is_told, words, wanted))


def test_resolv_conf_names_the_servers_and_then_others(deployed: Cluster) -> None:
    told(deployed, AGENT, "getent ahostsv4 leader.mesos", MASTER.address)
    assert f"nameserver {DNS.address}" in deployed.run(AGENT, "cat /etc/resolv.conf")


def test_bind_forwards_the_domain_to_port_8053(deployed: Cluster) -> None:
    look = f"dig +noall +answer +comments @{DNS.address} leader.mesos"
    told(deployed, AGENT, look, "status: NOERROR", MASTER.address)
    services = told(deployed, AGENT, f"dig +short @{DNS.address} _leader._tcp.mesos SRV", "leader")
    assert services.splitlines()[-1].split()[2] == "5050"
    told(deployed, AGENT, f"dig @{DNS.address} nothing.marathon.mesos", "status: NXDOMAIN")
    # Mesos-DNS itself answers for its domain only.
    told(deployed, AGENT, f"dig -p 8053 @{DNS.address} example.com", "status: REFUSED")


def test_systemd_resolved_asks_for_the_domain_only(deployed: Cluster) -> None:
    told(deployed, BALANCER, "resolvectl query leader.mesos", MASTER.address)
    status = deployed.run(BALANCER, "resolvectl status")
    assert f"{DNS.address}:8053" in status
    assert "~mesos" in status


def known(cluster: Cluster, name: str, kind: str = "A", count: int = 1) -> set[str]:
    """What Mesos-DNS itself tells of `name`, once it tells as much: others remember a no.

    Addresses, or the ports of services.
    """
    asked = f"dig +short -p 8053 @{DNS.address} {name} {kind} || true"

    def answered() -> set[str]:
        lines = cluster.run(AGENT, asked).splitlines()
        words = [line.split() for line in lines if not line.startswith(";;")]
        found = {one[2 if kind == "SRV" else 0] for one in words}
        return found if len(found) == count else set()

    return until(f"{count} answers to {name} {kind}", answered)


def test_name_of_a_task_is_known_to_every_host_while_it_runs(
    deployed: Cluster, tmp_path: Path
) -> None:
    file = tmp_path / "app.json"
    file.write_text('{"id": "/named", "cmd": "sleep 600", "cpus": 0.01, "mem": 16}')
    done = mesostk("deploy", str(file))
    assert done.returncode == 0, done.stderr
    known(deployed, "named.marathon.mesos")
    told(deployed, AGENT, "getent ahostsv4 named.marathon.mesos", AGENT.address)
    told(deployed, BALANCER, "resolvectl query named.marathon.mesos", AGENT.address)
    assert mesostk("destroy", "named", "--yes").returncode == 0


# -- the tutorial's apps, in containers of the lab's registry -------------------------------------


def send(cluster: Cluster, name: str) -> None:
    """As the tutorial does: the file, whole, to Marathon."""
    cluster.create((data_root() / "examples" / f"{name}.json").read_bytes())


def configured(cluster: Cluster) -> str:
    """The file without indentation, as the tutorial prints it."""
    text = cluster.run(BALANCER, "cat /etc/haproxy/haproxy.cfg")
    return "\n".join(line.strip() for line in text.splitlines())


def is_configured(cluster: Cluster, text: str) -> bool:
    return text in configured(cluster)


def test_nginx_internal_is_reached_on_its_service_port(deployed: Cluster) -> None:
    send(deployed, "nginx-internal")
    assert "Welcome to nginx!" in page(f"http://{BALANCER.address}:10001/")
    frontend = """frontend nginx-internal_10001
bind *:10001
mode http
use_backend nginx-internal_10001
"""
    until("the frontend is in the file", functools.partial(is_configured, deployed, frontend))
    address = re.escape(AGENT.address)
    name = address.replace(r"\.", "_")
    server = rf"server {name}_(\d+) {address}:(\d+) .*check inter 2s fall 11"

    def in_file() -> re.Match[str] | None:
        backend = configured(deployed).partition("\nbackend nginx-internal_10001\n")[2]
        return re.search(server, backend)

    until("its server is in the file", in_file)
    known(deployed, "_nginx-internal._tcp.marathon.mesos", "SRV")
    known(deployed, "nginx-internal.marathon.mesos")

    def is_same() -> bool:
        services = told(
            deployed, AGENT, "dig +short _nginx-internal._tcp.marathon.mesos SRV", "nginx-internal"
        )
        found = in_file()
        ports = [line.split()[2] for line in services.splitlines() if not line.startswith(";;")]
        return found is not None and found[2] in ports

    until("the names of DNS lead to the same port", is_same)
    told(deployed, AGENT, "getent ahostsv4 nginx-internal.marathon.mesos", AGENT.address)


def test_nginx_external_is_reached_by_its_host_name_on_every_port(deployed: Cluster) -> None:
    send(deployed, "nginx-external")
    host = {"Host": "nginx.external.com"}
    assert "Welcome to nginx!" in page(f"http://{BALANCER.address}/", headers=host)
    app_id = {"X-Marathon-App-Id": "/nginx-external"}
    assert "Welcome to nginx!" in page(f"http://{BALANCER.address}:9091/", headers=app_id)
    assert "Welcome to nginx!" in page(f"http://{BALANCER.address}:10000/")
    by_tls = f"curl -sk --resolve nginx.external.com:443:{BALANCER.address} "
    told(deployed, AGENT, by_tls + "https://nginx.external.com/", "Welcome to nginx!")
    for line in (
        "acl host_nginx_external_com_nginx-external hdr(host) -i nginx.external.com",
        "use_backend nginx-external_10000 if host_nginx_external_com_nginx-external",
        "acl app__nginx-external hdr(x-marathon-app-id) -i /nginx-external",
        "use_backend nginx-external_10000 if app__nginx-external",
        "use_backend nginx-external_10000 if { ssl_fc_sni nginx.external.com }",
    ):
        until(line, functools.partial(is_configured, deployed, line))

    def routed() -> bool:
        status = mesostk("lb", "status").stdout
        return re.search(r"nginx\.external\.com.* 1/1\b", status) is not None

    until("its one server is healthy", routed)


def test_script_of_the_tutorial_has_the_group_that_it_is_asked_for(deployed: Cluster) -> None:
    script = "/opt/mesostk/current/bin/marathon_lb.py --dry --ssl-certs /etc/marathon-lb/cert.pem"
    marathon = f"--marathon http://{MASTER.address}:8080"
    internal = deployed.run(BALANCER, f"cd /tmp && {script} {marathon} --group internal")
    assert "backend nginx-internal_10001" in internal
    assert "nginx-external" not in internal


def test_scaled_app_has_as_many_addresses_and_servers(deployed: Cluster) -> None:
    deployments = functools.partial(deployed.ask, "GET", "/v2/deployments")
    until("the end of the first deployment", lambda: deployments().json() == [])
    done = mesostk("scale", "nginx-internal", "2", "--timeout", "600", timeout_s=900)
    assert done.returncode == 0, done.stderr
    # Not of BIND, which keeps for the 60 s of the TTL what it was told before.
    names = functools.partial(known, deployed, "_nginx-internal._tcp.marathon.mesos", "SRV", 2)

    def servers() -> set[str]:
        backend = configured(deployed).partition("\nbackend nginx-internal_10001\n")[2]
        lines = backend.partition("\n\n")[0].splitlines()
        return {line.split()[2].rpartition(":")[2] for line in lines if line.startswith("server ")}

    until("the servers that the names lead to", lambda: servers() == names())
    for name in ("nginx-internal", "nginx-external"):
        assert mesostk("destroy", name, "--yes").returncode == 0


def test_second_deployment_changes_nothing(deployed: Cluster) -> None:
    outcome, restarted = deployed.restarted_by(lambda: deployed.playbook("site"))
    assert {host: stats.changed for host, stats in outcome.hosts.items() if stats.changed} == {}
    assert restarted == set()
