"""From flags and host to the agent's settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from mesostk.agent import detect
from mesostk.agent.daemon import fixed_leader, leader_url
from mesostk.agent.executors import DEFAULT_PATH
from mesostk.agent.flags import agent_flags, refusal, without_effect
from mesostk.agent.state import Settings
from mesostk.errors import ConfigError
from mesostk.resources import attributes, text
from mesostk.resources.resources import Resources
from mesostk.wire.mesos import Address, AgentInfo, MasterInfo


def settings(tmp_path: Path, *flags: str, **environ: str) -> Settings:
    arguments = [f"--work_dir={tmp_path}", "--master=127.0.0.1:5050", "--ip=127.0.0.1", *flags]
    return detect.settings_of(agent_flags().load(arguments, environ), environ)


def test_what_the_flag_does_not_name_is_detected(tmp_path: Path) -> None:
    found = Resources.of(settings(tmp_path, "--resources=cpus:24;ports:[1-3]").resources)
    assert found.scalar("cpus") == 24_000
    assert found.ranges("ports") == ((1, 3),)
    assert found.scalar("mem") > 0
    assert found.scalar("disk") > 0


def test_a_zero_keeps_the_detected_amount_out(tmp_path: Path) -> None:
    found = Resources.of(settings(tmp_path, "--resources=mem:0;disk:0").resources)
    assert found.scalar("mem") == found.scalar("disk") == 0
    assert found.scalar("cpus") > 0
    assert found.ranges("ports") == ((31000, 32000),)


@pytest.mark.parametrize(
    ("total", "kept", "left"), [(4096, 1024, 3072), (2048, 1024, 1024), (1000, 1024, 500)]
)
def test_small_hosts_keep_half(total: float, kept: float, left: float) -> None:
    assert detect.share(total, kept) == left


def test_tasks_inherit_the_environment_without_what_is_the_agents_own(tmp_path: Path) -> None:
    environ = {"LANG": "C", "MESOS_PORT": "5051", "LIBPROCESS_IP": "1.2.3.4"}
    assert settings(tmp_path, **environ).base_env == {"LANG": "C"}


def test_executors_are_told_the_address_that_the_agent_was_told(tmp_path: Path) -> None:
    assert settings(tmp_path).libprocess_ip == "127.0.0.1"
    flags = agent_flags().load([f"--work_dir={tmp_path}", "--master=127.0.0.1:5050"], {})
    assert detect.settings_of(flags, {"LIBPROCESS_IP": "1.2.3.4"}).libprocess_ip == "1.2.3.4"
    assert detect.settings_of(flags, {}).libprocess_ip is None


def test_a_map_of_variables_replaces_the_environment(tmp_path: Path) -> None:
    made = settings(tmp_path, '--executor_environment_variables={"A":"1"}', LANG="C")
    assert made.base_env == {"A": "1", "PATH": DEFAULT_PATH}


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--resources=cpus:x", "cpus"),
        ("--attributes=rack", "rack"),
        ("--ip=nowhere", "--ip"),
        ("--advertise_ip=0.0.0.0", "others can reach"),
        ("--containerizers=rkt", "rkt"),
        ("--domain={}x", "--domain"),
        ("--executor_environment_variables=[]", "--executor_environment_variables"),
        ("--launcher=windows", "launcher"),
        ("--prot=1", "prot"),
        ("--port=-1", "port"),
    ],
)
def test_wrong_values_name_the_flag(tmp_path: Path, flag: str, words: str) -> None:
    arguments = [f"--work_dir={tmp_path}", "--master=127.0.0.1:5050"]
    if not flag.startswith("--ip"):
        arguments.append("--ip=127.0.0.1")
    with pytest.raises(ConfigError, match=words):
        detect.settings_of(agent_flags().load([*arguments, flag], {}), {})


def test_master_and_work_dir_are_required() -> None:
    for flag in ("--master=127.0.0.1:5050", "--work_dir=/tmp"):
        with pytest.raises(ConfigError):
            agent_flags().load([flag], {})


def test_every_flag_of_the_original_is_known() -> None:
    known = agent_flags().flags
    spec_names = (Path(__file__).parent / "data" / "agent_flags.txt").read_text().split()
    assert len(spec_names) > 150
    assert [name for name in spec_names if name not in known] == []


def test_flags_without_effect_are_told_when_somebody_sets_them() -> None:
    values = agent_flags().load(
        ["--master=h:1", "--work_dir=/w", "--network_link_speed=1", "--hadoop_home=/x"], {}
    )
    assert without_effect(values) == ["hadoop_home", "network_link_speed"]


@pytest.mark.parametrize(
    ("flag", "why"),
    [
        ("acls={}", "agents know no ACLs"),
        ("seccomp_profile_name=strict", "no seccomp profiles"),
        ("enforce_container_ports", "ports of tasks are not watched"),
        ("executor_reregistration_timeout=16secs", "at most 15secs"),
    ],
)
def test_what_a_flag_promises_in_vain_is_refused(flag: str, why: str) -> None:
    values = agent_flags().load(["--master=h:1", "--work_dir=/w", f"--{flag}"], {})
    text = refusal(values)
    assert text is not None
    assert why in text
    assert f"--{flag.partition('=')[0]}:" in text


def test_what_says_nothing_is_not_refused() -> None:
    plain = ["--master=h:1", "--work_dir=/w", "--no-enforce_container_ports", "--hadoop_home=/x"]
    assert refusal(agent_flags().load(plain, {})) is None


def test_masters_are_named_by_host_and_port() -> None:
    assert fixed_leader("10.0.3.11:5050") == "http://10.0.3.11:5050"
    for wrong in ("10.0.3.11", "http://h:1", "h:x", ":1", "h:99999"):
        with pytest.raises(ConfigError, match="--master"):
            fixed_leader(wrong)


def test_the_leader_of_a_znode_is_reached_by_its_address_or_its_number() -> None:
    old = MasterInfo(id="m", ip=0x0B03000A, port=5050)
    assert leader_url(old) == "http://10.0.3.11:5050"
    new = replace(old, address=Address(ip="10.0.3.12", port=5060))
    assert leader_url(new) == "http://10.0.3.12:5060"


def info(resources: str = "cpus:4;mem:100", said: str = "rack:a", port: int = 5051) -> AgentInfo:
    return AgentInfo(
        hostname="h",
        port=port,
        resources=text.parse(resources).to_wire(),
        attributes=attributes.parse(said),
    )


@pytest.mark.parametrize(
    ("policy", "now", "words"),
    [
        ("equal", info(), None),
        ("equal", info("mem:100;cpus:4"), None),
        ("equal", info("cpus:5;mem:100"), "resources changed"),
        ("equal", info(said="rack:b"), "attributes changed"),
        ("equal", info(port=1), "port changed"),
        ("additive", info("cpus:5;mem:100;gpus:1"), None),
        ("additive", info(said="rack:a;zone:b"), None),
        ("additive", info("cpus:3;mem:100"), "resources shrank"),
        ("additive", info(said="zone:b"), "attributes were removed"),
        ("additive", info(port=1), "port changed"),
    ],
)
def test_what_may_change_at_a_restart(policy: str, now: AgentInfo, words: str | None) -> None:
    why = detect.why_incompatible(info(), now, policy)
    assert why is None if words is None else why is not None and words in why
