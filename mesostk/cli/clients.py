"""Clients of the cluster's public interfaces, as the commands need them: `requests`, in order.

Each takes several base URLs of equal members and uses the first that answers; redirects to the
leader are followed. What goes wrong is one sentence: what, where, why, what to do.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

import msgspec
import requests

from mesostk.cli.contexts import Context
from mesostk.cli.credentials import Credential, credential_of, refused
from mesostk.errors import MesostkError, Rejected, Unavailable

#: Connect, then read: an interactive command rather says that nobody answers than waits for ever.
TIMEOUT_S = (3.0, 30.0)

EVENT_STREAM = "text/event-stream"

#: How many tasks, the newest first, are looked through for one that has ended.
_NEWEST_TASKS = 1000

#: The reason of a pod's `healthy` condition before its container's first check.
_UNREPORTED = "health-unreported-by-mesos"


def message_of(answer: requests.Response) -> str:
    """What an error's body says: Marathon's `message` and `details`, or the text."""
    try:
        body = answer.json()
    except requests.JSONDecodeError:
        return answer.text.strip() or answer.reason
    if not isinstance(body, dict) or "message" not in body:
        return answer.text.strip()
    details = body.get("details")
    if isinstance(details, list):
        lines = [f"{one.get('path')}: {', '.join(one.get('errors', []))}" for one in details]
        return "; ".join([str(body["message"]), *lines])
    if isinstance(details, str):
        return f"{body['message']}: {details}"
    return str(body["message"])


class Members:
    """Equal members of one service, any of which answers for all."""

    #: The URL of what was answered last, by any service.
    last_answer: ClassVar[str | None] = None

    def __init__(
        self, what: str, urls: Sequence[str], credential: Credential | None = None
    ) -> None:
        self.what = what
        self.urls = list(urls)
        self.credential = credential

    def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        query: Mapping[str, str] | None = None,
        accept: str = "application/json",
        timeout_s: tuple[float, float] = TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """The answer, of whatever status. Raises Unavailable if no member can be reached."""
        reasons = []
        for url in list(self.urls):
            try:
                auth = self.credential.basic if self.credential is not None else None
                told = {"Accept": accept, **(headers or {})}
                answer = _ask(method, url + path, body, query, told, timeout_s, auth)
            except requests.RequestException as error:
                reasons.append(f"{url}: {_reason(error)}")
                continue
            if answer.status_code in (502, 503):
                reasons.append(f"{url}: {message_of(answer)}")
                answer.close()
                continue
            Members.last_answer = answer.url
            # What answered once is asked first from now on.
            self.urls.remove(url)
            self.urls.insert(0, url)
            return answer
        raise Unavailable(
            f"{self.what} cannot be reached ({'; '.join(reasons) or 'no address is known'}); "
            "look at it with `mesostk status`"
        )

    def call(self, method: str, path: str, **options: Any) -> Any:
        """The answer's JSON. Raises Rejected with the status and what the service says."""
        answer = self.request(method, path, **options)
        if answer.status_code >= 400:
            raise self.refused(answer)
        try:
            return answer.json() if answer.content else None
        except (ValueError, RecursionError) as error:
            raise MesostkError(
                f"{answer.url} answers what is no JSON: is {self.what} there, or something else?"
                " `mesostk context list` has the addresses"
            ) from error

    def refused(self, answer: requests.Response) -> Rejected:
        """The error that an answer is, with the remedy where credentials are wanted."""
        return refused(self.what, answer.status_code, message_of(answer), self.credential)


def _ask(
    method: str,
    url: str,
    body: object,
    query: Mapping[str, str] | None,
    headers: Mapping[str, str],
    timeout_s: tuple[float, float],
    auth: tuple[str, str] | None,
) -> requests.Response:
    with requests.Session() as session:
        # A proxy for the web has no business between an operator and the cluster.
        session.trust_env = False
        return session.request(
            method,
            url,
            json=body,
            params=query,
            headers=headers,
            stream=headers["Accept"] == EVENT_STREAM,
            timeout=timeout_s,
            auth=auth,
        )


