"""Teeth: bugs about frameworks of several roles, what is reserved to roles, and limits of them."""

from __future__ import annotations

from typing import Any

import pytest

from mesostk.master import allocator, frameworks, quotas
from mesostk.master.core import Master
from mesostk.master.state import roles_of
from mesostk.resources.resources import Resources
from mesostk.testing.planted import Patch, Planted, without_check

#: Where rare ones were seen last.
SEEN = {
    "offers of a role that is given up stay": 3,
    "a limit does not count what nested roles hold": 7,
    "what is promised by a guarantee is given away": 16,
}

PLANTED = Planted(SEEN)

#: Worlds with a framework of several roles, an app in a role of its own, quota and weights.
among_roles = PLANTED.bug_in(roles=True, framework=True)


@among_roles
def a_role_that_is_given_up_is_offered(patch: Patch) -> None:
    update = frameworks._update_info

    def keep(master: Any, framework: Any, info: Any) -> None:
        before = framework.roles
        update(master, framework, info)
        framework.roles = before | roles_of(info)

    patch.setattr(frameworks, "_update_info", keep)


@among_roles
def offers_of_a_role_that_is_given_up_stay(patch: Patch) -> None:
    without_check(patch, Master)
    update = frameworks.CALLS["UPDATE_FRAMEWORK"]

    def keep(master: Any, now: float, framework: Any, call: Any) -> None:
        offers, framework.offers = framework.offers, set()
        update(master, now, framework, call)
        framework.offers |= offers

    patch.setitem(frameworks.CALLS, "UPDATE_FRAMEWORK", keep)


@among_roles
def a_suppressed_role_is_offered(patch: Patch) -> None:
    want = allocator.Allocator.set_wants

    def forget(self: Any, framework: Any) -> None:
        suppressed, framework.suppressed = framework.suppressed, set()
        want(self, framework)
        framework.suppressed = suppressed

    patch.setattr(allocator.Allocator, "set_wants", forget)


@among_roles
def what_is_reserved_to_a_role_is_offered_to_others(patch: Patch) -> None:
    without_check(patch, Master)
    patch.setattr(Resources, "allocatable_to", lambda self, _role: self)


@among_roles
def a_limit_does_not_count_what_nested_roles_hold(patch: Patch) -> None:
    patch.setattr(quotas, "top", lambda role: role)


@among_roles
def what_is_promised_by_a_guarantee_is_given_away(patch: Patch) -> None:
    patch.setattr(quotas.Quotas, "unmet", lambda _self, _role: {})


@pytest.mark.timeout(1200)  # the last bugs to be seen need some tens of worlds
@pytest.mark.parametrize("name", PLANTED.bugs)
def test_a_planted_bug_is_caught(name: str, monkeypatch: Patch) -> None:
    PLANTED.hunt(name, monkeypatch)
