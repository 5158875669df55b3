"""A walk along spec/mesos §0, §4 and §5: what is in no golden document, asked of a real pair.

A row names what it stands for, whom it asks, how, the status, and how the answer begins or what it
holds. Documents, calls and refusals have their keys and texts in test_goldens; the events of
frameworks and executors are in the tests of masters and agents.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import requests

from mesostk.testing.processes import Cluster

#: (row, master or agent, method, path, status, beginning of the body)
Row = tuple[str, str, str, str, int, str]

_POST = "405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'."
_NO_PROFILER = "Perftools is disabled. To enable perftools, configure libprocess with"
_SELECTION = "Supported query parameters are container_id only, framework_id only, or executor_id"

BOTH: list[tuple[str, str, str, int, str]] = [
    ("0.1 a slash at the end", "GET", "/version/", 200, '{"version":'),
    ("0.1 below a route", "GET", "/state/below", 200, '{"version":'),
    ("0.1 the longest route", "GET", "/files/debug/below", 200, "{"),
    ("0.1 no climbing", "GET", "/state/../flags", 404, "404 Not Found."),
    ("0.1 nowhere", "GET", "/nowhere", 404, "404 Not Found."),
    ("0.1 jsonp", "GET", "/version?jsonp=call", 200, 'call({"version":'),
    ("0.1 documents take any method", "PUT", "/state", 200, '{"version":'),
    ("0.1 so do flags", "POST", "/flags", 200, '{"flags":'),
    ("0.1 v1 is posted", "GET", "/api/v1", 405, _POST),
    ("0.1 below v1", "GET", "/api/v1/operator", 405, _POST),
    ("5.4 help", "GET", "/help", 200, "## HELP\n> [/"),
    ("5.4 help of a process", "GET", "/help/files", 200, "## `/files` ##\n> [/files/browse]"),
    ("5.4 help of an endpoint", "GET", "/help/files/read", 200, "### USAGE ###\n>        /files"),
    ("5.4 help of nothing", "GET", "/help/nobody", 400, "No help available for '/nobody'.\n"),
    ("5.4 help of no endpoint", "GET", "/help/files/x", 400,
     "No help available for '/files/x'.\n"),
    ("5.4 processes", "GET", "/__processes__", 200, '[{"id":'),
    ("5.4 profiler", "GET", "/profiler/start", 400, _NO_PROFILER),
    ("5.4 profiler ends", "GET", "/profiler/stop", 400, _NO_PROFILER),
    ("5.4 memory profiler, which is off", "GET", "/memory-profiler/state", 404, ""),
    ("5.4 log level", "GET", "/logging/toggle", 200, "0\n"),
    ("5.4 log level without a time", "POST", "/logging/toggle?level=1", 400,
     "Expecting 'duration=value' in query.\n"),
    ("5.4 time without a log level", "POST", "/logging/toggle?duration=1secs", 400,
     "Expecting 'level=value' in query.\n"),
    ("5.4 no log level", "GET", "/logging/toggle?level=-1&duration=1secs", 400,
     "Invalid level '-1'.\n"),
    ("5.4 no time", "GET", "/logging/toggle?level=1&duration=x", 400, "Invalid duration 'x'"),
    ("5.4 metrics", "POST", "/metrics/snapshot?timeout=10secs", 200, "{"),
    ("5.4 metrics by no time", "GET", "/metrics/snapshot?timeout=x", 400,
     "Unable to parse timeout 'x'"),
    ("5.4 host", "GET", "/system/stats.json", 200, '{"avg_load_1min":'),
    ("5.4 files take any method", "POST", "/files/debug", 200, "{"),
    ("5.1 health", "POST", "/health", 200, ""),
]  # fmt: skip

MASTER: list[tuple[str, str, str, int, str]] = [
    ("0.1 delegate", "GET", "/master/health", 200, ""),
    ("0.1 old names", "GET", "/master/state.json", 200, '{"version":'),
    ("0.1 below what is posted", "POST", "/teardown/x", 400, "Missing 'frameworkId'"),
    ("1.3 redirect", "GET", "/redirect", 307, ""),
    ("1.3 nothing below redirect", "GET", "/redirect/x", 404, "404 Not Found."),
    *((f"5.1 {path} is posted", "GET", path, 405, _POST) for path in (
        "/api/v1/scheduler", "/teardown", "/reserve", "/unreserve", "/create-volumes",
        "/destroy-volumes", "/machine/down", "/machine/up",
    )),
    ("5.1 methods of quota", "PUT", "/quota", 405,
     "405 Method Not Allowed. Expecting one of { 'GET', 'POST', 'DELETE' }"),
    ("5.1 methods of weights", "DELETE", "/weights", 405,
     "405 Method Not Allowed. Expecting one of { 'GET', 'PUT' }"),
    ("5.1 methods of schedules", "PUT", "/maintenance/schedule", 405,
     "405 Method Not Allowed. Expecting one of { 'GET', 'POST' }"),
    ("5.1 methods of the status", "POST", "/maintenance/status", 405,
     "405 Method Not Allowed. Expecting one of { 'GET' }"),
    *((f"5.1 jsonp of {path}", "GET", f"{path}?jsonp=f", 200, "f(") for path in (
        "/state", "/state-summary", "/slaves", "/frameworks", "/tasks", "/roles", "/quota",
        "/weights", "/flags", "/maintenance/schedule", "/maintenance/status",
    )),
    ("5.1 no such agent", "GET", "/slaves?slave_id=x", 200, '{"slaves":[],"recovered_slaves":[]}'),
    ("5.1 no such framework", "GET", "/frameworks?framework_id=x", 200, '{"frameworks":[],'),
    ("5.1 all tasks", "GET", "/tasks?limit=-1&offset=0&order=asc", 200, '{"tasks":[]}'),
    ("5.1 empty quota", "GET", "/quota", 200, "{}"),
    ("5.1 empty schedule", "GET", "/maintenance/schedule", 200, "{}"),
]  # fmt: skip

AGENT: list[tuple[str, str, str, int, str]] = [
    ("0.1 delegate", "GET", "/slave(1)/state", 200, '{"version":'),
    ("3.1 executors post", "GET", "/api/v1/executor", 405, _POST),
    ("5.3 all containers", "GET", "/containers", 200, "[]"),
    ("5.3 no such container", "GET", "/containers?container_id=x", 200, "[]"),
    ("5.3 of an executor", "GET", "/containers?framework_id=f&executor_id=e", 200, "[]"),
    ("5.3 executor alone", "GET", "/containers?executor_id=e", 400, _SELECTION),
    ("5.3 container and framework", "GET", "/containers?container_id=c&framework_id=f", 400,
     _SELECTION),
    ("5.3 statistics", "GET", "/monitor/statistics", 200, "[]"),
    ("5.3 pending", "GET", "/containerizer/debug", 200, '{"pending":[]}'),
]  # fmt: skip

_SHARES = ("total", "used", "percent", "revocable_total", "revocable_used", "revocable_percent")

#: §15.1, every metric of an agent of the original.
AGENT_METRICS = {
    "": ("containerizer/mesos/container_destroy_errors", "resource_provider_manager/subscribed",
         "containerizer/mesos/provisioner/bind/remove_rootfs_errors",
         "containerizer/mesos/provisioner/remove_container_errors"),
    "containerizer/fetcher/": ("cache_size_total_bytes", "cache_size_used_bytes",
                               "task_fetches_failed", "task_fetches_succeeded"),
    "gc/": ("path_removals_failed", "path_removals_pending", "path_removals_succeeded"),
    "resource_provider_manager/events/": ("disconnect", "subscribe"),
    "slave/": (
        *(f"{name}_{share}" for name in ("cpus", "disk", "gpus", "mem") for share in _SHARES),
        *(f"executors_{name}" for name in ("preempted", "registering", "running", "terminated",
                                           "terminating")),
        *(f"tasks_{name}" for name in ("failed", "finished", "gone", "killed", "killing", "lost",
                                       "running", "staging", "starting")),
        *(f"{validity}_{name}" for validity in ("valid", "invalid")
          for name in ("framework_messages", "status_updates")),
        "container_launch_errors", "executor_directory_max_allowed_age_secs", "frameworks_active",
        "recovery_errors", "recovery_time_secs", "registered", "uptime_secs",
    ),
    "system/": ("cpus_total", "load_15min", "load_1min", "load_5min", "mem_free_bytes",
                "mem_total_bytes"),
}  # fmt: skip

ROWS: list[Row] = [
    *((row[0], who, *row[1:]) for row in BOTH for who in ("master", "agent")),
    *((row[0], "master", *row[1:]) for row in MASTER),
    *((row[0], "agent", *row[1:]) for row in AGENT),
]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The URLs of a master and its only agent, on which nothing runs."""
    with Cluster(tmp_path_factory.mktemp("walk"), marathons=0) as cluster:
        cluster.start()
        yield {"master": cluster.masters[0].url, "agent": cluster.agents[0].url}


