// The page: follows the event stream and draws what has changed, at most a few times a second.

import { amount, element, size } from "./dom.js";
import { Model } from "./model.js";
import { call, follow } from "./stream.js";
import { VIEWS, arrange, table } from "./tables.js";

const ROWS_AT_ONCE = 200;
const DRAW_EVERY_MS = 250;
/** Three heartbeats of 15 s. */
const SILENCE_MS = 45000;
const RETRY_MS = [500, 1000, 2000, 5000, 10000];

const model = new Model();
const at = (id) => document.getElementById(id);
const sorts = new Map(VIEWS.map((view) => [view.name, view.sort]));
let shown = ROWS_AT_ONCE;
let drawn = 0;
let pending = 0;

const currentView = () =>
  VIEWS.find((view) => `#${view.name}` === location.hash) ?? VIEWS[0];

function drawSoon() {
  if (pending) return;
  pending = setTimeout(draw, Math.max(0, drawn + DRAW_EVERY_MS - Date.now()));
}

function draw() {
  pending = 0;
  drawn = Date.now();
  const view = currentView();
  const sort = sorts.get(view.name);
  const rows = arrange(view, model, at("search").value, sort);
  const parts = [table(view, rows.slice(0, shown), sort, (title) => {
    const descending = title === sort[0] ? !sort[1] : false;
    sorts.set(view.name, [title, descending]);
    draw();
    // The heading that was used was drawn anew.
    [...at("main").querySelectorAll("th button")].find((b) => b.textContent === title)?.focus();
  })];
  if (rows.length > shown) {
    const more = () => { shown += ROWS_AT_ONCE; draw(); };
    parts.push(element("button", { type: "button", class: "more", onclick: more },
      `Show ${Math.min(ROWS_AT_ONCE, rows.length - shown)} more`));
  }
  const focused = at("main").contains(document.activeElement);
  if (!focused) at("main").replaceChildren(...parts);
  else drawKeepingFocus(parts);
  at("count").textContent = `${amount(rows.length, 0)} shown`;
  drawTabs(view);
  drawTiles();
}

/** Puts the keyboard's focus back on the link or button it was on. */
function drawKeepingFocus(parts) {
  const before = document.activeElement;
  const same = (item) => item.textContent === before.textContent && item.href === before.href;
  at("main").replaceChildren(...parts);
  [...at("main").querySelectorAll("a, button")].find(same)?.focus({ preventScroll: true });
}

function drawTabs(current) {
  const counts = {
    tasks: model.tasks.size,
    completed: model.completed.size,
    agents: model.agents.size,
    frameworks: model.frameworks.size,
  };
  const links = VIEWS.map((view) => element("a", {
    href: `#${view.name}`,
    "aria-current": view === current ? "page" : undefined,
  }, `${view.title} (${amount(counts[view.name], 0)})`));
  const focus = [...at("tabs").children].indexOf(document.activeElement);
  at("tabs").replaceChildren(...links);
  links[focus]?.focus();
}

function tile(title, value, note, part) {
  return element("div", { class: "tile" },
    element("h2", {}, title),
    element("p", {}, value, " ", element("small", {}, note)),
    part === undefined ? undefined : element("progress", { max: 1, value: part, "aria-label": title }));
}

function drawTiles() {
  const states = new Map();
  for (const task of model.tasks.values()) states.set(task.state, (states.get(task.state) ?? 0) + 1);
  const active = [...model.agents.values()].filter((agent) => agent.active).length;
  const total = model.totals();
  const used = { cpus: 0, mem: 0, disk: 0 };
  for (const sums of model.usage((task) => task.agent_id.value).values()) {
    for (const name of Object.keys(used)) used[name] += sums[name];
  }
  const part = (name) => (total[name] ? used[name] / total[name] : 0);
  const note = [...states].filter(([state]) => state !== "TASK_RUNNING")
    .map(([state, count]) => `${count} ${state.replace("TASK_", "").toLowerCase()}`).join(", ");
  at("tiles").replaceChildren(
    tile("Tasks running", amount(states.get("TASK_RUNNING") ?? 0, 0), note),
    tile("Agents active", amount(active, 0), `of ${model.agents.size + model.recovered.length}`),
    tile("CPUs used", amount(used.cpus, 2), `of ${amount(total.cpus, 2)}`, part("cpus")),
    tile("Memory used", size(used.mem), `of ${size(total.mem)}`, part("mem")),
    tile("Disk used", size(used.disk), `of ${size(total.disk)}`, part("disk")),
  );
}

function say(text, kind) {
  at("live").textContent = text;
  at("live").className = kind;
}

async function introduce() {
  const [{ master_info: info }, { flags = [] }] =
    await Promise.all([call("GET_MASTER"), call("GET_FLAGS")]);
  const cluster = flags.find((flag) => flag.name === "cluster")?.value;
  at("title").textContent = cluster ?? "Mesos";
  document.title = cluster ? `${cluster} – Mesos` : "Mesos master";
  at("master").textContent = `leading master ${info.hostname}:${info.port}, version ${info.version}`;
}

function onEvent(event) {
  model.apply(event);
  if (event.type === "SUBSCRIBED") say("● live", "on");
  if (event.type === "HEARTBEAT") call("GET_AGENTS").then((answer) => {
    model.setAgents(answer);
    drawSoon();
  }, (error) => say(`agents not read: ${error.message}`, "off"));
  drawSoon();
}

async function run() {
  for (let attempt = 0; ; attempt += 1) {
    let reason = "the master closed the stream";
    try {
      await introduce();
      attempt = 0;
      await follow(onEvent, SILENCE_MS);
    } catch (error) {
      if (error.moved) {
        // The server sends the page itself on to the leader.
        location.reload();
      }
      reason = error.name === "AbortError" ? "the master is silent" : error.message;
    }
    const wait = RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)];
    say(`○ not live: ${reason}; again in ${wait / 1000} s`, "off");
    await new Promise((done) => setTimeout(done, wait));
  }
}

addEventListener("hashchange", () => { shown = ROWS_AT_ONCE; draw(); });
at("search").addEventListener("input", () => { shown = ROWS_AT_ONCE; draw(); });
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const typing = document.activeElement === at("search");
  if (event.key === "Escape") {
    at("search").value = "";
    at("search").blur();
    draw();
  } else if (!typing && event.key === "/") {
    event.preventDefault();
    at("search").focus();
  } else if (!typing && VIEWS[Number(event.key) - 1] !== undefined) {
    location.hash = VIEWS[Number(event.key) - 1].name;
  }
});
// Ages in the table grow although nothing happens.
setInterval(drawSoon, 10000);
draw();
run();
