"""What a test needs of the machine: skipped with the reason on a laptop, failed in CI.

A suite that silently skips its real parts proves nothing, so with `CI=true` in the environment an
absent part is a failure.
"""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import Final, NoReturn

import pytest

from mesostk.ops.zookeeper import zookeeper_missing

DOCKER_SOCKET: Final = Path("/var/run/docker.sock")


def docker_missing() -> str | None:
    """Why no container can be started here, or None if one can."""
    if not DOCKER_SOCKET.is_socket():
        return f"no Docker engine listens on {DOCKER_SOCKET}"
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(DOCKER_SOCKET))
        except OSError as error:
            return f"the Docker engine at {DOCKER_SOCKET} cannot be used: {error.strerror}"
    return None


def root_missing() -> str | None:
    """Why this process cannot do what root may, or None if it can."""
    return None if os.geteuid() == 0 else f"needs root, runs as uid {os.geteuid()}"


def require_zookeeper() -> None:
    """Skip, or fail in CI, unless ZooKeeper can be started."""
    _require(zookeeper_missing())


def require_docker() -> None:
    """Skip, or fail in CI, unless a Docker engine answers."""
    _require(docker_missing())


def require_root() -> None:
    """Skip, or fail in CI, unless this is root."""
    _require(root_missing())


def require_program(name: str, package: str) -> str:
    """Path of a program; skip, or fail in CI, where it is not installed."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        absent(f"{name} is not installed; the package {package} has it")
    return found


def haproxy_missing() -> str | None:
    """Why no HAProxy can be started here, or None if one can."""
    if shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
        return "there is no haproxy; `apt-get install haproxy` brings it"
    return None


def require_haproxy() -> None:
    """Skip, or fail in CI, unless HAProxy can be started."""
    _require(haproxy_missing())


def _require(missing: str | None) -> None:
    if missing is not None:
        absent(missing)


def is_ci() -> bool:
    """Whether this run is to show that everything works."""
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


def absent(reason: str) -> NoReturn:
    """Skip the running test for `reason`, or fail it in CI."""
    if is_ci():
        pytest.fail(f"in CI every test must run: {reason}")
    pytest.skip(reason)
