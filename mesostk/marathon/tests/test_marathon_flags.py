"""Marathon's flags: the tutorial's conf directory, old names, contradictions."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from mesostk.errors import ConfigError
from mesostk.marathon import flags
from mesostk.marathon.daemon import authorization, basic_auth, main, master_addresses
from mesostk.marathon.state import Settings


def test_the_tutorials_conf_directory_is_read(tmp_path: Path) -> None:
    zk = "zk://10.0.3.11:2181,10.0.3.12:2181,10.0.3.13:2181"
    (tmp_path / "hostname").write_text("10.0.3.11\n")
    (tmp_path / "master").write_text(f"{zk}/mesos\n")
    (tmp_path / "zk").write_text(f"{zk}/marathon\n")
    (tmp_path / "?disable_ha").write_text("")
    (tmp_path / "task_lost_expunge_gc").write_text("86400000")
    values = flags.flag_set().load([f"--config_dir={tmp_path}"], {})
    assert (values.master, values.zk, values.ha) == (f"{zk}/mesos", f"{zk}/marathon", False)
    settings = flags.settings_of(values)
    assert settings.hostname == "10.0.3.11"
    assert settings.webui_url == "http://10.0.3.11:8080"
    assert flags.ignored(values) == ["task_lost_expunge_gc"]


def test_the_hosts_zk_file_gives_master_and_zk(tmp_path: Path) -> None:
    path = tmp_path / "zk"
    path.write_text("zk://a:2181,b:2181/mesos\n")
    values = flags.flag_set().load([f"--zk_file={path}"], {})
    assert (values.master, values.zk) == ("zk://a:2181,b:2181/mesos", "zk://a:2181,b:2181/marathon")


def test_environment_and_old_names(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"MARATHON_MAX_TASKS_PER_OFFER": "9", "MARATHON_DISABLE_CHECKPOINT": ""}
    values = flags.flag_set().load(["--master=h:5050"], environ)
    settings = flags.settings_of(values)
    assert settings.max_instances_per_offer == 9
    assert settings.checkpoint is False
    assert settings.decline_offer_duration_s == 120.0
    assert settings.failover_timeout_s == 604_800.0


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--master=zk://host:2181"],
        ["--master=:5050"],
        ["--master=h:5050", "--local_port_min=20000", "--local_port_max=10000"],
        ["--master=h:5050", "--launch_tokens=0"],
        ["--master=h:5050", "--http_port=eighty"],
        ["--master=h:5050", "--no_such_flag=1"],
    ],
)
def test_what_cannot_work_is_a_usage_error(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(argv, {})
    except SystemExit as exit:
        code = int(str(exit.code))
    assert code == 2
    assert "marathon: " in capsys.readouterr().err


def test_masters_are_addresses_or_found_in_zookeeper() -> None:
    assert master_addresses("h1:5050,h2") == ("h1:5050", "h2:5050")
    assert master_addresses("http://h1:5050/") == ("h1:5050",)
    assert master_addresses("zk://h:2181/mesos") == ()


def test_credentials_are_read_and_contradictions_refused(tmp_path: Path) -> None:
    load = flags.flag_set().load
    given = ["--master=h", "--http_credentials=me:secret"]
    assert basic_auth(load(given, {})) is not None
    assert basic_auth(load(["--master=h"], {})) is None
    with pytest.raises(ConfigError, match="user:password"):
        basic_auth(load(["--master=h", "--http_credentials=me"], {}))
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    by_file = [
        "--master=h",
        "--mesos_authentication_principal=p",
        f"--mesos_authentication_secret_file={secret}",
    ]
    assert authorization(load(by_file, {})) == "Basic cDpzM2NyZXQ="
    with pytest.raises(ConfigError, match="not both"):
        authorization(load([*by_file, "--mesos_authentication_secret=x"], {}))


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], "any"),
        (["--accepted_resource_roles_default_behavior=reserved"], "reserved"),
        (["--default_accepted_resource_roles=*"], "unreserved"),
        (["--default_accepted_resource_roles=web"], "reserved"),
        (["--default_accepted_resource_roles=web, *"], "any"),
        (
            [
                "--default_accepted_resource_roles=*",
                "--accepted_resource_roles_default_behavior=reserved",
            ],
            "reserved",
        ),
    ],
)
def test_what_apps_accept_by_default_is_said_in_the_old_way_or_the_new(
    argv: list[str], expected: str
) -> None:
    values = flags.flag_set().load(["--master=h:5050", "--mesos_role=web", *argv], {})
    assert flags.settings_of(values).role_behaviour == expected


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["--default_accepted_resource_roles=db"], "only \\* and web"),
        (["--new_group_enforce_role=always"], "not one of off, top"),
    ],
)
def test_roles_that_cannot_be_are_refused(argv: list[str], why: str) -> None:
    values = flags.flag_set().load(["--master=h:5050", "--mesos_role=web", *argv], {})
    with pytest.raises(ConfigError, match=why):
        flags.settings_of(values)


def test_each_setting_comes_from_a_flag() -> None:
    made = set(re.findall(r"(\w+)=", inspect.getsource(flags.settings_of)))
    tables = {*flags._RENAMED, *flags._MILLISECONDS, *flags._SAME}
    assert set(Settings.__struct_fields__) <= made | tables
