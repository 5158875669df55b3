"""All that an installation takes from elsewhere: the one list that mirrors and bundles are made of.

::

    requirements/packages.yml       Debian packages, by role        → the nodes' apt
    requirements/node.txt           wheels of the daemons           → the wheelhouse
    requirements/installer.txt      the pip that installs them      → the wheelhouse

Container images are those of the apps and no part of it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import yaml

from mesostk.errors import ConfigError
from mesostk.ops.paths import data_root


def debian_packages() -> dict[str, list[str]]:
    """Role → names of the packages that it installs. Raises ConfigError if the list is damaged."""
    path = data_root() / "requirements" / "packages.yml"
    try:
        return msgspec.convert(yaml.safe_load(path.read_text()), dict[str, list[str]])
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: {error}; restore it from the release") from error


def wheel_locks() -> tuple[Path, Path]:
    """Lock files, with hashes, of the daemons' wheels and of the installer that a node needs."""
    node = data_root() / "requirements" / "node.txt"
    return node, node.with_name("installer.txt")
