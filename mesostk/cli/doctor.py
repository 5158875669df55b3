"""What is wrong in a running cluster, each with the command that mends it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import typer

from mesostk.cli import contexts, dns
from mesostk.cli.clients import Marathon, Masters, Members
from mesostk.cli.cluster import InventoryOption, look
from mesostk.cli.contexts import Context, ContextOption
from mesostk.cli.nodes import state_of
from mesostk.cli.observation import host_of, zookeeper_modes, zookeepers
from mesostk.cli.output import (
    FAILED,
    Format,
    FormatOption,
    JsonOption,
    Table,
    chosen,
    errors,
    say,
    tell,
)
from mesostk.cli.status import member_states
from mesostk.errors import MesostkError
from mesostk.ops.ansible import Outcome
from mesostk.ops.diagnosis import (
    AgentSeen,
    AppSeen,
    Finding,
    Member,
    Seen,
    StepSeen,
    diagnose,
)

#: Names and routes follow a change within a second; what still differs after this is out of step.
_STEP_S = 4.0
_AGAIN_S = 0.5

#: Apps whose names are asked for: each is a request to each server.
_APPS_ASKED = 50


def doctor(
    inventory: InventoryOption = None,
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Find what is wrong in the running cluster; ends with 1 if anything is."""
    with errors():
        form = chosen(output, as_json)
        known = contexts.current(context)
        hosts = inventory or (Path(known.inventory) if known.inventory else None)
        outcome = None
        if hosts is None:
            say("This context has no inventory: disks, clocks and services are not looked at.")
        else:
            outcome = look("doctor", hosts, "The hosts were looked at.", form)
        found = diagnose(_Observer(known, outcome).seen())
        table = Table(("LEVEL", "WHAT", "PROBLEM", "REMEDY"), "subject")
        for one in found:
            row = (one.level, one.subject, one.problem, one.remedy)
            table.add(row, msgspec.to_builtins(one))
        if form is Format.TABLE:
            _show(found)
        else:
            table.show(form, "")
        if any(one.level == "error" for one in found):
            raise typer.Exit(FAILED)


def _show(found: Sequence[Finding]) -> None:
    """Equal findings of several subjects once; sentences do not fit into the cells of a table."""
    subjects: dict[tuple[str, str, str], list[str]] = {}
    for one in found:
        subjects.setdefault((one.level, one.problem, one.remedy), []).append(one.subject)
    for (level, problem, remedy), names in subjects.items():
        tell(f"{level}: {', '.join(names)}: {problem}\n    {remedy}")
    if not found:
        print("Nothing is wrong.")


