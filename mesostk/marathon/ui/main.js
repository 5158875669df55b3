// State, routes, actions; everything is drawn again, and only what differs is changed.

import { ApiError, appPath, call, live } from "./api.js";
import { delegate, h, show } from "./dom.js";
import * as dialogs from "./dialogs.js";
import { asApp, podPath } from "./pods.js";
import { deployments, detail, hashOf, list, top } from "./views.js";

// At most one refresh in this time, however many events come.
const REFRESH_MS = 250;
// Ages ("5 s ago") go on, and news that were missed are noticed.
const IDLE_MS = 10000;
const OFFLINE_POLL_MS = 3000;

const state = {
  apps: [], deployments: [], queue: new Map(), info: null, app: null, missing: false, versions: null,
  loaded: false, linked: true, online: true,
  route: { page: "list", group: "/", id: "", tab: "", sort: "name", descending: false, filter: { q: "", status: "", label: "" } },
};

const $ = (id) => document.getElementById(id);

// -- drawing --------------------------------------------------------------------------------

function draw() {
  show($("top"), top(state));
  const pages = { list, app: detail, deployments };
  show($("main"), pages[state.route.page](state));
  const lost = !state.online;
  show($("banner"), lost ? "Lost the connection to Marathon. Trying again…" : null);
  const where = state.route.page === "app" ? state.route.id : state.route.page === "deployments" ? "Deployments" : "Applications";
  document.title = `${where} – ${state.info?.name || "Marathon"}`;
}

function readRoute() {
  const parts = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  const route = state.route;
  const before = route.id;
  route.page = { app: "app", deployments: "deployments" }[parts[0]] || "list";
  route.group = parts[0] === "group" && parts[1] ? parts[1] : "/";
  route.id = route.page === "app" ? parts[1] || "" : "";
  route.tab = route.page === "app" ? parts[2] || "" : "";
  if (route.id !== before) Object.assign(state, { app: null, versions: null, missing: false });
  draw();
  refresh();
}

// -- news -----------------------------------------------------------------------------------

let planned = null;
let busy = false;
let again = false;

function refreshSoon() {
  planned ??= setTimeout(() => { planned = null; refresh(); }, REFRESH_MS);
}

async function refresh() {
  if (busy) { again = true; return; }
  busy = true;
  try {
    await load();
    state.online = true;
    state.loaded = true;
  } catch (error) {
    state.online = error instanceof ApiError && error.status < 500;
    setTimeout(refreshSoon, OFFLINE_POLL_MS);
  }
  busy = false;
  draw();
  if (again) { again = false; refreshSoon(); }
}

async function load() {
  const { id, tab } = state.route;
  const requests = [call("GET", "/v2/apps"), call("GET", "/v2/deployments"), call("GET", "/v2/queue?embed=lastUnusedOffers"),
    call("GET", "/v2/pods/::status")];
  if (!state.info) requests.push(call("GET", "/v2/info").then((info) => { state.info = info; }));
  if (id && !known(id)?.pod) requests.push(loadApp(id, tab));
  const [apps, running, queue, statuses] = await Promise.all(requests);
  const pods = statuses.map((each) => asApp(each, running));
  state.apps = [...apps.apps, ...pods];
  state.deployments = running;
  state.queue = new Map(queue.queue.map((item) => [(item.app || item.pod).id, item]));
  const pod = pods.find((each) => each.id === state.route.id);
  if (pod) Object.assign(state, { app: pod, missing: false });
  else if (state.app?.pod) Object.assign(state, { app: null, missing: true });
}

async function loadApp(id, tab) {
  try {
    const embed = tab === "debug" ? "?embed=app.taskStats" : "";
    const answers = [call("GET", appPath(id) + embed)];
    if (tab === "configuration") answers.push(call("GET", appPath(id) + "/versions"));
    const [answer, versions] = await Promise.all(answers);
    if (id !== state.route.id) return;
    state.app = answer.app;
    state.missing = false;
    state.versions = versions ? versions.versions : state.versions;
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 404) throw error;
    state.app = null;
    state.missing = true;
  }
}

// -- changes --------------------------------------------------------------------------------

function toast(text, bad) {
  const node = h("div", { class: bad ? "toast bad" : "toast" }, text);
  $("toasts").append(node);
  setTimeout(() => node.remove(), bad ? 9000 : 4000);
}

const forced = (force) => (force ? "?force=true" : "");

async function attempt(work, done) {
  try {
    await work();
    if (done) toast(done);
  } catch (error) {
    toast(error.message, true);
  }
  refreshSoon();
}

function change(id, body, force) {
  return call("PUT", appPath(id) + forced(force), body).then(refreshSoon);
}

