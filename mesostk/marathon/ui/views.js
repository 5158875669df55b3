// The three pages, each a function of the state.

import { h } from "./dom.js";
import { HEALTH_WORDS, STATUSES, ago, cpus, healthOf, listing, memory, statusOf, sumOf } from "./model.js";

export const hashOf = (parts) => "#/" + parts.filter(Boolean).map(encodeURIComponent).join("/");
const appHash = (id, tab) => hashOf(["app", id, tab]);
const groupHash = (id) => hashOf(["group", id === "/" ? "" : id]);

export function top(state) {
  const name = state.info?.name || "marathon";
  const count = state.deployments.length;
  const on = (page) => (state.route.page === page ? "page" : null);
  return [
    h("a", { class: "brand", href: "#/", "aria-label": "Marathon, applications" },
      h("img", { src: "/ui/favicon.svg", alt: "" }), "MARATHON"),
    h("nav", { "aria-label": "Pages" },
      h("a", { href: "#/", "aria-current": on("list") || on("app") }, "Applications"),
      h("a", { href: "#/deployments", "aria-current": on("deployments") }, "Deployments ",
        count ? h("span", { class: "badge" }, String(count)) : null)),
    h("span", { class: "spacer" }),
    h("span", { class: "soft small" }, state.info ? `${name} · ${state.info.leader || "no leader"}` : ""),
    h("button", { class: "quiet", "data-action": "theme", title: "Dark or light" }, "◐"),
    h("button", { class: "quiet", "data-action": "keys", title: "Keyboard shortcuts" }, "?"),
    h("button", { class: "quiet", "data-action": "about" }, "About"),
  ];
}

// -- applications ---------------------------------------------------------------------------

export function list(state) {
  const { route } = state;
  const rows = listing(state);
  const filtered = route.filter.q || route.filter.status || route.filter.label;
  return [
    h("div", { class: "toolbar" },
      crumbs(route.group),
      h("span", { class: "spacer" }),
      h("input", { type: "search", id: "search", placeholder: "Search  ( / )", "aria-label": "Search applications",
        value: route.filter.q, "data-action": "search" }),
      h("select", { "aria-label": "Status", "data-action": "filter-status" },
        h("option", { value: "", selected: !route.filter.status }, "Any status"),
        STATUSES.map((each) => h("option", { value: each, selected: route.filter.status === each }, each))),
      route.filter.label
        ? h("button", { class: "chip", "data-action": "label", "data-label": "", title: "Remove this filter" }, `${route.filter.label} ×`)
        : null,
      h("button", { class: "primary", "data-action": "create" }, "Create Application")),
    rows.length ? appTable(state, rows) : nothing(state, filtered),
  ];
}

function nothing(state, filtered) {
  if (!state.loaded) return h("p", { class: "empty" }, "Loading…");
  if (filtered) return h("p", { class: "empty" }, "No application matches. ", h("button", { "data-action": "clear" }, "Clear filters"));
  return h("div", { class: "empty" },
    h("p", {}, "There are no applications yet."),
    h("button", { class: "primary", "data-action": "create" }, "Create Application"));
}

function crumbs(group) {
  const parts = group === "/" ? [] : group.slice(1).split("/");
  return h("h1", { class: "crumbs" }, h("a", { href: "#/" }, "Applications"),
    parts.map((part, index) => [" / ", h("a", { href: groupHash("/" + parts.slice(0, index + 1).join("/")) }, part)]));
}

function appTable(state, rows) {
  const { route } = state;
  const head = (key, text) => h("th", { "aria-sort": route.sort === key ? (route.descending ? "descending" : "ascending") : "none" },
    h("button", { "data-action": "sort", "data-column": key }, text, route.sort === key ? (route.descending ? " ▾" : " ▴") : ""));
  return h("table", { class: "cards" },
    h("thead", {}, h("tr", {}, head("name", "Name"), head("cpus", "CPU"), head("mem", "Memory"), head("status", "Status"),
      head("running", "Running instances"), head("health", "Health"), h("th", {}, h("span", { class: "soft" }, "")))),
    h("tbody", {}, rows.map((row) => (row.kind === "app" ? appRow(state, row) : folderRow(row)))));
}

