"""Marathon's `/v2/pods` records besides the definition: what clients send, and status views.

Source: spec/marathon §1.7; docs of Marathon 1.4 … 1.11. The definition is in `wire.marathon`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from mesostk.wire.marathon import (
    EnvSecret,
    ExecutorResources,
    Json,
    LinuxInfo,
    LocalVolume,
    Network,
    PodContainer,
    PodResources,
    PodVolume,
    Scheduling,
    SecretSource,
)
from mesostk.wire.mesos import shown


class Scaling(Json, frozen=True, kw_only=True):
    kind: Literal["fixed"] = shown("fixed")
    instances: int = shown(1)
    max_instances: int | None = None


class PodInput(Json, frozen=True, kw_only=True):
    """A pod as clients send it; the keys of `PodDefinition` and those of the run spec."""

    id: str
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    user: str | None = None
    environment: dict[str, str | EnvSecret] = msgspec.field(default_factory=dict)
    containers: tuple[PodContainer, ...]
    secrets: dict[str, SecretSource] = msgspec.field(default_factory=dict)
    volumes: tuple[PodVolume, ...] = ()
    networks: tuple[Network, ...] = (Network(mode="host"),)
    scaling: Scaling = Scaling()
    scheduling: Scheduling = Scheduling()
    executor_resources: ExecutorResources = ExecutorResources()
    role: str | None = None
    linux_info: LinuxInfo | None = None
    legacy_shared_cgroups: bool | None = None


# -- status -----------------------------------------------------------------------------------


class EndpointStatus(Json, frozen=True, kw_only=True):
    name: str
    allocated_host_port: int | None = None
    healthy: bool | None = None


class TerminationState(Json, frozen=True, kw_only=True):
    exit_code: int | None = None
    message: str | None = None


class StatusCondition(Json, frozen=True, kw_only=True):
    name: str
    value: str
    reason: str | None = None
    last_changed: str
    last_updated: str


class ContainerStatus(Json, frozen=True, kw_only=True):
    name: str
    status: str
    status_since: str
    message: str | None = None
    container_id: str | None = None
    conditions: tuple[StatusCondition, ...] = shown(())
    endpoints: tuple[EndpointStatus, ...] = shown(())
    resources: PodResources | None = None
    termination: TerminationState | None = None
    last_updated: str
    last_changed: str


class NetworkStatus(Json, frozen=True, kw_only=True):
    name: str | None = None
    addresses: tuple[str, ...] = shown(())


InstanceState = Literal["PENDING", "STAGING", "STABLE", "DEGRADED", "TERMINAL"]


class InstanceStatus(Json, frozen=True, kw_only=True):
    id: str
    status: InstanceState
    status_since: str
    conditions: tuple[StatusCondition, ...] = shown(())
    agent_hostname: str | None = None
    agent_id: str | None = None
    agent_region: str | None = None
    agent_zone: str | None = None
    resources: PodResources | None = None
    networks: tuple[NetworkStatus, ...] = shown(())
    containers: tuple[ContainerStatus, ...] = shown(())
    spec_reference: str | None = None
    local_volumes: tuple[LocalVolume, ...] = shown(())
    message: str | None = None
    role: str | None = None
    last_updated: str
    last_changed: str


class TerminatedContainer(Json, frozen=True, kw_only=True):
    container_id: str
    last_known_state: str | None = None
    termination: TerminationState | None = None


class TerminationHistory(Json, frozen=True, kw_only=True):
    """An instance that ended; kept while this leader leads."""

    instance_id: str = msgspec.field(name="instanceID")  # spelled so by the original
    started_at: str
    terminated_at: str
    message: str | None = None
    containers: tuple[TerminatedContainer, ...] = shown(())


class PodStatus(Json, frozen=True, kw_only=True):
    id: str
    spec: dict[str, object]
    status: Literal["DEGRADED", "STABLE", "TERMINAL"]
    status_since: str
    message: str | None = None
    instances: tuple[InstanceStatus, ...] = shown(())
    termination_history: tuple[TerminationHistory, ...] = shown(())
    last_updated: str
    last_changed: str
