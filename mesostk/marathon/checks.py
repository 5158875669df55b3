"""Checks that the agent runs: the first `COMMAND` or `MESOS_*` health check, and `check`.

Source: spec/marathon §2.4, §2.1 (check). A port is the one that the task listens on: with host
networking the host port, else the port inside the container.
"""

from __future__ import annotations

from mesostk.marathon.apps import is_host
from mesostk.marathon.matcher import Match
from mesostk.wire import mesos
from mesostk.wire.marathon import LEADER_PROBED, AppDefinition, HealthCheck


def health_check(app: AppDefinition, match: Match) -> mesos.HealthCheck | None:
    """The health check to pass on; only one can be."""
    for check in app.health_checks:
        if check.protocol not in LEADER_PROBED:
            return _passed_on(app, match, check)
    return None


def _passed_on(app: AppDefinition, match: Match, check: HealthCheck) -> mesos.HealthCheck:
    kind: mesos.CheckType = "HTTP"
    command, http, tcp = None, None, None
    if check.protocol == "COMMAND":
        kind = "COMMAND"
        command = mesos.CommandInfo(value=check.command.value if check.command is not None else "")
    elif check.protocol == "MESOS_TCP":
        kind = "TCP"
        port = _port(app, match, check.port_index, check.port)
        tcp = mesos.TCPCheckInfo(port=port, protocol=check.ip_protocol)
    else:
        http = mesos.HTTPCheckInfo(
            port=_port(app, match, check.port_index, check.port),
            scheme="https" if check.protocol == "MESOS_HTTPS" else "http",
            path=check.path,
            protocol=check.ip_protocol,
        )
    return mesos.HealthCheck(
        type=kind,
        command=command,
        http=http,
        tcp=tcp,
        delay_seconds=float(check.delay_seconds),
        interval_seconds=float(check.interval_seconds),
        timeout_seconds=float(check.timeout_seconds),
        grace_period_seconds=float(check.grace_period_seconds),
        consecutive_failures=check.max_consecutive_failures,
    )


def check(app: AppDefinition, match: Match) -> mesos.CheckInfo | None:
    """The check whose result is only shown."""
    wanted = app.check
    if wanted is None:
        return None
    kind: mesos.CheckType = "COMMAND"
    command, http, tcp = None, None, None
    if wanted.http is not None:
        kind = "HTTP"
        port = _port(app, match, wanted.http.port_index, wanted.http.port)
        http = mesos.CheckHttp(port=port, path=wanted.http.path)
    elif wanted.tcp is not None:
        kind = "TCP"
        tcp = mesos.CheckTcp(port=_port(app, match, wanted.tcp.port_index, wanted.tcp.port))
    elif wanted.exec is not None:
        shell = mesos.CommandInfo(value=wanted.exec.command.shell)
        command = mesos.CheckCommand(command=shell)
    return mesos.CheckInfo(
        type=kind,
        command=command,
        http=http,
        tcp=tcp,
        delay_seconds=float(wanted.delay_seconds),
        interval_seconds=float(wanted.interval_seconds),
        timeout_seconds=float(wanted.timeout_seconds),
    )


def _port(app: AppDefinition, match: Match, index: int | None, fixed: int | None) -> int:
    if fixed is not None:
        return fixed
    at = 0 if index is None else index
    if not is_host(app.networks) and app.container is not None:
        inside = app.container.port_mappings[at].container_port
        if inside != 0:
            return inside
    return match.seen[at]
