"""App JSON as clients send it, both generations in one shape, and how it is read.

`read` turns a JSON value into `AppInput` or refuses with the path of what is wrong. Nothing is
interpreted here; `apps` does that.
Sources: spec/marathon §1.2 (400 and 422, path syntax), §2.1-2.5 (fields).
"""

from __future__ import annotations

import difflib
import re
from typing import Literal, TypeVar

import msgspec

from mesostk.marathon.refusal import INVALID_JSON, INVALID_OBJECT, Refused, violation
from mesostk.wire.marathon import (
    Check,
    DockerParameter,
    EnvSecret,
    ExecutorResources,
    Fetch,
    HealthCheck,
    KillSelection,
    LinuxInfo,
    Network,
    PortDefinition,
    PortMapping,
    PullConfig,
    ReadinessCheck,
    Residency,
    ResourceLimits,
    SecretSource,
    UnreachableStrategy,
    UpgradeStrategy,
    Violation,
    Volume,
)

#: Keys that answers carry, so that a client may send back what it got; they are not read.
READ_ONLY = frozenset(
    {
        "version", "versionInfo", "storeUrls", "deployments", "tasks", "tasksStaged",
        "tasksRunning", "tasksHealthy", "tasksUnhealthy", "lastTaskFailure", "taskStats",
        "tasksStats", "readinessCheckResults", "taskRateLimit",
    }
)  # fmt: skip


