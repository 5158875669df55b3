"""Somebody who has installed the wheel: an environment, a home, and no privileges."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mesostk.ops import paths

#: Made for the test and removed after it; only root can.
USER: Final = "mesostk-e2e"

#: A command of the toolkit, up to the deployment that it waits for.
LIMIT_S: Final = 300.0


class Installed:
    """The wheel in an environment of its own; `run` is what its owner types in a directory."""

    def __init__(self, home: Path, user: str | None) -> None:
        self.home = home
        self.here = home / "empty"
        self.bin = home / "venv" / "bin"
        self._user = user

    def run(self, *words: str, limit_s: float = LIMIT_S) -> subprocess.CompletedProcess[str]:
        """Run a command by its name in the environment; output is kept."""
        environ = {
            "HOME": str(self.home),
            "PATH": f"{self.bin}:{os.defpath}",
            "LC_ALL": "C.UTF-8",
            "USER": self._user if self._user is not None else os.environ.get("USER", "root"),
        }
        return subprocess.run(
            [*self._become(), *words],
            cwd=self.here,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )

    def _become(self) -> list[str]:
        if self._user is None:
            return []
        ids = [f"--reuid={self._user}", f"--regid={self._user}", "--init-groups"]
        return ["setpriv", *ids, "--bounding-set=-all", "--no-new-privs"]

    def ok(self, *words: str, limit_s: float = LIMIT_S) -> str:
        """`run` that must succeed; what it printed."""
        done = self.run(*words, limit_s=limit_s)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout


@contextmanager
def installed_wheel() -> Iterator[Installed]:
    """Build the wheel of this checkout and install it; for root, as a user made for this.

    The libraries are those of the running environment: nothing is downloaded.
    """
    # Of this run: one that was interrupted may have left its own behind.
    user = f"{USER}-{os.getpid()}" if os.geteuid() == 0 else None
    # Not below a test's own directory: those are closed to other users.
    home = Path(tempfile.mkdtemp(prefix="mesostk-user-"))
    try:
        if user is not None:
            subprocess.run(["useradd", "--system", "--home-dir", str(home), user], check=True)
        owner = Installed(home, user)
        owner.here.mkdir()
        _install(home)
        if user is not None:
            subprocess.run(["chown", "-R", f"{user}:", str(home)], check=True)
        yield owner
    finally:
        if user is not None:
            subprocess.run(["userdel", user], check=False, capture_output=True)
        shutil.rmtree(home)


def _install(home: Path) -> None:
    root = paths.checkout()
    assert root is not None, "the wheel is built from a checkout"
    out = home / "wheel"
    build = ["-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run([sys.executable, *build], cwd=root, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    python = interpreter()
    venv = home / "venv"
    subprocess.run([python, "-m", "venv", "--without-pip", str(venv)], check=True)
    (site,) = venv.glob("lib/python3*/site-packages")
    # A path in a .pth file does not run the .pth files in there: the checkout is not seen.
    (site / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(venv / "bin" / "python"), "install"]
    options = ["-q", "--no-deps", "--no-index", "--ignore-installed", "--no-cache-dir"]
    subprocess.run([*pip, *options, str(wheel)], check=True)


def interpreter() -> str:
    """A Python that anybody may run, of the version that the libraries are for."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    base = os.path.realpath(sys.executable)
    if os.geteuid() != 0 or not base.startswith("/root/"):
        return base
    found = shutil.which(name, path="/usr/local/bin:/usr/bin")
    assert found is not None, f"{base} is for root only and there is no /usr/bin/{name}"
    return found
