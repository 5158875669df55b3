"""What an operator asks of a running cluster: plans, impact, doctor, support, the run ledger."""

import json
import os
import random
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mesostk.ops.zookeeper import mode_of
from mesostk.testing import draws
from mesostk.testing.labs import LIMIT_S, Cluster, mesostk, until

pytestmark = [pytest.mark.lab, pytest.mark.docker, pytest.mark.root, pytest.mark.timeout(1800)]

SECRET = "hunter2-Zx81"
CONTEXT = ("--context", "test")


def asked(*words: str, rc: int = 0) -> Any:
    done = mesostk(*words, *CONTEXT, "--json")
    assert done.returncode == rc, done.stdout + done.stderr
    return json.loads(done.stdout)


# -- preflight ------------------------------------------------------------------------------------


def test_preflight_tells_all_that_is_wrong_at_once(cluster: Cluster, tmp_path: Path) -> None:
    text = (cluster.inventory / "hosts.yml").read_text()
    first, second = cluster.hosts[0], cluster.hosts[-1]
    for old, new in (
        ("zookeeper_id: 1", "zookeeper_id: 9, mesostk_python: /bin/false"),
        (second.address, f"{second.address}, ansible_python_interpreter: /usr/bin/python9"),
    ):
        assert text.count(old + "}") == 1
        text = text.replace(old + "}", new + "}")
    (tmp_path / "hosts.yml").write_text(text)
    done = mesostk("cluster", "validate", "-i", str(tmp_path))
    assert done.returncode == 1
    for words in (
        f"host {first.name}: it is member 1 of the ensemble, the inventory makes it 9",
        f"host {first.name}: /bin/false is not there",
        f"host {second.name}: it cannot be looked at",
    ):
        assert words in done.stderr


# -- looking --------------------------------------------------------------------------------------


def test_plan_names_the_restarts_with_the_leader_last(cluster: Cluster) -> None:
    def is_nothing() -> bool:
        # A service that ended by itself just now is planned to be started.
        done = mesostk("cluster", "plan", "--exit-code", *CONTEXT, "--json")
        print(done.stdout, done.stderr)
        if done.returncode != 0:
            return False
        planned = json.loads(done.stdout)
        return (planned["hosts"], planned["restarts"]) == ([], [])

    def with_leader_last() -> Any:
        # The lead may have moved meanwhile; who does not say in time that it leads is none.
        found = asked("cluster", "plan", "--exit-code", "-e", "zookeeper_heap_mib=257", rc=3)
        (last,) = (one for one in cluster.hosts if one.name == found["restarts"][0]["hosts"][-1])
        return found if mode_of(last.address, 2181) == "leader" else None

    until("nothing is to be done", is_nothing)
    planned, restarted = cluster.restarted_by(
        lambda: until("the leader comes last", with_leader_last)
    )
    (step,) = planned["restarts"]
    masters = {host.name for host in cluster.hosts if host.is_master}
    assert (step["service"], step["kind"]) == ("zookeeper", "restart")
    assert set(step["hosts"]) == masters
    assert step["capacity"] == f"{len(masters) - 1} of {len(masters)} serve"
    assert {one["path"] for one in planned["hosts"]} == {"/etc/systemd/system/zookeeper.service"}
    assert restarted == set()


def impact(host: str, silent: dict[str, list[str]]) -> dict[str, dict[str, Any]]:
    """The services that would lose a member with `host`, once no others than `silent` are silent.

    A member that answers late is silent, too; and nobody may lead just now.
    """

    def all_answer() -> dict[str, dict[str, Any]] | None:
        done = mesostk("impact", host, *CONTEXT, "--json")
        print(done.stdout, done.stderr)
        if done.returncode != 0:
            return None
        found = {one["name"]: one for one in json.loads(done.stdout)["services"]}
        told = {name: one["silent"] for name, one in found.items() if one["silent"]}
        return found if told == silent else None

    return until(f"all members but {silent} answer in time", all_answer)


def test_impact_counts_the_quorum_that_is_left(cluster: Cluster) -> None:
    found = impact(cluster.hosts[0].name, {})
    left = {name: (one["left"], one["needed"], one["fails"]) for name, one in found.items()}
    assert left["zookeeper"] == (2, 2, False)
    assert left["mesos-master"] == (2, 1, False)
    assert left["mesos-dns"] == left["marathon-lb"] == (2, 1, False)


#: For a service that ended by itself while its configuration was touched, and began with that.
AFRESH = """
[ "$(/usr/local/lib/mesostk/service-hash {name})" = "$(cat /run/mesostk/{name}.started)" ] ||
    systemctl restart {name}
"""


@pytest.fixture
def silent_dns(cluster: Cluster) -> Iterator[str]:
    """A host whose Mesos-DNS was stopped by somebody, and its master's configuration touched."""
    host = next(one for one in cluster.hosts if "mesos_dns" in one.groups)
    flag = "/etc/mesos-master/max_completed_frameworks"
    cluster.run(host, f"systemctl stop mesos-dns; echo 40 > {flag}")
    yield host.name
    cluster.run(host, f"systemctl start mesos-dns; rm {flag}\n{AFRESH.format(name='mesos-master')}")


@pytest.mark.usefixtures("cluster")
def test_doctor_finds_nothing_in_a_cluster_that_is_well() -> None:
    def nothing() -> bool:
        # Names follow the tasks of hello2, which come and go, as quickly as the machine lets them.
        done = mesostk("cluster", "doctor", *CONTEXT, "--json")
        print(done.stderr)
        assert done.returncode in (0, 1)
        errors = [one for one in json.loads(done.stdout) if one["level"] == "error"]
        print(errors)
        assert done.returncode == bool(errors)
        return not errors

    # It tells for ten minutes of a service that did not stay up.
    until("the doctor finds nothing", nothing, limit_s=2 * LIMIT_S)


