"""From Marathon's apps to services: which ports there are, and which servers stand behind them.

::

    app: labels, ports, health checks ─▶ Service per service port ─▶ servers of its tasks
             └─ a label that is wrong ─▶ Refusal(app, why); the others do not notice

Pure: host names are looked up by the caller, what health checks last said is passed in.
Source: spec/dns-lb-autoscale §2.4.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from mesostk.errors import WireError
from mesostk.lb import labels as label_names
from mesostk.lb.labels import LabelError, Labels
from mesostk.wire import json
from mesostk.wire.lb import App, Apps, HealthCheck, Task
from mesostk.wire.lb import Mapping as PortMapping

#: Tasks in these states get no requests. LOST and UNREACHABLE stay: the task may well be alive
#: behind a partition, and HAProxy's own check takes it out if it is not.
EXCLUDED_STATES: Final = frozenset(
    {
        "TASK_STAGING",
        "TASK_STARTING",
        "TASK_KILLING",
        "TASK_FINISHED",
        "TASK_FAILED",
        "TASK_KILLED",
        "TASK_ERROR",
        "TASK_DROPPED",
        "TASK_GONE",
        "TASK_GONE_BY_OPERATOR",
        "TASK_UNKNOWN",
    }
)

#: Checks of these protocols say by themselves that the service speaks HTTP, when borrowed by index.
_HTTP_CHECKS: Final = frozenset({"HTTP", "HTTPS", "MESOS_HTTP", "MESOS_HTTPS"})

#: Tries to place an assigned port by its hash before the first free one is taken.
_MAX_CLASHES: Final = 50


class Server(msgspec.Struct, frozen=True, gc=False):
    """One place that requests can go to."""

    host: str
    ip: str
    port: int
    draining: bool = False


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """One service port of one app, with its servers in the order of (host, port)."""

    app_id: str
    index: int
    port: int
    groups: tuple[str, ...]
    labels: Labels
    check: HealthCheck | None
    servers: tuple[Server, ...]

    @property
    def mode(self) -> str:
        """`http` or `tcp`, also where nobody said."""
        if self.labels.mode is not None:
            return self.labels.mode
        return "http" if self.labels.vhosts else "tcp"

    @property
    def backend(self) -> str:
        """Name of its frontend and backend."""
        return f"{self.app_id[1:].replace('/', '_')}_{self.port}"


class Refusal(msgspec.Struct, frozen=True):
    """An app, or one of its ports, that is left out, and why."""

    app_id: str
    reason: str


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the flags say about which services there are."""

    groups: frozenset[str]
    strict: bool = False
    health_check: bool = False
    framework_name: str | None = None
    assigned_ports: tuple[int, int] | None = (10050, 10100)


class Model(msgspec.Struct, frozen=True):
    """Services by (app id, port), only such as are to be served, and what was left out."""

    services: tuple[Service, ...]
    refusals: tuple[Refusal, ...]


class AppTasks(msgspec.Struct, frozen=True):
    """An app under the name it is served by, with its tasks, and which of them are drained."""

    app: App
    app_id: str
    tasks: tuple[Task, ...]
    draining: frozenset[str] = frozenset()


def read_apps(raw: bytes) -> tuple[list[App], list[Refusal]]:
    """The apps of `GET /v2/apps?embed=apps.tasks`; WireError if that is no list of apps."""
    apps, refusals = [], []
    for item in json.decode(raw, Apps).apps:
        try:
            apps.append(json.decode(bytes(item), App))
        except WireError as error:
            refusals.append(Refusal(_id_of(item), f"Marathon's record is not understood: {error}"))
    return apps, refusals


class _Id(msgspec.Struct):
    id: str = "?"


def _id_of(item: msgspec.Raw) -> str:
    try:
        return msgspec.json.decode(item, type=_Id).id
    except msgspec.DecodeError:
        return "?"


# -- ports ------------------------------------------------------------------------------------


def network_mode(app: App) -> str:
    """`host`, `container` or `container/bridge`, from whichever spelling the app uses."""
    mode = "host" if app.ip_address is None else "container"
    docker = None if app.container is None else app.container.docker
    if docker is not None and docker.network == "USER":
        mode = "container"
    elif docker is not None and docker.network == "BRIDGE":
        mode = "container/bridge"
    for network in app.networks or ():
        mode = network.mode if network.mode is not None else "container"
    return mode


