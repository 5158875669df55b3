"""`site.yml` on real hosts: makes the cluster, repairs drift, leaves alone what is right."""

import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import requests

from mesostk.ops.ansible import Outcome
from mesostk.ops.lab import Host
from mesostk.ops.paths import data_root
from mesostk.testing.labs import ANSWER_S, Cluster, mesostk, page, until

pytestmark = [pytest.mark.lab, pytest.mark.docker, pytest.mark.root, pytest.mark.timeout(1800)]

CONTEXT = ("--context", "test")


def leader(cluster: Cluster) -> str:
    """Address of the leading master, once a master that answers knows one."""

    def named() -> str:
        answer = cluster.ask("GET", "/redirect", 5050, allow_redirects=False)
        return answer.headers["Location"].removeprefix("//").partition(":")[0]

    return until("a master leads", named)


def agents_are_there(cluster: Cluster) -> bool:
    return bool(cluster.ask("GET", "/state", 5050).json()["activated_slaves"] == 3)


# -- what `lab up` left ---------------------------------------------------------------------------


def test_every_panel_and_redirect_of_the_tutorial_answers(cluster: Cluster) -> None:
    masters = [host for host in cluster.hosts if host.is_master]

    def leaders() -> set[str]:
        """Whom the masters name."""
        options: dict[str, Any] = {"allow_redirects": False, "timeout": ANSWER_S}
        urls = (f"http://{host.address}:5050/redirect" for host in masters)
        return {requests.get(url, **options).headers["Location"] for url in urls}

    until("all masters name the same leader", lambda: len(leaders()) == 1)
    for host in masters:
        assert "<html" in page(f"http://{host.address}:5050/").lower()
        assert "<html" in page(f"http://{host.address}:8080/").lower()
    until("the agents are registered", functools.partial(agents_are_there, cluster))


def test_status_is_one_page_and_one_document(cluster: Cluster) -> None:
    def is_whole() -> bool:
        text = mesostk("status", *CONTEXT)
        document = mesostk("status", *CONTEXT, "--json")
        print(text.stdout, text.stderr, document.stderr)
        if text.returncode != 0 or document.returncode != 0:
            return False  # nobody leads just now
        shown = json.loads(document.stdout)
        assert len(shown["members"]) == 6
        return bool(
            re.search(r"/hello2 +(running|waiting|deploying)", text.stdout)
            and [one["active"] for one in shown["agents"]] == [True, True, True]
        )

    until("it has all members, agents and the app", is_whole)


def test_verify_asks_the_running_cluster(cluster: Cluster) -> None:
    cluster.playbook("verify")


# -- the second run -------------------------------------------------------------------------------


#: A module run costs 0.3 s of a host's processor, and runs that take long are not run.
MODULE_RUNS = 30


