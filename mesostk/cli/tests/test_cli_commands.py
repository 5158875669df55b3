"""The command as its user types it, against a Marathon, a master and an agent that are scripted."""

import base64
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from mesostk.cli import cluster_words, contexts, history
from mesostk.cli.app import WORDS, app
from mesostk.cli.clients import Marathon
from mesostk.cli.cluster import remember_cluster
from mesostk.cli.dns import servers as dns_servers
from mesostk.cli.lb import balancers_of
from mesostk.cli.output import fitting, short_id
from mesostk.cli.tasks import long_id
from mesostk.ops.ansible import Outcome

APP = {
    "id": "/hello2",
    "cmd": "echo hello; sleep 10",
    "instances": 2,
    "cpus": 0.1,
    "mem": 16,
    "version": "2016-06-21T14:21:31.665Z",
    "tasksRunning": 2,
    "tasksHealthy": 0,
    "tasksUnhealthy": 0,
    "deployments": [],
    "healthChecks": [],
}
TASK = {
    "id": "hello2.1",
    "appId": "/hello2",
    "state": "TASK_RUNNING",
    "host": "10.0.3.51",
    "ports": [31000],
    "startedAt": "2016-06-21T14:21:32.000Z",
}


class Cluster:
    """Answers by (method, path); the whole cluster on one port."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], tuple[int, object]] = {}
        # Tells our Marathon from the original.
        self.answers["GET", "/v2/audit"] = (200, {"audit": []})
        self.asked: list[tuple[str, str, object]] = []
        self.queries: list[tuple[str, str]] = []
        self.files: dict[str, bytes] = {}
        self.events: list[dict[str, object]] = []
        self.events_per_stream: int | None = None
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body: Any = json.loads(self.rfile.read(length)) if length else None
                url = urlsplit(self.path)
                cluster.asked.append((self.command, url.path, body))
                cluster.queries.append((url.path, url.query))
                if url.path == "/v2/events":
                    self._stream()
                elif url.path == "/api/v1":
                    assert body["type"] == "READ_FILE"
                    self._read_file(body["read_file"])
                else:
                    status, found = cluster.answers.get(
                        (self.command, url.path), (404, {"message": f"no {url.path}"})
                    )
                    self._send(status, json.dumps(found).encode(), "application/json")

            do_GET = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815 # the library's names

            def _send(self, status: int, data: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def _stream(self) -> None:
                assert self.headers["Accept"] == "text/event-stream"
                last = self.headers.get("Last-Event-ID")
                known = [str(one.get("_id")) for one in cluster.events]
                rest = cluster.events[known.index(last) + 1 :] if last in known else cluster.events
                text = "".join(
                    (f"id: {one['_id']}\n" if "_id" in one else "") + f"data: {json.dumps(one)}\n\n"
                    for one in rest[: cluster.events_per_stream]
                )
                self._send(200, text.encode(), "text/event-stream")

            def _read_file(self, call: dict[str, Any]) -> None:
                data = cluster.files[call["path"].rsplit("/", 1)[1]]
                part = data[call["offset"] : call["offset"] + min(call["length"], 65536)]
                found = {"size": len(data), "data": base64.b64encode(part).decode()}
                answer = {"type": "READ_FILE", "read_file": found}
                self._send(200, json.dumps(answer).encode(), "application/json")

            def log_message(self, *_args: object) -> None:
                """Nothing: the test says what went wrong."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("MESOSTK_CONFIG", str(tmp_path / "contexts.json"))
    monkeypatch.delenv("MESOSTK_CONTEXT", raising=False)
    one = Cluster()
    url = f"http://{one.address}"
    assert run("context", "add", "here", "--marathon", url, "--master", url).exit_code == 0
    yield one
    one.close()


def run(*words: str, input: str | None = None) -> Result:
    return CliRunner().invoke(app, list(words), input=input)


@pytest.fixture
def no_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESOSTK_CONFIG", str(tmp_path / "contexts.json"))
    monkeypatch.delenv("MESOSTK_CONTEXT", raising=False)


# -- words ----------------------------------------------------------------------------------------


def test_every_word_of_the_help_leads_to_a_command() -> None:
    listing = run("--help").stdout
    for word in WORDS:
        assert word in listing
        assert run(word, "--help").exit_code == 0, word


