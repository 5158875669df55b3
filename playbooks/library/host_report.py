#!/usr/bin/python
"""Ansible module: what a role wants to know about a host before it acts, in one run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_report
short_description: Report packages, users, Python, release and room of a host; changes nothing
options:
  packages:
    description:
      - Debian packages that are wanted. C(name [trixie]) is wanted on that release only,
        C(name [!bookworm !noble]) on all but these.
    type: list
    elements: str
    default: []
  users:
    description: Users that are wanted.
    type: list
    elements: str
    default: []
  release:
    description: Name of the mesostk release that is wanted below C(/opt/mesostk).
    type: str
  python:
    description: Interpreter to look at; empty for the newest python3 on the path.
    type: str
    default: ""
author: mesostk
"""

EXAMPLES = r"""
- name: Look at the host
  host_report:
    packages: [python3-venv]
    users: [mesos]
  register: host
"""

RETURN = r"""
missing_packages:
  description: Those of C(packages) that are not installed.
  type: list
  returned: always
missing_users:
  description: Those of C(users) that do not exist.
  type: list
  returned: always
python:
  description: Path, version (two parts) and whether it can make virtual environments.
  type: dict
  returned: always
platform:
  description: Machine and C library, as a wheel's platform needs them.
  type: dict
  returned: always
release_complete:
  description: Whether the release is installed whole.
  type: bool
  returned: always
release_current:
  description: Release that the host runs, empty where there is none.
  type: str
  returned: always
"""

import json
import os
import platform
import pwd
import shutil
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule

# Newest first; the first that exists is looked at when no interpreter is named.
PYTHONS = ("python3.13", "python3.12", "python3.11", "python3")

PROBE = """
import importlib.util, json, sys
print(json.dumps({"version": "%d.%d" % sys.version_info[:2],
                  "venv": importlib.util.find_spec("ensurepip") is not None}))
"""


def of_release(packages, codename):
    """Names of those of `packages` that are for the release."""
    found = []
    for entry in packages:
        name, _, rest = entry.partition(" [")
        releases = rest.rstrip("]").split()
        unless = [one[1:] for one in releases if one.startswith("!")]
        if not releases or codename in releases or (unless and codename not in unless):
            found.append(name)
    return found


def missing_packages(wanted):
    if not wanted:
        return []
    done = subprocess.run(
        ["dpkg-query", "-W", "-f=${Package} ${Status}\n", *wanted],
        capture_output=True,
        text=True,
        check=False,
    )
    installed = {
        line.split()[0]
        for line in done.stdout.splitlines()
        if line.endswith(" install ok installed")
    }
    return [name for name in wanted if name not in installed]


def exists(user):
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def python(named):
    candidates = [named] if named else [p for name in PYTHONS if (p := shutil.which(name))]
    for path in candidates:
        done = subprocess.run(
            [path, "-I", "-c", PROBE], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return {"path": path, **json.loads(done.stdout)}
    return {"path": named, "version": "", "venv": False}


def clock_is_synchronised():
    done = subprocess.run(
        ["timedatectl", "show", "-p", "NTPSynchronized", "--value"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() == "yes"


def main():
    module = AnsibleModule(
        argument_spec={
            "packages": {"type": "list", "elements": "str", "default": []},
            "users": {"type": "list", "elements": "str", "default": []},
            "release": {"type": "str"},
            "python": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    params = module.params
    release = params["release"]
    current = os.path.realpath("/opt/mesostk/current")
    libc, libc_version = platform.libc_ver()
    with open("/etc/os-release") as file:
        system = dict(line.rstrip("\n").split("=", 1) for line in file if "=" in line)
    try:
        found = python(params["python"])
    except OSError as error:
        module.fail_json(msg=f"{params['python']}: {error}; correct mesostk_python")
    module.exit_json(
        changed=False,
        missing_packages=missing_packages(
            of_release(params["packages"], system.get("VERSION_CODENAME", "").strip('"'))
        ),
        missing_users=[user for user in params["users"] if not exists(user)],
        python=found,
        platform={"machine": platform.machine(), "libc": libc, "libc_version": libc_version},
        system={key: system.get(key, "").strip('"') for key in ("ID", "VERSION_ID", "PRETTY_NAME")},
        release_complete=release is not None
        and os.path.exists(os.path.join("/opt/mesostk", release, ".complete")),
        release_current=os.path.basename(current) if os.path.isdir(current) else "",
        disk_free_mib=shutil.disk_usage("/var").free >> 20,
        clock_s=time.time(),
        clock_synchronised=clock_is_synchronised(),
    )


if __name__ == "__main__":
    main()