def test_second_run_changes_nothing_restarts_nothing_and_costs_little(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins = data_root() / "playbooks" / "callback_plugins"
    monkeypatch.setenv("ANSIBLE_CALLBACK_PLUGINS", str(plugins))
    monkeypatch.setenv("ANSIBLE_CALLBACKS_ENABLED", "task_costs")
    monkeypatch.setenv("TASK_COSTS_FILE", str(tmp_path / "costs.json"))
    outcome, restarted = cluster.restarted_by(lambda: cluster.playbook("site"))
    assert {host: stats.changed for host, stats in outcome.hosts.items() if stats.changed} == {}
    assert restarted == set()
    runs = json.loads((tmp_path / "costs.json").read_text())["runs"]
    print({host: len(tasks) for host, tasks in runs.items()})
    assert runs.keys() >= {host.name for host in cluster.hosts}
    for host in cluster.hosts:
        tasks = runs[host.name]
        # A count that misses what every role does would hold any budget.
        assert any(task.endswith("Look at the host") for task in tasks)
        assert len(tasks) <= MODULE_RUNS, (host.name, tasks)


def test_check_mode_on_a_converged_cluster_reports_nothing(cluster: Cluster) -> None:
    check = functools.partial(cluster.playbook, "site", check=True, diff=True)
    outcome, _ = cluster.restarted_by(check)
    assert outcome.changed == 0
    assert "--- before" not in outcome.output()


# -- drift ----------------------------------------------------------------------------------------

MANAGED_SCRIPT = r"""
find /etc/mesostk/services /etc/mesostk/files /etc/mesos /etc/mesos-dns /etc/mesos-master \
     /etc/mesos-slave /etc/marathon/conf /usr/local/lib/mesostk -type f 2>/dev/null || true
for record in /etc/mesostk/services/*.json; do
    unit=/etc/systemd/system/$(basename "$record" .json).service
    # of a distribution's own unit, what is added to it
    ls "$unit" "$unit.d/mesostk.conf" 2>/dev/null || true
done
echo /opt/mesostk/current /usr/sbin/mesos-master /usr/sbin/mesos-slave
# The image of the lab holds the package everywhere; only members of the ensemble are managed.
if [ -e /etc/mesostk/services/zookeeper.json ]; then
    echo /etc/zookeeper/conf/zoo.cfg /etc/zookeeper/conf/myid /var/lib/zookeeper/myid
fi
"""

DAMAGE_SCRIPT = """
if [ -L {path} ]; then ln -sfn /nowhere {path}; else echo damaged >>{path}; fi
"""


def managed(cluster: Cluster, host: Host) -> list[str]:
    return sorted(set(cluster.run(host, MANAGED_SCRIPT).split()))


def dealt(cluster: Cluster) -> dict[str, set[str]]:
    """Host → paths: each managed path of a master once, dealt to the masters; agents likewise."""
    found = {}
    for is_master in (True, False):
        hosts = [host for host in cluster.hosts if host.is_master is is_master]
        paths = managed(cluster, hosts[0])
        for number, host in enumerate(hosts):
            found[host.name] = set(paths[number :: len(hosts)])
    return found


def test_each_managed_file_link_and_unit_is_repaired_and_nothing_else(cluster: Cluster) -> None:
    # Neighbours of what is damaged are right, since they are other hosts' to repair: one run shows
    # for each path that it is looked at by itself.
    damaged = dealt(cluster)
    assert sum(map(len, damaged.values())) > 25

    def repair() -> Outcome:
        for host in cluster.hosts:
            cluster.run(host, "".join(DAMAGE_SCRIPT.format(path=one) for one in damaged[host.name]))
        return cluster.playbook("site", diff=True)

    outcome, restarted = cluster.restarted_by(repair)
    repaired: dict[str, set[str]] = {host.name: set() for host in cluster.hosts}
    for change in outcome.changes:
        if change.path:
            repaired[change.host].add(change.path)
        else:
            # Reading a repaired unit again is a change of systemd, not of a file.
            assert any("/systemd/" in path for path in damaged[change.host]), change
    assert repaired == damaged
    assert restarted == set()


# -- failures -------------------------------------------------------------------------------------


def test_cluster_outlives_the_host_that_leads(cluster: Cluster) -> None:
    address = leader(cluster)
    (host,) = (one for one in cluster.hosts if one.address == address)
    done = mesostk("lab", "stop", host.name, "--name", "test")
    assert done.returncode == 0, done.stderr
    try:
        until("another master leads", lambda: leader(cluster) != address)
        until("the agents are registered with it", functools.partial(agents_are_there, cluster))
        # Marathon on that host may have led, too.
        assert cluster.ask("GET", "/v2/apps").status_code == 200
        # Its tasks run for 10 s each: until all four run at once may take a few rounds.
        scaled = mesostk("scale", "hello2", "4", "--timeout", "600", *CONTEXT, timeout_s=900)
        assert scaled.returncode == 0, scaled.stderr
    finally:
        done = mesostk("lab", "start", host.name, "--name", "test")
    assert done.returncode == 0, done.stderr

    def is_well() -> bool:
        verified = mesostk("cluster", "verify", *CONTEXT)
        print(verified.stderr)
        return verified.returncode == 0

    # What waits a minute for each host's services may be asked too early of one that boots.
    until("the host serves again, and the cluster is well", is_well)


def test_unreachable_host_is_named_with_a_remedy(cluster: Cluster) -> None:
    agent = cluster.hosts[-1]
    assert mesostk("lab", "partition", agent.name, "--name", "test").returncode == 0
    try:
        inventory = str(cluster.inventory)
        done = mesostk("cluster", "deploy", "-i", inventory, "--limit", agent.name)
        assert done.returncode == 1
        assert agent.name in done.stderr
        assert re.search("it cannot be reached: ssh: .*Remedy: no", done.stderr)
        assert done.stderr.count("No route") + done.stderr.count("timed out") == 1, "told once"
    finally:
        assert mesostk("lab", "heal", agent.name, "--name", "test").returncode == 0
    until("its agent is heard again", functools.partial(agents_are_there, cluster))


def test_logs_of_an_app_come_from_the_agents(cluster: Cluster) -> None:
    # hello2 ends every ten seconds: a master that has just begun to lead knows none that ended,
    # and its tasks may all be about to start.
    def logs_are_there() -> bool:
        done = mesostk("logs", "hello2", "--context", "test", "-n", "5")
        return done.returncode == 0 and "hello" in done.stdout

    until("the tasks of hello2 have written something", logs_are_there)
