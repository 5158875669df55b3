"""How long `mesostk lab up --driver local` takes: `python -m mesostk.tests.perf.local_lab`.

Each round is two commands as a user types them: `lab up --no-app` on nothing, which ends when a
master leads, every agent is registered and Marathon is subscribed; then `lab down`; then `lab up`
again, which ends when the tutorial's hello2 runs. `--masters 3` adds a ZooKeeper.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mesostk.testing.addresses import AddressBlock


def mesostk(directory: Path, *words: str) -> float:
    """Seconds that the command takes; SystemExit with what it said if it fails."""
    environ = {
        **os.environ,
        "MESOSTK_LABS_DIR": str(directory),
        "MESOSTK_CONFIG": str(directory / "contexts.json"),
    }
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "mesostk", *words],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(done.stdout + done.stderr)
    return time.perf_counter() - started


def measure(masters: int, rounds: int, directory: Path) -> None:
    """Print the times of all rounds."""
    block = AddressBlock()
    up = ("lab", "up", "--driver", "local", "--masters", str(masters), "--subnet", f"{block[0]}/24")
    bare, with_app = [], []
    for _ in range(rounds):
        bare.append(mesostk(directory, *up, "--no-app"))
        mesostk(directory, "lab", "down")
        with_app.append(mesostk(directory, *up))
        mesostk(directory, "lab", "down")
    block.close()
    for what, times in (("cluster ready", bare), ("app running", with_app)):
        shown = " ".join(f"{one:.2f}" for one in times)
        print(f"{masters} master(s), {what}: median {statistics.median(times):.2f} s ({shown})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--masters", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"{platform.node()}: {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as directory:
        for masters in options.masters:
            measure(masters, options.rounds, Path(directory))


if __name__ == "__main__":
    main()