async function resize(id, instances, force) {
  const { pod } = known(id);
  if (!pod) return change(id, { instances }, force);
  const { version, ...spec } = pod.spec;
  await call("PUT", podPath(id) + forced(force), { ...spec, scaling: { kind: "fixed", instances } });
  refreshSoon();
}

const known = (id) => (state.app?.id === id ? state.app : state.apps.find((app) => app.id === id));

function go(hash) {
  if (location.hash === hash) readRoute();
  else location.hash = hash;
}

const actions = {
  create: () => dialogs.edit(null, async (app, force) => {
    const made = await call("POST", "/v2/apps" + forced(force), app);
    go(hashOf(["app", made.id]));
  }),
  edit: ({ id }) => dialogs.edit(dialogs.definitionOf(known(id)), (app, force) => change(id, app, force)),
  scale: ({ id }) => dialogs.scale(known(id), (instances, force) => resize(id, instances, force)),
  suspend: ({ id }) => dialogs.confirm(`Suspend ${id}?`, "All its instances are killed; its definition stays.", "Suspend",
    (force) => resize(id, 0, force)),
  restart: ({ id }) => dialogs.confirm(`Restart ${id}?`, "Every instance is replaced by a new one, within the upgrade strategy.", "Restart",
    (force) => call("POST", `${appPath(id)}/restart${forced(force)}`).then(refreshSoon), false),
  destroy: ({ id }) => dialogs.confirm(`Destroy ${id}?`, "All its instances are killed and its definition and versions are removed. This cannot be undone.", "Destroy",
    async (force) => { await call("DELETE", (known(id)?.pod ? podPath(id) : appPath(id)) + forced(force)); if (state.route.id === id) go("#/"); else refreshSoon(); }),
  kill: ({ id, task }) => attempt(() => call("DELETE", known(id)?.pod
    ? `${podPath(id)}::instances/${encodeURIComponent(task)}`
    : `${appPath(id)}/tasks/${encodeURIComponent(task)}`), "Killing; a new instance follows"),
  "kill-scale": ({ id, task }) => dialogs.confirm("Kill and scale down?", `${task} is killed and ${id} wants one instance less.`, "Kill & Scale",
    (force) => call("DELETE", `${appPath(id)}/tasks/${encodeURIComponent(task)}?scale=true${force ? "&force=true" : ""}`).then(refreshSoon)),
  "reset-delay": ({ id }) => attempt(() => call("DELETE", `/v2/queue/${id.slice(1)}/delay`), "The delay is over"),
  "apply-version": ({ id, version }) => dialogs.confirm(`Go back to ${version}?`, `${id} is deployed as it was in that version.`, "Apply",
    (force) => change(id, { version }, force), false),
  rollback: ({ deployment }) => dialogs.confirm("Roll back?", "What this deployment changed is put back by a new deployment.", "Roll back",
    () => call("DELETE", `/v2/deployments/${deployment}`).then(refreshSoon)),
  "stop-deployment": ({ deployment }) => dialogs.confirm("Stop this deployment?", "It ends where it is; nothing is put back.", "Stop",
    () => call("DELETE", `/v2/deployments/${deployment}?force=true`).then(refreshSoon)),
  label: ({ label }) => { state.route.filter.label = label; if (state.route.page === "list") draw(); else go("#/"); },
  clear: () => { state.route.filter = { q: "", status: "", label: "" }; $("search").value = ""; draw(); },
  sort: ({ column }) => {
    state.route.descending = state.route.sort === column && !state.route.descending;
    state.route.sort = column;
    draw();
  },
  about: () => state.info && dialogs.about(state.info),
  keys: () => dialogs.keys(),
  theme: () => {
    const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
    document.documentElement.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("theme", document.documentElement.dataset.theme);
  },
};

delegate("click", actions);
delegate("input", { search: (_data, event) => { state.route.filter.q = event.target.value.trim(); draw(); } });
delegate("change", { "filter-status": (_data, event) => { state.route.filter.status = event.target.value; draw(); } });

// -- keyboard -------------------------------------------------------------------------------

let pressedG = 0;
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const afterG = Date.now() - pressedG < 1000;
  pressedG = event.key === "g" ? Date.now() : 0;
  if (event.key === "c") { event.preventDefault(); actions.create(); }
  else if (event.key === "?") actions.keys();
  else if (event.key === "/" && $("search")) { event.preventDefault(); $("search").focus(); }
  else if (afterG && event.key === "a") go("#/");
  else if (afterG && event.key === "d") go("#/deployments");
});

document.documentElement.dataset.theme = localStorage.getItem("theme")
  || (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark");
window.addEventListener("hashchange", readRoute);
readRoute();
live(refreshSoon, (linked) => { state.linked = linked; if (!linked) refreshSoon(); });
setInterval(refreshSoon, IDLE_MS);
