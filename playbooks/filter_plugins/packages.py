"""Ansible filter: the Debian packages of a role, from the one list that mirrors are made of."""

from __future__ import annotations

import functools
import os

import yaml

LIST = os.path.join(os.path.dirname(__file__), "..", "..", "requirements", "packages.yml")


@functools.cache
def _all():
    with open(LIST) as file:
        return yaml.safe_load(file)


def apt_packages(role):
    """Names of the packages that `role` installs; a role that is not in the list is an error."""
    return list(_all()[role])


class FilterModule:
    """What Ansible loads."""

    def filters(self):
        return {"apt_packages": apt_packages}
