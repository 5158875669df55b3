"""All that an installation takes from elsewhere: the one list that mirrors and bundles are made of.

::

    requirements/packages.yml       Debian packages, by role        → the nodes' apt
    requirements/node.txt           wheels of the daemons           → the wheelhouse
    requirements/installer.txt      the pip that installs them      → the wheelhouse

Container images are those of the apps and no part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import yaml

from mesostk.errors import ConfigError
from mesostk.ops.paths import data_root


def debian_packages(release: str) -> dict[str, list[str]]:
    """Role → names of the packages that it installs on a `release`, such as bookworm.

    Raises ConfigError if the list is damaged.
    """
    path = data_root() / "requirements" / "packages.yml"
    try:
        known = msgspec.convert(yaml.safe_load(path.read_text()), dict[str, list[str]])
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: {error}; restore it from the release") from error
    return {role: of_release(packages, release) for role, packages in known.items()}


def of_release(packages: Sequence[str], release: str) -> list[str]:
    """Names of those of `packages` that are for the release.

    `name [trixie]` is of that one only, `name [!bookworm !noble]` of all but these: the spelling of
    Debian's control files for architectures. The module host_report reads it on the hosts.
    """
    found = []
    for entry in packages:
        name, _, rest = entry.partition(" [")
        releases = rest.rstrip("]").split()
        unless = [one[1:] for one in releases if one.startswith("!")]
        if not releases or release in releases or (unless and release not in unless):
            found.append(name)
    return found


def wheel_locks() -> tuple[Path, Path]:
    """Lock files, with hashes, of the daemons' wheels and of the installer that a node needs."""
    node = data_root() / "requirements" / "node.txt"
    return node, node.with_name("installer.txt")