def test_every_word_of_the_clusters_help_leads_to_a_command() -> None:
    listing = run("cluster", "--help").stdout
    for word in cluster_words.WORDS:
        assert word in listing
        assert run("cluster", word, "--help").exit_code == 0, word


def test_unknown_word_is_a_usage_error() -> None:
    assert run("deplyo").exit_code == 2


def test_what_has_a_result_has_the_json_option() -> None:
    words = ("status", "apps", "app", "tasks", "deploy", "scale", "destroy", "plan", "why")
    groups = ("lab up", "lab status", "cluster deploy", "cluster verify", "context list")
    for line in (*words, *groups):
        assert "--json" in run(*line.split(), "--help").stdout, line


# -- contexts -------------------------------------------------------------------------------------


def test_without_a_cluster_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESOSTK_CONFIG", str(tmp_path / "none.json"))
    result = run("apps")
    assert result.exit_code == 2
    assert "mesostk lab up" in result.stderr


def test_contexts_are_chosen_by_name(cluster: Cluster) -> None:
    run("context", "add", "there", "--marathon", "http://127.0.0.1:1", "--master", "http://a:1")
    assert json.loads(run("context", "list", "--json").stdout)[1]["current"] is True
    assert run("context", "use", "here").exit_code == 0
    cluster.answers["GET", "/v2/apps"] = (200, {"apps": []})
    assert run("apps").exit_code == 0
    assert run("apps", "--context", "there").exit_code == 1
    missing = run("apps", "--context", "nowhere")
    assert missing.exit_code == 2
    assert "known: here, there" in missing.stderr


def test_address_that_is_no_url_is_refused(cluster: Cluster) -> None:
    result = run("context", "add", "x", "--marathon", "10.0.3.11:8080", "--master", "http://a:1")
    assert result.exit_code == 2
    assert "write http://HOST:PORT" in result.stderr


def deployed(**told: object) -> Outcome:
    return Outcome(rc=0, hosts={}, failures=(), log=Path("/dev/null"), told=told)


@pytest.mark.usefixtures("no_context")
def test_deployed_cluster_is_known_by_its_inventorys_name(tmp_path: Path) -> None:
    inventory = tmp_path / "prod" / "hosts.yml"
    inventory.parent.mkdir()
    inventory.write_text("all: {}")
    told = {
        "masters": ["10.9.0.1:5050"],
        "marathons": ["10.9.0.1:8080"],
        "dns": ["10.9.0.60:8124"],
        "balancers": ["10.9.0.61:9090"],
    }
    assert remember_cluster(deployed(cluster_endpoints=told), inventory, None) == "prod"
    known = contexts.current()
    assert known.masters == ["http://10.9.0.1:5050"]
    assert dns_servers(known, None) == ["http://10.9.0.60:8124"]
    assert balancers_of(known, None) == ["http://10.9.0.61:9090"]
    assert known.inventory == str(inventory)


@pytest.mark.usefixtures("no_context")
def test_lab_that_is_deployed_again_keeps_its_context(tmp_path: Path) -> None:
    first = contexts.Context(masters=[], marathons=[], inventory=str(tmp_path), lab="lab")
    contexts.remember("lab", first)
    told: dict[str, object] = {"masters": ["a:5050"], "marathons": [], "dns": [], "balancers": []}
    assert remember_cluster(deployed(cluster_endpoints=told), tmp_path, None) == "lab"
    assert list(contexts.load().contexts) == ["lab"]
    assert contexts.current().lab == "lab"
    assert contexts.current().masters == ["http://a:5050"]


@pytest.mark.usefixtures("no_context")
def test_run_that_did_not_ask_the_cluster_changes_no_context(tmp_path: Path) -> None:
    assert remember_cluster(deployed(), tmp_path, None) is None
    assert contexts.load().contexts == {}


def test_garbage_in_the_contexts_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "contexts.json"
    path.write_text('{"contexts": 3}')
    monkeypatch.setenv("MESOSTK_CONFIG", str(path))
    result = run("apps")
    assert result.exit_code == 2
    assert str(path) in result.stderr.replace("\n", "")


# -- apps -----------------------------------------------------------------------------------------


def test_apps_are_a_table_for_people_and_whole_records_for_programs(cluster: Cluster) -> None:
    cluster.answers["GET", "/v2/apps"] = (200, {"apps": [APP]})
    text = run("apps").stdout
    assert "/hello2" in text
    assert "2/2" in text
    assert json.loads(run("apps", "--json").stdout) == [APP]
    assert run("apps", "-o", "name").stdout == "/hello2\n"
    assert "cmd: echo hello" in run("apps", "-o", "yaml").stdout


