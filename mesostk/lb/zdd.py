"""Zero-downtime deployments, the doing part: Marathon, balancers, the pre-kill hook, waiting.

::

    create the other colour ─▶ ┌▶ wait: deployed, all balancers know it, some old are drained
                               │   all old drained and the new complete? ─▶ delete the old, done
                               └── kill what has drained (hook first) ◀─ scale the new up

Source: spec/dns-lb-autoscale §2.13.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import requests

from mesostk.lb import deployment, runtime
from mesostk.lb.deployment import App, Listener, Settings, ZddError

TIMEOUT_S: Final = (3.0, 30.0)

#: A balancer with more processes than master and worker still ends connections of before.
SETTLED_PIDS: Final = 2


class Services:
    """Marathon and the balancers, as a deployment needs them."""

    def __init__(
        self, marathon: str, balancers: Sequence[str], auth: tuple[str, str] | None = None
    ) -> None:
        self._marathon = marathon.rstrip("/")
        self._balancers = [one.rstrip("/") for one in balancers]
        self._session = requests.Session()
        self._session.trust_env = False
        self._auth = auth

    def call(self, code: int, method: str, path: str, body: object = None) -> Any:
        """Marathon's answer; ZddError with `code` if it refuses or is not there."""
        try:
            answer = self._session.request(
                method, self._marathon + path, json=body, auth=self._auth, timeout=TIMEOUT_S
            )
            answer.raise_for_status()
        except requests.RequestException as error:
            text = "" if error.response is None else error.response.text[:400]
            raise ZddError(code, f"Marathon, {method} {path}: {error} {text}".strip()) from error
        return answer.json() if answer.content else None

    def apps(self) -> list[App]:
        """All apps."""
        return list(self.call(deployment.MARATHON, "GET", "/v2/apps")["apps"])

    def app(self, app_id: str) -> App:
        """One app with its tasks."""
        found: App = self.call(deployment.MARATHON, "GET", f"/v2/apps{app_id}")["app"]
        return found

    def balancers(self) -> list[str]:
        """A URL for every address of the balancers' names; ZddError (5) if one has none."""
        urls: dict[str, None] = {}
        for balancer in self._balancers:
            parts = urlsplit(balancer)
            port = parts.port if parts.port is not None else 80
            try:
                found = socket.getaddrinfo(parts.hostname, port, socket.AF_INET, socket.SOCK_STREAM)
            except OSError as error:
                raise ZddError(deployment.BALANCER, f"{balancer}: {error}") from error
            urls |= {f"{parts.scheme}://{one[4][0]}:{port}": None for one in found}
        return list(urls)

    def ask_balancer(self, url: str, path: str) -> str:
        """What one balancer answers; ZddError (5) if it does not."""
        try:
            answer = self._session.get(url + path, timeout=TIMEOUT_S)
            answer.raise_for_status()
        except requests.RequestException as error:
            raise ZddError(deployment.BALANCER, f"balancer {url}: {error}") from error
        return answer.text

    def statistics(self, backend: str) -> tuple[list[Listener], int] | None:
        """The backend's servers on all balancers, and how many; None while one still reloads."""
        found: list[Listener] = []
        urls = self.balancers()
        for url in urls:
            if len(self.ask_balancer(url, "/_haproxy_getpids").split()) > SETTLED_PIDS:
                return None
            rows = runtime.statistics(self.ask_balancer(url, "/haproxy?stats;csv"))
            found += deployment.listeners(url, rows, backend)
        return found, len(urls)


