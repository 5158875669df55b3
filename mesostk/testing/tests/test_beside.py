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


def run(folder: Path, text: str, *words: str) -> subprocess.CompletedProcess[str]:
    """What pytest says of a module of tests."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_some.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-rs", "-s", "-p", "no:cacheprovider", *words],
        cwd=folder,
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
