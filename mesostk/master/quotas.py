"""Quota: what roles are promised (guarantees) and what they may not exceed (limits).

::

    consumed of a role = what is reserved to it and below + unreserved scalars that it holds
    surplus            = unreserved scalars that nobody holds - what is promised and not consumed
    room for a role    = min(limit - consumed, its own unmet promise + surplus)     by resource

Only top-level roles have quota; what their children hold counts as theirs. Nothing is counted while
no role has any. Thousandths throughout. Source: spec/mesos.md §7.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from mesostk.resources.resources import Resources

Amounts = Mapping[str, int]


class Quota(msgspec.Struct, frozen=True):
    """Thousandths by resource; what is not named is neither promised nor limited."""

    guarantees: Amounts = msgspec.field(default_factory=dict)
    limits: Amounts = msgspec.field(default_factory=dict)


class Quotas:
    """The quotas, and the books of what they are about."""

    def __init__(self) -> None:
        self.by_role: dict[str, Quota] = {}
        self._reserved: dict[str, dict[str, int]] = {}
        self._held: dict[str, dict[str, int]] = {}
        #: Unreserved scalars of all agents, and what of them is held.
        self._all: dict[str, int] = {}
        self._all_held: dict[str, int] = {}

    # -- books ----------------------------------------------------------------------------------

    def restart(self, quotas: Mapping[str, Quota]) -> None:
        """Go by `quotas` from now on; the books are empty and to be filled by the caller."""
        self.by_role = dict(quotas)
        for book in (self._reserved, self._held, self._all, self._all_held):
            book.clear()

    def count_total(self, total: Resources, sign: int = 1) -> None:
        """An agent came (1) or went (-1)."""
        for role, part in total.reservations().items():
            _add(self._reserved.setdefault(top(role), {}), part.non_revocable(), sign)
        _add(self._all, _unreserved(total), sign)

    def count_held(self, role: str, resources: Resources, sign: int = 1) -> None:
        """`resources` were given to (1) or taken from (-1) somebody in `role`."""
        plain = _unreserved(resources)
        _add(self._held.setdefault(top(role), {}), plain, sign)
        _add(self._all_held, plain, sign)

    def consumed(self, role: str) -> dict[str, int]:
        """What the top-level `role` and all below it consume."""
        found = dict(self._reserved.get(role, {}))
        for name, amount in self._held.get(role, {}).items():
            found[name] = found.get(name, 0) + amount
        return {name: amount for name, amount in found.items() if amount}

    def held(self, role: str) -> dict[str, int]:
        """Unreserved scalars that the top-level `role` and all below it hold."""
        return {name: amount for name, amount in self._held.get(role, {}).items() if amount}

    def books(self) -> tuple[Mapping[str, object], ...]:
        """All that is counted, for `Master.check`."""
        flat = {"all": self._all, "held": self._all_held}
        return (
            _without_zeros(self._reserved), _without_zeros(self._held), _without_zeros(flat)
        )  # fmt: skip

    # -- decisions ------------------------------------------------------------------------------

    def unmet(self, role: str) -> dict[str, int]:
        """What is promised to the top-level `role` and not consumed."""
        quota = self.by_role.get(role)
        if quota is None:
            return {}
        consumed = self.consumed(role)
        return {
            name: amount - consumed.get(name, 0)
            for name, amount in quota.guarantees.items()
            if amount > consumed.get(name, 0)
        }

    def in_order(self, roles: Iterable[str]) -> Iterable[str]:
        """First roles to which, or above which, a promise is not met; else as they are."""
        owed = {role for role in self.by_role if self.unmet(role)}
        return sorted(roles, key=lambda role: top(role) not in owed) if owed else roles

    def cap(self, role: str, resources: Resources) -> Resources:
        """What of `resources` the role may be given: reservations and whatever is no scalar whole,
        unreserved scalars up to its room."""
        above = top(role)
        own = self.unmet(above)
        promised: dict[str, int] = {}
        for other in self.by_role:
            for name, amount in self.unmet(other).items():
                promised[name] = promised.get(name, 0) + amount
        room = {
            name: own.get(name, 0)
            + max(0, self._all.get(name, 0) - self._all_held.get(name, 0) - amount)
            for name, amount in promised.items()
        }
        quota = self.by_role.get(above)
        if quota is not None:
            consumed = self.consumed(above)
            for name, limit in quota.limits.items():
                left = max(0, limit - consumed.get(name, 0))
                room[name] = min(room.get(name, left), left)
        if not room:
            return resources
        plain = resources.filter(lambda kind: not kind.is_reserved and not kind.revocable)
        return resources - plain + plain.shrink(room)


def top(role: str) -> str:
    """The top-level role that `role` is, or is below."""
    return role.partition("/")[0]


def _unreserved(resources: Resources) -> Resources:
    return resources.filter(
        lambda kind: not kind.is_reserved and not kind.revocable and kind.type == "SCALAR"
    )


def _add(book: dict[str, int], resources: Resources, sign: int) -> None:
    for name, amount in resources.quantities().items():
        book[name] = book.get(name, 0) + sign * amount


def _without_zeros(book: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    found = {
        role: {name: amount for name, amount in amounts.items() if amount}
        for role, amounts in book.items()
    }
    return {role: amounts for role, amounts in found.items() if amounts}