def ask(url: str, method: str, path: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and body. The path goes as it is: clients would tidy it up."""
    where = urlsplit(url)
    assert where.hostname is not None
    assert where.port is not None
    with socket.create_connection((where.hostname, where.port), timeout=60) as sock:
        text = f"{method} {path} HTTP/1.1\r\nHost: {where.netloc}\r\nConnection: close\r\n\r\n"
        sock.sendall(text.encode())
        answer = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
    head, _, body = answer.partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, body


@pytest.mark.parametrize(("row", "who", "method", "path", "status", "begins"), ROWS)
def test_each_row_is_answered_as_by_the_original(
    pair: dict[str, str], row: str, who: str, method: str, path: str, status: int, begins: str
) -> None:
    given, headers, body = ask(pair[who], method, path)
    assert given == status, f"{row}: {body[:200]}"
    assert body.startswith(begins), f"{row}: {body[:200]}"
    if status == 405:
        wanted = body.partition("{ ")[2].partition(" }")[0].replace("'", "")
        assert headers["Allow"] == wanted
    if "jsonp=" in path:
        assert headers["Content-Type"].startswith("text/javascript")
    if status == 307:
        assert headers["Location"] == pair["master"].removeprefix("http:")


@pytest.mark.parametrize("who", ["master", "agent"])
def test_help_knows_every_endpoint_and_no_other(pair: dict[str, str], who: str) -> None:
    answer = requests.get(f"{pair[who]}/help?format=json", timeout=60)
    processes = {item["id"]: item["endpoints"] for item in answer.json()["processes"]}
    own = {"master": "master", "agent": "slave(1)"}[who]
    assert {own, "files", "logging", "metrics", "profiler", "system", "version"} <= processes.keys()
    for process, endpoints in processes.items():
        for endpoint in endpoints:
            name = endpoint["name"]
            path = f"/{process}{name.rstrip('/')}"
            assert f">        {path}\n" in endpoint["text"]
            page = requests.get(f"{pair[who]}/help{path}", timeout=60)
            assert page.status_code == 200
            # Any status but this one: it is there, and says what it misses.
            there = requests.options(f"{pair[who]}{path}", timeout=60, allow_redirects=False)
            assert there.status_code != 404, path
            if process == own:
                assert f">        {name}\n" in endpoint["text"]


def test_browsers_get_a_page_and_programs_markdown(pair: dict[str, str]) -> None:
    url = f"{pair['master']}/help/master/state"
    page = requests.get(url, headers={"Accept": "text/html"}, timeout=60)
    assert page.headers["Content-Type"].startswith("text/html")
    assert "&gt;        /master/state" in page.text
    for agent in ("curl/8.0", "HTTPie/3.2"):
        headers = {"Accept": "text/html", "User-Agent": agent}
        text = requests.get(url, headers=headers, timeout=60)
        assert text.headers["Content-Type"].startswith("text/x-markdown")
        assert text.text.startswith("### USAGE ###\n>        /state\n>        /master/state\n")


def test_the_log_of_an_agent_is_told_to_be_detailed_for_a_time(pair: dict[str, str]) -> None:
    url = f"{pair['agent']}/logging/toggle"
    assert requests.post(f"{url}?level=1&duration=1hrs", timeout=60).status_code == 200
    assert requests.get(url, timeout=60).text == "1\n"
    call = {"type": "GET_LOGGING_LEVEL"}
    shown = requests.post(f"{pair['agent']}/api/v1", json=call, timeout=60).json()
    assert shown["get_logging_level"] == {"level": 1}
    assert requests.post(f"{url}?level=0&duration=1hrs", timeout=60).status_code == 200
    assert requests.get(url, timeout=60).text == "0\n"


def test_every_metric_of_an_agent_is_there_from_the_start(pair: dict[str, str]) -> None:
    shown = requests.get(f"{pair['agent']}/metrics/snapshot", timeout=60).json()
    wanted = {prefix + name for prefix, names in AGENT_METRICS.items() for name in names}
    assert len(wanted) == 68
    assert sorted(wanted - shown.keys()) == []
    assert shown["slave/recovery_time_secs"] <= shown["slave/uptime_secs"]
