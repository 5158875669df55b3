#!/usr/bin/python
"""Ansible module: packs files and directories of a host into one archive there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_archive
short_description: Pack files and directories of a host into a tar.gz file of mode 0600
description:
  - What does not exist is left out, and so is what is neither file, directory nor symbolic link.
options:
  dest:
    description: The archive; replaced.
    type: path
    required: true
  paths:
    description: Files and directories, packed under their own names without the first slash.
    type: list
    elements: path
    required: true
author: mesostk
"""

EXAMPLES = r"""
- name: Pack the configuration
  host_archive:
    dest: /tmp/etc.tar.gz
    paths: [/etc/mesos, /etc/mesos-master]
"""

RETURN = r"""
packed:
  description: Those of C(paths) that exist.
  type: list
  returned: always
"""

import os
import tarfile

from ansible.module_utils.basic import AnsibleModule


def _kept(member):
    return member if member.isreg() or member.isdir() or member.issym() else None


def main():
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "required": True},
            "paths": {"type": "list", "elements": "path", "required": True},
        },
        supports_check_mode=True,
    )
    packed = [path for path in module.params["paths"] if os.path.lexists(path)]
    if module.check_mode:
        module.exit_json(changed=True, packed=packed)
    dest = module.params["dest"]
    try:
        handle = os.open(dest + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for path in packed:
                archive.add(path, path.lstrip("/"), filter=_kept)
        os.replace(dest + ".new", dest)
    except OSError as error:
        module.fail_json(msg=f"cannot pack {error.filename or dest}: {error.strerror}")
    module.exit_json(changed=True, packed=packed)


if __name__ == "__main__":
    main()