class Deployment:
    """One deployment from where it stands to its end."""

    def __init__(
        self,
        services: Services,
        settings: Settings,
        say: Callable[[str], None],
        confirm: Callable[[str], bool],
        hook: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._services = services
        self._settings = settings
        self._say = say
        self._confirm = confirm
        self._hook = hook
        self._sleep = sleep

    def create(self, app: App) -> App:
        """Create the new colour; ZddError (7) if Marathon will not."""
        self._say(f"Creating {app['id']} with {app['instances']} instances")
        self._services.call(deployment.CREATE, "POST", "/v2/apps", app)
        return app

    def prepare(self, app: App) -> tuple[App, list[App]]:
        """What would be created, and the apps of its group that there are."""
        deployment.validate(app)
        previous = deployment.of_group(self._services.apps(), app)
        now = datetime.now(UTC).replace(tzinfo=None).isoformat()
        return deployment.prepared(app, previous, now, self._settings), previous

    def swap(self, new_id: str, old_id: str) -> bool:
        """Go on until the new app has taken over, or both have their share; False if declined."""
        while True:
            new, old = self._settled(new_id), self._services.app(old_id)
            if deployment.is_finished(new, old, self._settings):
                self._say("Both apps have their instances")
                return True
            ready = self._wait_for_drained(new, old)
            is_complete = int(new["instances"]) == deployment.target_of(new)
            if is_complete and len(ready) == int(old["instances"]):
                return self._delete(old)
            if ready and not self._kill(new, old, ready):
                return False
            self._scale(new, self._services.app(old_id))

    def _settled(self, app_id: str) -> App:
        while True:
            app = self._services.app(app_id)
            if not app.get("deployments"):
                return app
            self._say(f"{app_id} is still deploying")
            self._sleep(self._settings.step_delay_s)

    def _wait_for_drained(self, new: App, old: App) -> list[str]:
        """Old tasks that may be killed now; on timeout those that are being drained."""
        backend = deployment.backend_of(new)
        waited = 0.0
        found: list[Listener] = []
        while waited <= self._settings.max_wait_s:
            seen = self._services.statistics(backend)
            if seen is not None:
                found, balancers = seen
                if deployment.is_ready(found, new, old, balancers):
                    ready = deployment.drained(found, old, balancers)
                    if ready or not old["instances"]:
                        return ready
            self._sleep(self._settings.step_delay_s)
            waited += max(self._settings.step_delay_s, 0.01)
        self._say(f"Waited {self._settings.max_wait_s:g} s for {old['id']} to drain; going on")
        return deployment.draining(found, old)

    def _kill(self, new: App, old: App, ids: Sequence[str]) -> bool:
        hybrid = deployment.hybrid_of(new, self._settings)
        if hybrid:
            spare = int(old["instances"]) - (deployment.target_of(new) - hybrid)
            ids = list(ids)[: max(0, spare)]
        if not ids:
            return True
        if not self._confirm(f"Kill {len(ids)} drained tasks of {old['id']}?"):
            return False
        if self._hook is not None:
            self._run_hook(old, ids, new)
        self._say(f"Killing {', '.join(ids)}")
        self._services.call(
            deployment.SCALE, "POST", "/v2/tasks/delete?scale=true", {"ids": list(ids)}
        )
        return True

    def _run_hook(self, old: App, ids: Sequence[str], new: App) -> None:
        assert self._hook is not None
        arguments = [json.dumps(old), json.dumps(list(ids)), json.dumps(new)]
        try:
            code = subprocess.run([self._hook, *arguments], check=False).returncode
        except OSError as error:
            raise ZddError(deployment.UNKNOWN, f"hook {self._hook}: {error.strerror}") from error
        if code != 0:
            raise ZddError(deployment.UNKNOWN, f"hook {self._hook} ended with {code}: stopped")

    def _scale(self, new: App, old: App) -> None:
        count = deployment.next_instances(new, old, self._settings)
        if count == new["instances"]:
            return
        self._say(f"Scaling {new['id']} from {new['instances']} to {count}")
        self._services.call(deployment.SCALE, "PUT", f"/v2/apps{new['id']}", {"instances": count})

    def _delete(self, old: App) -> bool:
        if not self._confirm(f"Delete {old['id']}, whose instances have all drained?"):
            return False
        self._say(f"Deleting {old['id']}")
        self._services.call(deployment.DELETE, "DELETE", f"/v2/apps{old['id']}")
        return True
