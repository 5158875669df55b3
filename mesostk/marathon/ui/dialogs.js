// Dialogs: native <dialog>, so that Escape, focus and screen readers work by themselves.

import { h } from "./dom.js";
import { ApiError } from "./api.js";

const place = () => document.getElementById("dialogs");

// Shows a form; `submit(form)` may throw ApiError, which is shown in it, field by field.
export function open({ title, body, confirm, danger, narrow, extra, submit, setup }) {
  const message = h("p", { class: "message", role: "alert" });
  const form = h("form", { method: "dialog", novalidate: true },
    h("header", {}, h("h2", {}, title), extra || null),
    h("div", { class: "body" }, message, body),
    h("footer", {}, h("button", { type: "button", value: "cancel" }, submit ? "Cancel" : "Close"),
      submit ? h("button", { type: "submit", class: danger ? "danger" : "primary" }, confirm) : null));
  const dialog = h("dialog", { class: narrow ? "narrow" : null }, form);
  form.querySelector("[value=cancel]").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  let force = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("[type=submit]");
    button.disabled = true;
    try {
      await submit(form, force);
      dialog.close();
    } catch (error) {
      explain(form, message, error);
      if (error instanceof ApiError && error.status === 409 && /locked/.test(error.message)) {
        force = true;
        message.textContent = "A deployment holds this application. Send again to stop that deployment and go on.";
        button.textContent = "Force";
      }
    } finally {
      button.disabled = false;
    }
  });
  place().append(dialog);
  setup?.(form);
  dialog.showModal();
  return dialog;
}

function explain(form, message, error) {
  for (const field of form.querySelectorAll(".field")) {
    field.classList.remove("invalid");
    field.querySelector(".error")?.remove();
  }
  const unplaced = [];
  for (const { path, errors } of error.details || []) {
    const field = [...form.querySelectorAll("[data-path]")].find((each) => path.startsWith(each.dataset.path));
    if (field) {
      field.classList.add("invalid");
      field.append(h("div", { class: "error" }, errors.join("; ")));
    } else {
      unplaced.push(`${path}: ${errors.join("; ")}`);
    }
  }
  message.textContent = [error.message, ...unplaced].join("\n");
}

export function confirm(title, text, button, submit, danger = true) {
  open({ title, narrow: true, danger, confirm: button, body: h("p", {}, text), submit: (_form, force) => submit(force) });
}

export function scale(app, submit) {
  open({
    title: `Scale ${app.id}`, narrow: true, confirm: "Scale",
    body: field("instances", "How many instances?", { type: "number", min: 0, value: String(app.instances), required: true, autofocus: true }),
    submit: (form, force) => submit(number(form, "instances"), force),
  });
}

export function keys() {
  const all = { c: "Create an application", "g a": "Go to applications", "g d": "Go to deployments", "/": "Search", "?": "This list", Esc: "Close a dialog" };
  open({ title: "Keyboard shortcuts", narrow: true,
    body: h("dl", {}, Object.entries(all).map(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)])) });
}

export function about(info) {
  const rows = { Version: info.version, "Framework id": info.frameworkId, Leader: info.leader, Master: info.marathon_config.master,
    ZooKeeper: info.zookeeper_config.zk || "none: state in a local file", "Failover timeout": `${info.marathon_config.failover_timeout} s` };
  open({ title: `About ${info.name}`, body: h("dl", {}, Object.entries(rows).map(([key, value]) => [h("dt", {}, key), h("dd", { class: "mono" }, String(value))])) });
}

// -- create and edit ------------------------------------------------------------------------

const TEMPLATE = { id: "", cmd: "", cpus: 0.1, mem: 32, disk: 0, instances: 1 };

