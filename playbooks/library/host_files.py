#!/usr/bin/python
"""Ansible module: everything that a role keeps on a host's disk, in one run.

A module run costs about 0.3 s of processor time on the host whatever it does, so directories,
files, flag directories, links and absences of a role go together. Each write is atomic (temporary
file, fsync, rename), keeps a diff for `--diff`, and honours `--check`.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_files
short_description: Keep directories, files, flag directories and links as they should be
description:
  - Brings any number of paths to the given state in one run, and shows each difference. Of files
    that not everybody may read, and of those whose name tells a secret, it shows the size only.
options:
  directories:
    description: Directories with path, owner, group and mode; parents are made as root, 0755.
    type: list
    elements: dict
    default: []
  files:
    description: Text files with path, content (a last newline is added), owner, group and mode.
    type: list
    elements: dict
    default: []
  flag_dirs:
    description:
      - Directories of one file per flag (C(/etc/mesos-master/quorum)); C(flags) maps a flag to its
        value, true makes C(?flag), false C(?no-flag), null leaves the flag out.
      - Files that are not in the map are removed; names that begin with a dot and
        sub-directories are left alone.
    type: list
    elements: dict
    default: []
  blocks:
    description:
      - Parts of files that others write too, with path, marker and content; the part stands between
        C(# BEGIN marker) and C(# END marker).
    type: list
    elements: dict
    default: []
  links:
    description: Symbolic links with path and target.
    type: list
    elements: dict
    default: []
  absent:
    description: Files or links to remove.
    type: list
    elements: str
    default: []
  record:
    description:
      - File in which the paths of C(files) are put down. What it names from an earlier run, and
        C(files) no longer does, is removed, with directories that were made for it and are empty;
        what is named by another record beside it stays, and so does every file that was never put
        down.
    type: str
    default: ""
author: mesostk
"""

EXAMPLES = r"""
- name: Configure the master
  host_files:
    directories:
      - {path: /var/lib/mesos, owner: mesos, mode: "0755"}
    files:
      - {path: /etc/mesos/zk, content: "zk://10.0.3.11:2181/mesos\n"}
    flag_dirs:
      - {path: /etc/mesos-master, flags: {quorum: 2, ip: 10.0.3.11, log_auto_initialize: true}}
"""

RETURN = r"""
paths:
  description: The paths that were, or in check mode would be, changed.
  type: list
  returned: always
"""

import contextlib
import errno
import glob
import grp
import json
import os
import pwd
import re
import stat
import tempfile

from ansible.module_utils.basic import AnsibleModule

# Larger texts are shown by their size only: a diff of them helps nobody.
DIFF_LIMIT = 64 * 1024

# What is called like this is a secret, whoever may read it.
SECRET = re.compile(r"pass|secret|token|credential|private|auth", re.IGNORECASE)


class Problem(Exception):
    """A path that cannot be brought to its state; the message says why and what to do."""


def flag_files(flags):
    """File name and content of each flag: {"quorum": "2\n", "?log_auto_initialize": ""}."""
    files = {}
    for name, value in flags.items():
        if value is None:
            continue
        if value is True:
            files["?" + name] = ""
        elif value is False:
            files["?no-" + name] = ""
        else:
            files[name] = str(value).rstrip("\n") + "\n"
    return files


def is_private(path, mode="0644"):
    """Whether a diff of the file would show what not everybody may read."""
    return bool(SECRET.search(os.path.basename(path))) or not int(str(mode), 8) & stat.S_IROTH


