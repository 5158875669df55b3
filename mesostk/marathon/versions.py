"""When an app's definition gets a new version, and whether that replaces its instances.

Source: spec/marathon §2.6. Comparison is of normalised apps with their service ports assigned.
"""

from __future__ import annotations

import msgspec

from mesostk.marathon.refusal import invalid
from mesostk.wire.marathon import AppDefinition, VersionInfo


def needs_restart(old: AppDefinition, new: AppDefinition) -> bool:
    """Whether going from `old` to `new` replaces instances: any change but `instances` (§2.6)."""
    return _comparable(old, 0) != _comparable(new, 0)


def is_same(old: AppDefinition, new: AppDefinition) -> bool:
    """Whether `new` changes nothing; versions are not compared."""
    return _comparable(old, old.instances) == _comparable(new, new.instances)


def _comparable(app: AppDefinition, instances: int) -> AppDefinition:
    return msgspec.structs.replace(app, version=None, version_info=None, instances=instances)


#: Fields that no running task knows of: changing them needs no new instances.
METADATA = frozenset(
    {
        "labels",
        "dependencies",
        "upgradeStrategy",
        "killSelection",
        "unreachableStrategy",
        "backoffSeconds",
        "backoffFactor",
        "maxLaunchDelaySeconds",
    }
)

_NEVER_COMPARED = frozenset({"version", "versionInfo"})


#: A change of the number starts or ends instances, but restarts none.
_SCALING = frozenset({"instances", "scaling"})


def changed_fields(old: AppDefinition, new: AppDefinition) -> tuple[str, ...]:
    """Top-level fields that differ, in the spelling of JSON, sorted; versions do not count.

    Of pods those of their own JSON, whose sums and copies the other fields of the run spec are.
    """
    if old.pod is not None and new.pod is not None:
        own = {"labels": "labels", "instances": "scaling", "role": "role"}
        found = {own[name] for name in _different(old, new) if name in own}
        return tuple(sorted(found | set(_different(old.pod, new.pod))))
    return tuple(sorted(set(_different(old, new)) - _NEVER_COMPARED))


def _different(old: msgspec.Struct, new: msgspec.Struct) -> list[str]:
    kind = type(old)
    names = zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)
    return [shown for name, shown in names if getattr(old, name) != getattr(new, name)]


def stamped(
    old: AppDefinition | None, new: AppDefinition, now: str, *, may_restart: bool = True
) -> AppDefinition:
    """`new` with the version it gets when it takes the place of `old` at wall time `now` (§2.6).

    Without `may_restart` its instances stay whatever changed; Refused (422) if tasks would have to
    know of it.
    """
    if old is None or old.version_info is None or (may_restart and needs_restart(old, new)):
        return restarted(new, now)
    if not may_restart:
        needs = [name for name in changed_fields(old, new) if name not in METADATA | _SCALING]
        if needs:
            raise invalid("/" + needs[0], f"cannot change with restart=false: {', '.join(needs)}")
    if is_same(old, new):
        return msgspec.structs.replace(new, version=old.version, version_info=old.version_info)
    info = msgspec.structs.replace(old.version_info, last_scaling_at=now)
    return msgspec.structs.replace(new, version=now, version_info=info)


def restarted(app: AppDefinition, now: str) -> AppDefinition:
    """`app` with a new config version, even if nothing changed: `POST …/restart`."""
    info = VersionInfo(last_scaling_at=now, last_config_change_at=now)
    return msgspec.structs.replace(app, version=now, version_info=info)


def config_version(app: AppDefinition) -> str:
    """The version whose instances need no replacement; empty before the app has one."""
    return app.version_info.last_config_change_at if app.version_info is not None else ""