// The form and the JSON text are two views of one app; the switch carries changes both ways.
export function edit(app, submit) {
  let model = app || TEMPLATE;
  const area = h("div", {});
  const toggle = h("input", { type: "checkbox", role: "switch", "aria-label": "JSON mode" });
  const draw = (json) => area.replaceChildren(json ? jsonField(model) : formFields(model, Boolean(app)));
  const read = (form) => (form.querySelector("[name=json]") ? parse(form) : fromForm(form, model));
  open({
    title: app ? `Edit ${app.id}` : "New Application", confirm: app ? "Change and Deploy" : "Create Application", body: area,
    extra: h("label", { class: "switch" }, "JSON Mode", toggle),
    setup: (form) => {
      draw(false);
      toggle.addEventListener("change", () => {
        try {
          model = read(form);
          form.querySelector(".message").textContent = "";
          draw(toggle.checked);
        } catch (error) {
          toggle.checked = !toggle.checked;
          explain(form, form.querySelector(".message"), error);
        }
      });
    },
    submit: (form, force) => submit(read(form), force),
  });
}

function jsonField(model) {
  return h("div", { class: "field", "data-path": "/" },
    h("textarea", { class: "json", name: "json", spellcheck: "false", "aria-label": "The application as JSON" }, JSON.stringify(model, null, 2)));
}

function parse(form) {
  try {
    return JSON.parse(form.querySelector("[name=json]").value);
  } catch (error) {
    throw new ApiError(400, { message: `This is no JSON: ${error.message}` });
  }
}

function field(name, label, props, { path, width, hint, area } = {}) {
  const id = `f-${name}`;
  const { value, ...rest } = props;
  const input = area
    ? h("textarea", { id, name, class: "cmd", ...rest }, value ?? "")
    : h("input", { id, name, value, ...rest });
  return h("div", { class: `field ${width || ""}`, "data-path": path || `/${name}` },
    h("label", { for: id }, label), input, hint ? h("div", { class: "hint" }, hint) : null);
}

const pairs = (map) => Object.entries(map || {}).map(([k, v]) => `${k}=${typeof v === "string" ? v : JSON.stringify(v)}`).join("\n");

function formFields(model, exists) {
  const docker = model.container?.docker;
  const check = model.healthChecks?.[0];
  const num = (name, label, value, step) => field(name, label, { type: "number", min: 0, step, value: String(value ?? 0) }, { width: "c3" });
  const network = docker?.network || "HOST";
  return h("div", {},
    h("div", { class: "grid" },
      field("id", "ID", { value: model.id, required: true, readonly: exists, placeholder: "/group/name", autofocus: !exists }),
      num("cpus", "CPUs", model.cpus, 0.1), num("mem", "Memory (MiB)", model.mem, 1),
      num("disk", "Disk (MiB)", model.disk, 1), num("instances", "Instances", model.instances, 1),
      field("cmd", "Command", { value: model.cmd || "", placeholder: "sleep 1000" }, { area: true, hint: "Run by /bin/sh; $PORT0 is the first port." })),
    h("fieldset", {}, h("legend", {}, "Docker container"), h("div", { class: "grid" },
      field("image", "Image", { value: docker?.image || "", placeholder: "python:3" }, { path: "/container/docker/image", width: "c6" }),
      h("div", { class: "field c6" }, h("label", { for: "f-network" }, "Network"),
        h("select", { id: "f-network", name: "network" }, ["HOST", "BRIDGE"].map((each) => h("option", { selected: network === each }, each)))))),
    h("fieldset", {}, h("legend", {}, "Ports, environment, labels"), h("div", { class: "grid" },
      field("ports", "Service ports, 0 = assign one", { value: (model.ports || [0]).join(", ") }, { path: "/ports" }),
      field("env", "Environment, one NAME=value a line", { value: pairs(model.env) }, { area: true, width: "c6" }),
      field("labels", "Labels, one name=value a line", { value: pairs(model.labels) }, { area: true, width: "c6" }))),
    h("fieldset", {}, h("legend", {}, "Health check"), h("div", { class: "grid" },
      h("div", { class: "field c3" }, h("label", { for: "f-protocol" }, "Protocol"),
        h("select", { id: "f-protocol", name: "protocol" }, ["none", "HTTP", "TCP"].map((each) => h("option", { selected: (check?.protocol || "none") === each }, each)))),
      field("path", "Path", { value: check?.path || "/" }, { path: "/healthChecks(0)/path", width: "c3" }),
      num("grace", "Grace period (s)", check?.gracePeriodSeconds ?? 300, 1), num("interval", "Interval (s)", check?.intervalSeconds ?? 60, 1),
      num("timeout", "Timeout (s)", check?.timeoutSeconds ?? 20, 1), num("failures", "Failures before kill", check?.maxConsecutiveFailures ?? 3, 1))));
}

