"""The one list of what an installation takes from elsewhere, against roles and lab."""

from __future__ import annotations

import re

import pytest

from mesostk.ops.artefacts import debian_packages, of_release, wheel_locks
from mesostk.ops.paths import data_root
from mesostk.ops.role_docs import roles
from mesostk.testing.plugins import load

BOOKWORM = "bookworm"


def test_no_role_names_a_package_that_is_not_in_the_list() -> None:
    for role in roles():
        defaults = role / "defaults" / "main.yml"
        for line in defaults.read_text().splitlines() if defaults.exists() else ():
            if re.match(r"\w+_packages:", line):
                assert f"'{role.name}' | apt_packages" in line, (role.name, line)


def test_roles_that_install_packages_are_those_of_the_list() -> None:
    installing = {
        role.name
        for role in roles()
        if any("ansible.builtin.apt:" in path.read_text() for path in role.glob("tasks/*.yml"))
    }
    assert installing == debian_packages(BOOKWORM).keys()


@pytest.mark.parametrize("role", sorted(debian_packages(BOOKWORM)))
def test_image_of_the_lab_has_every_package_so_that_provisioning_downloads_nothing(
    role: str,
) -> None:
    lines = (data_root() / "lab" / "packages").read_text().splitlines()
    baked = {line.strip() for line in lines}
    # openssl comes with ca-certificates
    assert set(debian_packages(BOOKWORM)[role]) - {"openssl"} <= baked


@pytest.mark.parametrize(
    ("release", "packages"),
    [
        (BOOKWORM, {"docker.io"}),
        ("noble", {"docker.io"}),
        ("trixie", {"docker.io", "docker-cli"}),
        ("forky", {"docker.io", "docker-cli"}),
    ],
)
def test_the_engines_client_is_a_package_of_its_own_from_debian_13_on(
    release: str, packages: set[str]
) -> None:
    assert set(debian_packages(release)["docker"]) == packages


@pytest.mark.parametrize("release", [BOOKWORM, "trixie", ""])
def test_hosts_and_bundles_read_the_list_alike(release: str) -> None:
    module = load("library", "host_report")
    known = ["a", "b [trixie]", "c [!trixie]", "d [!trixie !bookworm]", "e [trixie bookworm]"]
    assert module.of_release(known, release) == of_release(known, release)
    assert of_release(known, BOOKWORM) == ["a", "c", "e"]


def test_wheels_are_locked_with_their_hashes() -> None:
    for lock in wheel_locks():
        assert "--hash=sha256:" in lock.read_text()
