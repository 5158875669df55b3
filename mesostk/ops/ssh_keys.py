"""SSH identities of a lab: its user key, one host key per host, the known hosts that follow."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

from mesostk.errors import ConfigError, Unavailable
from mesostk.ops.lab import Host


class SshIdentity:
    """The keys below `directory`, all made here and readable by their owner only.

    Host keys are made before the hosts, so that the known hosts are right from the first
    connection and nothing is ever trusted unseen.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key = directory / "id_ed25519"
        self.known_hosts = directory / "known_hosts"

    def ensure(self, hosts: Sequence[Host]) -> None:
        """Make the keys that are missing and write known_hosts. Raises ConfigError without ssh."""
        if shutil.which("ssh-keygen") is None:
            raise ConfigError("ssh-keygen is not installed: `apt-get install openssh-client`")
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        _make_key(self.key, "mesostk lab")
        lines = []
        for host in hosts:
            path = self._host_key(host)
            _make_key(path, host.name)
            kind, public, *_ = path.with_suffix(".pub").read_text().split()
            lines.append(f"{host.address},{host.name} {kind} {public}\n")
        self.known_hosts.write_text("".join(lines))

    def _host_key(self, host: Host) -> Path:
        return self.directory / f"host_{host.name}"

    def archive(self, host: Host) -> bytes:
        """A tar of the files that `host` needs, to be unpacked at its root."""
        host_key = self._host_key(host)
        authorized = self.key.with_suffix(".pub").read_bytes()
        files = {
            "root/.ssh/authorized_keys": (authorized, 0o600),
            "etc/ssh/ssh_host_ed25519_key": (host_key.read_bytes(), 0o600),
            "etc/ssh/ssh_host_ed25519_key.pub": (host_key.with_suffix(".pub").read_bytes(), 0o644),
        }
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for name, (content, mode) in files.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode, entry.mtime = len(content), mode, int(time.time())
                tar.addfile(entry, io.BytesIO(content))
        return packed.getvalue()

    def command(self, host: Host, *words: str) -> list[str]:
        """The ssh command that runs `words` on `host` as root, without asking anything."""
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "5",
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": f'"{self.known_hosts}"',  # spaces would separate file names
        }
        flags = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        return ["ssh", "-F", "none", "-i", str(self.key), *flags, f"root@{host.address}", *words]

    def why_unreachable(self, host: Host) -> str | None:
        """What ssh says if it cannot run a command on `host`; None if it can."""
        try:
            done = subprocess.run(
                self.command(host, "true"),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=15,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "ssh took over 15 s"
        return None if done.returncode == 0 else done.stderr.strip() or "ssh said nothing"


def _make_key(path: Path, comment: str) -> None:
    if path.exists() and path.with_suffix(".pub").exists():
        path.chmod(0o600)
        return
    path.unlink(missing_ok=True)
    done = subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if done.returncode != 0:
        raise Unavailable(f"ssh-keygen could not make {path}: {done.stderr.strip()}")
