"""External volumes: what an app may ask of them.

::

    provider dvdi ─▶ DOCKER: the engine's volume driver (`dvdi/driver`), also its own `local`
                  ─▶ MESOS: only where the agents have the isolator docker/volume
    provider csi  ─▶ refused: no agent here has CSI plugins

One instance of one app at a time may use a volume, unless all who name it call it `shared`.
Sources: spec/marathon §2.2; texts and rules of the original's DVDI provider.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from mesostk.marathon.refusal import violation
from mesostk.wire.marathon import AppDefinition, ExternalVolume, Violation, Volume

DRIVER = "dvdi/driver"

#: Says that the agents isolate: among others, that they mount volumes of drivers for MESOS tasks.
ISOLATORS = "mesos_isolators"

_OPTION = re.compile(r"[a-zA-Z0-9]([-_.a-zA-Z0-9]*[a-zA-Z0-9])?/[-_.a-zA-Z0-9]+")


def of_app(app: AppDefinition) -> list[ExternalVolume]:
    """The external volumes that an app names."""
    volumes = app.container.volumes if app.container is not None else ()
    return [volume.external for volume in volumes if volume.external is not None]


def violations(app: AppDefinition, features: frozenset[str]) -> Iterator[Violation]:
    """Every rule on external volumes that the app breaks by itself."""
    named = of_app(app)
    if not named:
        return
    if app.instances > 1:
        yield violation(
            "/instances",
            f"Number of instances is limited to 1 when declaring DVDI volumes in app [{app.id}]",
        )
    if app.upgrade_strategy.maximum_over_capacity != 0:
        yield violation("/upgradeStrategy/maximumOverCapacity", "must be 0 with external volumes")
    names = [each.name for each in named]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield violation(
            "/container/volumes",
            f"Requested DVDI volume '{name}' is declared more than once within app {app.id}",
        )
    assert app.container is not None  # it holds the volumes
    for index, volume in enumerate(app.container.volumes):
        if volume.external is not None:
            at = f"/container/volumes({index})"
            yield from _volume(at, volume, volume.external)
            if app.container.type == "DOCKER":
                yield from _for_docker(f"{at}/external", volume.external)
            else:
                yield from _for_mesos(at, volume, features)


def _volume(at: str, volume: Volume, external: ExternalVolume) -> Iterator[Violation]:
    if external.provider == "csi":
        yield violation(
            f"{at}/external/provider", "csi needs agents with CSI plugins; use provider dvdi"
        )
        return
    if external.provider != "dvdi":
        yield violation(f"{at}/external/provider", "is unknown provider; use dvdi")
        return
    if not external.name:
        yield violation(f"{at}/external/name", "must not be empty")
    if volume.container_path in {".", ".."}:
        yield violation(f"{at}/containerPath", "must not be . or ..")
    driver = external.options.get(DRIVER)
    if not isinstance(driver, str) or not driver.strip():
        yield violation(f"{at}/external/options", f"must name the volume driver as {DRIVER}")
    for key in external.options:
        if _OPTION.fullmatch(key) is None:
            yield violation(f"{at}/external/options", f"{key[:64]!r} is not like provider/option")


def _for_docker(at: str, external: ExternalVolume) -> Iterator[Violation]:
    if external.provider == "dvdi" and external.options.keys() - {DRIVER}:
        yield violation(f"{at}/options", f"must only contain {DRIVER}")
    if external.size is not None:
        yield violation(f"{at}/size", "must be undefined for Docker containers")


def _for_mesos(at: str, volume: Volume, features: frozenset[str]) -> Iterator[Violation]:
    if volume.mode not in {None, "RW"}:
        yield violation(f"{at}/mode", "must be RW for external volumes")
    if ISOLATORS not in features:
        yield violation(
            f"{at}/external",
            "agents mount external volumes only into Docker containers: use type DOCKER; where all "
            f"have the isolator docker/volume, start Marathon with --enable_features {ISOLATORS}",
        )


def conflicts(app: AppDefinition, others: Iterable[AppDefinition]) -> Iterator[Violation]:
    """Names of volumes that another app has, too; `others` may hold the app itself."""
    mine = {each.name: each for each in of_app(app)}
    if not mine:
        return
    found: dict[str, list[str]] = {}
    for other in others:
        for each in of_app(other) if other.id != app.id else ():
            if each.name in mine and not (each.shared and mine[each.name].shared):
                found.setdefault(each.name, []).append(other.id)
    for name, ids in sorted(found.items()):
        yield violation(
            "/container/volumes",
            f"Volume name '{name}' in {app.id} conflicts with volume(s) of same name in app(s): "
            f"{', '.join(sorted(ids))}",
        )
