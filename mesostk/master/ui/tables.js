// The four tables: which rows and columns they have, and how one is drawn.

import { ago, amount, element, size } from "./dom.js";
import { scalars } from "./model.js";

const STATE_CLASS = {
  TASK_RUNNING: "good", TASK_FINISHED: "good", TASK_FAILED: "bad", TASK_LOST: "bad",
  TASK_ERROR: "bad", TASK_UNREACHABLE: "bad", TASK_DROPPED: "bad", TASK_GONE: "bad",
  TASK_GONE_BY_OPERATOR: "bad", TASK_KILLED: "warn", TASK_KILLING: "warn",
};

const nanos = (time) => (time === undefined ? 0 : time.nanoseconds / 1e9);
const text = (title, value, more = {}) => ({ title, value, ...more });
const number = (title, value, show = amount) => ({ title, value, show, kind: "number" });

function timed(title, value) {
  return { title, value, cell: (row) => timeElement(value(row)) };
}

function timeElement(seconds) {
  if (!seconds) return "";
  const stamp = new Date(seconds * 1000).toISOString();
  return element("time", { datetime: stamp, title: stamp }, ago(seconds));
}

function stateElement(state) {
  return element("span", { class: STATE_CLASS[state] }, state.replace("TASK_", "").toLowerCase());
}

const taskColumns = [
  text("Task", (row) => row.task.task_id.value, { kind: "id" }),
  text("Name", (row) => row.task.name),
  { ...text("State", (row) => row.task.state), cell: (row) => stateElement(row.task.state) },
  text("Framework", (row) => row.framework),
  text("Host", (row) => row.host),
  number("CPUs", (row) => row.used.cpus, (value) => amount(value, 3)),
  number("Memory", (row) => row.used.mem, size),
  timed("Since", (row) => row.since),
  { ...text("Sandbox", (row) => row.sandbox ?? ""), cell: sandboxLinks },
];

function sandboxLinks(row) {
  if (row.sandbox === undefined) return "";
  const link = (name, path) =>
    element("a", { href: path, target: "_blank", rel: "noopener noreferrer" }, name);
  const path = encodeURIComponent(row.path);
  return element(
    "span",
    { class: "links" },
    link("Sandbox", `${row.sandbox}/files/browse?path=${path}`),
    link("stdout", `${row.sandbox}/files/download?path=${path}%2Fstdout`),
    link("stderr", `${row.sandbox}/files/download?path=${path}%2Fstderr`),
  );
}

function taskRow(model, task) {
  const agent = model.agents.get(task.agent_id.value);
  const framework = task.framework_id.value;
  const known = model.frameworks.get(framework) ?? model.completedFrameworks.get(framework);
  const executor = task.executor_id?.value || task.task_id.value;
  const last = task.statuses?.at(-1);
  return {
    id: `${framework} ${task.task_id.value}`,
    task,
    framework: known?.framework_info.name ?? framework,
    host: agent?.agent_info.hostname ?? task.agent_id.value,
    used: scalars(task.resources),
    since: last?.timestamp ?? 0,
    sandbox: agent && `http://${agent.agent_info.hostname}:${agent.agent_info.port ?? 5051}`,
    path: `/frameworks/${framework}/executors/${executor}/runs/latest`,
  };
}

function agentRows(model) {
  const usage = model.usage((task) => task.agent_id.value);
  const none = { tasks: 0, cpus: 0, mem: 0, disk: 0 };
  const rows = [...model.agents.values()].map((agent) => ({
    id: agent.agent_info.id.value,
    agent,
    host: agent.agent_info.hostname,
    state: agent.deactivated ? "deactivated" : agent.active ? "active" : "disconnected",
    total: scalars(agent.total_resources),
    used: usage.get(agent.agent_info.id.value) ?? none,
  }));
  const waiting = model.recovered.map((info) => ({
    id: info.id.value, agent: { version: "" }, host: info.hostname, state: "not back yet",
    total: scalars(info.resources), used: none,
  }));
  return [...rows, ...waiting];
}

const share = (used, total, show) => `${show(used)} / ${show(total)}`;

const agentColumns = [
  text("Host", (row) => row.host),
  text("Agent", (row) => row.id, { kind: "id" }),
  { ...text("State", (row) => row.state),
    cell: (row) => element("span", { class: row.state === "active" ? "good" : "warn" }, row.state) },
  number("Tasks", (row) => row.used.tasks, (value) => amount(value, 0)),
  { ...number("CPUs", (row) => row.used.cpus),
    cell: (row) => share(row.used.cpus, row.total.cpus, (value) => amount(value, 2)) },
  { ...number("Memory", (row) => row.used.mem),
    cell: (row) => share(row.used.mem, row.total.mem, size) },
  { ...number("Disk", (row) => row.used.disk),
    cell: (row) => share(row.used.disk, row.total.disk, size) },
  text("Version", (row) => row.agent.version),
  timed("Registered", (row) => nanos(row.agent.registered_time)),
];

