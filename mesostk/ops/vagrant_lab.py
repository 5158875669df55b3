"""Lab hosts as virtual machines, or whatever else Vagrant makes of the Vagrantfile.

Vagrant makes the machines and knows how to reach them; the playbooks run from here, as for the
other labs. Which provider is Vagrant's own business: `VAGRANT_DEFAULT_PROVIDER`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from mesostk.errors import ConfigError, Unavailable
from mesostk.ops import inventory, lab, paths
from mesostk.ops.lab import Endpoints, HostState, HostStatus, LabSpec
from mesostk.ops.progress import Progress

#: A box of 500 MB over a slow line, and six machines that boot one after the other.
_UP_LIMIT_S = 3600
_CALL_LIMIT_S = 300
_STATES: dict[str, HostState] = {
    "running": "running",
    "poweroff": "stopped",
    "shutoff": "stopped",
    "stopped": "stopped",
    "aborted": "stopped",
    "saved": "stopped",
    "not_created": "missing",
}
#: The interface of the lab's network; Vagrant itself comes by another one.
_LINK = "link=$(ip -o -4 addr show to {address} | awk '{{ print $2 }}'); test -n \"$link\""


class VagrantLab:
    """A lab of the machines in the Vagrantfile; see `lab.Lab` for the methods."""

    def __init__(self, spec: LabSpec, state_dir: Path) -> None:
        self.spec = spec
        self.state_dir = state_dir

    def up(self, progress: Progress) -> None:
        """Make or start the machines, then write the inventory."""
        with lab.changing(self.state_dir):
            hosts = self.spec.hosts()
            lab.save_spec(self.state_dir, self.spec)
            progress.step(f"Making {len(hosts)} machines with Vagrant")
            self._vagrant("up", "--no-provision", limit_s=_UP_LIMIT_S)
            progress.step("Writing the inventory")
            reached = read_ssh_config(self._vagrant("ssh-config"))
            inventory.write_inventory(
                self.state_dir / "inventory",
                hosts,
                {"ansible_python_interpreter": "/usr/bin/python3"},
                paths.data_root() / "inventory" / self.spec.topology / "group_vars",
                {host.name: host_variables(host.address, reached[host.name]) for host in hosts},
            )
            progress.done(f"{len(hosts)} machines are up")

    def endpoints(self) -> Endpoints:
        """Where the daemons listen once `site.yml` has run."""
        return lab.host_endpoints(self.spec)

    def down(self, progress: Progress, *, purge: bool) -> None:
        """Remove the machines; `purge` their boxes, too."""
        progress.step(f"Removing the machines of lab {self.spec.name}")
        self._vagrant("destroy", "--force")
        if purge:
            progress.detail("boxes stay, since other projects use them: `vagrant box remove`")
        lab.forget(self.state_dir)
        progress.done(f"lab {self.spec.name} is gone")

    def status(self) -> list[HostStatus]:
        """What Vagrant says of each machine."""
        states = read_states(self._vagrant("status", "--machine-readable"))
        return [
            HostStatus(
                host=host,
                state=_STATES.get(states.get(host.name, "not_created"), "broken"),
                detail=states.get(host.name, ""),
            )
            for host in self.spec.hosts()
        ]

    def stop(self, host: str) -> None:
        """Switch the machine off as a power button does."""
        self._vagrant("halt", "--force", lab.named(self.spec, host).name)

    def start(self, host: str) -> None:
        """Switch it on again and wait until it answers."""
        self._vagrant("up", "--no-provision", lab.named(self.spec, host).name)

    def pause(self, host: str) -> None:
        """Not every provider can; raises ConfigError with the command of those that can."""
        raise ConfigError(f"Vagrant pauses its machines itself: `vagrant suspend {host}`")

    def partition(self, host: str) -> None:
        """Take the machine's link to the lab's network down."""
        self._on_link(host, "down")

    def heal(self, host: str) -> None:
        """Take it up again."""
        self._on_link(host, "up")

    def _on_link(self, host: str, state: str) -> None:
        one = lab.named(self.spec, host)
        script = f"{_LINK.format(address=one.address)} && ip link set $link {state}"
        self._vagrant("ssh", one.name, "--command", f"sudo sh -c {shlex.quote(script)}")

    def _vagrant(self, *words: str, limit_s: float = _CALL_LIMIT_S) -> str:
        if shutil.which("vagrant") is None:
            raise ConfigError(
                "vagrant is not installed: `apt-get install vagrant`, or use --driver docker"
            )
        try:
            done = subprocess.run(
                ["vagrant", *words],
                cwd=paths.data_root(),
                env={**os.environ, **environment(self.spec, self.state_dir)},
                capture_output=True,
                text=True,
                timeout=limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"`vagrant {words[0]}` took over {limit_s:.0f} s") from error
        if done.returncode != 0:
            tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
            raise Unavailable(f"`vagrant {' '.join(words)}` ended with {done.returncode}:\n{tail}")
        return done.stdout


def environment(spec: LabSpec, state_dir: Path) -> Mapping[str, str]:
    """What tells the Vagrantfile, and Vagrant, to make the machines of `spec`."""
    return {
        "MESOSTK_VAGRANT_NAME": spec.name,
        "MESOSTK_VAGRANT_SUBNET": str(spec.network()),
        "MESOSTK_VAGRANT_MASTERS": str(spec.masters),
        "MESOSTK_VAGRANT_AGENTS": str(spec.agents),
        "MESOSTK_VAGRANT_EDGE": "yes" if spec.topology == "tutorial" else "no",
        "MESOSTK_VAGRANT_STATE": str(state_dir.absolute()),
        "VAGRANT_DOTFILE_PATH": str((state_dir / "vagrant").absolute()),
        "VAGRANT_CHECKPOINT_DISABLE": "1",
    }


def read_ssh_config(text: str) -> dict[str, dict[str, str]]:
    """Host → keyword → value of what `vagrant ssh-config` prints."""
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        keyword, _, value = line.strip().partition(" ")
        if keyword == "Host":
            current = found.setdefault(value, {})
        elif keyword:
            current[keyword] = value.strip('"')
    return found


def read_states(text: str) -> dict[str, str]:
    """Machine → state of what `vagrant status --machine-readable` prints."""
    rows = [line.split(",") for line in text.splitlines()]
    return {row[1]: row[3] for row in rows if len(row) > 3 and row[2] == "state"}


def host_variables(address: str, reached: Mapping[str, str]) -> dict[str, str]:
    """Ansible variables of a machine: where Vagrant reaches it, and where the others do."""
    return {
        "ansible_host": reached["HostName"],
        "ansible_port": reached["Port"],
        "ansible_user": reached["User"],
        "ansible_ssh_private_key_file": reached["IdentityFile"],
        # Vagrant makes the machines' keys anew each time and trusts its own loopback ports.
        "ansible_ssh_common_args": (
            "-o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o IdentitiesOnly=yes"
        ),
        "common_address": address,
    }