def test_doctor_and_impact_find_what_was_stopped_and_what_runs_otherwise(
    cluster: Cluster, silent_dns: str
) -> None:
    found = asked("doctor", rc=1)
    assert f"mesos-dns on {silent_dns}" in {one["subject"] for one in found}
    (drifted,) = (
        one
        for one in found
        if one["subject"] == f"mesos-master on {silent_dns}"
        and "changed since it started" in one["problem"]
    )
    assert drifted["remedy"] == f"mesostk cluster deploy --limit {silent_dns}"
    (silent,) = (host.address for host in cluster.hosts if host.name == silent_dns)
    other = next(host for host in cluster.hosts if host.is_master and host.address != silent)
    lost = impact(other.name, {"mesos-dns": [silent]})
    assert lost["mesos-dns"]["left"] == 1
    assert lost["marathon-lb"]["left"] == 2


# -- support --------------------------------------------------------------------------------------


@pytest.fixture
def planted(cluster: Cluster) -> Iterator[None]:
    """A secret in a flag's file, in a log, and in a file of the load balancer."""
    host = cluster.hosts[0]
    paths = (
        "/etc/marathon/conf/http_credentials /etc/marathon-lb/conf/marathon-auth-credential-file"
    )
    read_by = ("marathon", "marathon-lb")
    cluster.run(
        host,
        f"""
        for path in {paths}; do echo admin:{SECRET} > $path; done
        printf 'MESSAGE=Connecting with {SECRET}\\nOBJECT_SYSTEMD_UNIT=marathon.service\\n' |
            logger --journald
        journalctl --sync
        """,
    )
    yield
    cluster.run(host, f"rm {paths}\n" + "".join(AFRESH.format(name=one) for one in read_by))


@pytest.mark.usefixtures("planted")
def test_support_bundle_has_every_host_and_no_secret(cluster: Cluster, tmp_path: Path) -> None:
    archive = tmp_path / "support.tar.gz"
    made = asked("cluster", "support-bundle", "--to", str(archive))
    assert made["missing"] == []
    with tarfile.open(archive) as found:
        texts = {
            member.name.partition("/")[2]: file.read()
            for member in found
            if (file := found.extractfile(member)) is not None
        }
    assert [name for name, text in texts.items() if SECRET.encode() in text] == []
    first = cluster.hosts[0].name
    assert b"Connecting with (withheld)" in texts[f"{first}/logs/marathon.log"]
    assert f"{first}/config/etc/marathon/conf/http_credentials" in texts
    assert "runs.json" in texts
    for host in cluster.hosts:
        assert f"{host.name}/host/disks.txt" in texts
        service = "mesos-master" if host.is_master else "mesos-agent"
        assert f"{host.name}/logs/{service}.log" in texts


# -- the ledger -----------------------------------------------------------------------------------


def runs() -> list[dict[str, Any]]:
    # All of them: the command shows the last 20, and the labs before this test had more.
    return list(json.loads(mesostk("runs", "list", "-n", "1000", "--json").stdout))


#: At which of its lines the deployment is killed.
SEED = draws.seed()
#: Lines that the deployment below writes at least: one for each play and each task.
LINES = 100

#: A Mesos-DNS that was started with another file: to be written and restarted on each host.
DRIFT = """
sed -i 's/"ttl": 60/"ttl": 59/' /etc/mesos-dns/config.json
systemctl restart mesos-dns
"""
#: Fails unless the file is as it was, and what runs was started with it.
AT_REST = """
grep -q '"ttl": 60' /etc/mesos-dns/config.json
[ "$(/usr/local/lib/mesostk/service-hash mesos-dns)" = "$(cat /run/mesostk/mesos-dns.started)" ]
"""


def test_a_deployment_that_is_killed_at_any_task_is_resumed_restarts_included(
    cluster: Cluster,
) -> None:
    named = [host for host in cluster.hosts if "mesos_dns" in host.groups]
    for host in named:
        cluster.run(host, DRIFT)
    before = {run["id"] for run in runs()}
    inventory = str(cluster.inventory)
    number = random.Random(SEED).randrange(15, LINES)
    print(f"MESOSTK_ROLLING_SEED={SEED}: killing the deployment at line {number}")
    process = subprocess.Popen(
        [sys.executable, "-m", "mesostk", "cluster", "deploy", "-i", inventory],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    try:
        with process.stderr:
            for count, line in enumerate(process.stderr, 1):
                if count == 5:  # its playbook runs, so it is in the ledger
                    refused = mesostk("cluster", "deploy", "-i", inventory)
                    assert refused.returncode == 1
                    assert "changes the same hosts" in refused.stderr
                if count == number:
                    print(f"killing it at {line}")
                    break
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    # The one that was refused has failed.
    (killed,) = [run for run in runs() if run["id"] not in before and run["outcome"] != "failed"]
    assert killed["outcome"] == "interrupted"
    resumed = mesostk("runs", "resume", timeout_s=1500)
    assert resumed.returncode == 0, resumed.stderr
    (second,) = [run for run in runs() if run["resumes"] == killed["id"]]
    assert second["outcome"] == "done"
    assert second["steps"]
    for host in named:
        cluster.run(host, AT_REST)
