#!/usr/bin/python
"""Ansible module: install one release of mesostk from a wheelhouse, offline."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: Make /opt/mesostk/RELEASE from a wheelhouse archive
description:
  - The virtual environment is made in place, since one cannot be moved; C(.complete) is written
    last, and a directory without it is removed and made again.
  - Switching to the release is the business of the link C(/opt/mesostk/current).
options:
  name:
    description: The release.
    type: str
    required: true
  archive:
    description: Wheelhouse archive (tar) on the host, with C(node.txt) and the wheels.
    type: path
    required: true
  python:
    description: Interpreter of the virtual environment.
    type: path
    required: true
  keep:
    description: How many releases stay for a roll-back, the current one and this one included.
    type: int
    default: 3
author: mesostk
"""

EXAMPLES = r"""
- name: Install the release
  release:
    name: 0.1.0
    archive: /var/cache/mesostk/wheelhouse.tar
    python: /usr/bin/python3.11
"""

RETURN = r"""
removed:
  description: Releases that were removed.
  type: list
  returned: always
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import tarfile
import tempfile

from ansible.module_utils.basic import AnsibleModule

ROOT = "/opt/mesostk"


class Problem(Exception):
    """The release cannot be installed; the message says why and what to do."""


@contextlib.contextmanager
def alone():
    """Keep others out: an interrupted run's module goes on here while the next run has begun."""
    os.makedirs(ROOT, 0o755, exist_ok=True)
    directory = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()[-2000:]
        raise Problem(f"{' '.join(command)} ended with {done.returncode}:\n{said}")


def unpack(archive, into):
    """Plain files only, by hand: Debian 12 has Python 3.11.2, extraction filters came in 3.11.4."""
    with tarfile.open(archive) as tar:
        for member in tar:
            if not member.isfile() or member.name != os.path.basename(member.name):
                raise Problem(f"{archive} holds {member.name!r}, no plain file; build it again")
            target = os.path.join(into, member.name)
            with tar.extractfile(member) as source, open(target, "wb") as copy:
                shutil.copyfileobj(source, copy)


def only(wheels, name):
    """File name of the one wheel of `name`."""
    found = [wheel for wheel in os.listdir(wheels) if wheel.startswith(f"{name}-")]
    if len(found) != 1:
        raise Problem(f"the archive holds {len(found)} wheels of {name}, not one; build it again")
    return found[0]


def install(target, archive, python):
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(archive)) as wheels:
        unpack(archive, wheels)
        own, installer = (f"{wheels}/{only(wheels, name)}" for name in ("mesostk", "pip"))
        run(python, "-m", "venv", "--without-pip", target)
        pip = (python, f"{installer}/pip", "--python", f"{target}/bin/python")
        quiet = ("--quiet", "--disable-pip-version-check")
        offline = ("install", "--no-index", "--no-cache-dir", "--find-links", wheels)
        run(*pip, *quiet, *offline, "--require-hashes", "-r", f"{wheels}/node.txt")
        run(*pip, *quiet, *offline, "--no-deps", own)
    run(f"{target}/bin/mesos-master", "--version")
    with open(f"{target}/.complete", "w") as marker:
        marker.write("installed\n")
        marker.flush()
        os.fsync(marker.fileno())


def old_releases(keep, name):
    """Complete releases beyond the `keep` newest; never the current one or `name`."""
    current = os.path.basename(os.path.realpath(f"{ROOT}/current"))
    found = [
        entry
        for entry in os.listdir(ROOT)
        if os.path.exists(f"{ROOT}/{entry}/.complete") and entry != "current"
    ]
    found.sort(key=lambda entry: os.stat(f"{ROOT}/{entry}/.complete").st_mtime, reverse=True)
    spared = {current, name}
    others = [entry for entry in found if entry not in spared]
    return others[max(0, keep - len(spared)) :]


def settle(name, archive, python, keep):
    """Install the release unless it is there; (whether it was not, releases removed for it)."""
    target = f"{ROOT}/{name}"
    if os.path.exists(f"{target}/.complete"):
        return False, []
    try:
        install(target, archive, python)
    except (Problem, OSError, tarfile.TarError):
        shutil.rmtree(target, ignore_errors=True)
        raise
    removed = old_releases(keep, name)
    for entry in removed:
        shutil.rmtree(f"{ROOT}/{entry}", ignore_errors=True)
    return True, removed


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "archive": {"type": "path", "required": True},
            "python": {"type": "path", "required": True},
            "keep": {"type": "int", "default": 3},
        },
        supports_check_mode=True,
    )
    params = module.params
    if module.check_mode:
        there = os.path.exists(f"{ROOT}/{params['name']}/.complete")
        module.exit_json(changed=not there, removed=[])
    try:
        with alone():
            changed, removed = settle(**params)
    except (Problem, OSError, tarfile.TarError) as error:
        module.fail_json(msg=f"release {params['name']}: {error}")
    module.exit_json(changed=changed, removed=removed)


if __name__ == "__main__":
    main()
