"""The flags of spec/mesos.md §9.2, their defaults and what they become."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesostk.errors import ConfigError
from mesostk.master import flags
from mesostk.master.guard import needs_nothing
from mesostk.wire.mesos import RateLimit, RateLimits

#: Name: default as text, typed from spec/mesos.md §9.2; None = unset.
SPEC: dict[str, str | None] = {
    "zk": None, "quorum": None, "zk_session_timeout": "10secs", "ip": None, "port": "5050",
    "advertise_ip": None, "advertise_port": None, "ip_discovery_command": None, "hostname": None,
    "hostname_lookup": "true", "cluster": None, "work_dir": None, "domain": None,
    "require_agent_domain": "false", "version": "false", "webui_dir": None,
    "registry": "replicated_log", "registry_strict": "false", "registry_fetch_timeout": "1mins",
    "registry_store_timeout": "20secs", "log_auto_initialize": "true",
    "registry_gc_interval": "15mins", "registry_max_agent_age": "2weeks",
    "registry_max_agent_count": "102400", "agent_reregister_timeout": "10mins",
    "recovery_agent_removal_limit": "100%", "agent_removal_rate_limit": None,
    "agent_ping_timeout": "15secs", "max_agent_ping_timeouts": "5",
    "max_executors_per_agent": None, "allocator": "hierarchical", "allocation_interval": "1secs",
    "allocator_agent_recovery_factor": "0.8", "allocator_recovery_timeout": "10mins",
    "role_sorter": "drf", "framework_sorter": "drf", "roles": None, "weights": None,
    "whitelist": None, "fair_sharing_excluded_resource_names": None,
    "filter_gpu_resources": "true", "min_allocatable_resources": "cpus:0.01|mem:32",
    "offer_timeout": None, "offer_constraints_re2_max_mem": "4096B",
    "offer_constraints_re2_max_program_size": "100", "rate_limits": None,
    "root_submissions": "true", "authenticate_frameworks": "false",
    "authenticate_agents": "false", "authenticate_http_readwrite": "false",
    "authenticate_http_readonly": "false", "authenticate_http_frameworks": "false",
    "authenticators": "crammd5", "http_authenticators": "basic",
    "http_framework_authenticators": None, "authentication_v0_timeout": "15secs",
    "credentials": None, "acls": None, "authorizers": "local", "firewall_rules": None,
    "max_completed_frameworks": "50", "max_completed_tasks_per_framework": "1000",
    "max_unreachable_tasks_per_framework": "1000",
    "max_operator_event_stream_subscribers": "1000", "publish_per_framework_metrics": "true",
    "modules": None, "modules_dir": None, "hooks": None, "master_contender": None,
    "master_detector": None, "memory_profiling": "false", "quiet": "false",
    "logging_level": "INFO", "log_dir": None, "logbufsecs": "0",
    "initialize_driver_logging": "true", "external_log_file": None,
}  # fmt: skip

OLD = {
    "slave_reregister_timeout": "agent_reregister_timeout",
    "recovery_slave_removal_limit": "recovery_agent_removal_limit",
    "slave_removal_rate_limit": "agent_removal_rate_limit",
    "slave_ping_timeout": "agent_ping_timeout",
    "max_slave_ping_timeouts": "max_agent_ping_timeouts",
    "max_executors_per_slave": "max_executors_per_agent",
    "user_sorter": "role_sorter",
    "authenticate": "authenticate_frameworks",
    "authenticate_slaves": "authenticate_agents",
    "authenticate_http": "authenticate_http_readwrite",
}


def test_every_flag_of_the_original_is_there_with_its_default() -> None:
    described = {record.name: record for record in flags.master_flags().describe()}
    assert {name: described[name].default for name in SPEC if name in described} == SPEC
    for old, name in OLD.items():
        assert old in described[name].old_names


def test_flags_become_the_cores_configuration() -> None:
    values = flags.master_flags().load(
        [
            "--work_dir=/w", "--weights=eng=2,ops=0.5", "--agent_removal_rate_limit=2/1mins",
            "--recovery_agent_removal_limit=50%",
            "--min_allocatable_resources=cpus:1;mem:64|disk:9",
            "--roles=eng,ops", "--offer_timeout=30secs", "--no-root_submissions",
            '--domain={"fault_domain":{"region":{"name":"r"},"zone":{"name":"z"}}}',
        ],
        {},
    )  # fmt: skip
    assert flags.refusal(values) is None
    config = flags.config_of(values, ip="10.0.0.1", port=5050, hostname="m")
    assert config.weights == {"eng": 2.0, "ops": 0.5}
    assert config.agent_removal_rate == (2, 60.0)
    assert config.recovery_agent_removal_limit == 0.5
    assert config.min_allocatable == ({"cpus": 1000, "mem": 64000}, {"disk": 9000})
    assert config.roles == frozenset({"eng", "ops"})
    assert config.offer_timeout_s == 30.0
    assert not config.root_submissions
    assert config.domain is not None


@pytest.mark.parametrize(
    "flag",
    [
        "--weights=eng", "--weights=eng=0", "--recovery_agent_removal_limit=0.5",
        "--recovery_agent_removal_limit=200%", "--agent_removal_rate_limit=1",
        "--agent_removal_rate_limit=0/1secs", "--min_allocatable_resources=ports:[1-2]",
        "--domain={", "--agent_reregister_timeout=5mins", "--registry=etcd", "--port=-1",
    ],
)  # fmt: skip
def test_senseless_values_are_refused_by_name(flag: str) -> None:
    with pytest.raises(ConfigError, match=flag.partition("=")[0]):
        flags.master_flags().load(["--work_dir=/w", flag], {})


def test_a_master_alone_needs_a_place_for_its_registry() -> None:
    why = flags.refusal(flags.master_flags().load([], {}))
    assert why is not None
    assert "--work_dir" in why
    for enough in ("--zk=zk://h:2181/mesos", "--work_dir=/w", "--registry=in_memory"):
        assert flags.refusal(flags.master_flags().load([enough], {})) is None


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ("--modules={}", "--modules: modules are libraries"),
        ("--modules_dir=/m", "--modules_dir"),
        ("--hooks=h", "--hooks"),
        ("--master_contender=x", "--zk"),
        ("--master_detector=x", "--zk"),
        ("--registry_strict", "--registry_strict"),
    ],
)
def test_flags_that_would_promise_something_are_refused_with_the_reason(
    given: str, word: str
) -> None:
    why = flags.refusal(flags.master_flags().load(["--work_dir=/w", given], {}))
    assert why is not None
    assert word in why


@pytest.mark.parametrize(
    "name",
    ["allocator", "authenticators", "authorizers", "http_authenticators",
     "http_framework_authenticators"],
)  # fmt: skip
def test_another_part_than_there_is_cannot_be_chosen(name: str) -> None:
    with pytest.raises(ConfigError, match=f"--{name}.*is not one of"):
        flags.master_flags().load(["--work_dir=/w", f"--{name}=other"], {})


@pytest.mark.parametrize("name", ["role_sorter", "framework_sorter", "user_sorter"])
def test_sorters_are_drf_or_random(name: str) -> None:
    values = flags.master_flags().load(["--work_dir=/w", f"--{name}=random"], {})
    config = flags.config_of(values, ip="127.0.0.1", port=1, hostname="h")
    wanted = ("drf", "random") if name == "framework_sorter" else ("random", "drf")
    assert (config.role_sorter, config.framework_sorter) == wanted
    with pytest.raises(ConfigError, match=r"_sorter.*is not one of drf, random"):
        flags.master_flags().load(["--work_dir=/w", f"--{name}=fair"], {})


LIMITS = (
    '{"limits":[{"principal":"foo","qps":55.5,"capacity":100000},{"principal":"baz"}],'
    '"aggregate_default_qps":333,"aggregate_default_capacity":1000000}'
)


def test_rate_limits_are_json_or_the_path_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "limits"
    file.write_text(LIMITS)
    for text in (LIMITS, f"file://{file}", str(file)):
        values = flags.master_flags().load(["--work_dir=/w", f"--rate_limits={text}"], {})
        assert values.rate_limits == RateLimits(
            limits=(RateLimit(principal="foo", qps=55.5, capacity=100000),
                    RateLimit(principal="baz")),
            aggregate_default_qps=333.0,
            aggregate_default_capacity=1000000,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"limits":[{"principal":"a"},{"principal":"a","qps":1}]}', "Duplicate principal 'a'"),
        ('{"limits":[{"principal":"a","qps":0}]}', "Invalid qps of 'a': 0.* positive number"),
        ('{"aggregate_default_qps":-1}', "Invalid aggregate_default_qps"),
        ('{"limits":[{"qps":1}]}', "principal"),
        ("[]", "object"),
    ],
)
def test_rate_limits_that_mean_nothing_are_refused(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"--rate_limits: .*{why}"):
        flags.master_flags().load(["--work_dir=/w", f"--rate_limits={text}"], {})


def test_flags_without_effect_are_told_when_somebody_sets_them() -> None:
    values = flags.master_flags().load(
        ["--work_dir=/w", "--log_dir=/l", "--quiet", "--registry_store_timeout=9secs"], {}
    )
    assert flags.refusal(values) is None
    assert flags.without_effect(values) == ["log_dir", "quiet", "registry_store_timeout"]


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_the_value_of_a_json_flag_may_be_in_a_file(tmp_path: Path, prefix: str) -> None:
    rules = '{"disabled_endpoints":{"paths":["/state"]}}'
    texts = {"firewall_rules": rules, "credentials": '{"credentials":[]}', "acls": "{}",
             "domain": '{"fault_domain":{"region":{"name":"r"},"zone":{"name":"z"}}}'}  # fmt: skip
    for name, text in texts.items():
        file = tmp_path / name
        file.write_text(text)
        values = flags.master_flags().load(["--work_dir=/w", f"--{name}={prefix}{file}"], {})
        assert values.as_strings()[name] == text
    with pytest.raises(ConfigError, match="cannot read"):
        flags.master_flags().load(["--work_dir=/w", f"--acls={prefix}{tmp_path}/none"], {})


@pytest.mark.parametrize(
    ("argv", "open_paths"),
    [
        ([], {"/api/v1/scheduler", "/api/link"}),
        (["--authenticate_frameworks"], {"/api/link"}),
        (["--authenticate_http_frameworks"], {"/api/link"}),
        (["--authenticate_agents"], {"/api/v1/scheduler"}),
        (["--authenticate_http_readonly", "--authenticate_http_readwrite"],
         {"/api/v1/scheduler", "/api/link"}),
        (['--firewall_rules={"disabled_endpoints":{"paths":["/master/api/v1/scheduler"]}}'],
         {"/api/link"}),
    ],
)  # fmt: skip
def test_frequent_calls_are_taken_early_where_nobody_has_to_prove_anything(
    argv: list[str], open_paths: set[str]
) -> None:
    values = flags.master_flags().load(["--work_dir=/w", *argv], {})
    paths = ("/api/v1/scheduler", "/api/link")
    assert {path for path in paths if needs_nothing(values, path)} == open_paths