function frameworkRows(model) {
  const usage = model.usage((task) => task.framework_id.value);
  const none = { tasks: 0, cpus: 0, mem: 0, disk: 0 };
  const row = (framework, state) => ({
    id: framework.framework_info.id.value,
    info: framework.framework_info,
    framework,
    state,
    used: usage.get(framework.framework_info.id.value) ?? none,
  });
  const state = (item) =>
    item.recovered ? "recovered" : !item.connected ? "disconnected" : item.active ? "active" : "inactive";
  return [
    ...[...model.frameworks.values()].map((item) => row(item, state(item))),
    ...[...model.completedFrameworks.values()].map((item) => row(item, "completed")),
  ];
}

function frameworkName(row) {
  const url = row.info.webui_url;
  if (!url || !/^https?:\/\//.test(url)) return row.info.name;
  return element("a", { href: url, rel: "noopener noreferrer" }, row.info.name);
}

const frameworkColumns = [
  { ...text("Name", (row) => row.info.name), cell: frameworkName },
  text("Framework", (row) => row.id, { kind: "id" }),
  { ...text("State", (row) => row.state),
    cell: (row) => element("span", { class: row.state === "active" ? "good" : "warn" }, row.state) },
  text("User", (row) => row.info.user),
  text("Roles", (row) => (row.info.roles ?? [row.info.role ?? "*"]).join(", ")),
  text("Host", (row) => row.info.hostname ?? ""),
  number("Tasks", (row) => row.used.tasks, (value) => amount(value, 0)),
  number("CPUs", (row) => row.used.cpus, (value) => amount(value, 3)),
  number("Memory", (row) => row.used.mem, size),
  timed("Registered", (row) => nanos(row.framework.registered_time)),
];

export const VIEWS = [
  {
    name: "tasks", title: "Active tasks", columns: taskColumns, sort: ["Since", true],
    empty: "No task runs. Frameworks launch tasks on the resources that they are offered.",
    rows: (model) => [...model.tasks.values()].map((task) => taskRow(model, task)),
  },
  {
    name: "completed", title: "Completed tasks", columns: taskColumns, sort: ["Since", true],
    empty: "No task has ended since this master was elected.",
    rows: (model) => [...model.completed.values()].map((task) => taskRow(model, task)),
  },
  {
    name: "agents", title: "Agents", columns: agentColumns, sort: ["Host", false],
    empty: "No agent is registered. Start mesos-agent with --master naming this cluster.",
    rows: agentRows,
  },
  {
    name: "frameworks", title: "Frameworks", columns: frameworkColumns, sort: ["Name", false],
    empty: "No framework is registered. Marathon is one.",
    rows: frameworkRows,
  },
];

/** Rows that contain every word of `filter`, in the order of `sort` = [column title, descending]. */
export function arrange(view, model, filter, sort) {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const column = view.columns.find((item) => item.title === sort[0]) ?? view.columns[0];
  const rows = view.rows(model).filter((row) => {
    const all = view.columns.map((item) => item.value(row)).join(" ").toLowerCase();
    return words.every((word) => all.includes(word));
  });
  const compare = (a, b) => {
    const [x, y] = [column.value(a), column.value(b)];
    if (typeof x === "number" && typeof y === "number" && x !== y) return x - y;
    return String(x).localeCompare(String(y), "en", { numeric: true }) || (a.id < b.id ? -1 : 1);
  };
  rows.sort(sort[1] ? (a, b) => compare(b, a) : compare);
  return rows;
}

/** The table of `rows`; `onSort(title)` is called for a click on a heading. */
export function table(view, rows, sort, onSort) {
  if (rows.length === 0) return element("p", { class: "scroll empty" }, view.empty);
  const head = view.columns.map((column) => {
    const active = column.title === sort[0];
    const order = active ? (sort[1] ? "descending" : "ascending") : undefined;
    const button = element("button", { type: "button", onclick: () => onSort(column.title) },
      column.title);
    return element("th", { scope: "col", class: column.kind, "aria-sort": order }, button);
  });
  const body = rows.map((row) => element("tr", {}, ...view.columns.map((column) => {
    const shown = column.cell ? column.cell(row)
      : column.show ? column.show(column.value(row)) : String(column.value(row));
    return element("td", { class: column.kind, "data-label": column.title }, shown);
  })));
  return element("div", { class: "scroll" }, element("table", {},
    element("caption", {}, view.title),
    element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...body)));
}