class Disk:
    """The paths of one host; every method returns without change where all is as it should be."""

    def __init__(self, check):
        self.check = check
        self.changed = []
        self.diffs = []
        self.warnings = []

    def _note(self, path, before, after, private=False):
        if path not in self.changed:
            self.changed.append(path)
        if private:
            before = f"was {len(before)} characters, which are withheld\n"
            after = f"will be {len(after)} characters, which are withheld\n" if after else ""
        elif len(before) + len(after) > DIFF_LIMIT:
            before, after = f"{len(before)} characters\n", f"{len(after)} characters\n"
        self.diffs.append(
            {"before_header": path, "after_header": path, "before": before, "after": after}
        )

    def _ids(self, path, owner, group):
        try:
            uid = pwd.getpwnam(owner).pw_uid
            gid = grp.getgrnam(group).gr_gid
        except KeyError as missing:
            if self.check:
                # The role that makes the user has only been simulated.
                return None
            raise Problem(
                f"{path}: {missing.args[0]}; make the user first (role common)"
            ) from missing
        return uid, gid

    def attributes(self, path, owner, group, mode):
        """Owner, group and permissions of an existing path."""
        now = os.stat(path)
        ids = self._ids(path, owner, group)
        wanted_mode = int(str(mode), 8)
        before, after = [], []
        if ids is not None and (now.st_uid, now.st_gid) != ids:
            before.append(f"owner {now.st_uid}:{now.st_gid}")
            after.append(f"owner {ids[0]}:{ids[1]}")
            if not self.check:
                os.chown(path, *ids)
        if stat.S_IMODE(now.st_mode) != wanted_mode:
            before.append(f"mode {stat.S_IMODE(now.st_mode):04o}")
            after.append(f"mode {wanted_mode:04o}")
        if before and not self.check:
            # chown clears set-id bits, so the mode comes last.
            os.chmod(path, wanted_mode)
        if before:
            self._note(path, "\n".join(before) + "\n", "\n".join(after) + "\n")

    def directory(self, path, owner="root", group=None, mode="0755"):
        group = owner if group is None else group
        if os.path.isdir(path):
            self.attributes(path, owner, group, mode)
            return
        if os.path.lexists(path):
            raise Problem(f"{path} exists and is not a directory; move it away")
        self._note(path, "", "directory\n")
        if self.check:
            return
        os.makedirs(path, 0o755)
        ids = self._ids(path, owner, group)
        os.chown(path, *ids)
        os.chmod(path, int(str(mode), 8))

    def file(self, path, content, owner="root", group=None, mode="0644", private=False):
        group = owner if group is None else group
        if not isinstance(content, str):
            kind = type(content).__name__
            raise Problem(f"{path}: its content is of type {kind}, not text; put it in quotes")
        if ".." in path.split("/") or not os.path.isabs(path):
            raise Problem(f"{path}: no absolute path without '..'; name it as it is")
        if content and not content.endswith("\n"):
            content += "\n"
        wanted = content.encode()
        before = None
        if os.path.isdir(path):
            raise Problem(f"{path} is a directory where a file belongs; move it away")
        if os.path.exists(path):
            with open(path, "rb") as current:
                before = current.read()
        if before == wanted:
            self.attributes(path, owner, group, mode)
            return
        private = private or is_private(path, mode)
        self._note(path, (before or b"").decode(errors="replace"), content, private)
        if not self.check:
            self._replace(path, wanted, self._ids(path, owner, group), int(str(mode), 8))

    def _replace(self, path, data, ids, mode):
        real = os.path.realpath(path)
        os.makedirs(os.path.dirname(real), 0o755, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(real), prefix=".mesostk-")
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(data)
                os.fchown(out.fileno(), *ids)
                os.fchmod(out.fileno(), mode)
                out.flush()
                os.fsync(out.fileno())
            os.rename(temporary, real)
        except OSError as error:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            if error.errno != errno.EBUSY:
                raise
            # A file that is a mount point (/etc/hosts of a container) cannot be renamed over.
            with open(real, "wb") as out:
                out.write(data)

    def block(self, path, marker, content):
        """The part of `path` between the marker's lines; the rest, owner and mode stay."""
        try:
            with open(path) as current:
                text = current.read()
            now = os.stat(path)
        except FileNotFoundError:
            raise Problem(f"{path} does not exist, so nothing can be kept in it") from None
        begin, end = f"# BEGIN {marker}\n", f"# END {marker}\n"
        wanted = begin + content.rstrip("\n") + "\n" + end
        head, found, rest = text.partition(begin)
        if found:
            _, ended, tail = rest.partition(end)
            # Without its end the block reaches as far as the file does not say otherwise: nowhere.
            after = head + wanted + (tail if ended else rest)
        else:
            after = text + ("" if text.endswith("\n") or not text else "\n") + wanted
        if after == text:
            return
        self._note(path, text, after)
        if not self.check:
            self._replace(path, after.encode(), (now.st_uid, now.st_gid), stat.S_IMODE(now.st_mode))

    def flag_dir(self, path, flags, owner="root", group=None, mode="0755"):
        self.directory(path, owner, group, mode)
        closed = not int(str(mode), 8) & stat.S_IXOTH
        wanted = flag_files(flags)
        present = []
        if os.path.isdir(path):
            present = [
                name
                for name in os.listdir(path)
                if not name.startswith(".") and not os.path.isdir(os.path.join(path, name))
            ]
        for name in sorted(set(present) - set(wanted)):
            self.absent(os.path.join(path, name), closed)
        for name in sorted(wanted):
            self.file(os.path.join(path, name), wanted[name], owner, group, "0644", closed)

    def link(self, path, target):
        before = os.readlink(path) if os.path.islink(path) else None
        if before == target:
            return
        if before is None and os.path.isdir(path):
            raise Problem(f"{path} is a directory where a link belongs; move it away")
        self._note(path, f"-> {before}\n" if before else "", f"-> {target}\n")
        if self.check:
            return
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        temporary = f"{path}.mesostk-{os.getpid()}"
        os.symlink(target, temporary)
        os.rename(temporary, path)

    def absent(self, path, private=False):
        if not os.path.lexists(path):
            return
        if os.path.isdir(path) and not os.path.islink(path):
            raise Problem(f"{path} is a directory; only files and links are removed")
        before = ""
        if os.path.isfile(path):
            with open(path, "rb") as current:
                before = current.read().decode(errors="replace")
            private = private or is_private(path, oct(os.stat(path).st_mode))
        self._note(path, before or "present\n", "", private)
        if not self.check:
            os.unlink(path)


