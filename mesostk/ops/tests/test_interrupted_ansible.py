"""What a command leaves behind that is killed while Ansible is at work for it."""

from __future__ import annotations

import subprocess
import sys

#: Below `nohup`; with a terminal's hang-up for itself, and a program that says what it inherited.
SCRIPT = """
import os, signal, subprocess, sys
from mesostk.ops.ansible import hanging_up
signal.signal(signal.SIGHUP, signal.SIG_IGN)
look = [sys.executable, "-c", "import signal; print(signal.getsignal(signal.SIGHUP).name)"]
with hanging_up():
    os.kill(os.getpid(), signal.SIGHUP)
    subprocess.run(look, check=True)
subprocess.run(look, check=True)
"""


def test_ansible_ends_with_a_command_that_nohup_keeps_from_hanging_up() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["SIG_DFL", "SIG_IGN"]
