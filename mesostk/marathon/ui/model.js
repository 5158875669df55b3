// What the page knows of apps, worked out from the answers of /v2: status, health, folders.

export const STATUSES = ["Running", "Deploying", "Suspended", "Delayed", "Waiting"];

export function statusOf(app, queue) {
  if (app.deployments.length) return "Deploying";
  const waiting = queue.get(app.id);
  if (waiting) return waiting.delay.overdue ? "Waiting" : "Delayed";
  if (app.instances === 0 && app.tasksRunning === 0) return "Suspended";
  return "Running";
}

// Parts of the health bar; they add up to what there is and what is still missing.
export function healthOf(app) {
  const known = app.tasksHealthy + app.tasksUnhealthy;
  const present = app.tasksRunning + app.tasksStaged;
  const over = Math.max(0, present - app.instances);
  const unknown = Math.max(0, app.tasksRunning - known);
  const overUnknown = Math.min(over, unknown);
  return {
    healthy: Math.max(0, app.tasksHealthy - (over - overUnknown)),
    unhealthy: app.tasksUnhealthy,
    running: unknown - overUnknown,
    staged: app.tasksStaged,
    over,
    unscheduled: Math.max(0, app.instances - present),
  };
}

export const HEALTH_WORDS = {
  healthy: "healthy", unhealthy: "unhealthy", running: "running, health unknown",
  staged: "staged", over: "over capacity", unscheduled: "unscheduled",
};

export function sumOf(apps) {
  const total = { instances: 0, tasksRunning: 0, tasksHealthy: 0, tasksUnhealthy: 0, tasksStaged: 0, cpus: 0, mem: 0 };
  for (const app of apps) {
    for (const key of ["instances", "tasksRunning", "tasksHealthy", "tasksUnhealthy", "tasksStaged"]) {
      total[key] += app[key];
    }
    total.cpus += app.cpus * app.instances;
    total.mem += app.mem * app.instances;
  }
  return total;
}

export function cpus(value) {
  return (Math.round(value * 1000) / 1000).toString();
}

export function memory(mib) {
  if (mib >= 1024 * 1024) return `${(mib / 1024 / 1024).toFixed(1)} TiB`;
  if (mib >= 1024) return `${(mib / 1024).toFixed(1)} GiB`;
  return `${Math.round(mib)} MiB`;
}

export function ago(iso, now = Date.now()) {
  if (!iso) return "–";
  const seconds = Math.max(0, Math.round((now - Date.parse(iso)) / 1000));
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

// Folders and apps directly below `group`; with a search everything that matches, flat.
export function listing(state) {
  const { apps, queue, route } = state;
  const filter = route.filter;
  const group = route.group === "/" ? "" : route.group;
  const searching = filter.q || filter.status || filter.label;
  const rows = [];
  const folders = new Map();
  for (const app of apps) {
    if (!app.id.startsWith(`${group}/`)) continue;
    if (filter.q && !app.id.includes(filter.q.toLowerCase())) continue;
    if (filter.status && statusOf(app, queue) !== filter.status) continue;
    if (filter.label && !Object.entries(app.labels).some(([k, v]) => `${k}:${v}` === filter.label)) continue;
    const rest = app.id.slice(group.length + 1);
    const slash = rest.indexOf("/");
    if (slash < 0 || searching) {
      rows.push({ kind: "app", id: app.id, name: searching ? app.id : rest, app });
    } else {
      const id = `${group}/${rest.slice(0, slash)}`;
      if (!folders.has(id)) folders.set(id, { kind: "folder", id, name: rest.slice(0, slash), apps: [] });
      folders.get(id).apps.push(app);
    }
  }
  const sorted = [...rows, ...folders.values()];
  const column = SORTS[route.sort] || SORTS.name;
  sorted.sort((a, b) => {
    const x = column(a, queue), y = column(b, queue);
    const order = x < y ? -1 : x > y ? 1 : a.id < b.id ? -1 : 1;
    return route.descending ? -order : order;
  });
  return sorted;
}

const figures = (row) => (row.kind === "app" ? sumOf([row.app]) : sumOf(row.apps));

const SORTS = {
  name: (row) => row.name,
  cpus: (row) => figures(row).cpus,
  mem: (row) => figures(row).mem,
  status: (row, queue) => (row.kind === "app" ? statusOf(row.app, queue) : ""),
  running: (row) => figures(row).tasksRunning,
  health: (row) => figures(row).tasksHealthy,
};
