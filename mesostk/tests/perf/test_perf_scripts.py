"""Every figure's script still runs, at a size that shows nothing but that.

Those that need minutes, or programs that not every machine has, are only imported.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

_SMALL = {
    "allocation": "--agents 20 --frameworks 3 --count 100",
    "launch": "--count 3",
    "marathon": "--apps 10",
    "marathon_agents": "--count 3 --agents 1",
    "reregistration": "--agents 5 --tasks 1 --updates 20 --failovers 1",
    "state": "--agents 10 --tasks 50",
    "task_latency": "--count 2",
    "throughput": "--count 6 --agents 1 --executor command",
    "throughput custom": "--count 6 --agents 1 --executor custom",
}

_LARGE = ("dns", "docker_start", "failover", "health_checks", "lb", "local_lab", "resources_cost")

#: What scripts share, and the processes that they start.
_PARTS = {"connections", "executor", "framework", "machine", "simagents"}


def run(script: str, *arguments: str) -> str:
    argv = [sys.executable, "-m", f"mesostk.tests.perf.{script}", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", sorted(_SMALL))
def test_script_prints_figures(name: str) -> None:
    printed = run(name.split(maxsplit=1)[0], *_SMALL[name].split())
    assert any(character.isdigit() for character in printed), printed


@pytest.mark.parametrize("script", _LARGE)
def test_large_script_finds_what_it_measures(script: str) -> None:
    module = importlib.import_module(f"mesostk.tests.perf.{script}")
    assert callable(module.main)


def test_every_script_is_tried() -> None:
    found = {path.stem for path in Path(__file__).parent.glob("*.py")} - {Path(__file__).stem}
    assert found == {name.split()[0] for name in _SMALL} | set(_LARGE) | _PARTS