def deployable(cluster: Cluster, running: list[dict[str, str]]) -> None:
    cluster.answers["PUT", "/v2/apps/hello2"] = (200, {"version": "v", "deploymentId": "d-1"})
    cluster.answers["GET", "/v2/apps/hello2"] = (200, {"app": APP})
    cluster.answers["GET", "/v2/deployments"] = (200, running)


def test_deploy_sends_the_file_and_waits_for_the_deployments_event(
    cluster: Cluster, tmp_path: Path
) -> None:
    deployable(cluster, [{"id": "d-1"}])
    cluster.events = [
        {"eventType": "status_update_event"},
        {"eventType": "deployment_success", "id": "other"},
        {"eventType": "deployment_success", "id": "d-1"},
    ]
    path = tmp_path / "hello2.json"
    path.write_text('{"id": "hello2", "cmd": "sleep 1"}')
    result = run("deploy", str(path))
    assert result.exit_code == 0, result.stderr
    assert ("PUT", "/v2/apps/hello2", {"id": "hello2", "cmd": "sleep 1"}) in cluster.asked
    # The stream was open before the app was sent, so no event can be missed.
    asked = [path for _, path, _ in cluster.asked]
    assert asked.index("/v2/events") < asked.index("/v2/apps/hello2")


def test_cancelled_deployment_is_a_failure(cluster: Cluster) -> None:
    deployable(cluster, [{"id": "d-1"}])
    cluster.events = [{"eventType": "deployment_failed", "id": "d-1", "reason": "cancelled"}]
    result = run("scale", "hello2", "3")
    assert result.exit_code == 1
    assert "d-1 was cancelled" in result.stderr


def test_deployment_that_goes_nowhere_says_why(cluster: Cluster) -> None:
    deployable(cluster, [{"id": "d-1"}])
    why = {"app": "/hello2", "since": "", "reasons": ["InsufficientMemory, needs 1 mem"]}
    cluster.answers["GET", "/v2/apps/hello2/why"] = (200, why)
    result = run("scale", "hello2", "3", "--timeout", "1")
    assert result.exit_code == 1
    assert "/hello2: InsufficientMemory, needs 1 mem" in result.stderr
    assert "d-1 goes on; see `mesostk why /hello2`" in result.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"lastTaskFailure": {"version": APP["version"], "state": "TASK_FAILED"}},
            "does not stay up: TASK_FAILED",
        ),
        ({"deployments": [{"id": "d-0"}]}, "deployment d-0 of it still goes on"),
    ],
)
def test_what_was_deployed_and_is_not_up_is_a_failure(
    cluster: Cluster, hello: str, changes: dict[str, Any], words: str
) -> None:
    deployable(cluster, [])
    app = {**APP, "tasksRunning": 1, **changes}
    cluster.answers["GET", "/v2/apps/hello2"] = (200, {"app": app})
    result = run("deploy", hello)
    assert result.exit_code == 1
    assert words in result.stderr


