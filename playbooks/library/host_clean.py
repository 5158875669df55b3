#!/usr/bin/python
"""Ansible module: take a host out of service, so that it can neither vote nor run tasks again."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_clean
short_description: Stop the cluster's services of a host and remove what the roles put there
description:
  - Stops and disables every service that role C(service) recorded, then removes units, releases,
    configuration and the data by which the host would be taken for the member that it was.
    Packages, users and the Docker engine stay, and so do the sandboxes of tasks.
options:
  data:
    description: Files and directories of data to remove.
    type: list
    elements: path
    default: []
author: mesostk
"""

EXAMPLES = r"""
- name: Take the host out of service
  host_clean:
    data: [/var/lib/zookeeper/version-2]
"""

RETURN = r"""
stopped:
  description: Units that were stopped.
  type: list
  returned: always
removed:
  description: Paths that were removed.
  type: list
  returned: always
"""

import glob
import json
import os
import shutil
import subprocess

from ansible.module_utils.basic import AnsibleModule

RECORDS = "/etc/mesostk/services"
UNITS = "/etc/systemd/system"
#: What the roles write; the records last, so that an interrupted run finds its units again.
CONFIGURATION = (
    "/etc/mesos",
    "/etc/mesos-master",
    "/etc/mesos-slave",
    "/etc/mesos-agent",
    "/etc/mesos-dns",
    "/etc/marathon",
    "/etc/marathon-lb",
    "/etc/zookeeper/conf/myid",
    "/etc/zookeeper/conf/zoo.cfg",
    "/usr/sbin/mesos-master",
    "/usr/sbin/mesos-agent",
    "/usr/sbin/mesos-slave",
    "/usr/sbin/marathon",
    "/usr/sbin/mesos-dns",
    "/usr/sbin/marathon-lb",
    "/usr/sbin/marathon_lb.py",
    "/opt/mesostk",
    "/run/mesostk",
    "/etc/mesostk",
)


def own_units():
    """Units that the role service wrote, by their records: never Docker's."""
    for path in sorted(glob.glob(os.path.join(RECORDS, "*.json"))):
        with open(path) as file:
            unit = json.load(file)["unit"]
        if os.path.isfile(os.path.join(UNITS, unit)):
            yield unit


def remove(path):
    if os.path.islink(path) or os.path.isfile(path):
        os.unlink(path)
    else:
        shutil.rmtree(path)


def main():
    module = AnsibleModule(
        argument_spec={"data": {"type": "list", "elements": "path", "default": []}},
        supports_check_mode=True,
    )
    units = list(own_units())
    paths = [os.path.join(UNITS, unit) for unit in units]
    paths += [*module.params["data"], *CONFIGURATION]
    removed = [path for path in paths if os.path.lexists(path)]
    if not module.check_mode:
        for unit in units:
            command = ["systemctl", "disable", "--now", unit]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                module.fail_json(msg=f"{' '.join(command)}: {done.stderr.strip()}")
        for path in removed:
            remove(path)
        subprocess.run(["systemctl", "daemon-reload"], check=True)
    module.exit_json(changed=bool(units or removed), stopped=units, removed=removed)


if __name__ == "__main__":
    main()
