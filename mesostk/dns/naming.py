"""What follows from changes: the zone's names, its serial number, and who has to know.

One `Naming` per process. The one that follows the master gives out serial numbers; a worker's takes
them over, so that all processes answer alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from mesostk.dns import facts
from mesostk.dns.answers import Answers
from mesostk.dns.facts import Change
from mesostk.dns.zone import Zone

#: SOA serial numbers are 32 bits wide. Source: RFC 1035 §3.3.13.
_SERIALS = 1 << 32


class Batch(msgspec.Struct, frozen=True):
    """Changes that are answered for at once, and what holds after them."""

    serial: int
    is_usable: bool
    changes: tuple[Change, ...] = ()


class Naming:
    """Takes changes in. `told` gets every batch after it took effect."""

    def __init__(self, zone: Zone, answers: Answers, wall: Callable[[], float]) -> None:
        self.zone = zone
        self.answers = answers
        self._wall = wall
        self.listeners: list[Callable[[Batch], None]] = []
        #: Whether something was taken in that has no serial number yet.
        self._is_part_way = False
        answers.settle(int(wall()) % _SERIALS)

    def take(self, changes: Sequence[Change]) -> None:
        """Apply `changes`; answers are right when this returns."""
        for change in changes:
            self.zone.apply(change)
        self.take_applied(changes)

    def take_applied(self, changes: Sequence[Change], *, is_last: bool = True) -> None:
        """`take` of changes that the zone has already.

        All but the last part of a great change go without a serial number of their own: a secondary
        that copies the zone meanwhile is told of the new number, and copies it again.
        """
        serial = self.answers.serial
        if not is_last:
            self._is_part_way = self._is_part_way or bool(self.zone.changed)
        elif self.zone.changed or self._is_part_way:
            # Seconds, as the original has it, but never the same twice.
            serial = max((serial + 1) % _SERIALS, int(self._wall()) % _SERIALS)
            self._is_part_way = False
        self._settle(Batch(serial, self.answers.is_usable, tuple(changes)))

    def use(self, usable: bool) -> None:
        """Answer for the domain, or refuse to while what is known is missing or too old."""
        if usable != self.answers.is_usable:
            self.answers.is_usable = usable
            self.answers.forget()
            self._settle(Batch(self.answers.serial, usable))

    def follow(self, batch: Batch) -> None:
        """Take over what another process settled."""
        for change in batch.changes:
            self.zone.apply(change)
        if batch.is_usable != self.answers.is_usable:
            self.answers.is_usable = batch.is_usable
            self.answers.forget()
        self._settle(batch)

    def _settle(self, batch: Batch) -> None:
        if self.zone.changed or batch.serial != self.answers.serial:
            self.answers.settle(batch.serial)
        for listener in self.listeners:
            listener(batch)

    def whole(self) -> Batch:
        """Everything, for one who knows nothing yet."""
        zone = self.zone
        snapshot = facts.Snapshot(
            tuple(zone.agents.values()),
            tuple(zone.frameworks.values()),
            tuple(zone.tasks.values()),
        )
        resolved = tuple(facts.Resolved(host, ips) for host, ips in zone.hosts().items())
        return Batch(
            self.answers.serial, self.answers.is_usable, (zone.masters, snapshot, *resolved)
        )
