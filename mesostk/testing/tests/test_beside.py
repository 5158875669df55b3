"""Tests that run beside others: at the same time, and reported as if they had run among them."""

import os
import subprocess
import sys
from pathlib import Path

CONFTEST = """
from pathlib import Path
from mesostk.testing.beside import TestsBeside

def pytest_configure(config):
    config.addinivalue_line("markers", "beside: runs in a second process")
    config.pluginmanager.register(TestsBeside(Path(__file__).parent))
"""

#: Who writes into the FIFO goes on when somebody reads it, and the other way round.
BOTH = """
import os
from pathlib import Path
import pytest

@pytest.mark.beside
def test_beside():
    assert Path("fifo").read_text() != str(os.getpid())

@pytest.mark.beside
def test_wrong():
    print("seen on the way")
    assert "this" == "that"

@pytest.mark.beside
def test_absent():
    pytest.skip("there is none")

def test_here():
    Path("fifo").write_text(str(os.getpid()))
"""

GONE = """
import os
import pytest

@pytest.mark.beside
def test_before():
    pass

@pytest.mark.beside
def test_end():
    os._exit(7)

@pytest.mark.beside
def test_after():
    pass

def test_here():
    pass
"""


def run(
    folder: Path, text: str, *words: str, root: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """What pytest says of a module of tests, and of what else is below `root`."""
    root = folder if root is None else root
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_some.py").write_text(text)
    (root / "pytest.ini").write_text("[pytest]\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-rs", "-s", "-p", "no:cacheprovider", *words],
        cwd=root,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def test_both_run_at_the_same_time_and_each_is_reported_with_what_it_said(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    done = run(tmp_path, BOTH)
    lines = [line.split("::")[1] for line in done.stdout.splitlines() if "::" in line]
    outcomes = [line.split()[:2] for line in lines]
    assert outcomes[:3] == [
        ["test_here", "PASSED"],
        ["test_beside", "PASSED"],
        ["test_wrong", "FAILED"],
    ], done.stdout
    assert "1 failed, 2 passed, 1 skipped" in done.stdout
    assert "seen on the way" in done.stdout
    assert "assert 'this' == 'that'" in done.stdout
    assert "there is none" in done.stdout
    assert done.returncode == 1


def test_chosen_alone_they_run_as_any_other(tmp_path: Path) -> None:
    done = run(tmp_path, GONE.replace("os._exit(7)", "print('here')"), "-k", "not here")
    assert "3 passed, 1 deselected" in done.stdout, done.stdout
    assert "here" in done.stdout


def test_a_process_that_ends_fails_what_it_did_not_report(tmp_path: Path) -> None:
    done = run(tmp_path, GONE)
    assert "2 failed, 2 passed" in done.stdout, done.stdout
    assert done.stdout.count("ended with 7") >= 2
    assert "collected 3 items" in done.stdout, "its own output"


def test_what_they_were_to_share_is_torn_down_before_the_tests_of_another_folder(
    tmp_path: Path,
) -> None:
    fixture = "@pytest.fixture(scope='module')\ndef shared():\n    yield\n    print('given back')\n"
    text = GONE.replace("os._exit(7)", "pass").replace("test_here()", "test_here(shared)") + fixture
    near, then = tmp_path / "near", tmp_path / "then"
    near.mkdir()
    then.mkdir()
    (then / "test_then.py").write_text("def test_then():\n    print('another folder')\n")
    done = run(near, text, root=tmp_path)
    assert "5 passed" in done.stdout, done.stdout
    assert done.stdout.index("given back") < done.stdout.index("another folder")


def test_what_fails_to_be_torn_down_then_is_an_error(tmp_path: Path) -> None:
    fixture = "@pytest.fixture(scope='module')\ndef shared():\n    yield\n    raise ValueError\n"
    text = GONE.replace("os._exit(7)", "pass").replace("test_here()", "test_here(shared)") + fixture
    done = run(tmp_path, text)
    assert "4 passed, 1 error" in done.stdout, done.stdout
