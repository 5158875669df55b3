"""From wants to asking for offers, role by role.

::

    wants of a role grow ─▶ REVIVE (few a minute, once more a little later)
    nothing is wanted in a role ─▶ SUPPRESS

Source: spec/marathon §3.8, §3.9.
"""

from __future__ import annotations

from collections.abc import Collection

from mesostk.marathon import apps, residents
from mesostk.marathon.queue import REVIVE_BURST, Hunger
from mesostk.marathon.state import State, Turn, Want
from mesostk.marathon.versions import config_version
from mesostk.wire import scheduler

#: Stands among the apps that offers are asked for; no app has that id.
LEAVING = ""


def subscribed(state: State) -> None:
    """A new subscription starts with all roles revived and no filters."""
    state.hunger = Hunger(
        counts=dict(state.hunger.counts),
        credits=state.hunger.credits,
        credited_at=state.hunger.credited_at,
    )


def roles_changed(state: State) -> None:
    """Roles that are no longer subscribed are neither suppressed nor to be revived."""
    hunger = state.hunger
    hunger.suppressed &= state.roles
    hunger.due &= state.roles
    hunger.again &= state.roles


def hungry(state: State, now: float) -> dict[str, Want]:
    """The wants that may be launched now: out of their back-off, with launch tokens left."""
    if state.tokens.available(now) <= 0:
        return {}
    return {id: want for id, want in state.wants.items() if _is_hungry(state, want, now)}


def _is_hungry(state: State, want: Want, now: float) -> bool:
    key = (want.app.id, config_version(want.app))
    return want.count > 0 and state.delays.until(key, now) <= now


def roles_of(state: State, want: Want) -> frozenset[str]:
    """The roles whose offers can serve a want: the app's, and those of its free residences."""
    own = state.settings.role if want.app.role is None else want.app.role
    if not apps.is_resident(want.app):
        return frozenset({own})
    kept = residents.of_app(state, want.app.id)
    return frozenset({own, *(each.role for each in kept if each.id not in state.instances)})


def ask_for_offers(state: State, turn: Turn, *, all_apps: bool) -> None:
    """REVIVE roles in which more is wanted than was asked for, SUPPRESS those without a want.

    Only apps whose want changed are looked at, or with `all_apps` every one: back-offs end.
    """
    if not state.connected:
        return
    hunger = state.hunger
    _count_leaving(state, turn)
    _count_hungry(state, turn, all_apps=all_apps)
    idle = state.roles - _wanted(state, state.wants) - hunger.suppressed
    if idle:
        hunger.suppressed |= idle
        roles = _named(state, idle)
        turn.send(scheduler.Call(type="SUPPRESS", suppress=roles))
    if not hunger.counts:
        hunger.due, hunger.again, hunger.again_at = frozenset(), frozenset(), None
        return
    if hunger.again_at is not None and turn.now >= hunger.again_at:
        # The first may have met a master that was just losing us; repeated once.
        hunger.due |= hunger.again
        hunger.again, hunger.again_at = frozenset(), None
    if hunger.suppressed:
        hunger.due |= hunger.suppressed & _wanted(state, hunger.counts)
    hunger.due &= state.roles
    if hunger.due and _take_credit(state, turn.now):
        hunger.suppressed -= hunger.due
        turn.send(scheduler.Call(type="REVIVE", revive=_named(state, hunger.due)))
        hunger.due = frozenset()


def _named(state: State, roles: frozenset[str]) -> scheduler.Roles:
    """No names mean all roles, which masters without MULTI_ROLE understand, too."""
    return (
        scheduler.Roles() if roles == state.roles else scheduler.Roles(roles=tuple(sorted(roles)))
    )


def _wanted(state: State, ids: Collection[str]) -> frozenset[str]:
    """The roles of these apps' wants; LEAVING stands for what is to be given back."""
    found = frozenset(state.awaited.values())
    if len(state.roles) == 1 and not state.refused_roles:  # nearly always; no want is looked at
        return state.roles if ids or found else found
    for id in ids:
        want = state.wants.get(id)
        if want is not None:
            found |= roles_of(state, want)
    return found


def _count_hungry(state: State, turn: Turn, *, all_apps: bool) -> None:
    """Book what may be launched of each app, and which roles are due for a REVIVE."""
    hunger = state.hunger
    changed = set(state.wants) | set(hunger.counts) if all_apps else set(state.reconsider)
    state.reconsider.clear()
    changed.discard(LEAVING)
    has_tokens = state.tokens.available(turn.now) > 0
    for id in changed:
        want = state.wants.get(id)
        if not has_tokens or want is None or not _is_hungry(state, want, turn.now):
            hunger.counts.pop(id, None)
            continue
        if want.count > hunger.counts.get(id, 0):
            _grown(state, turn, roles_of(state, want))
        hunger.counts[id] = want.count


def _count_leaving(state: State, turn: Turn) -> None:
    """Residences are given back in offers, so these are wanted although nothing is launched."""
    hunger = state.hunger
    awaited = len(state.awaited)
    if awaited > hunger.counts.get(LEAVING, 0):
        _grown(state, turn, frozenset(state.awaited.values()))
    if awaited:
        hunger.counts[LEAVING] = awaited
    else:
        hunger.counts.pop(LEAVING, None)


def _grown(state: State, turn: Turn, roles: frozenset[str]) -> None:
    hunger = state.hunger
    hunger.due |= roles
    hunger.again |= roles
    hunger.again_at = turn.now + state.settings.min_revive_interval_s


def _take_credit(state: State, now: float) -> bool:
    hunger = state.hunger
    interval_s = state.settings.min_revive_interval_s
    gained = REVIVE_BURST if interval_s <= 0 else (now - hunger.credited_at) / interval_s
    hunger.credits = min(float(REVIVE_BURST), hunger.credits + gained)
    hunger.credited_at = now
    if hunger.credits < 1.0:
        return False
    hunger.credits -= 1.0
    return True


def deadline(state: State) -> float | None:
    """When launches or a REVIVE become possible that are not now; None if nothing waits."""
    hunger = state.hunger
    if not state.wants and not hunger.counts:
        return None
    times = [state.delays.next_end(state.now), state.tokens.deadline(), hunger.again_at]
    if hunger.due and hunger.counts:
        missing = max(0.0, 1.0 - hunger.credits)
        # A little later than exactly, or rounding would ask too early again and again.
        times.append(hunger.credited_at + missing * state.settings.min_revive_interval_s + 0.001)
    return min((time for time in times if time is not None), default=None)