function appRow(state, row) {
  const { app } = row;
  const status = statusOf(app, state.queue);
  return h("tr", { "data-key": app.id },
    h("td", { class: "name", "data-label": "Name" }, h("span", {}, h("a", { href: appHash(app.id) }, row.name), app.pod ? h("span", { class: "soft small" }, " pod") : null, chips(app.labels))),
    h("td", { class: "num", "data-label": "CPU" }, cpus(app.cpus * app.instances)),
    h("td", { class: "num", "data-label": "Memory" }, memory(app.mem * app.instances)),
    h("td", { "data-label": "Status" }, h("span", { class: `status ${status}` }, status)),
    h("td", { class: "num", "data-label": "Running" }, `${app.tasksRunning} of ${app.instances}`),
    h("td", { "data-label": "Health" }, bar(app)),
    h("td", { class: "acts" }, h("span", {},
      h("button", { class: "quiet", "data-action": "scale", "data-id": app.id, "aria-label": `Scale ${app.id}` }, "Scale"),
      h("button", { class: "quiet danger", "data-action": "destroy", "data-id": app.id, "aria-label": `Destroy ${app.id}` }, "Destroy"))));
}

function folderRow(row) {
  const total = sumOf(row.apps);
  return h("tr", { "data-key": row.id },
    h("td", { class: "name", "data-label": "Group" }, h("a", { href: groupHash(row.id) }, `${row.name}/`)),
    h("td", { class: "num", "data-label": "CPU" }, cpus(total.cpus)),
    h("td", { class: "num", "data-label": "Memory" }, memory(total.mem)),
    h("td", { class: "soft", "data-label": "Apps" }, `${row.apps.length} app${row.apps.length === 1 ? "" : "s"}`),
    h("td", { class: "num", "data-label": "Running" }, `${total.tasksRunning} of ${total.instances}`),
    h("td", { "data-label": "Health" }, bar(total)),
    h("td", {}));
}

function chips(labels) {
  const all = Object.entries(labels);
  if (!all.length) return null;
  return h("span", { class: "chips" }, all.map(([key, value]) =>
    h("button", { class: "chip", "data-action": "label", "data-label": `${key}:${value}`, title: `${key}: ${value}` }, value ? `${key}: ${value}` : key)));
}

function bar(app) {
  const parts = Object.entries(healthOf(app)).filter(([, count]) => count > 0);
  const total = parts.reduce((sum, [, count]) => sum + count, 0);
  const words = parts.map(([kind, count]) => `${count} ${HEALTH_WORDS[kind]}`).join(", ") || "no instances";
  return h("span", { class: "bar", role: "img", "aria-label": words, title: words },
    parts.map(([kind, count]) => h("i", { class: kind, "data-key": kind, width: `${(100 * count) / total}%` })));
}

// -- one application ------------------------------------------------------------------------

export function detail(state) {
  const app = state.app;
  if (!app) return h("p", { class: "empty" }, state.missing ? `There is no application ${state.route.id}.` : "Loading…");
  const status = statusOf(app, state.queue);
  const waiting = state.queue.get(app.id);
  const tab = state.route.tab || "instances";
  const act = (action, text, extra) => h("button", { "data-action": action, "data-id": app.id, ...extra }, text);
  const link = (name, text) => h("a", { href: appHash(app.id, name === "instances" ? "" : name), "aria-current": tab === name ? "page" : null }, text);
  return [
    crumbs(app.id.slice(0, app.id.lastIndexOf("/")) || "/"),
    h("div", { class: "head" },
      h("h1", {}, app.id.slice(app.id.lastIndexOf("/") + 1)),
      h("span", { class: `status ${status}` }, status),
      h("span", { class: "soft" }, `${app.tasksRunning} of ${app.instances} instances`),
      bar(app),
      h("span", { class: "spacer" }),
      act("scale", "Scale"), app.pod ? null : [act("restart", "Restart"), act("edit", "Edit")],
      app.instances > 0 ? act("suspend", "Suspend") : null,
      waiting && !waiting.delay.overdue ? act("reset-delay", "Reset delay") : null,
      act("destroy", "Destroy", { class: "danger" })),
    Object.keys(app.labels).length ? h("p", {}, chips(app.labels)) : null,
    app.lastTaskFailure ? failure(app.lastTaskFailure) : null,
    waiting ? whyWaiting(waiting) : null,
    h("div", { class: "tabs" }, link("instances", "Instances"), link("configuration", "Configuration"), app.pod ? null : link("debug", "Debug")),
    tab === "configuration" ? (app.pod ? podConfiguration(app.pod) : configuration(app, state.versions))
      : tab === "debug" && !app.pod ? debug(app, waiting) : instances(app),
  ];
}

function failure(last) {
  return h("section", { class: "panel failure", "aria-label": "Last task failure" },
    h("h3", {}, "Last task failure"),
    h("dl", {},
      h("dt", {}, "State"), h("dd", { class: "bad" }, last.state),
      h("dt", {}, "Message"), h("dd", {}, last.message || "none given"),
      h("dt", {}, "Task"), h("dd", { class: "mono" }, last.taskId),
      h("dt", {}, "Host"), h("dd", {}, last.host),
      h("dt", {}, "When"), h("dd", { title: last.timestamp }, ago(last.timestamp))));
}