class Record:
    """What a role has laid on the host, so that what it no longer lays is found and removed.

    Made when the directories are there: those that are missing then are made for the files alone.
    """

    def __init__(self, disk, path, files):
        self.disk = disk
        self.path = path
        self.files = {str(one.get("path")) for one in files}
        self.before = self._read(path)
        parents = {parent for file in self.files for parent in parents_of(file)}
        going = set(self.before["files"]) - self.files
        made = {one for one in parents if one in going or not os.path.lexists(one)}
        self.after = {
            "files": sorted(self.files),
            "directories": sorted(made | parents.intersection(self.before["directories"])),
        }

    def _read(self, path):
        try:
            with open(path) as file:
                found = json.load(file)
            return {key: [str(one) for one in found[key]] for key in ("files", "directories")}
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError) as wrong:
            self.disk.warnings.append(
                f"{path} cannot be read ({wrong!r}): what it named and the inventory no longer"
                " names stays on this host; look for it by hand"
            )
        return {"files": [], "directories": []}

    def open(self):
        """Puts down what is about to be written, so that a run that is killed leaves no file
        without a record, and removes what is named no longer, which may be in the way."""
        if not self.disk.check and not self.files.issubset(self.before["files"]):
            both = {key: sorted({*self.before[key], *self.after[key]}) for key in self.after}
            self.disk.file(self.path, as_text(both), **current_user())
        for path in sorted(set(self.before["files"]) - self.files - self._of_others()):
            # A directory is not what was laid there.
            if os.path.islink(path) or not os.path.isdir(path):
                self.disk.absent(path)
        left = set(self.before["directories"]) - set(self.after["directories"])
        # The innermost first.
        for path in sorted(left, reverse=True):
            if self.disk.check or os.path.islink(path) or not os.path.isdir(path):
                continue
            if not os.listdir(path):
                os.rmdir(path)

    def close(self):
        self.disk.file(self.path, as_text(self.after), **current_user())

    def _of_others(self):
        beside = os.path.join(glob.escape(os.path.dirname(self.path)), "*.json")
        others = [self._read(path) for path in glob.glob(beside) if path != self.path]
        return {path for one in others for path in one["files"]}


def parents_of(path):
    """Every directory that the file is in, but the root."""
    while (path := os.path.dirname(path)) not in ("", "/"):
        yield path


def as_text(document):
    return json.dumps(document, indent=1, sort_keys=True)


def current_user():
    uid, gid = os.geteuid(), os.getegid()
    return {"owner": pwd.getpwuid(uid).pw_name, "group": grp.getgrgid(gid).gr_name}


def without_contents(params):
    """What the module was called with, as a very verbose Ansible prints it: paths alone."""
    named = {
        key: [one.get("path") if isinstance(one, dict) else one for one in value]
        for key, value in params.items()
        if isinstance(value, list)
    }
    return {"module_args": {**named, "record": params["record"]}}


def each(act, items):
    for item in items:
        try:
            act(**item)
        except TypeError as wrong:
            raise Problem(f"{item.get('path', 'an item without path')}: {wrong}") from wrong
        except OSError as error:
            # Of a full disk it names no file, or the temporary one.
            raise Problem(f"{item['path']}: {error.strerror}") from error


def bring_about(disk, params):
    """Everything in its order: what a file needs, and what may be in its way, is seen to first."""
    each(disk.directory, params["directories"])
    record = Record(disk, params["record"], params["files"]) if params["record"] else None
    if record:
        record.open()
    each(disk.file, params["files"])
    each(disk.flag_dir, params["flag_dirs"])
    each(disk.block, params["blocks"])
    each(disk.link, params["links"])
    for path in params["absent"]:
        disk.absent(path)
    if record:
        record.close()


def main():
    module = AnsibleModule(
        argument_spec={
            "directories": {"type": "list", "elements": "dict", "default": []},
            "files": {"type": "list", "elements": "dict", "default": []},
            "flag_dirs": {"type": "list", "elements": "dict", "default": []},
            "blocks": {"type": "list", "elements": "dict", "default": []},
            "links": {"type": "list", "elements": "dict", "default": []},
            "absent": {"type": "list", "elements": "str", "default": []},
            "record": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    disk = Disk(module.check_mode)
    called = without_contents(module.params)
    try:
        bring_about(disk, module.params)
    except (Problem, OSError) as error:
        changed = bool(disk.changed)
        module.fail_json(msg=str(error), paths=disk.changed, changed=changed, invocation=called)
    for text in disk.warnings:
        module.warn(text)
    module.exit_json(
        changed=bool(disk.changed), paths=disk.changed, diff=disk.diffs, invocation=called
    )


if __name__ == "__main__":
    main()
