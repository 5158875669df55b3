// What the page knows of the cluster: filled by SUBSCRIBED, then changed event by event.

const TERMINAL = new Set([
  "TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR", "TASK_LOST", "TASK_DROPPED",
  "TASK_GONE", "TASK_GONE_BY_OPERATOR",
]);

/** Completed tasks that the page keeps; the master keeps 1,000 per framework. */
const MAX_COMPLETED = 5000;

const key = (frameworkId, taskId) => `${frameworkId} ${taskId}`;

export class Model {
  agents = new Map();
  recovered = [];
  frameworks = new Map();
  completedFrameworks = new Map();
  tasks = new Map();
  completed = new Map();

  /** Apply one event of the stream; unknown ones are passed over. */
  apply(event) {
    this[`on_${event.type}`]?.(event[event.type.toLowerCase()]);
  }

  on_SUBSCRIBED({ get_state: state }) {
    this.setAgents(state.get_agents ?? {});
    this.frameworks = byId(state.get_frameworks?.frameworks);
    this.completedFrameworks = byId(state.get_frameworks?.completed_frameworks);
    this.tasks = new Map();
    this.completed = new Map();
    const { tasks = [], unreachable_tasks: lost = [], completed_tasks: over = [] } =
      state.get_tasks ?? {};
    for (const task of [...tasks, ...lost, ...over]) this.#put(task);
  }

  on_TASK_ADDED({ task }) {
    this.#put(task);
  }

  on_TASK_UPDATED({ framework_id: framework, status, state }) {
    const at = key(framework.value, status.task_id.value);
    const known = this.tasks.get(at) ?? this.completed.get(at);
    if (known === undefined) return;
    this.#put({ ...known, state, statuses: [...(known.statuses ?? []), status].slice(-10) });
  }

  on_AGENT_ADDED({ agent }) {
    this.agents.set(agent.agent_info.id.value, agent);
  }

  on_AGENT_REMOVED({ agent_id: id }) {
    this.agents.delete(id.value);
  }

  on_FRAMEWORK_ADDED({ framework }) {
    this.frameworks.set(framework.framework_info.id.value, framework);
  }

  on_FRAMEWORK_UPDATED({ framework }) {
    this.frameworks.set(framework.framework_info.id.value, framework);
  }

  on_FRAMEWORK_REMOVED({ framework_info: info }) {
    const id = info.id.value;
    const known = this.frameworks.get(id) ?? { framework_info: info };
    this.frameworks.delete(id);
    this.completedFrameworks.set(id, { ...known, active: false, connected: false });
    for (const task of [...this.tasks.values()]) {
      if (task.framework_id.value === id) this.#put({ ...task, state: "TASK_KILLED" });
    }
  }

  /** From GET_AGENTS: no event tells that an agent became unreachable. */
  setAgents({ agents = [], recovered_agents: recovered = [] }) {
    this.agents = new Map(agents.map((agent) => [agent.agent_info.id.value, agent]));
    this.recovered = recovered;
  }

  #put(task) {
    const at = key(task.framework_id.value, task.task_id.value);
    this.tasks.delete(at);
    this.completed.delete(at);
    if (!TERMINAL.has(task.state)) {
      this.tasks.set(at, task);
      return;
    }
    this.completed.set(at, task);
    if (this.completed.size > MAX_COMPLETED) {
      this.completed.delete(this.completed.keys().next().value);
    }
  }

  /** Live tasks and what they use, by the id that `of` reads from a task. */
  usage(of) {
    const found = new Map();
    for (const task of this.tasks.values()) {
      if (task.state === "TASK_UNREACHABLE") continue;
      const id = of(task);
      if (!found.has(id)) found.set(id, { tasks: 0, cpus: 0, mem: 0, disk: 0 });
      const sums = found.get(id);
      sums.tasks += 1;
      add(sums, task.resources);
    }
    return found;
  }

  totals() {
    const sums = { cpus: 0, mem: 0, disk: 0 };
    for (const agent of this.agents.values()) add(sums, agent.total_resources);
    return sums;
  }
}

function byId(frameworks = []) {
  return new Map(frameworks.map((item) => [item.framework_info.id.value, item]));
}

/** Sums of the scalars cpus, mem, disk. */
export function scalars(resources = []) {
  return add({ cpus: 0, mem: 0, disk: 0 }, resources);
}

function add(sums, resources = []) {
  for (const { name, scalar } of resources) {
    if (scalar !== undefined && name in sums) sums[name] += scalar.value;
  }
  return sums;
}
