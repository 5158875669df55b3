"""How a long operation says how far it is; the CLI renders it, tests ignore or record it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Protocol, TextIO


class Progress(Protocol):
    """Told by the operation, in order: `step`, any number of `detail`, next `step` …, `done`.

    `live` and `note` may come between them at any time.

    A step ends when the next one begins. An operation that fails raises instead of calling
    `done`, and the last step named is the one that failed. May be called from several threads.
    """

    def step(self, name: str) -> None:
        """A step begins; `name` is a phrase such as "Starting hosts"."""
        ...

    def detail(self, text: str) -> None:
        """What the current step is at: "4 of 6 hosts"."""
        ...

    def live(self, text: str) -> None:
        """The same where it changes too quickly for a log: only a terminal shows it."""
        ...

    def note(self, text: str) -> None:
        """A line that is to stay: what was found, or what is about to be done."""
        ...

    def done(self, summary: str) -> None:
        """The operation has ended well; `summary` is one sentence."""
        ...


class Silent:
    """Progress that nobody looks at."""

    def step(self, name: str) -> None:
        """Nothing."""

    def detail(self, text: str) -> None:
        """Nothing."""

    def live(self, text: str) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def done(self, summary: str) -> None:
        """Nothing."""


class Lines:
    """Progress as plain lines with the seconds since the start; for pipes and logs."""

    def __init__(
        self, out: TextIO = sys.stderr, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._out = out
        self._monotonic = monotonic
        self._start = monotonic()

    def _line(self, text: str) -> None:
        self._out.write(f"[{self._monotonic() - self._start:6.1f}s] {text}\n")
        self._out.flush()

    def step(self, name: str) -> None:
        """Write the step's name."""
        self._line(name)

    def detail(self, text: str) -> None:
        """Write the detail, indented."""
        self._line(f"  {text}")

    def live(self, text: str) -> None:
        """Nothing: it would fill the log."""

    def note(self, text: str) -> None:
        """Write the line."""
        self._line(f"  {text}")

    def done(self, summary: str) -> None:
        """Write the summary."""
        self._line(summary)
