"""A Docker engine of a test's own, to be stopped and killed, and the image that tests run.

It shares nothing with the engine of the machine, not even the network: its containers have no
bridge, and what they call the host's network is an empty one. The image is busybox, made here.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

import docker
import docker.errors

IMAGE = "mesostk-test:1"
PROGRAMS = (
    "sh",
    "sleep",
    "echo",
    "cat",
    "httpd",
    "nc",
    "env",
    "hostname",
    "ls",
    "true",
    "seq",
    "dd",
)

_READY_S = 120.0


def busybox_root() -> bytes:
    """A root file system with busybox, as a tar archive; raises FileNotFoundError without it."""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise FileNotFoundError("busybox is missing: apt-get install busybox-static")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in ("bin", "tmp", "etc"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(folder)
        archive.add(busybox, "bin/busybox")
        for name in PROGRAMS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
        wrong = b"\x7fELF but not for any processor"
        broken = tarfile.TarInfo("bin/foreign")
        broken.size, broken.mode = len(wrong), 0o755
        archive.addfile(broken, io.BytesIO(wrong))
    return packed.getvalue()


def load_image(socket_path: Path, image: str = IMAGE, *, changes: Sequence[str] = ()) -> None:
    """Put the image into the engine at `socket_path`, unless it is there.

    `changes` are instructions of a Dockerfile that it is made with.
    """
    name, _, tag = image.rpartition(":")
    client = docker.APIClient(base_url=f"unix://{socket_path}", version="auto")
    with contextlib.closing(client):
        if client.images(name=image, quiet=True):
            return
        client.import_image_from_data(
            busybox_root(), repository=name, tag=tag, changes=list(changes)
        )


def remove_containers(socket_path: Path, work_dir: Path) -> None:
    """Leave none of an agent's containers behind, whatever became of the test."""
    owner = work_dir / "meta/docker_owner"
    if not socket_path.exists() or not owner.exists():
        return
    client = docker.APIClient(base_url=f"unix://{socket_path}", version="auto")
    with contextlib.closing(client):
        filters = {"label": f"mesostk.work_dir={owner.read_text()}"}
        for container in client.containers(all=True, filters=filters):
            try:
                client.remove_container(container["Id"], force=True, v=True)
            except docker.errors.APIError as error:
                if error.status_code not in (404, 409):  # gone, or on its way: what it had begun
                    raise


class Dockerd:
    """One `dockerd` with everything below `root`."""

    def __init__(self, root: Path, *flags: str, live_restore: bool = True) -> None:
        self.root = root
        self.socket = root / "docker.sock"
        # Swarm refuses to work with it.
        self._flags = ("--live-restore", *flags) if live_restore else flags
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        (self.root / "docker.pid").unlink(missing_ok=True)
        with (self.root / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    # An engine without a bridge removes docker0 where it finds it: not the host's.
                    "unshare",
                    "--net",
                    "sh",
                    "-c",
                    'ip link set lo up && exec dockerd "$@"',
                    "dockerd",
                    f"--host=unix://{self.socket}",
                    f"--data-root={self.root}/data",
                    f"--exec-root={self.root}/exec",
                    f"--pidfile={self.root}/docker.pid",
                    "--bridge=none",
                    "--iptables=false",
                    "--ip-forward=false",
                    "--ip-masq=false",
                    *self._flags,
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _READY_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                log_text = (self.root / "dockerd.log").read_text()[-2000:]
                raise RuntimeError(f"dockerd does not start: {log_text}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(_READY_S)
            try:
                sock.connect(str(self.socket))
                sock.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b"200 OK" in sock.recv(4096)
            except OSError:
                return False

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it; its containers run on."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(_READY_S)
        if number == signal.SIGKILL:
            self._end_containerd()

    def pause(self) -> None:
        """Hang: connections are taken, and nothing is answered until `go_on`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end_containerd(self) -> None:
        """A killed engine leaves its containerd, which a service manager would end."""
        path = self.root / "exec" / "containerd" / "containerd.pid"
        with contextlib.suppress(OSError, ValueError):
            pid = int(path.read_text())
            os.kill(pid, signal.SIGKILL)
            path.unlink()

    def remove(self) -> None:
        """Remove all containers, end the engine, and leave nothing mounted."""
        if self._process is not None and self._process.poll() is not None:
            self.start()
        with contextlib.closing(
            docker.APIClient(base_url=f"unix://{self.socket}", version="auto")
        ) as client:
            for container in client.containers(all=True):
                try:
                    client.remove_container(container["Id"], force=True, v=True)
                except docker.errors.APIError as error:
                    if error.status_code not in (404, 409):  # gone, or on its way
                        raise
        self.kill(signal.SIGTERM)
        mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for place in sorted((m for m in mounted if m.startswith(f"{self.root}/")), reverse=True):
            subprocess.run(["umount", "--lazy", place], check=False)
