"""Tests that run in a process of their own, beside the others, and are reported among them.

::

    pytest …/lab ──▶ first test ──begins──▶ pytest <all that are marked `beside`>
        │ the other tests                        │ their reports, through a pipe
        └─▶ the marked ones, last: each waits ◀──┘ for the reports of its own

For tests that share nothing with others and for the most part wait: for hosts that boot, for
services that start. What the process beside says of a test is what is reported of it: outcome,
output, duration. Marked tests that are chosen without others run as any test does.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

import pytest

#: Marks a test or a module.
MARK: Final = "beside"
#: In the process beside: the descriptor that reports are written to.
_REPORTS: Final = "MESOSTK_BESIDE_REPORTS"
#: Files that commands keep for their user, who is another one there.
_OWN: Final = ("MESOSTK_CONFIG", "MESOSTK_LEDGER_DIR")
#: For what hangs: fixtures of a process that is told to end take labs away.
_END_S: Final = 900.0
#: Shown of what a process said that ended without a report.
_LAST_CHARACTERS: Final = 4000

#: What pytest makes of a report for other processes.
Report = Mapping[str, Any]


def is_beside() -> bool:
    """Whether this is the process beside."""
    return _REPORTS in os.environ


def is_marked(item: pytest.Item) -> bool:
    """Whether the test is to run beside the others."""
    return item.get_closest_marker(MARK) is not None


def is_whole(reports: Sequence[Report]) -> bool:
    """Whether a test has ended, its fixtures included."""
    return bool(reports) and reports[-1]["when"] == "teardown"


class Beside:
    """The process beside, for these tests; to be asked for each of them once, in their order."""

    def __init__(self, nodeids: Sequence[str], root: Path) -> None:
        self._left = dict.fromkeys(nodeids)
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 # closed by `end`
        ours, theirs = os.pipe()
        environ = {name: value for name, value in os.environ.items() if name not in _OWN}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *nodeids],
                cwd=root,
                env={**environ, _REPORTS: str(theirs)},
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs,),
                # Ctrl-C reaches it by `end`, once: a second one would cut off its fixtures.
                start_new_session=True,
            )
        finally:
            os.close(theirs)
        self._reports: queue.SimpleQueue[Report | None] = queue.SimpleQueue()
        # A pipe holds little: who writes to it must not wait until somebody asks.
        self._reader = threading.Thread(target=self._read, args=(os.fdopen(ours, "rb"),))
        self._reader.start()

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            try:
                while True:
                    self._reports.put(pickle.load(pipe))  # of our own process
            except (EOFError, pickle.UnpicklingError):
                self._reports.put(None)

    def reports(self, nodeid: str) -> list[Report]:
        """What it reports of the test, waited for; not whole if the process ended before."""
        del self._left[nodeid]
        found: list[Report] = []
        while not is_whole(found):
            report = self._reports.get()
            if report is None:
                self._reports.put(None)  # for the next test
                break
            if report["nodeid"] == nodeid:
                found.append(report)
        return found

    def last_words(self) -> str:
        """How it ended, and the end of what it had said."""
        code = self._process.wait(_END_S)
        self._said.seek(0)
        text = self._said.read().decode(errors="replace")[-_LAST_CHARACTERS:]
        return f"the process beside ended with {code} and had said:\n{text}"

    def end(self) -> None:
        """Wait for its end; where tests are left, have it take away what it made before."""
        if self._left and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        self._process.wait(_END_S)
        self._reader.join()
        self._said.close()


class TestsBeside:
    """The plugin: runs the tests of `folder` that are marked beside its others."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._marked: list[str] = []
        self._beside: Beside | None = None

    # After those that deselect tests.
    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Have the marked tests waited for after those to run."""
        places = [place for place, item in enumerate(items) if item.path.parent == self._folder]
        mine = sorted((items[place] for place in places), key=is_marked)
        for place, item in zip(places, mine, strict=True):
            items[place] = item
        marked = [item for item in mine if is_marked(item)]
        if is_beside() or len(marked) == len(mine):
            return
        self._marked = [item.nodeid for item in marked]
        for item in marked:
            # Its limit holds where it runs; who waits for it may have begun to before it did.
            item.add_marker(pytest.mark.timeout(0), append=False)

    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> bool | None:
        """Begin what runs beside the first test; report what became of it."""
        if not self._marked or item.path.parent != self._folder:
            return None
        if self._beside is None:
            self._beside = Beside(self._marked, item.config.rootpath)
        if not is_marked(item):
            return None
        _relay(item, self._beside)
        _leave(item, nextitem)
        return True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """In the process beside, hand over what is reported."""
        report = yield
        if is_beside():
            _tell(item.config, report)
        return report

    def pytest_sessionfinish(self) -> None:
        """Leave nothing running."""
        if self._beside is not None:
            self._beside.end()


def _tell(config: pytest.Config, report: pytest.TestReport) -> None:
    data = config.hook.pytest_report_to_serializable(config=config, report=report)
    try:
        with os.fdopen(int(os.environ[_REPORTS]), "wb", closefd=False) as pipe:
            pipe.write(pickle.dumps(data))
    except BrokenPipeError:
        pytest.exit("nobody waits for these tests any more", returncode=1)


def _relay(item: pytest.Item, beside: Beside) -> None:
    hook, config = item.ihook, item.config
    hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    told = beside.reports(item.nodeid)
    for data in told:
        report = config.hook.pytest_report_from_serializable(config=config, data=data)
        hook.pytest_runtest_logreport(report=report)
    if not is_whole(told):
        hook.pytest_runtest_logreport(report=_failed(item, beside.last_words()))
    hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


def _leave(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Tear down what the test before left standing for this one, which has not been set up here."""
    state = item.session._setupstate  # noqa: SLF001 # as pytest's own protocol does
    call = pytest.CallInfo.from_call(lambda: state.teardown_exact(nextitem), when="teardown")
    if call.excinfo is not None:
        report = item.ihook.pytest_runtest_makereport(item=item, call=call)
        item.ihook.pytest_runtest_logreport(report=report)


def _failed(item: pytest.Item, why: str) -> pytest.TestReport:
    """The report of a test of which nothing else is known."""
    return pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords={MARK: 1},
        outcome="failed",
        longrepr=why,
        when="call",
    )