def test_deploy_says_how_in_the_query(cluster: Cluster, hello: str) -> None:
    deployable(cluster, [])
    assert run("deploy", hello, "--no-restart", "--roll-back-after", "60").exit_code == 0
    [query] = [one for path, one in cluster.queries if path == "/v2/apps/hello2" and one]
    assert query == "force=false&restart=false&deploymentTimeoutSeconds=60"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"id": "a",', ":1:12: not JSON"),
        ("[1]", 'an app is an object with "id"'),
        ('{"cmd": "x"}', 'an app is an object with "id"'),
        ('{"id": 3}', 'an app is an object with "id"'),
    ],
)
def test_bad_definition_is_refused_before_anything_is_sent(
    cluster: Cluster, tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    result = run("deploy", str(path))
    assert result.exit_code == 2
    assert words in result.stderr
    assert [one for one in cluster.asked if one[0] != "GET"] == []


def test_missing_file_is_named(cluster: Cluster) -> None:
    result = run("deploy", "/no/such.json")
    assert result.exit_code == 2
    assert "/no/such.json: No such file or directory" in result.stderr


def test_what_marathon_refuses_is_said_with_the_field(cluster: Cluster) -> None:
    deployable(cluster, [])
    details = [{"path": "/mem", "errors": ["must be positive"]}]
    cluster.answers["PUT", "/v2/apps/hello2"] = (
        422,
        {"message": "Object is not valid", "details": details},
    )
    result = run("scale", "hello2", "3")
    assert result.exit_code == 1
    assert "Object is not valid; /mem: must be positive" in result.stderr


def test_nobody_there_is_one_sentence(cluster: Cluster) -> None:
    run(
        "context",
        "add",
        "dead",
        "--marathon",
        "http://127.0.0.1:1",
        "--master",
        "http://127.0.0.1:1",
    )
    result = run("apps")
    assert result.exit_code == 1
    assert "Marathon cannot be reached (http://127.0.0.1:1: connection refused)" in result.stderr
    assert "Traceback" not in result.stderr


def test_destroy_asks_only_on_a_terminal(cluster: Cluster) -> None:
    deployable(cluster, [])
    cluster.answers["DELETE", "/v2/apps/hello2"] = (200, {"version": "v", "deploymentId": "d-1"})
    result = run("destroy", "hello2", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == [{"id": "/hello2", "deploymentId": "d-1"}]
    assert ("DELETE", "/v2/apps/hello2", None) in cluster.asked


# -- tasks and logs -------------------------------------------------------------------------------


def with_task(cluster: Cluster, text: bytes) -> None:
    cluster.answers["GET", "/v2/apps/hello2/tasks"] = (200, {"tasks": [TASK]})
    mesos_task = {"id": "hello2.1", "slave_id": "S0", "framework_id": "F", "executor_id": ""}
    cluster.answers["GET", "/tasks"] = (200, {"tasks": [mesos_task]})
    agent = {"id": "S0", "pid": f"slave(1)@{cluster.address}"}
    cluster.answers["GET", "/slaves"] = (200, {"slaves": [agent]})
    cluster.files["stdout"] = text


def test_tasks_show_host_ports_and_state(cluster: Cluster) -> None:
    cluster.answers["GET", "/v2/tasks"] = (200, {"tasks": [TASK]})
    text = run("tasks").stdout
    assert all(word in text for word in ("hello2.1", "running", "10.0.3.51", "31000"))
    assert json.loads(run("tasks", "--json").stdout) == [TASK]


@pytest.mark.parametrize("lines", [0, 1, 3, 100_000])
def test_logs_print_the_last_lines_whole(cluster: Cluster, lines: int) -> None:
    every = [f"line {number} ü" for number in range(20_000)]
    with_task(cluster, ("\n".join(every) + "\n").encode())
    result = run("logs", "hello2", "-n", str(lines))
    assert result.exit_code == 0, result.stderr
    expected = every[-lines:] if lines else []
    assert result.stdout.splitlines() == [f"hello2.1 | {line}" for line in expected]


def test_last_line_without_an_end_is_printed(cluster: Cluster) -> None:
    with_task(cluster, b"whole\nhalf")
    assert run("logs", "hello2").stdout == "hello2.1 | whole\nhello2.1 | half\n"


ENDED = "hello2.instance-5ca76d29-f8d1-4d8b-b1e9-0347ddef5f89._app.1"


def with_ended_task(cluster: Cluster, text: bytes) -> None:
    """Beside what runs, two tasks of the app that have ended, and one of an app of its group."""
    with_task(cluster, text)
    place = {"slave_id": "S0", "framework_id": "F", "executor_id": ""}
    endings = {
        ENDED: 1466518900.0,
        ENDED.replace("5ca7", "0ca7"): 1466518800.0,
        "hello2_db" + ENDED.removeprefix("hello2"): 1466519000.0,
    }
    for id, at in endings.items():
        told = [{"state": "TASK_FAILED", "timestamp": at}]
        task = {"id": id, "state": "TASK_FAILED", "statuses": told, **place}
        cluster.answers["GET", "/tasks"][1]["tasks"].append(task)  # type: ignore[index]


def test_logs_of_an_app_between_two_runs_are_of_the_task_that_ended_last(cluster: Cluster) -> None:
    with_ended_task(cluster, b"last words\n")
    cluster.answers["GET", "/v2/apps/hello2/tasks"] = (200, {"tasks": []})
    result = run("logs", "hello2")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{ENDED} | last words\n"
    assert f"{ENDED} has ended: failed at 2016-06-21T14:21:40Z" in result.stderr


def test_previous_logs_are_wanted_though_a_task_runs(cluster: Cluster) -> None:
    with_ended_task(cluster, b"last words\n")
    assert run("logs", "hello2").stdout == "hello2.1 | last words\n"
    assert run("logs", "hello2", "--previous").stdout == f"{ENDED} | last words\n"
    assert run("logs", "hello2", "-p", "-f").exit_code == 2


def test_previous_logs_of_an_app_that_never_ended_are_refused(cluster: Cluster) -> None:
    with_ended_task(cluster, b"")
    result = run("logs", "hello3", "--previous")
    assert result.exit_code == 1
    assert "no ended task of hello3" in result.stderr


def test_logs_of_what_is_neither_app_nor_task_says_so(cluster: Cluster) -> None:
    cluster.answers["GET", "/tasks"] = (200, {"tasks": []})
    cluster.answers["GET", "/v2/tasks"] = (200, {"tasks": []})
    result = run("logs", "nope")
    assert result.exit_code == 1
    assert "neither an app nor a task 'nope'" in result.stderr


# -- status ---------------------------------------------------------------------------------------


def state(cluster: Cluster) -> None:
    answers: dict[str, Any] = {
        "/metrics/snapshot": {"master/elected": 1.0},
        "/v2/info": {"name": "marathon", "leader": "a-name:8080"},
        "/slaves": {"slaves": []},
        "/frameworks": {"frameworks": []},
        "/v2/apps": {"apps": [APP]},
        "/v2/deployments": [],
    }
    for path, answer in answers.items():
        cluster.answers["GET", path] = (200, answer)


def test_a_mistyped_word_is_told_with_the_one_that_was_meant() -> None:
    result = run("stauts")
    assert result.exit_code == 2
    assert "No such command 'stauts'. Did you mean 'status'?" in " ".join(result.stderr.split())
    assert "Did you mean" not in run("xyzzy").stderr


def test_an_app_that_is_not_there_is_told_with_where_to_look(cluster: Cluster) -> None:
    answer = (404, {"message": "App '/nope' does not exist"})
    cluster.answers["GET", "/v2/apps/nope"] = answer
    cluster.answers["GET", "/v2/pods/nope::status"] = answer
    result = run("app", "nope")
    assert result.exit_code == 1
    assert "App '/nope' does not exist; `mesostk apps` lists those that do" in result.stderr


def test_status_shows_who_leads(cluster: Cluster) -> None:
    state(cluster)
    result = run("status")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("leading") == 2
    document = json.loads(run("status", "--json").stdout)
    assert {one["state"] for one in document["members"]} == {"leading"}
    assert document["problems"] == []


def test_status_shows_the_roles_that_the_master_refuses(cluster: Cluster) -> None:
    state(cluster)
    refused = {"role": "dev", "reason": "Not authorized to use role 'dev'", "since": "2016"}
    cluster.answers["GET", "/v2/info"] = (200, {"name": "marathon", "refusedRoles": [refused]})
    document = json.loads(run("status", "--json").stdout)
    [marathon] = [one for one in document["members"] if one["kind"] == "marathon"]
    assert marathon["state"] == "leading"
    assert marathon["detail"] == (
        "roles refused by the master: dev (Not authorized to use role 'dev')"
    )


def test_status_of_half_a_cluster_shows_what_there_is_and_fails(cluster: Cluster) -> None:
    state(cluster)
    cluster.answers["GET", "/v2/apps"] = (503, {"message": "no leader"})
    result = run("status", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["apps"] == []
    assert "no leader" in result.stderr


# -- plan, why, events ----------------------------------------------------------------------------

PLAN = {
    "steps": [],
    "apps": [
        {
            "app": "/hello2",
            "change": "restart",
            "fields": ["cmd"],
            "launch": 1,
            "instances": [
                {"id": "i-1", "host": "h1", "condition": "Running", "action": "replace"},
                {"id": "i-2", "host": "h2", "condition": "Running", "action": "kill"},
            ],
        }
    ],
}


@pytest.fixture
def hello(tmp_path: Path) -> str:
    path = tmp_path / "hello2.json"
    path.write_text('{"id": "hello2", "cmd": "sleep 1"}')
    return str(path)


def test_plan_shows_each_instance_and_exits_with_3_only_when_told(
    cluster: Cluster, hello: str
) -> None:
    cluster.answers["PUT", "/v2/apps/hello2"] = (200, PLAN)
    result = run("plan", hello)
    assert result.exit_code == 0, result.stderr
    for word in ("restart cmd", "i-1", "replace", "i-2", "kill", "1 new", "launch"):
        assert word in result.stdout
    assert run("plan", "--exit-code", hello).exit_code == 3
    assert json.loads(run("plan", "--json", hello).stdout) == PLAN["apps"]


def test_plan_sends_nothing_to_a_marathon_that_would_deploy(cluster: Cluster, hello: str) -> None:
    del cluster.answers["GET", "/v2/audit"]
    cluster.answers["PUT", "/v2/apps/hello2"] = (200, {"deploymentId": "d", "version": "v"})
    result = run("plan", hello)
    assert result.exit_code == 1
    assert "would deploy at once" in result.stderr
    assert "PUT" not in {method for method, _, _ in cluster.asked}


def test_plan_without_changes_says_so(cluster: Cluster, hello: str) -> None:
    cluster.answers["PUT", "/v2/apps/hello2"] = (200, {"steps": [], "apps": []})
    result = run("plan", "--exit-code", hello)
    assert (result.exit_code, result.stdout.strip()) == (0, "Nothing would change.")


def test_plan_of_a_bad_app_tells_what_marathon_says(cluster: Cluster, hello: str) -> None:
    cluster.answers["PUT", "/v2/apps/hello2"] = (422, {"message": "Object is not valid"})
    result = run("plan", "--exit-code", hello)
    assert result.exit_code == 1
    assert "Object is not valid" in result.stderr


def test_why_lists_the_reasons_and_since_when(cluster: Cluster) -> None:
    found = {"app": "/hello2", "since": "2016-06-21T14:21:32.000Z", "reasons": ["no offers"]}
    cluster.answers["GET", "/v2/apps/hello2/why"] = (200, found)
    result = run("why", "hello2")
    assert "waits since 2016-06-21T14:21:32.000Z" in result.stdout
    assert "  no offers" in result.stdout
    assert json.loads(run("why", "hello2", "--json").stdout) == found
    cluster.answers["GET", "/v2/apps/hello2/why"] = (200, {**found, "reasons": []})
    assert "runs as it should" in run("why", "hello2").stdout


def test_events_are_printed_one_a_line_and_the_end_of_the_stream_is_a_failure(
    cluster: Cluster,
) -> None:
    cluster.events = [{"eventType": "a", "n": 1}, {"eventType": "b", "n": 2}]
    result = run("events", "--type", "b")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [cluster.events[1]]
    assert result.exit_code == 1
    assert "stream ended" in result.stderr


def test_a_stream_that_breaks_is_resumed_and_another_leader_is_told(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_PATIENCE_S", 0.3)
    monkeypatch.setattr(history, "_RETRY_S", 0.01)
    ids = ["3-1", "3-2", "3-3", "4-1"]
    cluster.events = [{"eventType": "a", "_id": one} for one in ids]
    cluster.events_per_stream = 1
    result = run("events", "--ids")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ids
    assert result.exit_code == 1
    assert "another Marathon leads: events after 3-3 may be missing" in result.stderr
    cluster.events_per_stream = None
    shown = run("events", "--ids", "--after", "3-2").stdout
    assert [line.split()[0] for line in shown.splitlines()] == ids[2:]


AUDIT = {
    "timestamp": "2016-06-21T14:21:32.000Z",
    "user": "alice",
    "method": "PUT",
    "uri": "/v2/apps/hello2",
    "force": True,
    "changes": [{"app": "/hello2", "change": "restart", "fields": ["cmd", "env"]}],
    "omitted": 2,
}


def test_audit_tells_who_changed_what_and_when(cluster: Cluster) -> None:
    cluster.answers["GET", "/v2/audit"] = (200, {"audit": [AUDIT]})
    text = run("audit", "hello2", "--user", "alice", "-n", "5").stdout
    for word in ("14:21:32", "alice", "PUT", "(forced)", "restart /hello2 cmd,env; and 2 more"):
        assert word in text
    assert ("/v2/audit", "app=hello2&user=alice&limit=5") in cluster.queries
    assert json.loads(run("audit", "--json").stdout) == [AUDIT]
    cluster.answers["GET", "/v2/audit"] = (200, {"audit": []})
    assert "Nothing was changed" in run("audit").stdout


POD_STATUS = {
    "id": "/pair",
    "spec": {
        "containers": [{"resources": {"cpus": 0.1, "mem": 32}}],
        "scaling": {"instances": 1},
        "version": "v",
    },
    "instances": [
        {
            "status": "STABLE",
            "agentHostname": "10.0.3.51",
            "containers": [
                {
                    "containerId": "pair.instance-25ef0930-ce53-45fb-b96e-c37bfd6584aa.web.1",
                    "status": "TASK_RUNNING",
                    "statusSince": "2016-06-21T14:21:32.000Z",
                    "endpoints": [{"name": "http", "allocatedHostPort": 31007}],
                    "conditions": [{"name": "healthy", "value": "true"}],
                }
            ],
        }
    ],
}


def test_pods_are_listed_explained_and_planned_beside_apps(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.answers["GET", "/v2/apps"] = (200, {"apps": [APP]})
    cluster.answers["GET", "/v2/tasks"] = (200, {"tasks": [TASK]})
    cluster.answers["GET", "/v2/pods/::status"] = (200, [POD_STATUS])
    cluster.answers["GET", "/v2/pods/pair::status"] = (200, POD_STATUS)
    assert run("apps", "-o", "name").stdout.split() == ["/hello2", "/pair"]
    [own] = json.loads(run("tasks", "pair", "--json").stdout)
    assert (own["host"], own["ports"], own["appId"]) == ("10.0.3.51", [31007], "/pair")
    assert "healthy" in run("tasks").stdout
    why = {"app": "/pair", "since": "", "reasons": ["no offers"]}
    cluster.answers["GET", "/v2/pods/pair::why"] = (200, why)
    assert "no offers" in run("why", "pair").stdout
    path = tmp_path / "pair.json"
    path.write_text('{"id": "pair", "containers": []}')
    told = {"steps": [], "apps": [{**PLAN["apps"][0], "app": "/pair"}]}
    cluster.answers["POST", "/v2/pods"] = (200, told)
    assert "/pair" in run("plan", str(path)).stdout
    assert ("/v2/pods", "force=false&dryRun=true") in cluster.queries


@pytest.mark.parametrize(
    ("long", "short"),
    [
        ("web.instance-25ef0930-ce53-45fb-b96e-c37bfd6584aa._app.1", "web.25ef0930"),
        ("a_b.instance-25ef0930-ce53-45fb-b96e-c37bfd6584aa", "a_b.25ef0930"),
        ("p.instance-25ef0930-ce53-45fb-b96e-c37bfd6584aa.web-1.12", "p.25ef0930.web-1"),
        ("hello2.1", "hello2.1"),
    ],
)
def test_long_ids_are_short_on_a_terminal_and_understood(
    cluster: Cluster, long: str, short: str
) -> None:
    assert short_id(long) == short
    cluster.answers["GET", "/v2/tasks"] = (200, {"tasks": [{**TASK, "id": long}]})
    assert long_id(Marathon(contexts.current()), short) == long
    assert long_id(Marathon(contexts.current()), "other") is None


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), min_size=1, max_size=7),
    st.integers(40, 120),
)
def test_a_table_fits_and_no_word_is_cut(drawn: list[tuple[int, int]], room: int) -> None:
    widths = [(least + more, least) for least, more in drawn]
    found = fitting(widths, room)
    assert 0 in found
    assert sum(found.values()) + 2 * len(found) <= room
    for column, (most, least) in enumerate(widths):
        if column in found:
            assert found[column] <= most
            assert found[column] >= least or found == {0: room - 2}
        else:
            before = [widths[each][1] + 2 for each in found if each < column]
            assert sum(before) + least + 2 > room


def test_ids_are_whole_on_a_narrow_terminal(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    id = "shop_a-rather-long-name.instance-25ef0930-ce53-45fb-b96e-c37bfd6584aa._app.1"
    task = {**TASK, "id": id, "host": "agent-17.example.org", "ports": [31005, 31006]}
    cluster.answers["GET", "/v2/tasks"] = (200, {"tasks": [task]})
    shown = re.sub(r"\x1b\[[0-9;]*m", "", run("tasks").stdout)
    assert max(map(len, shown.splitlines())) <= 60
    assert "shop_a-rather-long-name.25ef0930 " in shown
    assert "…" not in shown
    assert "HEALTH" in shown
    assert "HOST, STARTED: no room here;" in shown
