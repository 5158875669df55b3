#!/usr/bin/python
"""Ansible module: what support wants to see of a host, in one archive without secrets."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_bundle
short_description: Pack logs, configurations and states of a host, without secrets
description:
  - Withholds private keys, passwords in URLs, values and files whose names say that they are
    secret, environments of tasks, and every such value wherever else it appears.
options:
  path:
    description: The archive to write (tar, gzip; mode 0600); removed again if C(remove).
    type: path
    required: true
  lines:
    description: Lines of each service's journal.
    type: int
    default: 2000
  remove:
    description: Remove the archive instead of writing it.
    type: bool
    default: false
author: mesostk
"""

EXAMPLES = r"""
- name: Pack
  host_bundle:
    path: /var/tmp/support.tar.gz
"""

RETURN = r"""
members:
  description: Names of the files in the archive.
  type: list
  returned: always
"""

import glob
import io
import json
import os
import re
import subprocess
import tarfile
import time

from ansible.module_utils.asking import ask
from ansible.module_utils.basic import AnsibleModule

RECORDS = "/etc/mesostk/services"
WITHHELD = "(withheld)"

# Larger ones are no configuration.
MAX_FILE = 1 << 20
MAX_STATE = 32 << 20

CONFIGS = (
    "/etc/mesos",
    "/etc/mesos-master",
    "/etc/mesos-slave",
    "/etc/mesos-agent",
    "/etc/marathon",
    "/etc/chronos",
    "/etc/mesos-dns",
    "/etc/marathon-lb",
    "/etc/mesostk",
    "/etc/zookeeper/conf",
    "/etc/haproxy",
    "/etc/docker/daemon.json",
    "/etc/default/mesos*",
    "/etc/default/marathon*",
    "/etc/default/zookeeper",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/os-release",
)

COMMANDS = {
    "date": ("date", "--iso-8601=seconds"),
    "uptime": ("uptime",),
    "uname": ("uname", "-a"),
    "disks": ("df", "-h"),
    "inodes": ("df", "-i"),
    "memory": ("free", "-m"),
    "addresses": ("ip", "address"),
    "routes": ("ip", "route"),
    "listeners": ("ss", "-ltnup"),
    "time": ("timedatectl",),
    "mounts": ("cat", "/proc/mounts"),
    "packages": ("dpkg-query", "-W"),
    "failed-units": ("systemctl", "--failed", "--no-pager"),
    "processes": ("ps", "-eo", "pid,ppid,user,rss,etime,comm"),
}

# States that a service shows at its own address, by the service's name.
STATES = {
    "mesos-master": ("/state", "/metrics/snapshot", "/flags"),
    "mesos-agent": ("/state", "/metrics/snapshot", "/flags"),
    "marathon": ("/v2/info", "/v2/apps", "/v2/deployments", "/v2/queue", "/metrics"),
    "mesos-dns": ("/v1/config", "/v1/enumerate"),
}

# Names (of variables, flags, files, JSON keys) whose value is a secret.
SECRET = re.compile(
    r"pass(word|wd|phrase)?$|passw|secret|token|credential|private|htpasswd|api_?key|\bauth$|_auth$"
    r"|ssl_key|digest",
    re.IGNORECASE,
)
# JSON objects whose values are for tasks only, and may be anything.
ENVIRONMENTS = frozenset(("env", "environment", "variables", "secrets"))

KEY_BLOCK = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL
)
URL_USER = re.compile(r"(\w+://)([^/@\s\"']+)@")
PAIR = re.compile(
    r"""(?P<head>["']?(?P<name>[A-Za-z0-9_.\-]+)["']?\s*[=:]\s*)(?P<value>"[^"\n]*"|'[^'\n]*'|[^\s,;}]+)"""
)
FLAG = re.compile(r"(?P<head>--(?P<name>[A-Za-z0-9_\-]+)[ =])(?P<value>\S+)")
HEADER = re.compile(r"(?P<head>\b(?:Basic|Bearer)\s+)(?P<value>[A-Za-z0-9+/=._\-]{6,})")
HAPROXY_AUTH = re.compile(r"(?P<head>^\s*stats\s+auth\s+)(?P<value>\S+)", re.MULTILINE)
HAPROXY_USER = re.compile(
    r"(?P<head>^\s*user\s+\S+\s+(?:insecure-)?password\s+)(?P<value>\S+)", re.MULTILINE
)
ZK_DIGEST = re.compile(r"(?P<head>\bdigest:)(?P<value>[^\s,\"']+)")

# Shorter ones are words that appear everywhere.
SHORTEST = 6


def is_secret(name):
    return SECRET.search(name) is not None


