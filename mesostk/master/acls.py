"""`--acls`: which principal may do what to whom.

::

    {"permissive": false,
     "register_frameworks": [{"principals": {"values": ["marathon"]}, "roles": {"type": "ANY"}}]}

The first rule of an action that fits the principal and the object decides; where none fits,
`permissive` does. Source: spec/mesos.md §10 and Mesos docs/authorization.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeVar

import msgspec

from mesostk.errors import ConfigError

T = TypeVar("T")

#: What the objects of each action are called.
OBJECTS = {
    "register_frameworks": "roles",
    "run_tasks": "users",
    "teardown_frameworks": "framework_principals",
    "reserve_resources": "roles",
    "unreserve_resources": "reserver_principals",
    "create_volumes": "roles",
    "resize_volumes": "roles",
    "destroy_volumes": "creator_principals",
    "get_quotas": "roles",
    "update_quotas": "roles",
    "view_roles": "roles",
    "update_weights": "roles",
    "get_endpoints": "paths",
    "view_frameworks": "users",
    "view_tasks": "users",
    "view_executors": "users",
    "access_mesos_logs": "logs",
    "view_flags": "flags",
    "set_log_level": "level",
    "register_agents": "agents",
    "update_maintenance_schedules": "machines",
    "get_maintenance_schedules": "machines",
    "start_maintenances": "machines",
    "stop_maintenances": "machines",
    "get_maintenance_statuses": "machines",
    "drain_agents": "agents",
    "deactivate_agents": "agents",
    "reactivate_agents": "agents",
    "mark_agents_gone": "agents",
}

#: Actions of agents, and of what is not built here; a file may serve masters and agents alike.
_ELSEWHERE = frozenset(
    {
        "access_sandboxes", "attach_containers_input", "attach_containers_output",
        "create_block_disks", "create_mount_disks", "destroy_block_disks", "destroy_mount_disks",
        "destroy_raw_disks", "kill_nested_containers", "kill_standalone_containers",
        "launch_nested_container_sessions_as_user",
        "launch_nested_container_sessions_under_parent_with_user",
        "launch_nested_containers_as_user", "launch_nested_containers_under_parent_with_user",
        "launch_standalone_containers", "mark_resource_providers_gone",
        "modify_resource_provider_configs", "prune_images", "remove_nested_containers",
        "remove_standalone_containers", "view_containers", "view_resource_providers",
        "view_standalone_containers", "wait_nested_containers", "wait_standalone_containers",
    }
)  # fmt: skip


class Entity(msgspec.Struct, frozen=True):
    """Some principals or objects by name, any, or none; with values, it is some."""

    type: Literal["SOME", "ANY", "NONE"] = "SOME"
    values: tuple[str, ...] = ()

    def fits(self, value: str | None) -> bool:
        """Whether the rule is about `value`; None is somebody or something that is not named."""
        if self.type != "SOME":
            return True
        return value is not None and any(_names(pattern, value) for pattern in self.values)

    def permits(self, value: str | None) -> bool:
        """Whether a rule that is about `value` lets it."""
        return self.type == "ANY" or (self.type == "SOME" and self.fits(value))


class Rule(msgspec.Struct, frozen=True):
    principals: Entity
    objects: Entity


class Acls(msgspec.Struct, frozen=True):
    """Rules by action, in order."""

    rules: Mapping[str, tuple[Rule, ...]] = msgspec.field(default_factory=dict)
    permissive: bool = True

    def allows(self, action: str, principal: str | None, value: str | None = None) -> bool:
        """Whether `principal` (None: nobody proved who it is) may do `action` to `value` (None: to
        any). `action` is a key of OBJECTS."""
        assert action in OBJECTS
        for rule in self.rules.get(action, ()):
            if rule.principals.fits(principal) and rule.objects.fits(value):
                return rule.principals.permits(principal) and rule.objects.permits(value)
        return self.permissive

    def restricts(self, action: str, principal: str | None) -> bool:
        """Whether there may be something that the principal may not do `action` to."""
        for rule in self.rules.get(action, ()):
            if not rule.principals.fits(principal):
                continue
            return not (rule.principals.permits(principal) and rule.objects.type == "ANY")
        return not self.permissive


#: Everybody may do everything: what there is without `--acls`.
NO_ACLS = Acls()


def _names(pattern: str, value: str) -> bool:
    if pattern.endswith("/%"):
        # A role and `/%`: all roles below it.
        return value.startswith(pattern[:-1])
    return pattern == value


def parse(text: str) -> Acls:
    """The value of `--acls`. Raises ConfigError naming the rule and what is wrong with it."""
    try:
        whole = msgspec.json.decode(text.encode(), type=dict[str, msgspec.Raw])
    except msgspec.MsgspecError as error:
        raise ConfigError(f"--acls: {error}; expected a JSON object") from error
    rules: dict[str, tuple[Rule, ...]] = {}
    permissive = True
    for name, raw in whole.items():
        if name == "permissive":
            permissive = _decode(raw, bool, name)
        elif name in OBJECTS:
            items = _decode(raw, tuple[dict[str, Entity], ...], name)
            rules[name] = tuple(
                _rule(item, name, OBJECTS[name], place) for place, item in enumerate(items)
            )
        elif name not in _ELSEWHERE:
            raise ConfigError(f"--acls: '{name}' is no action; known are {', '.join(OBJECTS)}")
    return Acls(rules, permissive)


def _decode(raw: msgspec.Raw, kind: type[T], name: str) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"--acls: '{name}': {error}") from error


def _rule(item: Mapping[str, Entity], action: str, objects: str, place: int) -> Rule:
    where = f"--acls: '{action}', rule {place + 1}"
    strange = sorted(item.keys() - {"principals", objects})
    if strange:
        raise ConfigError(f"{where}: '{strange[0]}' is not expected, only principals, {objects}")
    for key in ("principals", objects):
        if key not in item:
            raise ConfigError(f"{where}: '{key}' is missing")
        if item[key].type != "SOME" and item[key].values:
            raise ConfigError(f"{where}: '{key}' has both a type and values")
    return Rule(item["principals"], item[objects])
