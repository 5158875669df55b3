"""The wheel, installed where there is no checkout: it must bring all that a lab needs."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from mesostk.ops import paths


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    root = paths.checkout()
    if root is None:
        pytest.skip("the tests themselves do not run from a checkout")
    out = tmp_path_factory.mktemp("wheel")
    build = ("wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(out), str(root))
    subprocess.run([sys.executable, "-m", "pip", *build], check=True, timeout=300)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of an environment with the wheel; the libraries are borrowed from this one."""
    home = tmp_path_factory.mktemp("venv")
    venv.create(home, with_pip=False)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = home / "lib" / version / "site-packages"
    # a path in a .pth file does not run the .pth files in there, so the checkout is not seen
    (site / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    install = ("install", "-q", "--no-deps", "--no-index", "--ignore-installed", str(wheel))
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python")]
    subprocess.run([*pip, *install], check=True, timeout=300, env=_clean({}))
    return home / "bin"


def _clean(more: dict[str, str]) -> dict[str, str]:
    dropped = ("MESOSTK_", "XDG_", "PYTHONPATH")
    return {k: v for k, v in os.environ.items() if not k.startswith(dropped)} | more


def test_wheel_has_everything_but_the_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "playbooks/site.yml",
        "playbooks/module_utils/asking.py",
        "roles/mesos_master/tasks/main.yml",
        "inventory/lab/hosts.yml",
        "lab/build",
        "lab/customize",
        "lab/entrypoint",
        "lab/images.py",
        "lab/packages",
        "lab/registry.yml",
        "examples/hello2.json",
        "requirements/node.txt",
        "ansible.cfg",
    ):
        assert f"mesostk/_ansible/{name}" in names
    assert [n for n in names if "/tests/" in n or n.startswith("mesostk/testing/")] == []


def test_ansible_ships_with_a_module_what_modules_share(programs: Path) -> None:
    (config,) = programs.parent.glob("lib/*/site-packages/mesostk/_ansible/ansible.cfg")
    asked = '{"agent": "127.0.0.1:1", "masters": ["127.0.0.1:1"], "state": "active", "wait_s": 0}'
    python = str(programs / "python")
    words = ["-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={python}"]
    done = subprocess.run(
        [python, "-m", "ansible", "adhoc", "all", *words, "-m", "agent_drain", "-a", asked],
        env=_clean({"ANSIBLE_CONFIG": str(config), "LC_ALL": "C.UTF-8"}),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert "no master knows who leads: 127.0.0.1:1" in done.stdout, done.stdout + done.stderr


def test_lab_comes_up_from_the_wheel_in_an_empty_directory(programs: Path, tmp_path: Path) -> None:
    here, home = tmp_path / "empty", tmp_path / "home"
    here.mkdir()
    home.mkdir()

    def mesostk(*words: str) -> str:
        done = subprocess.run(
            [str(programs / "mesostk"), *words],
            cwd=here,
            env=_clean({"HOME": str(home)}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    size = ("--masters", "1", "--agents", "1", "--subnet", "127.213.5.0/24")
    try:
        mesostk("lab", "up", "--driver", "local", "--name", "whl", *size)
        assert (home / ".local" / "state" / "mesostk" / "labs" / "whl" / "lab.json").is_file()
        assert "/hello2" in mesostk("apps")
    finally:
        mesostk("lab", "down", "--name", "whl")
    assert list(here.iterdir()) == []
    # who made and removed it stays in the ledger
    labs = home / ".local" / "state" / "mesostk" / "labs"
    assert {path.name for path in labs.iterdir()} <= {"ledger"}
