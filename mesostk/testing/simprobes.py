"""Probes in a simulated world: what `marathon.probes` does over HTTP and TCP.

A probe goes to a host and a port; whoever runs there with that port answers, if it serves. It may
go unanswered for no reason, and does between hosts that are parted.
"""

from __future__ import annotations

from collections.abc import Callable

from mesostk.marathon import events
from mesostk.marathon.health import ProbeOutcome
from mesostk.testing.faults import Kind
from mesostk.testing.simhost import Process
from mesostk.testing.simproc import Run

#: A probe that is answered takes so long; seconds.
ANSWER_S = (0.001, 0.3)

#: Finds what runs on a host, by its name, with a port; None where nothing does, or nothing from
#: there gets through to the process that asks.
Finder = Callable[[Process, str, int], Run | None]


class Prober:
    """The probes of one life of a Marathon."""

    def __init__(
        self, process: Process, find: Finder, feed: Callable[[events.ProbeResult], None]
    ) -> None:
        self._process = process
        self._find = find
        self._feed = feed
        #: What is probed now, by instance: a round of an older start ends by itself.
        self._rounds: dict[str, object] = {}

    def start(self, effect: events.StartProbes) -> None:
        """Probe an instance from now on; replaces what ran for it."""
        mark = self._rounds[effect.instance_id] = object()
        for probe in effect.probes:
            self._again(effect.instance_id, mark, probe, probe.first_s)

    def stop(self, effect: events.StopProbes) -> None:
        """Probe an instance no longer."""
        self._rounds.pop(effect.instance_id, None)

    def _again(self, id: str, mark: object, probe: events.Probe, delay_s: float) -> None:
        def ask() -> None:
            if self._rounds.get(id) is mark:
                self._ask(id, mark, probe)

        self._process.later(delay_s, ask)

    def _ask(self, id: str, mark: object, probe: events.Probe) -> None:
        ground = self._process.ground
        is_ready = probe.ready_codes is not None
        run = self._find(self._process, probe.host, probe.port)
        fails = ground.faults.roll(Kind.PROBE_FAILS, f"{self._process.name} {id}")
        answers = not fails and run is not None and run.serves(ground.loop.now, ready=is_ready)
        took_s = ground.rng.uniform(*ANSWER_S) if answers else probe.timeout_s
        status = None if not answers else 200

        def told() -> None:
            if self._rounds.get(id) is mark:
                cause = None if answers else "no answer"
                outcome = ProbeOutcome(alive=answers, cause=cause)
                self._again(id, mark, probe, max(0.0, probe.interval_s - took_s))
                self._feed(events.ProbeResult(id, probe.index, outcome, status))  # type: ignore[arg-type] # an id

        self._process.later(took_s, told)
