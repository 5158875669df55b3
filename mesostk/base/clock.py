"""The two clocks of a shell: one that never steps, for intervals; one for fields on the wire."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What a shell asks the time of; tests and the simulation bring their own."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never steps."""
        ...

    def wall(self) -> float:
        """Seconds since 1970-01-01 UTC; may step when the host's clock is set."""
        ...


class RealClock:
    """The host's clocks."""

    def monotonic(self) -> float:
        """CLOCK_MONOTONIC in seconds."""
        return time.monotonic()

    def wall(self) -> float:
        """CLOCK_REALTIME in seconds."""
        return time.time()
