// Talking to /v2: requests that throw what the server said, and one live connection.

export class ApiError extends Error {
  constructor(status, body) {
    super(body?.message || `The server answered ${status}`);
    this.status = status;
    this.details = Array.isArray(body?.details) ? body.details : [];
    if (typeof body?.details === "string") this.message += `: ${body.details}`;
  }
}

export async function call(method, path, body) {
  const options = { method, headers: { Accept: "application/json" } };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = typeof body === "string" ? body : JSON.stringify(body);
  }
  const answer = await fetch(path, options);
  const text = await answer.text();
  let document = null;
  try {
    document = text ? JSON.parse(text) : null;
  } catch {
    document = { message: text.slice(0, 200) };
  }
  if (!answer.ok) throw new ApiError(answer.status, document);
  return document;
}

export const appPath = (id) => "/v2/apps/" + id.replace(/^\//, "").split("/").map(encodeURIComponent).join("/");

const KINDS = [
  "api_post_event", "status_update_event", "group_change_success", "app_terminated_event",
  "deployment_info", "deployment_step_success", "deployment_step_failure",
  "deployment_success", "deployment_failed",
  "health_status_changed_event", "failed_health_check_event", "unhealthy_task_kill_event",
  "instance_changed_event", "scheduler_disconnected_event", "scheduler_reregistered_event",
  "scheduler_registered_event",
];

const RETRY_MS = 3000;

// Calls `changed` at each event, `linked` with whether news arrive at all. Behind a standby the
// stream is a redirect that the page may not follow; asking every few seconds stands in for it.
export function live(changed, linked) {
  let source = null;
  const open = () => {
    source = new EventSource("/v2/events");
    source.onopen = () => { linked(true); changed(); };
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) { linked(false); return; }
      source.close();
      changed();
      setTimeout(open, RETRY_MS);
    };
    for (const kind of KINDS) source.addEventListener(kind, (event) => changed(kind, event));
  };
  open();
}