class Input(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of the shapes below; every key may be absent."""


class DiscoveryPort(Input, frozen=True, kw_only=True):
    number: int
    name: str | None = None
    protocol: Literal["tcp", "udp", "udp,tcp"] = "tcp"
    labels: dict[str, str] = msgspec.field(default_factory=dict)


class Discovery(Input, frozen=True, kw_only=True):
    ports: tuple[DiscoveryPort, ...] = ()


class IpAddressInput(Input, frozen=True, kw_only=True):
    """IP per task, as written until 1.4."""

    groups: tuple[str, ...] = ()
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    discovery: Discovery = Discovery()
    network_name: str | None = None


class DockerInput(Input, frozen=True, kw_only=True):
    image: str
    network: Literal["HOST", "BRIDGE", "USER", "NONE"] | None = None
    port_mappings: tuple[PortMapping, ...] | None = None
    privileged: bool = False
    force_pull_image: bool = False
    parameters: tuple[DockerParameter, ...] = ()
    pull_config: PullConfig | None = None
    credential: dict[str, object] | None = None


class ContainerInput(Input, frozen=True, kw_only=True):
    type: Literal["DOCKER", "MESOS"] = "DOCKER"
    docker: DockerInput | None = None
    volumes: tuple[Volume, ...] = ()
    port_mappings: tuple[PortMapping, ...] | None = None
    linux_info: LinuxInfo | None = None


class AppInput(Input, frozen=True, kw_only=True):
    id: str | None = None
    cmd: str | None = None
    args: tuple[str, ...] | None = None
    user: str | None = None
    env: dict[str, str | EnvSecret] | None = None
    instances: int | None = None
    cpus: float | None = None
    mem: float | None = None
    disk: float | None = None
    gpus: int | None = None
    resource_limits: ResourceLimits | None = None
    executor: str | None = None
    executor_resources: ExecutorResources | None = None
    constraints: tuple[tuple[str, ...], ...] | None = None
    fetch: tuple[Fetch, ...] | None = None
    uris: tuple[str, ...] | None = None
    ports: tuple[int, ...] | None = None
    port_definitions: tuple[PortDefinition, ...] | None = None
    require_ports: bool | None = None
    networks: tuple[Network, ...] | None = None
    ip_address: IpAddressInput | None = None
    container: ContainerInput | None = None
    health_checks: tuple[HealthCheck, ...] | None = None
    check: Check | None = None
    readiness_checks: tuple[ReadinessCheck, ...] | None = None
    dependencies: tuple[str, ...] | None = None
    upgrade_strategy: UpgradeStrategy | None = None
    backoff_seconds: float | None = None
    backoff_factor: float | None = None
    max_launch_delay_seconds: float | None = None
    labels: dict[str, str] | None = None
    accepted_resource_roles: tuple[str, ...] | None = None
    role: str | None = None
    residency: Residency | None = None
    task_kill_grace_period_seconds: int | None = None
    kill_selection: KillSelection | None = None
    unreachable_strategy: UnreachableStrategy | Literal["disabled"] | None = None
    secrets: dict[str, SecretSource] | None = None
    tty: bool | None = None


S = TypeVar("S", bound=msgspec.Struct)

#: Deeper than any app; a limit keeps a hostile body from exhausting the stack.
MAX_DEPTH = 32


def read(raw: object) -> AppInput:
    """The body of an app. Raises `Refused`: 400 for types and missing keys, 422 unknown keys."""
    if isinstance(raw, dict):
        raw = {key: value for key, value in raw.items() if key not in READ_ONLY}
    return read_as(raw, AppInput)


def read_as(raw: object, shape: type[S]) -> S:
    """`raw` as `shape`; `null` members count as absent, unknown keys are refused with a hint."""
    present = _without_nulls(raw, 0)
    try:
        found = msgspec.convert(present, shape)
    except msgspec.ValidationError as error:
        raise Refused(400, INVALID_JSON, [_translated(str(error))]) from None
    unknown = list(_unknown_keys(present, found, ""))
    if unknown:
        raise Refused(422, INVALID_OBJECT, unknown)
    return found


def _without_nulls(value: object, depth: int) -> object:
    if depth > MAX_DEPTH:
        raise Refused(400, INVALID_JSON, f"nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        return {k: _without_nulls(v, depth + 1) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(item, depth + 1) for item in value]
    return value


def _unknown_keys(raw: object, found: object, path: str) -> list[Violation]:
    if isinstance(found, msgspec.Struct):
        assert isinstance(raw, dict)
        # Not msgspec.structs.fields, which evaluates every annotation anew: 1 ms an app.
        fields = dict(zip(found.__struct_encode_fields__, found.__struct_fields__, strict=True))
        violations = [_unknown(path, key, list(fields)) for key in raw if key not in fields]
        for key in raw.keys() & fields.keys():
            violations += _unknown_keys(raw[key], getattr(found, fields[key]), f"{path}/{key}")
        return violations
    if isinstance(found, tuple) and isinstance(raw, list):
        nested = (
            _unknown_keys(one, item, f"{path}({index})")
            for index, (one, item) in enumerate(zip(raw, found, strict=True))
        )
        return [violation for violations in nested for violation in violations]
    if isinstance(found, dict) and isinstance(raw, dict):
        nested = (_unknown_keys(raw[key], found[key], f"{path}/{key}") for key in found)
        return [violation for violations in nested for violation in violations]
    return []


def _unknown(path: str, key: str, fields: list[str]) -> Violation:
    near = difflib.get_close_matches(key[:64], fields, n=1)
    hint = f"did you mean '{near[0]}'?" if near else "remove it"
    return violation(f"{path}/{key}", f"is not a field here; {hint}")


_AT = re.compile(r"(?P<what>.*?)(?: - at `(?P<path>\$?.*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<key>.*)`")


def _translated(message: str) -> Violation:
    """msgspec's one message as path and text: `$.a[0].b` becomes `/a(0)/b`."""
    parts = _AT.fullmatch(message)
    assert parts is not None  # the pattern matches any text
    path = (parts["path"] or "$")[1:].replace("[...]", "")  # some member of a map: not told which
    path = re.sub(r"\[(\d+)\]", r"(\1)", path).replace(".", "/")
    missing = _MISSING.fullmatch(parts["what"])
    if missing is not None:
        return violation(f"{path}/{missing['key']}", "is required and missing")
    what = parts["what"].replace("`", "").replace("array", "list")
    return violation(path or "/", what[:1].lower() + what[1:])
