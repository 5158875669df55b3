// A pod in the shape of an app, so that one page shows both; `pod` is its status as it came.

export const podPath = (id) => "/v2/pods/" + id.replace(/^\//, "").split("/").map(encodeURIComponent).join("/");

export function asApp(status, deployments) {
  const { spec } = status;
  const wanted = spec.containers.map((each) => each.resources || {});
  const sum = (key) => wanted.reduce((total, each) => total + (each[key] || 0), 0);
  const count = (...states) => status.instances.filter((each) => states.includes(each.status)).length;
  return {
    id: status.id,
    pod: status,
    instances: spec.scaling?.instances ?? 1,
    cpus: sum("cpus"),
    mem: sum("mem"),
    labels: spec.labels || {},
    version: spec.version,
    tasksRunning: count("STABLE", "DEGRADED"),
    tasksHealthy: isChecked(spec) ? count("STABLE") : 0,
    tasksUnhealthy: count("DEGRADED"),
    tasksStaged: count("PENDING", "STAGING"),
    deployments: deployments.filter((each) => (each.affectedPods || []).includes(status.id)),
    tasks: status.instances.flatMap((each) => (each.containers || []).map((part) => task(each, part))),
  };
}

const isChecked = (spec) => spec.containers.some((each) => each.healthCheck);

function task(instance, part) {
  return {
    id: part.containerId || `${instance.id}.${part.name}`,
    instance: instance.id,
    state: part.status,
    host: instance.agentHostname || "–",
    ports: (part.endpoints || []).map((each) => each.allocatedHostPort).filter((port) => port !== undefined && port !== null),
    version: instance.specReference?.split("::versions/")[1] || "",
    startedAt: part.statusSince,
    healthCheckResults: (part.conditions || []).filter((each) => each.name === "healthy" && each.reason !== "health-unreported-by-mesos").map((each) => ({ alive: each.value === "true" })),
  };
}
