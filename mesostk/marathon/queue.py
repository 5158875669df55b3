"""What waits to be launched: back-off, one rate for all launches, and what became of offers.

Source: spec/marathon §3.8. All of it lives in memory; a failover clears it, as in the original.
"""

from __future__ import annotations

import msgspec

from mesostk.marathon.matcher import NoMatch
from mesostk.wire.mesos import Offer

#: (app id, version of its last configuration change).
Key = tuple[str, str]

#: Seconds after which a task that ends with success has worked, not crashed. The original of the
#: tutorial's time dropped delays that were over every 10 s, so that `echo hello; sleep 10` ran "in
#: a circle"; later ones let the delay of such an app grow up to five minutes.
WORKED_S = 5.0


class BackOff(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An app's launch-delay settings, in seconds."""

    first_s: float
    factor: float
    longest_s: float


class Delay(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """No launch before `until` (monotonic); forgotten after `forget_at`."""

    delay_s: float
    until: float
    forget_at: float


class Delays:
    """Launch delays by (app, configuration version)."""

    def __init__(self) -> None:
        self._delays: dict[Key, Delay] = {}

    def failed(self, key: Key, now: float, back_off: BackOff) -> Delay:
        """An instance ended by itself: wait `first_s`, then longer by `factor` each time."""
        old = self._live(key, now)
        delay_s = back_off.first_s if old is None else old.delay_s * back_off.factor
        delay_s = min(delay_s, back_off.longest_s)
        delay = Delay(delay_s=delay_s, until=now + delay_s, forget_at=now + back_off.longest_s)
        self._delays[key] = delay
        return delay

    def worked(self, key: Key, now: float, back_off: BackOff) -> Delay:
        """An instance did its work and ended well: wait `first_s` however often that happens."""
        self._delays.pop(key, None)
        return self.failed(key, now, back_off)

    def progressed(self, key: Key, now: float, back_off: BackOff) -> None:
        """An instance got further: the same delay runs anew, and is forgotten later."""
        old = self._live(key, now)
        if old is not None:
            self._delays[key] = Delay(
                delay_s=old.delay_s, until=now + old.delay_s, forget_at=now + back_off.longest_s
            )

    def until(self, key: Key, now: float) -> float:
        """When the next launch is allowed; `now` if at once."""
        delay = self._live(key, now)
        return now if delay is None else max(now, delay.until)

    def clear_app(self, app_id: str) -> None:
        """Forget all delays of an app: it was deleted, restarted, or an operator said so."""
        for key in [key for key in self._delays if key[0] == app_id]:
            del self._delays[key]

    def next_end(self, now: float) -> float | None:
        """The soonest end of a delay that still runs."""
        return min((d.until for d in self._delays.values() if d.until > now), default=None)

    def _live(self, key: Key, now: float) -> Delay | None:
        delay = self._delays.get(key)
        if delay is not None and now > max(delay.forget_at, delay.until):
            del self._delays[key]
            return None
        return delay


class Tokens:
    """At most `limit` launches per `refresh_s`; one seen running gives its token back."""

    def __init__(self, limit: int, refresh_s: float) -> None:
        self.limit = limit
        self.refresh_s = refresh_s
        self.left = limit
        self._refresh_at: float | None = None

    def available(self, now: float) -> int:
        """How many launches are allowed now."""
        if self._refresh_at is not None and now >= self._refresh_at:
            self.left = self.limit
            self._refresh_at = None
        return self.left

    def take(self, now: float) -> None:
        """One launch was decided."""
        self.left -= 1
        if self._refresh_at is None:
            self._refresh_at = now + self.refresh_s

    def give_back(self) -> None:
        """A launched task was seen running."""
        self.left = min(self.limit, self.left + 1)

    def deadline(self) -> float | None:
        """When launches are allowed again; None while some are."""
        return self._refresh_at if self.left <= 0 else None


#: Revives that may follow each other at once: several apps created one after the other need not
#: wait, while over time no more than one per `min_revive_interval_s` is sent.
REVIVE_BURST = 5

#: Unused offers shown with each queue entry.
UNUSED_KEPT = 5


class Unused(msgspec.Struct, frozen=True, kw_only=True):
    """An offer that an app could not use, and why."""

    offer: Offer
    at: str
    reason: str
    detail: str


class Reasons(msgspec.Struct, kw_only=True):
    """What became of the offers that an app was matched with."""

    processed: int = 0
    unused: int = 0
    last_used_at: str | None = None
    last_unused_at: str | None = None
    declined: dict[str, int] = msgspec.field(default_factory=dict)
    last_unused: dict[str, Unused] = msgspec.field(default_factory=dict)

    def used(self, at: str) -> None:
        """An offer was taken."""
        self.processed += 1
        self.last_used_at = at

    def refused(self, offer: Offer, no: NoMatch, at: str) -> None:
        """An offer did not suit; the last one of each agent is kept for people to read."""
        self.processed += 1
        self.unused += 1
        self.last_unused_at = at
        self.declined[no.reason] = self.declined.get(no.reason, 0) + 1
        agent = offer.agent_id.value
        self.last_unused.pop(agent, None)
        self.last_unused[agent] = Unused(offer=offer, at=at, reason=no.reason, detail=no.detail)
        while len(self.last_unused) > UNUSED_KEPT:
            del self.last_unused[next(iter(self.last_unused))]


class Hunger(msgspec.Struct, kw_only=True):
    """What was asked for already, so that a REVIVE is sent only when more is wanted.

    Roles: `suppressed` at the master, `due` for a REVIVE, to be revived `again` at `again_at`.
    """

    counts: dict[str, int] = msgspec.field(default_factory=dict)
    suppressed: frozenset[str] = frozenset()
    due: frozenset[str] = frozenset()
    again: frozenset[str] = frozenset()
    again_at: float | None = None
    credits: float = float(REVIVE_BURST)
    credited_at: float = 0.0