const value = (form, name) => form.querySelector(`[name=${name}]`).value.trim();

function number(form, name) {
  const text = value(form, name);
  const found = Number(text);
  if (text === "" || Number.isNaN(found)) throw new ApiError(400, { message: "Some fields are not valid", details: [{ path: `/${name}`, errors: ["must be a number"] }] });
  return found;
}

function fromPairs(form, name) {
  const found = {};
  for (const line of value(form, name).split("\n").map((each) => each.trim()).filter(Boolean)) {
    const at = line.indexOf("=");
    found[at < 0 ? line : line.slice(0, at)] = at < 0 ? "" : line.slice(at + 1);
  }
  return found;
}

function fromForm(form, model) {
  const app = { ...model, id: value(form, "id"), cpus: number(form, "cpus"), mem: number(form, "mem"), disk: number(form, "disk"), instances: number(form, "instances") };
  const cmd = value(form, "cmd");
  app.cmd = cmd || null;
  const image = value(form, "image");
  const network = value(form, "network");
  const had = model.container?.docker;
  if (image && (!had || had.image !== image || had.network !== network)) {
    const docker = { image, network };
    if (network === "BRIDGE") docker.portMappings = had?.portMappings?.length ? had.portMappings : [{ containerPort: 0, hostPort: 0 }];
    app.container = { type: "DOCKER", volumes: model.container?.volumes || [], docker };
    delete app.networks;
  } else if (!image && had) {
    app.container = null;
  }
  const ports = value(form, "ports").split(",").map((each) => each.trim()).filter(Boolean).map(Number);
  if (ports.some(Number.isNaN)) throw new ApiError(400, { message: "Some fields are not valid", details: [{ path: "/ports", errors: ["must be numbers between commas"] }] });
  if (JSON.stringify(ports) !== JSON.stringify(model.ports || [0])) {
    app.ports = ports;
    delete app.portDefinitions;
  }
  app.env = { ...fromPairs(form, "env") };
  for (const [key, old] of Object.entries(model.env || {})) if (typeof old !== "string" && key in app.env) app.env[key] = old;
  app.labels = fromPairs(form, "labels");
  const protocol = value(form, "protocol");
  const rest = (model.healthChecks || []).slice(1);
  if (protocol === "none") app.healthChecks = rest;
  else {
    const check = { ...(model.healthChecks?.[0] || { portIndex: 0 }), protocol, gracePeriodSeconds: number(form, "grace"), intervalSeconds: number(form, "interval"),
      timeoutSeconds: number(form, "timeout"), maxConsecutiveFailures: number(form, "failures") };
    if (protocol === "HTTP") check.path = value(form, "path") || "/";
    else delete check.path;
    app.healthChecks = [check, ...rest];
  }
  return app;
}

// What may be sent back of an app that was read: its definition, without state and old spellings.
export function definitionOf(app) {
  const { tasks, tasksStaged, tasksRunning, tasksHealthy, tasksUnhealthy, deployments, lastTaskFailure, taskStats, version, versionInfo,
    uris, storeUrls, ipAddress, readinessCheckResults, ...rest } = app;
  return Object.fromEntries(Object.entries(rest).filter(([, each]) => each !== null));
}
