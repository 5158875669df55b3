"""Which changes need no reload, what HAProxy's answers say, and how bad apps are found."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from mesostk.base.log import Log
from mesostk.base.metrics import Metrics
from mesostk.errors import ConfigError, Unavailable
from mesostk.lb import changes, flags, haproxy, model, render, runtime
from mesostk.lb.applying import Applier, CannotApply, Rules
from mesostk.lb.changes import Add, Drain, Ready, Reload, Remove
from mesostk.lb.haproxy import Haproxy, Invalid, Paths, ReloadFailed
from mesostk.lb.head import HeadSettings, head
from mesostk.lb.render import Config
from mesostk.lb.syslog import stream_to
from mesostk.lb.templates import Templates
from mesostk.testing.lb import address, app, config, task


def two(first: dict[str, Any], second: dict[str, Any]) -> list[changes.Step] | Reload:
    return changes.plan(config([first]), config([second]))


def test_servers_that_come_and_go_are_steps_the_new_ones_first() -> None:
    old = app("/a", tasks=[task(1, 80), task(2, 90)])
    new = app("/a", tasks=[task(2, 90), task(3, 70)])
    number = config([new]).backends[0].servers["10_0_3_51_70"].id
    assert two(old, new) == [
        Add("a_10001", "10_0_3_51_70", "10.0.3.51:70", f"id {number}", False),
        Remove("a_10001", "10_0_3_51_80"),
    ]
    assert two(old, old) == []


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ({}, {"HAPROXY_0_BALANCE": "source"}, "structure changed"),
        ({"HAPROXY_0_STICKY": "true"}, {"HAPROXY_0_STICKY": "true"}, "has a cookie"),
        ({}, {"HAPROXY_0_VHOST": "x"}, "structure changed"),
    ],
)
def test_what_is_no_matter_of_servers_is_a_reload(
    before: dict[str, str], after: dict[str, str], why: str
) -> None:
    found = two(app("/a", before), app("/a", after, tasks=[task(1, 31514), task(2, 90)]))
    assert isinstance(found, Reload)
    assert why in found.reason


def test_first_and_last_server_of_a_backend_are_structure() -> None:
    assert isinstance(two(app("/a", tasks=[]), app("/a")), Reload)
    assert isinstance(two(app("/a"), app("/a", tasks=[])), Reload)


def test_draining_is_a_step_and_back_again() -> None:
    def group(started: str) -> list[dict[str, Any]]:
        shared = {"HAPROXY_DEPLOYMENT_GROUP": "g"}
        blue = app("/b", {**shared, "HAPROXY_DEPLOYMENT_STARTED_AT": "2016-01-02"})
        green = app("/g", {**shared, "HAPROXY_DEPLOYMENT_STARTED_AT": started})
        blue["tasks"] = [{**task(1, 80), "id": "b.1"}]
        green["tasks"] = [{**task(1, 90), "id": "g.1"}]
        return [blue, green]

    blue_drains, green_drains = config(group("2016-01-03")), config(group("2016-01-01"))
    assert changes.plan(blue_drains, green_drains) == [
        Ready("g_10001", "10_0_3_51_80"),
        Drain("g_10001", "10_0_3_51_90"),
    ]


def test_other_options_of_a_known_server_are_a_reload() -> None:
    check = {"protocol": "TCP", "portIndex": 0, "intervalSeconds": 5}
    found = two(app("/a", healthChecks=[check]), app("/a", healthChecks=[{**check, "port": 99}]))
    assert isinstance(found, Reload)
    assert "other options" in found.reason


def test_errors_of_haproxy_are_read_and_its_warnings_are_not() -> None:
    output = (
        "[WARNING]  (7) : config : parsing [/x/.cfg.1:3] : odd.\n"
        "[ALERT]    (7) : config : parsing [/x/.cfg.1:12] : unknown keyword 'nonsense' in 'b'\n"
        "[ALERT]    (7) : config : Error(s) found in configuration file : /x/.cfg.1\n"
    )
    assert haproxy.complaints(output, "/x/.cfg.1") == Invalid(
        "config : parsing [haproxy.cfg:12] : unknown keyword 'nonsense' in 'b';"
        " config : Error(s) found in configuration file : haproxy.cfg",
        (12,),
        ("nonsense", "b"),
    )


def test_state_for_the_next_process_knows_no_maintenance() -> None:
    up = "4 b 1001 s1 10.0.0.1 2 0 1 1 3 8 2 0 6 0 0 1 - 81 - 0 0 - - 0"
    drained = up.replace("s1", "s2").replace("10.0.0.1 2 0", "10.0.0.1 0 1")
    state = f"1\n# be_id be_name srv_id\n{up}\n{drained}\n"
    assert runtime.state_to_keep(state) == f"1\n# be_id be_name srv_id\n{up}\n"
    assert [(one.name, one.admin) for one in runtime.servers(state)] == [("s1", 0), ("s2", 1)]


def test_processes_of_the_master_are_told_apart() -> None:
    answer = (
        "#<PID>          <type>          <reloads>       <uptime>        <version>\n"
        "10              master          2 [failed: 1]   0d00h00m02s     2.6.12\n"
        "# workers\n30              worker          0               0d00h00m01s     2.6.12\n"
        "# old workers\n20              worker          1               0d00h01m01s     2.6.12\n"
    )
    assert runtime.failed_reloads(answer) == 1
    assert [(one.pid, one.kind, one.is_old) for one in runtime.processes(answer)] == [
        (10, "master", False),
        (30, "worker", False),
        (20, "worker", True),
    ]


async def now(work: Any, *args: Any) -> Any:
    """Work of the disk thread, at once."""
    return work(*args)


class Picky(Haproxy):
    """Refuses files that have any of some words, and says no line and no name."""

    def __init__(self, directory: Path, *words: str) -> None:
        super().__init__(Paths(config=directory / "haproxy.cfg"), now)
        self.words = words
        self.checks = 0

    async def check(self, text: str) -> Invalid | None:
        self.checks += 1
        bad = any(word in text for word in self.words)
        return Invalid("something is wrong somewhere", (), ()) if bad else None

    async def reload(self) -> str:
        raise Unavailable("no HAProxy here")


def applier(picky: Picky) -> Applier:
    rules = Rules(
        model.Settings(groups=frozenset({"external"})),
        render.Settings(),
        Templates(head(HeadSettings())),
    )
    resolver = model.Resolver(address, lambda _task: False)
    return Applier(rules, picky, resolver, Log("ERROR"), Metrics())


def apps_of(count: int) -> list[Any]:
    raw = [
        app(f"/app{n}", {"HAPROXY_0_BIND_ADDR": "127.0.0.66"}, ports=[23000 + n])
        for n in range(count)
    ]
    return model.read_apps(json.dumps({"apps": raw}).encode())[0]


async def test_bad_apps_are_found_by_halves_where_haproxy_names_none(tmp_path: Path) -> None:
    picky = Picky(tmp_path, "backend app17_", "backend app42_")
    one = applier(picky)
    await one.apply(apps_of(64))
    assert {refusal.app_id for refusal in one.refusals} == {"/app17", "/app42"}
    assert isinstance(one.applied, Config)
    assert len(one.applied.backends) == 62
    assert picky.checks < 30
    checks = picky.checks
    await one.apply(apps_of(65))  # known bad apps cost nothing
    assert picky.checks == checks + 1
    picky.words = ()
    one.forget_bad()
    await one.apply(apps_of(65))
    assert len(one.applied.backends) == 65
    assert one.refusals == ()


async def test_file_that_is_wrong_without_any_app_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "haproxy.cfg").write_text("the last good one\n")
    one = applier(Picky(tmp_path, "global"))
    with pytest.raises(CannotApply, match="even without any app"):
        await one.apply(apps_of(3))
    assert (tmp_path / "haproxy.cfg").read_text() == "the last good one\n"


# -- files of before, and processes that do not come -------------------------------------------


async def test_files_of_before_are_kept_the_newest_first(tmp_path: Path) -> None:
    path = tmp_path / "haproxy.cfg"
    one = Haproxy(Paths(config=path, archive_versions=2), now)
    for text in ("first", "second", "third", "fourth"):
        await one.swap(text)
    assert path.read_text() == "fourth"
    kept = {file.name: file.read_text() for file in (tmp_path / "archive").iterdir()}
    assert kept == {"haproxy.cfg.1": "third", "haproxy.cfg.2": "second"}


async def test_without_archive_nothing_is_kept(tmp_path: Path) -> None:
    one = Haproxy(Paths(config=tmp_path / "haproxy.cfg", archive_versions=0), now)
    await one.swap("first")
    await one.swap("second")
    assert os.listdir(tmp_path) == ["haproxy.cfg"]  # noqa: PTH208 # pathlib would block here, says ruff


async def test_reload_that_brings_no_process_is_tried_again_so_many_times(tmp_path: Path) -> None:
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readline()).decode().split("\n")[0])
        writer.write(b"#<PID> <type> <reloads> <uptime> <version>\n10 master 0 0d 2.6\n")
        writer.write(b"# workers\n30 worker 0 0d 2.6\n")
        writer.close()

    path = str(tmp_path / "master.sock")
    async with await asyncio.start_unix_server(answer, path):
        paths = Paths(
            config=tmp_path / "haproxy.cfg",
            stats_socket=str(tmp_path / "none"),
            master_socket=path,
            reload_retries=2,
            reload_interval_s=0.05,
        )
        with pytest.raises(ReloadFailed, match="no new worker after 3 reloads"):
            await Haproxy(paths, now).reload()
    assert asked.count("reload") == 3


def test_log_goes_to_syslog_too_and_survives_its_restart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "log")
    assert stream_to(None) is None
    assert stream_to("/dev/null") is None
    with pytest.raises(ConfigError, match=r"--syslog-socket .*No such file"):
        stream_to(path)

    def listening() -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        made.bind(path)
        return made

    first = listening()
    tee = stream_to(path)
    assert tee is not None
    log = Log("INFO", tee)
    log.info("Reloaded", by="test")
    assert first.recv(1000).startswith(b"<13>marathon-lb: ")
    first.close()
    log.info("Nobody listens")
    Path(path).unlink()
    second = listening()
    log.info("Back again")
    assert second.recv(1000).endswith(b"Back again")
    second.close()
    tee.close()
    written = capsys.readouterr().err.splitlines()
    assert [line.split(" INFO ")[1] for line in written] == [
        "Reloaded by=test", "Nobody listens", "Back again",
    ]  # fmt: skip


# -- flags --------------------------------------------------------------------------------------


def test_command_line_of_the_tutorial_is_understood() -> None:
    argv = ["-m", "http://a:8080", "http://b:8080/", "--group", "internal", "--group", "x", "-H"]
    values = flags.flag_set().load(flags.normalised(argv), {})
    options = flags.options(values, {"HAPROXY_FRONTEND_BACKEND_GLUE": "  use {backend}\\n"})
    assert options.marathons == ("http://a:8080", "http://b:8080")
    assert options.rules.model.groups == {"internal", "x"}
    assert options.rules.model.health_check
    assert options.rules.templates["FRONTEND_BACKEND_GLUE"] == "  use {backend}\n"


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        ([], "--group is required"),
        (["--group"], "--group needs a value"),
        (["--group=x", "--min-serv-port-ip-per-task=0"], "0 for both"),
        (["--group=x", "--auth-credentials=me"], "user:password"),
        (["--group=x", "--dcos-auth-credentials={}"], "not supported"),
        (["--group=x", "--log-format=%(message)s"], "--log-format is not supported"),
        (["--group=x", "--lru-cache-capacity=10"], "--lru-cache-capacity is not supported"),
        (["--group=x", "--max-reload-retries=-2"], "max-reload-retries"),
    ],
)
def test_flags_that_make_no_sense_are_refused(argv: list[str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        flags.options(flags.flag_set().load(flags.normalised(argv), {}), {})


def test_template_of_the_environment_beats_the_directory(tmp_path: Path) -> None:
    (tmp_path / "HAPROXY_BACKEND_HEAD").write_text("from file\n")
    (tmp_path / "HAPROXY_FRONTEND_HEAD").write_text("from file\n")
    found = flags.overrides({"HAPROXY_BACKEND_HEAD": "from environment\\n"}, tmp_path)
    assert found == {"BACKEND_HEAD": "from environment\n", "FRONTEND_HEAD": "from file\n"}