class Redactor:
    """Withholds secrets, and remembers each so that it is withheld wherever else it appears."""

    def __init__(self):
        self.known = set()

    def learn(self, value):
        """Remember a secret: the whole, and the last part of `user:secret` or `user secret`."""
        value = value.strip().strip("\"'")
        for part in (value, value.rpartition(":")[2], value.rpartition(" ")[2]):
            if len(part) >= SHORTEST and part != WITHHELD:
                self.known.add(part)

    def learn_maybe(self, value):
        """Remember what may be a secret, by its looks: no path, no plain word, no number."""
        letters = any(one.isalpha() for one in value)
        digits = any(one.isdigit() for one in value)
        if letters and digits and len(value) >= 8 and "/" not in value and " " not in value:
            self.known.add(value)

    def _value(self, match):
        self.learn(match["value"])
        return match["head"] + WITHHELD

    def _named(self, match):
        return self._value(match) if is_secret(match["name"]) else match[0]

    def _block(self, match):
        for line in match[0].splitlines()[1:-1]:
            self.learn(line)
        return WITHHELD

    def _user(self, match):
        self.learn(match[2])
        return match[1] + WITHHELD + "@"

    def text(self, text):
        """`text` without what looks like a secret in it."""
        text = KEY_BLOCK.sub(self._block, text)
        text = URL_USER.sub(self._user, text)
        for pattern in (HAPROXY_AUTH, HAPROXY_USER, HEADER, ZK_DIGEST):
            text = pattern.sub(self._value, text)
        return FLAG.sub(self._named, PAIR.sub(self._named, text))

    def json(self, value, inside=False):
        """A JSON value without environments and without members that are secret by name."""
        if isinstance(value, dict):
            cleaned = {}
            for name, one in value.items():
                deeper = inside or name in ENVIRONMENTS
                if is_secret(name) and isinstance(one, str):
                    self.learn(one)
                    cleaned[name] = WITHHELD
                else:
                    cleaned[name] = self.json(one, deeper)
            # Mesos's own form of an environment: [{"name": "X", "value": "…"}]
            if inside and isinstance(value.get("name"), str):
                cleaned["name"] = value["name"]
            return cleaned
        if isinstance(value, list):
            return [self.json(one, inside) for one in value]
        if isinstance(value, str):
            if inside:
                self.learn_maybe(value)
                return WITHHELD
            return self.text(value)
        return value

    def everywhere(self, text):
        """`text` without any secret that was met anywhere."""
        for value in sorted(self.known, key=len, reverse=True):
            text = text.replace(value, WITHHELD)
        return text

    def file(self, path, text):
        """A configuration: withheld whole if its name says that it is a secret."""
        if is_secret(os.path.basename(path)):
            for line in text.splitlines():
                self.learn(line)
            return WITHHELD + "\n"
        if path.endswith(".json"):
            try:
                return json.dumps(self.json(json.loads(text)), indent=2) + "\n"
            except ValueError:
                pass
        return self.text(text)


def run(*command):
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=60, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{error}\n"
    return done.stdout + done.stderr


def files_below(path):
    if os.path.isdir(path):
        for directory, _, names in os.walk(path):
            for name in sorted(names):
                yield os.path.join(directory, name)
    elif os.path.exists(path):
        yield path


def configs():
    """(path, text) of every configuration there is."""
    for pattern in CONFIGS:
        for root in sorted(glob.glob(pattern)):
            for path in files_below(root):
                try:
                    if os.path.getsize(path) <= MAX_FILE:
                        with open(path, errors="replace") as file:
                            yield path, file.read()
                except OSError as error:
                    yield path, f"{error}\n"


def records():
    for path in sorted(glob.glob(os.path.join(RECORDS, "*.json"))):
        with open(path) as file:
            yield json.load(file)


def state(url):
    try:
        status, _, body = ask("GET", url, follow=True, limit=MAX_STATE)
    except (OSError, ValueError) as error:
        return f"{url}: {error}\n"
    text = body.decode(errors="replace")
    return text if status == 200 else f"{url}: {status} {text}\n"


def states(record):
    """(name, text) of what a service says of itself."""
    url = record["health"].get("url", "")
    scheme, _, rest = url.partition("://")
    base = f"{scheme}://{rest.partition('/')[0]}"
    for path in STATES.get(record["name"], ()) if rest else ():
        yield path.strip("/").replace("/", "-"), state(base + path)


def gather(lines):
    """Name in the archive → text; secrets withheld."""
    redactor = Redactor()
    found = {"config" + path: redactor.file(path, text) for path, text in configs()}
    for record in records():
        name, unit = record["name"], record["unit"]
        found[f"units/{name}.service"] = redactor.text(run("systemctl", "cat", unit))
        found[f"units/{name}.status"] = redactor.text(
            run("systemctl", "status", "--no-pager", "--full", "--lines=0", unit)
        )
        journal = run("journalctl", "-u", unit, "-n", str(lines), "--no-pager", "-o", "short-iso")
        found[f"logs/{name}.log"] = redactor.text(journal)
        for what, text in states(record):
            found[f"states/{name}-{what}.json"] = redactor.file("state.json", text)
    kernel = run("journalctl", "-k", "-n", str(lines), "--no-pager", "-o", "short-iso")
    found["logs/kernel.log"] = redactor.text(kernel)
    for name, command in COMMANDS.items():
        found[f"host/{name}.txt"] = redactor.text(run(*command))
    # Only now is every secret known.
    return {name: redactor.everywhere(text) for name, text in found.items()}


def pack(path, found):
    # Made anew: somebody else's file of that name would be readable for them.
    if os.path.lexists(path):
        os.unlink(path)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, text in sorted(found.items()):
            data = text.encode(errors="replace")
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(data), 0o600, int(time.time())
            archive.addfile(member, io.BytesIO(data))


def main():
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "lines": {"type": "int", "default": 2000},
            "remove": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    path = module.params["path"]
    if module.params["remove"]:
        if os.path.exists(path):
            os.unlink(path)
        module.exit_json(changed=False, members=[])
    found = gather(module.params["lines"])
    pack(path, found)
    module.exit_json(changed=False, members=sorted(found))


if __name__ == "__main__":
    main()
