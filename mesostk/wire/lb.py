"""Marathon's apps as a load balancer reads them: the spellings of 1.1 to 1.11, nulls allowed.

Everything that is not needed is left out, so that it cannot be wrong. Source:
spec/dns-lb-autoscale §2.4.
"""

from __future__ import annotations

import msgspec


class Json(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """Base of the records: camelCase, unknown fields ignored."""


class PortNumber(Json, frozen=True, kw_only=True):
    """One entry of `portDefinitions`."""

    port: int | None = None


class Mapping(Json, frozen=True, kw_only=True):
    """One entry of `portMappings`."""

    container_port: int | None = None
    service_port: int | None = None


class Docker(Json, frozen=True, kw_only=True):
    network: str | None = None
    port_mappings: tuple[Mapping, ...] | None = None


class Container(Json, frozen=True, kw_only=True):
    docker: Docker | None = None
    port_mappings: tuple[Mapping, ...] | None = None


class DiscoveryPort(Json, frozen=True, kw_only=True):
    number: int | None = None


class Discovery(Json, frozen=True, kw_only=True):
    ports: tuple[DiscoveryPort, ...] | None = None


class IpPerTask(Json, frozen=True, kw_only=True):
    """The `ipAddress` of Marathon 1.1 to 1.4."""

    discovery: Discovery | None = None


class Network(Json, frozen=True, kw_only=True):
    mode: str | None = None


class HealthCheck(Json, frozen=True, kw_only=True):
    """Times in seconds."""

    protocol: str | None = None
    path: str | None = None
    port_index: int | None = None
    port: int | None = None
    grace_period_seconds: int = 300
    interval_seconds: int = 60
    timeout_seconds: int = 20
    max_consecutive_failures: int = 3


class Result(Json, frozen=True, kw_only=True):
    alive: bool | None = None


class TaskAddress(Json, frozen=True, kw_only=True):
    ip_address: str | None = None


class Task(Json, frozen=True, kw_only=True):
    """`health_check_results` None: Marathon has said nothing yet."""

    id: str
    host: str | None = None
    state: str | None = None
    ports: tuple[int, ...] | None = None
    ip_addresses: tuple[TaskAddress, ...] | None = None
    health_check_results: tuple[Result | None, ...] | None = None


class VersionInfo(Json, frozen=True, kw_only=True):
    last_scaling_at: str | None = None


class App(Json, frozen=True, kw_only=True):
    """One app of `/v2/apps?embed=apps.tasks`."""

    id: str
    instances: int = 0
    labels: dict[str, str] | None = None
    ports: tuple[int, ...] | None = None
    port_definitions: tuple[PortNumber, ...] | None = None
    container: Container | None = None
    ip_address: IpPerTask | None = None
    networks: tuple[Network, ...] | None = None
    health_checks: tuple[HealthCheck, ...] | None = None
    tasks: tuple[Task, ...] | None = None
    version_info: VersionInfo | None = None


class Apps(Json, frozen=True, kw_only=True):
    """The whole answer; each app is read by itself, so that a wrong one harms no other."""

    apps: tuple[msgspec.Raw, ...]