function whyWaiting(item) {
  const reasons = item.processedOffersSummary.rejectSummaryLastOffers.filter((each) => each.declined > 0);
  const left = item.delay.overdue ? "now" : `in ${item.delay.timeLeftSeconds} s, after failures`;
  return h("section", { class: "panel" },
    h("h3", {}, `Waiting to launch ${item.count} more`),
    h("p", { class: "soft" }, `Next launch ${left}; waiting since ${ago(item.since)}. `,
      item.processedOffersSummary.processedOffersCount
        ? `${item.processedOffersSummary.unusedOffersCount} of ${item.processedOffersSummary.processedOffersCount} offers did not suit.`
        : "No offers have come yet."),
    reasons.length ? h("dl", {}, reasons.map((each) => [h("dt", {}, each.reason), h("dd", {}, `${each.declined} offers`)])) : null,
    (item.lastUnusedOffers || []).length
      ? h("dl", {}, item.lastUnusedOffers.map((each) => [h("dt", {}, each.offer.hostname), h("dd", {}, each.reason[1] || each.reason[0])]))
      : null);
}

function instances(app) {
  if (!app.tasks.length) return h("p", { class: "empty" }, "No instances run.");
  const sorted = [...app.tasks].sort((a, b) => (a.id < b.id ? -1 : 1));
  return h("table", { class: "cards" },
    h("thead", {}, h("tr", {}, ["Instance", "Address", "Status", "Health", "Version", "Updated", ""].map((text) => h("th", {}, text)))),
    h("tbody", {}, sorted.map((task) => h("tr", { "data-key": task.id },
      h("td", { class: "mono", "data-label": "Instance" }, task.id),
      h("td", { "data-label": "Address" }, h("span", {}, task.ports.length ? task.ports.map((port, index) => [index ? ", " : "",
        h("a", { href: `http://${task.host}:${port}`, target: "_blank", rel: "noreferrer" }, `${task.host}:${port}`)]) : task.host)),
      h("td", { "data-label": "Status" }, task.state.replace("TASK_", "").toLowerCase()),
      h("td", { "data-label": "Health" }, health(task)),
      h("td", { class: "small", "data-label": "Version", title: task.version }, task.version === app.version ? "current" : ago(task.version)),
      h("td", { class: "small", "data-label": "Updated", title: task.startedAt || task.stagedAt }, ago(task.startedAt || task.stagedAt)),
      h("td", { class: "acts" }, app.pod ? killPod(app, task) : h("span", {},
        h("button", { class: "quiet", "data-action": "kill", "data-id": app.id, "data-task": task.id, title: "Kill; a new one is launched" }, "Kill"),
        h("button", { class: "quiet danger", "data-action": "kill-scale", "data-id": app.id, "data-task": task.id, title: "Kill and want one less" }, "Kill & Scale")))))));
}

function killPod(app, task) {
  return h("span", {}, h("button", { class: "quiet", "data-action": "kill", "data-id": app.id, "data-task": task.instance,
    title: "Kill the instance with all its containers; a new one is launched" }, "Kill instance"));
}

function podConfiguration(pod) {
  return h("section", { class: "panel" },
    h("h3", {}, "Current version"),
    h("dl", {}, Object.entries(pod.spec).filter(([, value]) => !isEmpty(value)).map(([key, value]) => [
      h("dt", {}, key), h("dd", { class: typeof value === "object" ? "mono" : null }, text(value))])));
}

function health(task) {
  const results = task.healthCheckResults || [];
  if (!results.length) return h("span", { class: "soft" }, "unknown");
  const bad = results.find((each) => !each.alive);
  return bad
    ? h("span", { class: "bad", title: bad.lastFailureCause || "" }, `unhealthy${bad.lastFailureCause ? ": " + bad.lastFailureCause : ""}`)
    : h("span", { class: "good" }, "healthy");
}