def _reason(error: requests.RequestException) -> str:
    text = str(error)
    for words, short in (
        ("Connection refused", "connection refused"),
        ("timed out", "no answer"),
        ("No route to host", "no route to host"),
        ("Name or service not known", "unknown host name"),
        ("Network is unreachable", "network is unreachable"),
    ):
        if words in text:
            return short
    return text


class Manner(msgspec.Struct, frozen=True, kw_only=True):
    """How a change is made. It is rolled back if it is not done after `timeout_s`."""

    force: bool = False
    may_restart: bool = True
    timeout_s: float | None = None

    @property
    def query(self) -> dict[str, str]:
        """As Marathon's query parameters."""
        query = {"force": str(self.force).lower()}
        if not self.may_restart:
            query["restart"] = "false"
        if self.timeout_s is not None:
            query["deploymentTimeoutSeconds"] = f"{self.timeout_s:g}"
        return query


class Marathon(Members):
    """Marathon's API."""

    def __init__(self, context: Context) -> None:
        super().__init__("Marathon", context.marathons, credential_of(context))

    def apps(self) -> list[dict[str, Any]]:
        """All apps with counts and deployments, and all pods in the same shape."""
        found = self.call("GET", "/v2/apps", query={"embed": "apps.deployments"})["apps"]
        pods = (pod_as_app(status) for status in self._pods())
        return sorted([*found, *pods], key=lambda app: str(app["id"]))

    def _pods(self) -> list[dict[str, Any]]:
        """Status of all pods; none where Marathon has no pods at all, as before 1.4."""
        answer = self.request("GET", "/v2/pods/::status")
        return list(answer.json()) if answer.status_code == HTTPStatus.OK else []

    def app(self, app_id: str) -> dict[str, Any]:
        """One app with its tasks; a pod in the same shape. Raises Rejected 404 for neither."""
        try:
            return dict(self.call("GET", f"/v2/apps/{app_id.strip('/')}")["app"])
        except Rejected as error:
            if error.status != 404:
                raise
            answer = self.request("GET", f"/v2/pods/{app_id.strip('/')}::status")
            if answer.status_code != 200:
                raise error from None
            return pod_as_app(answer.json())

    def tasks(self, app_id: str | None = None) -> list[dict[str, Any]]:
        """Tasks of one app or pod, or of all."""
        if app_id is None:
            found = list(self.call("GET", "/v2/tasks")["tasks"])
            return found + [task for status in self._pods() for task in tasks_of_pod(status)]
        name = app_id.strip("/")
        try:
            return list(self.call("GET", f"/v2/apps/{name}/tasks")["tasks"])
        except Rejected as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            answer = self.request("GET", f"/v2/pods/{name}::status")
            if answer.status_code != HTTPStatus.OK:
                raise error from None
            return tasks_of_pod(answer.json())

    def put_app(self, app: Mapping[str, Any], how: Manner) -> dict[str, Any]:
        """Create or update an app, or a pod; the answer holds `deploymentId`."""
        if "containers" in app:
            return self._deployed(*self._place_of_pod(app), body=app, query=how.query)
        path = f"/v2/apps/{str(app['id']).strip('/')}"
        return dict(self.call("PUT", path, body=app, query=how.query))

    def _place_of_pod(self, pod: Mapping[str, Any]) -> tuple[str, str]:
        """By which call a pod is put, as it is there or not."""
        path = f"/v2/pods/{str(pod['id']).strip('/')}"
        is_there = self.request("GET", path).status_code == HTTPStatus.OK
        return ("PUT", path) if is_there else ("POST", "/v2/pods")

    def _deployed(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """The deployment that an answer names in its head, as those of pods do."""
        answer = self.request(method, path, **options)
        if answer.status_code >= 400:
            raise self.refused(answer)
        return {"deploymentId": answer.headers["Marathon-Deployment-Id"]}

    def scale(self, app_id: str, instances: int, how: Manner) -> dict[str, Any]:
        """Change the number of instances of an app or a pod."""
        answer = self.request("GET", f"/v2/pods/{app_id.strip('/')}")
        if answer.status_code == 200:
            scaling = {"kind": "fixed", "instances": instances}
            return self.put_app({**answer.json(), "scaling": scaling}, how)
        return self.put_app({"id": app_id, "instances": instances}, how)

    def plan_app(self, app: Mapping[str, Any], how: Manner) -> dict[str, Any]:
        """What `put_app` would do, instance by instance; nothing is changed."""
        # The original knows no `dryRun`, ignores it and deploys; nor has it an audit.
        if self.request("GET", "/v2/audit", query={"limit": "1"}).status_code == 404:
            raise MesostkError(
                "this Marathon knows no dry run and would deploy at once: nothing was sent to it; "
                "compare with what `mesostk app` shows"
            )
        is_pod = "containers" in app
        path = f"/v2/apps/{str(app['id']).strip('/')}"
        where = self._place_of_pod(app) if is_pod else ("PUT", path)
        return dict(self.call(*where, body=app, query={**how.query, "dryRun": "true"}))

    def why(self, app_id: str) -> dict[str, Any]:
        """Why an app or a pod is not as it is wanted; no `reasons` where it is."""
        name = app_id.strip("/")
        try:
            return dict(self.call("GET", f"/v2/apps/{name}/why"))
        except Rejected as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            answer = self.request("GET", f"/v2/pods/{name}::why")
            if answer.status_code != HTTPStatus.OK:
                raise error from None
            return dict(answer.json())

    def audit(
        self, app: str | None, user: str | None, since: str | None, limit: int
    ) -> list[dict[str, Any]]:
        """Who changed what, the latest first; of one app, by one user, from a time on."""
        asked = {"app": app, "user": user, "since": since, "limit": str(limit)}
        query = {name: text for name, text in asked.items() if text is not None}
        return list(self.call("GET", "/v2/audit", query=query)["audit"])

    def delete_app(self, app_id: str) -> dict[str, Any]:
        """Destroy an app or a pod; the answer holds `deploymentId`."""
        if self.request("GET", f"/v2/pods/{app_id.strip('/')}").status_code == 200:
            return self._deployed("DELETE", f"/v2/pods/{app_id.strip('/')}")
        return dict(self.call("DELETE", f"/v2/apps/{app_id.strip('/')}"))

    def deployments(self) -> list[dict[str, Any]]:
        """Those that run."""
        return list(self.call("GET", "/v2/deployments"))

    def events(self, silence_s: float, last_id: str | None = None) -> EventStream:
        """Events from now on, or after that with `last_id` if its leader still knows it.

        The stream is open when this returns, so that nothing is missed.
        """
        answer = self.request(
            "GET",
            "/v2/events",
            accept=EVENT_STREAM,
            timeout_s=(3.0, silence_s),
            headers={} if last_id is None else {"Last-Event-ID": last_id},
        )
        if answer.status_code != 200:
            with answer:
                raise self.refused(answer)
        return EventStream(answer)


def pod_as_app(status: Mapping[str, Any]) -> dict[str, Any]:
    """A pod's status in the shape of an app: what lists and waiting commands look at."""
    spec = status["spec"]
    states = [each["status"] for each in status["instances"]]
    parts = [each.get("resources", {}) for each in spec["containers"]]
    return {
        "id": status["id"],
        "instances": spec["scaling"]["instances"],
        "cpus": sum(part.get("cpus", 0.0) for part in parts),
        "mem": sum(part.get("mem", 0.0) for part in parts),
        "tasksRunning": states.count("STABLE") + states.count("DEGRADED"),
        "tasksUnhealthy": states.count("DEGRADED"),
        "version": spec["version"],
        "pod": dict(status),
    }


def tasks_of_pod(status: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The containers of a pod's instances in the shape of tasks."""
    return [
        {
            "id": part.get("containerId"),
            "appId": status["id"],
            "state": part["status"],
            "host": instance.get("agentHostname"),
            "ports": [
                each["allocatedHostPort"]
                for each in part.get("endpoints", [])
                if each.get("allocatedHostPort") is not None
            ],
            "startedAt": part["statusSince"] if part["status"] == "TASK_RUNNING" else None,
            "healthCheckResults": [
                {"alive": each["value"] == "true"}
                for each in part.get("conditions", [])
                if each["name"] == "healthy" and each.get("reason") != _UNREPORTED
            ],
        }
        for instance in status["instances"]
        for part in instance.get("containers", [])
    ]


class EventStream:
    """Server-sent events as they come; ends with the stream, or after too long a silence."""

    def __init__(self, answer: requests.Response) -> None:
        self._answer = answer
        # As all event streams are; without it, bytes of a server that does not say so stay bytes.
        answer.encoding = "utf-8"
        #: Of the event that came last; None from a Marathon that gives none.
        self.last_id: str | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        try:
            for line in self._answer.iter_lines(chunk_size=1, decode_unicode=True):
                if line.startswith("id:"):
                    self.last_id = line[3:].strip()
                elif line.startswith("data:"):
                    yield json.loads(line[5:])
        except requests.RequestException:
            # Silence or a broken connection: the caller looks at the state and listens again.
            return
        except ValueError as error:
            raise MesostkError(f"Marathon's event is no JSON: {error}") from error

    def close(self) -> None:
        """Hang up."""
        self._answer.close()


class Masters(Members):
    """The masters' legacy interface."""

    def __init__(self, context: Context) -> None:
        super().__init__("the master", context.masters, credential_of(context))

    def slaves(self) -> list[dict[str, Any]]:
        """Agents as the leading master knows them."""
        return list(self.call("GET", "/slaves")["slaves"])

    def frameworks(self) -> list[dict[str, Any]]:
        """Frameworks that are registered."""
        return list(self.call("GET", "/frameworks")["frameworks"])

    def task(self, task_id: str) -> dict[str, Any] | None:
        """One task of any framework, also a completed one."""
        found = self.call("GET", "/tasks", query={"task_id": task_id})["tasks"]
        return dict(found[0]) if found else None

    def last_ended_task(self, app_id: str) -> dict[str, Any] | None:
        """The task of an app or a pod that ended last; None if it is not among the newest."""
        from mesostk.marathon.taskinfo import app_of
        from mesostk.wire.mesos import TERMINAL_STATES

        wanted = "/" + app_id.strip("/")
        ended = [
            task
            for task in self.call("GET", "/tasks", query={"limit": _NEWEST_TASKS})["tasks"]
            if app_of(str(task["id"])) == wanted and task["state"] in TERMINAL_STATES
        ]
        return max(ended, key=last_told, default=None)


def last_told(task: Mapping[str, Any]) -> float:
    """When the task's last status was told, in Unix time; 0 if none was."""
    return max((float(status["timestamp"]) for status in task.get("statuses", [])), default=0.0)


class Sandbox:
    """Files of one task, read from its agent."""

    def __init__(self, agent: str, place: str, credential: Credential | None) -> None:
        self._agent = Members(f"agent {agent}", [f"http://{agent}"], credential)
        self._base = f"/frameworks/{place}"

    def read(self, name: str, offset: int, length: int) -> tuple[int, bytes]:
        """(size of the file, up to `length` bytes from `offset` on).

        By the operator API: `/files/read` answers in text, which no longer tells how many bytes
        a character had that was cut or is no UTF-8.
        """
        call = {"path": f"{self._base}/{name}", "offset": offset, "length": length}
        body = self._agent.call("POST", "/api/v1", body={"type": "READ_FILE", "read_file": call})
        found = body["read_file"]
        return int(found["size"]), base64.b64decode(found.get("data", ""))


def _nested_of(task: Mapping[str, Any]) -> list[str]:
    """Where a pod's task is below its executor's sandbox; nothing for any other task."""
    for status in reversed(task.get("statuses", [])):
        found = (status.get("container_status") or {}).get("container_id") or {}
        if "parent" in found:
            return ["containers", str(found["value"])]
    return []


def sandbox_of(masters: Masters, task_id: str) -> Sandbox:
    """The sandbox of a task. Raises Rejected 404 if no master knows the task or its agent."""
    task = masters.task(task_id)
    if task is None:
        raise Rejected(404, f"no master knows a task {task_id!r}; `mesostk tasks` lists them")
    for agent in masters.slaves():
        if agent["id"] == task["slave_id"]:
            address = str(agent["pid"]).partition("@")[2]
            executor = task["executor_id"] or task_id
            where = [task["framework_id"], "executors", executor, "runs/latest", *_nested_of(task)]
            return Sandbox(address, "/".join(where), masters.credential)
    raise Rejected(404, f"agent {task['slave_id']} of task {task_id} is not registered any more")
