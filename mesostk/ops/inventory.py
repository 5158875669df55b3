"""Hosts as an Ansible inventory."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from mesostk.errors import ConfigError
from mesostk.ops.lab import Host

#: Parent groups of ARCHITECTURE §16; a group that no host is in is left out.
_CONTROL_PLANE = ("zookeeper", "mesos_masters", "marathon")
_CLUSTER = ("mesos_agents", "mesos_dns", "marathon_lb")


def render_inventory(
    hosts: Sequence[Host],
    variables: Mapping[str, object],
    host_variables: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """The inventory in YAML: `variables` for all hosts, those of each host, the groups.

    Without `host_variables` a host has its address as `ansible_host`. Names of hosts and groups
    are plain words; values are quoted as JSON strings, which YAML reads.
    """
    lines = ["all:", "  vars:"]
    lines += [f"    {key}: {json.dumps(value)}" for key, value in sorted(variables.items())]
    lines.append("  hosts:")
    for host in hosts:
        if host_variables is None:
            lines.append(f"    {host.name}: {{{_variables_of(host)}}}")
        else:
            lines.append(f"    {host.name}: {json.dumps(dict(host_variables[host.name]))}")
    lines += ["  children:", "    cluster:", "      children:"]
    lines += ["        control_plane:", "          children:"]
    lines += _groups(_CONTROL_PLANE, hosts, indent=12)
    lines += _groups(_CLUSTER, hosts, indent=8)
    return "\n".join(lines) + "\n"


def _variables_of(host: Host) -> str:
    number = f", zookeeper_id: {host.zookeeper_id}" if host.zookeeper_id else ""
    return f"ansible_host: {host.address}{number}"


def _groups(names: Sequence[str], hosts: Sequence[Host], indent: int) -> list[str]:
    lines = []
    for name in names:
        members = [host.name for host in hosts if name in host.groups]
        if members:
            lines += [" " * indent + f"{name}:", " " * indent + "  hosts:"]
            lines += [" " * indent + f"    {member}:" for member in members]
    return lines


def ssh_variables(key: Path, known_hosts: Path) -> dict[str, str]:
    """Ansible variables that reach a lab's hosts with `key`, trusting only `known_hosts`."""
    quoted = f'UserKnownHostsFile="{known_hosts}"'
    return {
        "ansible_user": "root",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_private_key_file": str(key),
        "ansible_ssh_common_args": (
            # quoted twice: for the shell's words, and for ssh, which takes several file names
            f"-o {shlex.quote(quoted)} -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
        ),
    }


def write_inventory(
    directory: Path,
    hosts: Sequence[Host],
    variables: Mapping[str, object],
    group_vars: Path,
    host_variables: Mapping[str, Mapping[str, str]] | None = None,
) -> Path:
    """Write `hosts.yml` to `directory` with a copy of `group_vars` beside it; return its path."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if group_vars.is_dir():
        shutil.copytree(group_vars, directory / "group_vars", dirs_exist_ok=True)
    path = directory / "hosts.yml"
    path.write_text(render_inventory(hosts, variables, host_variables))
    return path


def listed(inventory: Path) -> dict[str, Any]:
    """The inventory as Ansible understands it, in the form of `ansible-inventory --list`.

    Raises ConfigError with Ansible's words if it does not.
    """
    program = Path(sys.executable).with_name("ansible-inventory")
    if not inventory.exists():
        raise ConfigError(f"inventory {inventory} does not exist")
    done = subprocess.run(
        [str(program), "-i", str(inventory), "--list"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ANSIBLE_INVENTORY_UNPARSED_FAILED": "1", "LC_ALL": "C.UTF-8"},
    )
    if done.returncode != 0:
        raise ConfigError(f"inventory {inventory}: {done.stderr.strip()}")
    return dict(json.loads(done.stdout))


def addresses(inventory: Path) -> dict[str, str]:
    """Address of each host by its name: common_address, else ansible_host, else the name."""
    found = listed(inventory)
    known: dict[str, dict[str, Any]] = found.get("_meta", {}).get("hostvars", {})
    names = {name for group in found.values() for name in group.get("hosts", ())} | set(known)
    return {
        name: str(
            known.get(name, {}).get("common_address")
            or known.get(name, {}).get("ansible_host")
            or name
        )
        for name in sorted(names)
    }


def groups(inventory: Path) -> dict[str, list[str]]:
    """Hosts of each group by its name, those of its child groups too."""
    found = listed(inventory)

    def members(name: str) -> list[str]:
        group: dict[str, list[str]] = found.get(name, {})
        below = [host for child in group.get("children", ()) for host in members(child)]
        return list(dict.fromkeys([*group.get("hosts", ()), *below]))

    return {name: members(name) for name in found if name != "_meta"}


# -- a first inventory --------------------------------------------------------------------------


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a first inventory is to say: (name, address) of each host."""

    masters: tuple[tuple[str, str], ...]
    agents: tuple[tuple[str, str], ...]
    edges: tuple[tuple[str, str], ...] = ()
    user: str = "admin"
    docker: bool = False