class _Observer:
    """Asks everything that answers; what does not is a finding, never an end."""

    def __init__(self, context: Context, outcome: Outcome | None) -> None:
        self._context = context
        self._masters = Masters(context)
        self._marathon = Marathon(context)
        self._outcome = outcome
        told: Mapping[str, Any] = {} if outcome is None else outcome.told
        addresses: Mapping[str, str] = told.get("cluster_hosts", {})
        self._names = {where: name for name, where in addresses.items()}
        self._expected: Sequence[str] = told.get("cluster_agents", ())
        self._findings: Sequence[Mapping[str, str]] = told.get("host_findings", ())

    def _name(self, address: str) -> str:
        host = host_of(address)
        return self._names.get(host, host)

    def seen(self) -> Seen:
        """The cluster as it is now."""
        state = self._ask(lambda: dict(self._masters.call("GET", "/state")))
        slaves = self._ask(self._masters.slaves)
        apps = self._ask(self._apps)
        steps, deaf = self._edge(apps)
        now = time.time()
        elected = None if state is None else state.get("elected_time")
        return Seen(
            zookeeper=self._zookeeper(),
            members=[self._member(one) for one in member_states(self._context)],
            elected_s=None if elected is None else now - float(elected),
            leader_up_s=None if state is None else now - float(state["start_time"]),
            agents=None if slaves is None else [self._agent(one) for one in slaves],
            expected_agents=self._expected,
            has_marathon_framework=None
            if state is None
            else any(one["name"] == "marathon" and one["active"] for one in state["frameworks"]),
            apps=[_app(one) for one in apps or ()],
            steps=steps,
            deaf=deaf,
            services=[] if self._outcome is None else self._outcome.services,
            host_findings=self._findings,
        )

    def _ask(self, question: Any) -> Any:
        """The answer; None where nobody gives one, which the members' states explain."""
        try:
            return question()
        except MesostkError:
            return None

    def _apps(self) -> list[dict[str, Any]]:
        query = [("embed", "apps.tasks"), ("embed", "apps.deployments")]
        path = "/v2/apps?" + "&".join(f"{name}={value}" for name, value in query)
        return list(self._marathon.call("GET", path)["apps"])

    def _zookeeper(self) -> dict[str, str | None]:
        """Asked for of any master: who leads none may still know its members."""
        for url in self._context.masters:
            members = self._ask(
                lambda url=url: zookeepers(
                    Masters(msgspec.structs.replace(self._context, masters=[url]))
                )
            )
            if members:
                return {self._name(host): mode for host, mode in zookeeper_modes(members).items()}
        return {}

    def _member(self, one: Mapping[str, Any]) -> Member:
        kind = "master" if one["kind"] == "master" else "marathon"
        return Member(
            "master" if kind == "master" else "marathon",
            self._name(str(one["address"])),
            str(one["state"]),
            str(one["detail"]),
        )

    def _agent(self, slave: Mapping[str, Any]) -> AgentSeen:
        state = state_of(dict(slave))
        return AgentSeen(
            host=self._name(str(slave["pid"])),
            active=bool(slave["active"]),
            deactivated=bool(slave.get("deactivated")),
            draining=state in ("draining", "drained"),
            cpus=float(slave["resources"]["cpus"]),
            mem_mib=float(slave["resources"]["mem"]),
        )

    # -- names and routes -------------------------------------------------------------------------

    def _edge(
        self, apps: Sequence[Mapping[str, Any]] | None
    ) -> tuple[list[StepSeen], list[tuple[str, str, str]]]:
        """How names and routes stand to Marathon's tasks, asked again while they differ."""
        if apps is None:
            return [], []
        end = time.monotonic() + _STEP_S
        current = apps
        while True:
            steps, deaf = self._edge_once(current)
            if not deaf and all(sorted(one.has) == sorted(one.should) for one in steps):
                return steps, deaf
            if time.monotonic() > end:
                return steps, deaf
            time.sleep(_AGAIN_S)
            current = self._ask(self._apps) or current

    def _edge_once(
        self, apps: Sequence[Mapping[str, Any]]
    ) -> tuple[list[StepSeen], list[tuple[str, str, str]]]:
        steps: list[StepSeen] = []
        deaf: list[tuple[str, str, str]] = []
        for url in self._context.dns:
            try:
                steps += self._names_of(url, apps)
            except MesostkError as error:
                deaf.append(("mesos-dns", self._name(url), str(error)))
        for url in self._context.balancers:
            try:
                routes = Members("marathon-lb", [url]).call("GET", "/_mlb_status")
            except MesostkError as error:
                deaf.append(("marathon-lb", self._name(url), str(error)))
                continue
            if not routes["marathon"]["connected"]:
                deaf.append(("marathon-lb", self._name(url), "it does not hear Marathon"))
            if routes["haproxy"] is not None:
                deaf.append(("haproxy", self._name(url), str(routes["haproxy"])))
            steps += self._routes_of(url, routes["routes"], apps)
        return steps, deaf

    def _names_of(self, url: str, apps: Sequence[Mapping[str, Any]]) -> list[StepSeen]:
        server = Members("Mesos-DNS", [url])
        domain = str(server.call("GET", "/v1/config")["Domain"])
        found = []
        for app in apps[:_APPS_ASKED]:
            should = _hosts_of(app)
            name = dns.full_name(str(app["id"]), domain)
            # Longer names are cut, and tasks with addresses of their own are named by those.
            if len(name) > 60 or app.get("ipAddress") or not all(map(_is_address, should)):
                continue
            records = server.call("GET", f"/v1/hosts/{name}")
            has = {one["ip"] for one in records if one["ip"]}
            found.append(
                StepSeen(
                    service="mesos-dns",
                    host=self._name(url),
                    app=str(app["id"]),
                    has=tuple(has),
                    should=tuple(should),
                )
            )
        return found

    def _routes_of(
        self, url: str, routes: Sequence[Mapping[str, Any]], apps: Sequence[Mapping[str, Any]]
    ) -> list[StepSeen]:
        running = {str(app["id"]): len(_running(app)) for app in apps}
        return [
            StepSeen(
                service="marathon-lb",
                host=self._name(url),
                app=str(route["app_id"]),
                has=(f"{route['servers']} servers",),
                should=(f"{running[route['app_id']]} servers",),
            )
            for route in routes
            if route["app_id"] in running
        ]


def _running(app: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [one for one in app.get("tasks") or () if one["state"] == "TASK_RUNNING"]


def _hosts_of(app: Mapping[str, Any]) -> set[str]:
    return {str(one["host"]) for one in _running(app)}


def _is_address(host: str) -> bool:
    return host.replace(".", "").isdigit()


def _app(app: Mapping[str, Any]) -> AppSeen:
    return AppSeen(
        id=str(app["id"]),
        wanted=int(app["instances"]),
        running=int(app.get("tasksRunning", 0)),
        deploying=bool(app.get("deployments")),
    )