def _mappings(app: App) -> tuple[PortMapping, ...]:
    container = app.container
    if container is None:
        return ()
    if container.docker is not None and container.docker.port_mappings:
        return container.docker.port_mappings
    return container.port_mappings or ()


def _definition_ports(app: App) -> list[int]:
    return [one.port for one in app.port_definitions or () if one.port is not None]


def _mapped_ports(app: App) -> list[int]:
    return [one.container_port for one in _mappings(app) if one.container_port is not None]


def task_ports(app: App, task: Task, mode: str) -> Sequence[int]:
    """The ports at which the task is reached, in the order of the service ports."""
    if mode == "container":
        discovery = None if app.ip_address is None else app.ip_address.discovery
        numbers = () if discovery is None else discovery.ports or ()
        found = [one.number for one in numbers if one.number is not None]
        return found or _mapped_ports(app)
    if task.ports:
        return task.ports
    defined = _definition_ports(app)
    return defined if defined or mode == "host" else _mapped_ports(app)


def service_ports(app: App, mode: str) -> list[int]:
    """The service ports that Marathon gave the app."""
    if mode != "host":
        given = [one.service_port for one in _mappings(app) if one.service_port is not None]
        if given:
            return given
    if app.port_definitions is not None:
        return _definition_ports(app)
    return list(app.ports or ())


class PortAssigner:
    """Service ports for apps that got none: the same for the same app as long as nobody clashes."""

    def __init__(self, span: tuple[int, int] | None) -> None:
        self._span = span
        self._by_key: dict[tuple[str, int], int] = {}
        self._taken: set[int] = set()

    def assign(self, app_id: str, ports: Iterable[int]) -> list[int]:
        """A service port for each of `ports`; as many as there are left."""
        found = (self._one(app_id, port) for port in ports)
        return [port for port in found if port is not None]

    def _one(self, app_id: str, port: int) -> int | None:
        known = self._by_key.get((app_id, port))
        if known is not None or self._span is None:
            return known
        low, high = self._span
        hashed = (_hashed(app_id, port, turn, low, high) for turn in range(_MAX_CLASHES))
        free = next((one for one in hashed if one not in self._taken), None)
        if free is None:
            free = next((one for one in range(low, high + 1) if one not in self._taken), None)
        if free is not None:
            self._by_key[app_id, port] = free
            self._taken.add(free)
        return free


def _hashed(app_id: str, port: int, turn: int, low: int, high: int) -> int:
    digest = hashlib.sha1(f"{app_id}-{port}-{turn}".encode(), usedforsecurity=False)
    return low + int(digest.hexdigest()[:8], 16) % (high - low + 1)


# -- services ---------------------------------------------------------------------------------


_APP_ID = re.compile(r"/[A-Za-z0-9._/-]+")
_WORD = re.compile(r"[^\s\"'\\#$\x00-\x1f\x7f]+")


def _why_not(one: AppTasks) -> str | None:
    """What of the app could not stand in haproxy.cfg, though no label says it."""
    if _APP_ID.fullmatch(one.app_id) is None:
        return f"its id {label_names.shown(one.app_id)} has a character that ids do not have"
    for check in one.app.health_checks or ():
        if check.path and _WORD.fullmatch(check.path) is None:
            return f"health check path {label_names.shown(check.path)} is more than one plain word"
    return None


def check_for(app: App, index: int) -> HealthCheck | None:
    """The health check of service port `index`: the first with `port`, or of that index."""
    for check in app.health_checks or ():
        if check.port or check.port_index == index:
            return check
    return None


def _labels_of(
    app: App, index: int, pairs: Iterable[tuple[str, str]], *, strict: bool
) -> tuple[Labels, HealthCheck | None]:
    check = check_for(app, index)
    base = Labels(enabled=not strict)
    if check is not None and check.protocol == "HTTP":
        base.mode = "http"
    found = label_names.parse(index, pairs, base)
    if check is None and found.check_port_index is not None:
        check = check_for(app, found.check_port_index)
        if check is not None and check.protocol in _HTTP_CHECKS:
            found.mode = "http"
    return found, check


