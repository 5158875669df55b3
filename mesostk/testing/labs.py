"""A provisioned container lab as tests see it: hosts, playbooks, processes."""

import subprocess
import sys
from pathlib import Path

import msgspec

from mesostk.ops.ansible import Outcome, run_playbook
from mesostk.ops.lab import Host, Lab
from mesostk.ops.progress import Lines


def mesostk(*words: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "mesostk", *words],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


class Cluster:
    """The lab, with what the tests ask of it."""

    def __init__(self, lab: Lab, runs: Path) -> None:
        self.lab = lab
        self.runs = runs
        self.inventory = lab.state_dir / "inventory"

    @property
    def hosts(self) -> tuple[Host, ...]:
        return self.lab.spec.hosts()

    def run(self, host: Host, script: str, limit_s: float = 60) -> str:
        """Output of a shell script as root on `host`; raises if it fails."""
        container = f"{self.lab.spec.name}-{host.name}"
        done = subprocess.run(
            ["docker", "exec", "-i", container, "sh", "-e"],
            input=script,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
        assert done.returncode == 0, f"{host.name}: {done.stdout}{done.stderr}"
        return done.stdout

    def playbook(self, name: str, **options: object) -> Outcome:
        """Run a playbook; it must not fail."""
        outcome = run_playbook(
            name,
            self.inventory,
            Lines(),
            self.runs,
            **options,  # type: ignore[arg-type] # the options of run_playbook, passed through
        )
        assert outcome.rc == 0, [msgspec.to_builtins(one) for one in outcome.failures]
        return outcome

    def service_pids(self) -> dict[str, str]:
        """Main process of each service of each host."""
        script = """
        for record in /etc/mesostk/services/*.json; do
            unit=$(basename "$record" .json)
            echo "$unit $(systemctl show -p MainPID --value "$unit")"
        done
        """
        return {
            f"{host.name} {unit}": pid
            for host in self.hosts
            for unit, pid in (line.split() for line in self.run(host, script).splitlines())
        }
