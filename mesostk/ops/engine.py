"""The Docker engine of this machine: find it, start it, install it.

Whether or not systemd is process 1. Debian's init script of docker.io is not used: it raises
process limits under `set -e` and ends without a word where that is not permitted.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import docker
import docker.errors
import requests.exceptions

from mesostk.errors import ConfigError, Unavailable
from mesostk.ops.progress import Lines, Progress

#: dockerd needs 2-5 s; after a crash with many containers it first tidies up.
START_LIMIT_S = 60.0
#: Long enough for the slowest single call, the removal of a host with a full disk.
CALL_LIMIT_S = 120
_PID_FILES = {
    Path("/var/run/docker.pid"): "dockerd",
    Path("/var/run/docker/containerd/containerd.pid"): "containerd",
}
_LOG = Path("/var/log/mesostk-dockerd.log")


def privileged(argv: Sequence[str]) -> list[str]:
    """`argv` to be run as root: as it is for root, else through sudo.

    Raises ConfigError if this is not root and there is no sudo.
    """
    if os.geteuid() == 0:
        return list(argv)
    if shutil.which("sudo") is None:
        raise ConfigError(
            f"`{argv[0]}` needs root and sudo is not installed: run as root, "
            "or use `mesostk lab up --driver local`, which needs neither root nor Docker"
        )
    return ["sudo", *argv]


def run_privileged(argv: Sequence[str], what: str, limit_s: float, stdin: str = "") -> str:
    """Run `argv` as root and return its stdout.

    Raises Unavailable naming `what` and the end of the output if it fails or takes over `limit_s`.
    """
    command = privileged(argv)
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{what}: `{' '.join(argv)}` took over {limit_s:.0f} s") from error
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-10:])
        raise Unavailable(f"{what}: `{' '.join(argv)}` ended with {done.returncode}:\n{tail}")
    return done.stdout


def install_packages(packages: Sequence[str], progress: Progress) -> None:
    """Install Debian `packages`. Raises ConfigError without apt, Unavailable if it fails."""
    progress.step(f"Installing {', '.join(packages)}")
    if shutil.which("apt-get") is None:
        raise ConfigError(
            f"this machine has no apt-get: install {', '.join(packages)} by hand and try again"
        )
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
    run_privileged([*environment, "apt-get", "update"], "apt-get update", limit_s=180)
    run_privileged(
        [*environment, "apt-get", "install", "-y", "--no-install-recommends", *packages],
        "installing packages",
        limit_s=600,
    )


def connect() -> docker.DockerClient:
    """A client of the engine that DOCKER_HOST or the default socket names.

    Raises Unavailable with the reason if there is no answer.
    """
    try:
        client = docker.from_env(timeout=CALL_LIMIT_S)
    except docker.errors.DockerException as error:
        raise Unavailable(_why_no_answer(error)) from error
    try:
        client.ping()
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        client.close()
        raise Unavailable(_why_no_answer(error)) from error
    return client


@contextmanager
def talking() -> Iterator[None]:
    """Turn what the engine refuses, and its silence, into Unavailable; also a decorator."""
    try:
        yield
    except docker.errors.DockerException as error:
        said = getattr(error, "explanation", None) or str(error)
        raise Unavailable(f"the Docker engine refuses: {said}") from error
    except requests.exceptions.RequestException as error:
        raise Unavailable(_why_no_answer(error)) from error


def _why_no_answer(error: Exception) -> str:
    text = str(error)
    if "PermissionError" in text or "Permission denied" in text:
        return (
            "no permission to use the Docker socket: run as root, or add yourself to the group "
            "docker (`sudo adduser $USER docker`, then log in again)"
        )
    if "FileNotFoundError" in text:
        return "nothing listens on the Docker socket"
    return f"the Docker engine does not answer: {text}"


def ensure_engine(progress: Progress) -> docker.DockerClient:
    """A client of a running engine; installs and starts Docker where it is missing.

    Raises ConfigError or Unavailable with what to do about it.
    """
    try:
        return connect()
    except Unavailable as error:
        if "permission" in str(error) or os.environ.get("DOCKER_HOST"):
            raise
    if shutil.which("dockerd", path=_SBIN_PATH) is None:
        install_packages(["docker.io", "iptables"], progress)
        try:
            return connect()  # with systemd the package starts it
        except Unavailable:
            pass
    progress.step("Starting the Docker engine")
    if Path("/run/systemd/system").is_dir():
        run_privileged(["systemctl", "start", "docker"], "starting Docker", START_LIMIT_S)
        return _wait_for_answer(None)
    return _wait_for_answer(_start_by_hand())


_SBIN_PATH = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"


def clear_stale_pid_file(path: Path, program: str, proc: Path = Path("/proc")) -> bool:
    """Remove `path` if the process it names is not `program`; True if it was removed.

    dockerd refuses to start while its pid file names any live process, also one that only got the
    number since.
    """
    try:
        pid = path.read_text().strip()
    except FileNotFoundError:
        return False
    try:
        name = (proc / pid / "comm").read_text().strip() if pid else ""
    except OSError:
        name = ""
    if name == program:
        return False
    run_privileged(["rm", "-f", str(path)], f"removing the stale {path}", limit_s=10)
    return True


def _start_by_hand() -> subprocess.Popen[bytes]:
    for path, program in _PID_FILES.items():
        clear_stale_pid_file(path, program)
    dockerd = shutil.which("dockerd", path=_SBIN_PATH) or "dockerd"
    command = privileged(["sh", "-c", f"exec {dockerd} >>{_LOG} 2>&1 </dev/null"])
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        # sudo would hold a pipe of ours open for as long as the engine runs
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in the terminal must not end the engine
        env={**os.environ, "PATH": _SBIN_PATH},
    )


def _wait_for_answer(process: subprocess.Popen[bytes] | None) -> docker.DockerClient:
    deadline = time.monotonic() + START_LIMIT_S
    while True:
        try:
            return connect()
        except Unavailable as error:
            if "permission" in str(error):
                raise
            ended = process is not None and process.poll() is not None
            if ended or time.monotonic() > deadline:
                raise Unavailable(_why_not_started(process, str(error))) from error
        time.sleep(0.2)


def _why_not_started(process: subprocess.Popen[bytes] | None, reason: str) -> str:
    if process is None:
        return f"Docker was started but: {reason}. Look at `journalctl -u docker`"
    try:
        with _LOG.open(errors="replace") as log:
            tail = "".join(log.readlines()[-8:])
    except OSError as error:
        tail = f"(no log: {error})"
    state = (
        "ended" if process.poll() is not None else f"does not answer after {START_LIMIT_S:.0f} s"
    )
    return (
        f"dockerd {state}; the end of {_LOG}:\n{tail}"
        "Where Docker cannot run at all, use `mesostk lab up --driver local`"
    )


if __name__ == "__main__":
    ensure_engine(Lines()).close()