function configuration(app, versions) {
  const hidden = new Set(["tasks", "tasksStaged", "tasksRunning", "tasksHealthy", "tasksUnhealthy", "deployments", "lastTaskFailure",
    "uris", "storeUrls", "ipAddress", "versionInfo"]);
  const rows = Object.entries(app).filter(([key, value]) => !hidden.has(key) && !isEmpty(value));
  return [
    h("section", { class: "panel" },
      h("div", { class: "toolbar" }, h("h3", {}, "Current version"), h("span", { class: "soft small" }, app.version), h("span", { class: "spacer" }),
        h("button", { "data-action": "edit", "data-id": app.id }, "Edit")),
      h("dl", {}, rows.map(([key, value]) => [h("dt", {}, key), h("dd", { class: typeof value === "object" ? "mono" : null }, text(value))]))),
    versions && versions.length > 1
      ? h("section", { class: "panel" }, h("h3", {}, "Earlier versions"),
        h("dl", {}, versions.filter((each) => each !== app.version).slice(0, 20).map((each) => [
          h("dt", { title: each }, ago(each)),
          h("dd", {}, h("span", { class: "soft small" }, each, " "),
            h("button", { class: "quiet", "data-action": "apply-version", "data-id": app.id, "data-version": each }, "Apply"))])))
      : null,
  ];
}

function isEmpty(value) {
  if (value === null || value === "" || value === false) return true;
  return typeof value === "object" && Object.keys(value).length === 0;
}

const text = (value) => (typeof value === "object" ? JSON.stringify(value, null, 2) : String(value));

function debug(app, waiting) {
  const info = app.versionInfo || {};
  return [
    h("section", { class: "panel" }, h("h3", {}, "Last changes"), h("dl", {},
      h("dt", {}, "Scaled"), h("dd", { title: info.lastScalingAt }, ago(info.lastScalingAt)),
      h("dt", {}, "Configured"), h("dd", { title: info.lastConfigChangeAt }, ago(info.lastConfigChangeAt)))),
    h("section", { class: "panel" }, h("h3", {}, "Task statistics"), statistics(app.taskStats || {})),
    waiting ? null : h("p", { class: "soft" }, "Nothing of this application waits to be launched."),
  ];
}

function statistics(stats) {
  const names = { startedAfterLastScaling: "After last scaling", withLatestConfig: "Current configuration",
    withOutdatedConfig: "Older configuration", totalSummary: "All" };
  const rows = Object.entries(names).filter(([key]) => stats[key]);
  if (!rows.length) return h("p", { class: "soft" }, "No tasks.");
  const heads = ["Instances", "Running", "Healthy", "Unhealthy", "Staged", "Median life"];
  return h("table", { class: "cards" }, h("thead", {}, h("tr", {}, heads.map((each) => h("th", {}, each)))),
    h("tbody", {}, rows.map(([key, name]) => {
      const { counts, lifeTime } = stats[key].stats;
      return h("tr", {}, [name, counts.running, counts.healthy, counts.unhealthy, counts.staged,
        lifeTime ? `${Math.round(lifeTime.medianSeconds)} s` : "–"].map((each, index) =>
        h("td", { class: "num", "data-label": heads[index] }, String(each))));
    })));
}

// -- deployments ----------------------------------------------------------------------------

export function deployments(state) {
  if (!state.deployments.length) return [h("h1", { class: "crumbs" }, "Deployments"), h("p", { class: "empty" }, "No deployment is under way.")];
  return [h("div", { class: "toolbar" }, h("h1", { class: "crumbs" }, "Deployments")),
    h("table", { class: "cards" },
      h("thead", {}, h("tr", {}, ["Deployment", "Applications", "Doing", "Step", "Begun", ""].map((each) => h("th", {}, each)))),
      h("tbody", {}, state.deployments.map(deploymentRow)))];
}

function deploymentRow(each) {
  const doing = each.currentActions.map((action) => `${action.action.replace("Application", "").replace("Pod", "").toLowerCase()} ${action.app || action.pod}`).join(", ");
  const done = Math.max(0, each.currentStep - 1) / each.totalSteps;
  return h("tr", { "data-key": each.id },
    h("td", { class: "mono", "data-label": "Deployment" }, each.id),
    h("td", { "data-label": "Applications" }, h("span", {}, [...each.affectedApps, ...(each.affectedPods || [])].map((id, index) => [index ? ", " : "", h("a", { href: appHash(id) }, id)]))),
    h("td", { "data-label": "Doing" }, doing),
    h("td", { "data-label": "Step" }, h("span", {}, `${each.currentStep} of ${each.totalSteps} `, h("span", { class: "progress" }, h("i", { width: `${done * 100}%` })))),
    h("td", { class: "small", "data-label": "Begun", title: each.version }, ago(each.version)),
    h("td", { class: "acts" }, h("span", {},
      h("button", { class: "quiet", "data-action": "rollback", "data-deployment": each.id }, "Roll back"),
      h("button", { class: "quiet danger", "data-action": "stop-deployment", "data-deployment": each.id, title: "Leave all as it is now" }, "Stop"))));
}
