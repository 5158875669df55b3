"""The scenarios below molecule/: `default` and one other in turn; `make molecule` runs all."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mesostk.ops.paths import data_root
from mesostk.testing.requirements import require_docker, require_root

MOLECULE = data_root() / "molecule"
SCENARIOS = sorted(path.parent.name for path in MOLECULE.glob("*/molecule.yml"))
#: Scenarios of whole clusters, which take longer than the turn of one in CI may.
WHOLE = {"cluster", "offline", "tutorial", "upgrade"}


def todays_scenario() -> str:
    """Each role's scenario in turn, a day each; MESOSTK_SCENARIO names another."""
    in_turn = [name for name in SCENARIOS if name not in WHOLE | {"default"}]
    today = dt.datetime.now(tz=dt.UTC).toordinal()
    return os.environ.get("MESOSTK_SCENARIO", in_turn[today % len(in_turn)])


#: The process beside collects these tests later, perhaps on another day: it is told.
SCENARIO = os.environ.setdefault("MESOSTK_SCENARIO", todays_scenario())


def molecule(scenario: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """`molecule test`, with the programs that stand beside this interpreter."""
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return subprocess.run(
        ["molecule", "test", "--scenario-name", scenario],
        cwd=data_root(),
        env={**os.environ, "PATH": search, "LC_ALL": "C.UTF-8", "NO_COLOR": "1", **environ},
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )


def test_every_role_has_a_scenario_and_every_scenario_asks_something() -> None:
    roles = {path.name for path in (data_root() / "roles").iterdir()}
    assert roles <= set(SCENARIOS)
    for name in SCENARIOS:
        tasks = yaml.safe_load((MOLECULE / name / "tasks" / "checks.yml").read_text())
        assert tasks, name


@pytest.mark.lab
@pytest.mark.beside
@pytest.mark.docker
@pytest.mark.root
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scenario", ["default", SCENARIO])
def test_scenario_converges_changes_nothing_twice_and_notices_what_is_broken(
    scenario: str,
) -> None:
    require_docker()
    require_root()
    done = molecule(scenario)
    print(f"scenario {scenario}")
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
    assert "verify: Executed: Successful" in done.stdout + done.stderr


@pytest.mark.lab
@pytest.mark.beside
def test_without_an_engine_a_scenario_fails_with_the_reason(tmp_path: Path) -> None:
    nowhere = {"DOCKER_HOST": f"unix://{tmp_path}/docker.sock", "MESOSTK_LABS_DIR": str(tmp_path)}
    done = molecule("default", **nowhere)
    assert done.returncode != 0
    assert "nothing listens on the Docker socket" in done.stdout + done.stderr