_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")


def read_host(text: str, kind: str, number: int) -> tuple[str, str]:
    """(name, address) of `ADDRESS` or `NAME=ADDRESS`; hosts without a name are called by kind.

    Raises ConfigError naming the word.
    """
    name, equals, address = text.partition("=")
    if not equals:
        name, address = f"{kind}{number}", text
    if not _NAME.fullmatch(name) or not re.fullmatch(r"[A-Za-z0-9.:-]+", address):
        raise ConfigError(f"--{kind} {text!r}: write ADDRESS or NAME=ADDRESS")
    return name, address


def initial_inventory(wanted: Wanted, example: str) -> dict[str, str]:
    """Text by file name: `hosts.yml`, and `group_vars/all.yml` made of the commented example.

    Raises ConfigError for an even number of masters and for names or addresses that come twice.
    """
    if len(wanted.masters) % 2 == 0 or not wanted.agents:
        raise ConfigError(
            f"{len(wanted.masters)} masters and {len(wanted.agents)} agents: use 1, 3 or 5 masters "
            "(an even number survives no more failures) and at least one agent"
        )
    hosts: dict[str, str] = {}
    for name, address in (*wanted.masters, *wanted.agents, *wanted.edges):
        if hosts.setdefault(name, address) != address:
            raise ConfigError(f"{name} has two addresses: {hosts[name]} and {address}")
    twice = {one for one in hosts.values() if list(hosts.values()).count(one) > 1}
    if twice:
        raise ConfigError(f"several hosts have the address {', '.join(sorted(twice))}")
    user = re.sub(r"(?m)^ansible_user: .*$", f"ansible_user: {wanted.user}", example)
    return {"hosts.yml": _initial_hosts(wanted, hosts), "group_vars/all.yml": user}


def _initial_hosts(wanted: Wanted, hosts: Mapping[str, str]) -> str:
    masters = [name for name, _ in wanted.masters]
    edges = [name for name, _ in wanted.edges or wanted.masters]
    agents = [name for name, _ in wanted.agents]
    docker = ": {mesos_agent_containerizers: [docker, mesos]}" if wanted.docker else ":"
    lines = [
        "---",
        "# Addresses are what the hosts reach each other by; where Ansible needs another one (a",
        "# bastion, a NAT port), set common_address as well. A host may be in several groups.",
        "all:",
        "  hosts:",
        *(f"    {name}: {{ansible_host: {json.dumps(where)}}}" for name, where in hosts.items()),
        "  children:",
        "    cluster:",
        "      children:",
        "        control_plane:",
        "          children:",
        "            # 1, 3 or 5 members, whose numbers may never change nor be used again.",
        "            zookeeper:",
        "              hosts:",
        *(
            f"                {name}: {{zookeeper_id: {number}}}"
            for number, name in enumerate(masters, 1)
        ),
    ]
    for group in ("mesos_masters", "marathon"):
        lines += [f"            {group}:", "              hosts:"]
        lines += [f"                {name}:" for name in masters]
    lines += [
        "        # For constraints give agents attributes: {mesos_agent_attributes: {rack: a}}",
        "        mesos_agents:",
        "          hosts:",
        *(f"            {name}{docker}" for name in agents),
        "        # Names of tasks (port 53), and HAProxy in front of them (80, 443, 9090).",
    ]
    for group in ("mesos_dns", "marathon_lb"):
        lines += [f"        {group}:", "          hosts:"]
        lines += [f"            {name}:" for name in edges]
    return "\n".join(lines) + "\n"


def _files(inventory: Path) -> list[Path]:
    """Files of the inventory that are YAML: itself, and variables of groups and hosts."""
    root = inventory if inventory.is_dir() else inventory.parent
    tops = sorted(inventory.iterdir()) if inventory.is_dir() else [inventory]
    found = [path for path in tops if path.suffix in (".yml", ".yaml")]
    for name in ("group_vars", "host_vars"):
        # Ansible reads those without a suffix, too.
        found += [
            path
            for path in sorted((root / name).rglob("*"))
            if path.suffix in ("", ".yml", ".yaml") and not path.name.startswith(".")
        ]
    return [path for path in found if path.is_file()]


def check_files(inventory: Path) -> None:
    """ConfigError with file, line and cause if a file of the inventory is no YAML.

    Ansible only warns of an inventory that it cannot read, and goes on without its hosts; of a
    file of variables it does not say which it is.
    """
    if not inventory.exists():
        raise ConfigError(f"inventory {inventory} does not exist")
    for path in _files(inventory):
        try:
            text = path.read_text()
            if not text.startswith("$ANSIBLE_VAULT;"):
                for _ in yaml.parse(text, Loader=yaml.SafeLoader):
                    pass
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from error
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f":{mark.line + 1}" if mark else ""
            raise ConfigError(
                f"{path}{line}: no YAML: {error.problem or error.context};"
                " look for a quote, bracket or brace that is not closed, a tab, or indentation"
            ) from error
        except yaml.YAMLError as error:
            raise ConfigError(f"{path}: no YAML: {error}") from error