class Resolver(msgspec.Struct, frozen=True):
    """What the pure part is told of the world: addresses of hosts, last known health of tasks."""

    address: Callable[[str], str | None]
    was_alive: Callable[[str], bool]


def _address_of(task: Task, mode: str, resolver: Resolver) -> str | None:
    if mode == "container":
        first = next(iter(task.ip_addresses or ()), None)
        return None if first is None else literal(first.ip_address or "")
    return None if task.host is None else resolver.address(task.host)


@functools.lru_cache(maxsize=16_384)
def literal(text: str) -> str | None:
    """`text` if it is an IPv4 or IPv6 address, else None."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return None
    return text


def is_served(app: App, task: Task, settings: Settings, resolver: Resolver) -> bool:
    """Whether the task may get requests, as far as Marathon knows."""
    if not task.host or _WORD.fullmatch(task.host) is None or task.state in EXCLUDED_STATES:
        return False
    if not settings.health_check or not app.health_checks:
        return True
    if task.health_check_results is None:
        return resolver.was_alive(task.id)
    return is_alive(task)


def is_alive(task: Task) -> bool:
    """Whether any health check calls the task alive."""
    results = task.health_check_results or ()
    return any(result is not None and bool(result.alive) for result in results)


def services_of(
    one: AppTasks, settings: Settings, resolver: Resolver, assigner: PortAssigner
) -> list[Service]:
    """The services of one app that are to be served; LabelError if one of its labels is wrong."""
    app = one.app
    wrong = _why_not(one)
    if wrong is not None:
        raise LabelError(wrong)
    mode = network_mode(app)
    ports = service_ports(app, mode)
    if not ports and mode == "container" and one.tasks:
        ports = assigner.assign(one.app_id, task_ports(app, one.tasks[0], mode))
    groups = (app.labels or {}).get("HAPROXY_GROUP")
    app_groups = () if groups is None else tuple(groups.split(","))
    servers = _servers(one, mode, settings, resolver, len(ports))
    indexed = label_names.by_index(app.labels or {})
    found = []
    for index, port in enumerate(ports):
        labels, check = _labels_of(app, index, indexed.get(index, ()), strict=settings.strict)
        wanted = labels.groups or app_groups
        if not labels.enabled or not servers[index] or not _in_groups(wanted, settings.groups):
            continue
        number = labels.port if labels.port is not None else port
        if not 0 < number < 65536:
            raise LabelError(f"service port {number} cannot be bound; set HAPROXY_{index}_PORT")
        found.append(
            Service(
                app_id=one.app_id,
                index=index,
                port=number,
                groups=wanted,
                labels=labels,
                check=check,
                servers=servers[index],
            )
        )
    return found


def _in_groups(wanted: Iterable[str], served: frozenset[str]) -> bool:
    return "*" in served or not served.isdisjoint(wanted)


def _servers(
    one: AppTasks, mode: str, settings: Settings, resolver: Resolver, count: int
) -> list[tuple[Server, ...]]:
    found: list[dict[tuple[str, str, int], Server]] = [{} for _ in range(count)]
    for task in one.tasks:
        if not is_served(one.app, task, settings, resolver):
            continue
        ip = _address_of(task, mode, resolver)
        if ip is None:
            continue
        host = task.host or ""
        draining = task.id in one.draining
        for table, port in zip(found, task_ports(one.app, task, mode), strict=False):
            table[host, ip, port] = Server(host, ip, port, draining)
    return [tuple(table[key] for key in sorted(table, key=_by_host_port)) for table in found]


def _by_host_port(key: tuple[str, str, int]) -> tuple[str, int, str]:
    host, ip, port = key
    return host, port, ip


def build(apps: Iterable[AppTasks], settings: Settings, resolver: Resolver) -> Model:
    """All services to serve, by (app id, port)."""
    services: list[Service] = []
    refusals: list[Refusal] = []
    assigner = PortAssigner(settings.assigned_ports)
    for one in apps:
        if settings.framework_name and one.app_id[1:] == settings.framework_name:
            continue
        try:
            services += services_of(one, settings, resolver, assigner)
        except LabelError as error:
            refusals.append(Refusal(one.app.id, str(error)))
    services.sort(key=lambda service: (service.app_id, service.port, service.index))
    return Model(tuple(services), tuple(refusals))
