"""Statistics of runs without cgroups (those with are in test_cgroups.py)."""

from __future__ import annotations

import subprocess
import sys
import time

import msgspec

from mesostk.agent import usage

#: Stands in for a supervisor: a process whose child uses 20 MiB, two threads and some time.
PARENT = """
import subprocess, sys
child = "import threading,time; x = bytearray(20 << 20); e = threading.Event()\\n"
child += "threading.Thread(target=e.wait, daemon=True).start()\\n"
child += "t = time.process_time()\\n"
child += "while time.process_time() < t + 0.1: pass\\n"
child += "print('up', flush=True); e.wait()"
p = subprocess.Popen([sys.executable, "-S", "-c", child])
sys.stdin.read()
p.kill()
p.wait()
"""


def test_descendants_are_summed() -> None:
    with subprocess.Popen(
        [sys.executable, "-S", "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        seen = usage.of_run(7.0, parent.pid, "r", None, {"cpus_limit": 2.0, "mem_limit_bytes": 5})
        assert parent.stdin is not None
        parent.stdin.close()
    assert seen.timestamp == 7.0
    assert (seen.cpus_limit, seen.mem_limit_bytes) == (2.0, 5)
    assert (seen.processes, seen.threads) == (1, 2)
    assert seen.mem_rss_bytes is not None
    assert 20 << 20 <= seen.mem_rss_bytes < 100 << 20
    assert seen.cpus_user_time_secs is not None
    assert seen.cpus_system_time_secs is not None
    assert 0.08 <= seen.cpus_user_time_secs + seen.cpus_system_time_secs < 60


def test_run_that_has_ended_uses_nothing() -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    seen = usage.of_run(time.time(), ended.pid, "r", None, {})
    assert (seen.processes, seen.mem_rss_bytes, seen.cpus_user_time_secs) == (0, 0, 0.0)


def test_what_is_not_known_is_left_out() -> None:
    seen = msgspec.to_builtins(usage.of_run(1.0, 2**22 + 1, "r", None, {}))
    assert set(seen) == {
        *("timestamp", "processes", "threads", "mem_rss_bytes"),
        *("cpus_user_time_secs", "cpus_system_time_secs"),
    }
