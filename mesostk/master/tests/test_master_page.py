"""The page of :5050: what is served, and the logic of its modules."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from mesostk.base.daemon import Daemon
from mesostk.base.http import make_app
from mesostk.base.log import Log
from mesostk.base.metrics import Metrics
from mesostk.master.bodies import Bodies
from mesostk.master.entry import Node
from mesostk.master.event_streams import EventStreams
from mesostk.master.http import Routes
from mesostk.master.link import LinkApi
from mesostk.master.node_files import NodeFiles
from mesostk.master.operator import OperatorApi
from mesostk.master.posts import Posts
from mesostk.master.scheduler import SchedulerApi
from mesostk.testing.requirements import require_program

UI = Path(str(resources.files("mesostk.master"))) / "ui"


def app() -> web.Application:
    """The routes of a master that does not know yet who leads."""
    node, metrics = Node({}, None), Metrics()
    made = make_app(Log(), metrics)
    daemon = Daemon("mesos-master", metrics=metrics)
    bodies = Bodies(daemon.start, daemon.cpu, metrics.counter("shared"))
    files = NodeFiles(node, daemon, None)
    streams = EventStreams(node, metrics, daemon.start)
    operator = OperatorApi(node, metrics, bodies, files, streams)
    scheduler, link, posts = SchedulerApi(node), LinkApi(node, 1000), Posts(node, operator)
    Routes(node, metrics, scheduler, link, operator, bodies, posts).add_to(made)
    return made


async def test_the_page_and_all_it_refers_to_is_served_under_a_strict_policy() -> None:
    async with TestClient(TestServer(app())) as client:
        for path in ("/", "/master/"):
            page = await client.get(path)
            assert page.status == 200
            policy = page.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            html = await page.text()
            assert "<style" not in html
            assert " style=" not in html
            assert re.search(r"<script(?![^>]*src=)", html) is None
            for name in re.findall(r'"(ui/[^"]+)"', html):
                found = await client.get(path + name)
                assert found.status == 200, name
                assert found.headers["X-Content-Type-Options"] == "nosniff"
        for file in UI.glob("*.js"):
            for name in re.findall(r'from "\./([^"]+)"', file.read_text()):
                assert (await client.get(f"/ui/{name}")).content_type == "text/javascript"


async def test_nothing_but_the_pages_files_is_served() -> None:
    async with TestClient(TestServer(app())) as client:
        for path in (
            "/ui/..%2fhttp.py",
            "/ui/nothing.js",
            "/ui/.hidden.js",
            "/ui/",
            "/ui/a%2fb.js",
        ):
            assert (await client.get(path)).status == 404, path


async def test_without_a_leader_documents_are_503_and_the_process_itself_answers() -> None:
    async with TestClient(TestServer(app())) as client:
        for path in ("/state", "/master/slaves", "/redirect"):
            answer = await client.get(path, allow_redirects=False)
            assert (answer.status, await answer.text()) == (503, "No leader elected")
        for path in ("/health", "/version", "/flags", "/metrics/snapshot"):
            assert (await client.get(path)).status == 200


def test_the_page_fetches_nothing_from_elsewhere() -> None:
    for file in UI.iterdir():
        for url in re.findall(r"https?://[^\s\"'`]*", file.read_text()):
            assert url.startswith("http://${"), (file.name, url)


SCRIPT = """
import assert from "node:assert/strict";
import { Records } from "./stream.js";
import { Model, scalars } from "./model.js";
import { VIEWS, arrange } from "./tables.js";

const events = [
  { type: "SUBSCRIBED", subscribed: { get_state: {
    get_agents: { agents: [{ agent_info: { id: { value: "S0" }, hostname: "höst" }, active: true,
      total_resources: [{ name: "cpus", scalar: { value: 4 } }] }] },
    get_frameworks: { frameworks: [{ framework_info: { id: { value: "F" }, name: "fw" } }] },
    get_tasks: {} } } },
  { type: "TASK_ADDED", task_added: { task: { name: "web", task_id: { value: "t1" },
    framework_id: { value: "F" }, agent_id: { value: "S0" }, state: "TASK_STAGING",
    resources: [{ name: "cpus", scalar: { value: 1.5 } }] } } },
  { type: "TASK_UPDATED", task_updated: { framework_id: { value: "F" }, state: "TASK_RUNNING",
    status: { task_id: { value: "t1" }, state: "TASK_RUNNING", timestamp: 5 } } },
  { type: "HEARTBEAT" },
];
const bytes = new TextEncoder();
const wire = Buffer.concat(events.map((event) => {
  const body = bytes.encode(JSON.stringify(event));
  return Buffer.concat([bytes.encode(`${body.length}\\n`), body]);
}));
for (const step of [1, 7, wire.length]) {
  const records = new Records();
  const model = new Model();
  const seen = [];
  for (let at = 0; at < wire.length; at += step) {
    for (const event of records.feed(wire.subarray(at, at + step))) {
      seen.push(event.type);
      model.apply(event);
    }
  }
  assert.deepEqual(seen, events.map((event) => event.type));
  assert.equal(model.tasks.get("F t1").state, "TASK_RUNNING");
  assert.equal(model.usage((task) => task.agent_id.value).get("S0").cpus, 1.5);
  const [tasks, completed] = VIEWS;
  const [row] = arrange(tasks, model, "HÖST web", ["Task", false]);
  assert.equal(row.sandbox, "http://höst:5051");
  assert.equal(row.path, "/frameworks/F/executors/t1/runs/latest");
  assert.equal(arrange(tasks, model, "elsewhere", ["Task", false]).length, 0);
  model.apply({ type: "TASK_UPDATED", task_updated: { framework_id: { value: "F" },
    state: "TASK_FAILED", status: { task_id: { value: "t1" }, state: "TASK_FAILED" } } });
  assert.equal(model.tasks.size, 0);
  assert.equal(arrange(completed, model, "", ["Since", true])[0].task.state, "TASK_FAILED");
  assert.equal(scalars(undefined).cpus, 0);
}
assert.throws(() => new Records().feed(bytes.encode("nonsense\\n")), /RecordIO/);
"""


def test_the_pages_model_follows_the_event_stream(tmp_path: Path) -> None:
    node = require_program("node", "nodejs")
    for file in UI.glob("*.js"):
        shutil.copy(file, tmp_path)
    (tmp_path / "package.json").write_text('{"type":"module"}')
    (tmp_path / "script.js").write_text(SCRIPT)
    done = subprocess.run(
        [node, "script.js"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
