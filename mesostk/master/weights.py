"""UPDATE_WEIGHTS: shares of roles that operators set while the cluster runs.

What was set is one record of the registry and outlives a failover; `--weights` counts only for
roles that were never set. Source: spec/mesos.md §4.2, §5.1, §7.3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mesostk.master import offers, registry
from mesostk.master.events import Reply
from mesostk.master.state import Config
from mesostk.resources.roles import why_not_role
from mesostk.wire import operator

if TYPE_CHECKING:
    from mesostk.master.core import Master


def error(infos: Iterable[operator.WeightInfo], config: Config) -> str | None:
    """Why these weights cannot be set; None if they can. Texts: spec/mesos.md §15.2."""
    for info in infos:
        why = _error(info, config)
        if why is not None:
            role = "" if info.role is None else f" for role '{info.role}'"
            return f"Failed to validate update weights request JSON{role}: {why}"
    return None


def _error(info: operator.WeightInfo, config: Config) -> str | None:
    if info.role is None:
        return "Expecting 'role' of each weight to be present"
    why = why_not_role(info.role)
    if why is not None:
        return why
    if config.roles is not None and info.role not in config.roles:
        return f"Unknown role '{info.role}': it is not in --roles"
    if not math.isfinite(info.weight) or info.weight <= 0:
        return f"Invalid weight '{info.weight:g}': Weights must be positive"
    return None


def update(master: Master, _now: float, request: int, call: operator.Weights) -> None:
    """UPDATE_WEIGHTS of an operator; roles that are not named keep theirs."""
    why = error(call.weight_infos, master.config)
    if why is not None:
        master.emit(Reply(request, 400, why))
        return
    changes = {info.role: info.weight for info in call.weight_infos if info.role is not None}
    # On top of what is being saved already, or the later save would undo the earlier.
    master.weights_asked = {**master.weights_asked, **changes}
    ops = registry.set_weights(master.weights_asked)
    master.save(ops, _saved, changes, request)


def _saved(master: Master, now: float, changes: dict[str, float], request: int) -> None:
    master.registry.weights.update(changes)
    apply(master)
    if any(role in master.allocator.by_role for role in changes):
        # What is offered was shared out by the old weights.
        offers.end_all(master, now, list(master.offers), rescind=True)
    master.allocator.mark_all(master, now)
    told = " ".join(f"{role}={weight:g}" for role, weight in sorted(changes.items()))
    master.note("Set weights", weights=told)
    master.emit(Reply(request, 200))


def apply(master: Master) -> None:
    """Have the allocator go by what is set."""
    for role, weight in current(master).items():
        master.allocator.roles.set_weight(role, weight)


def current(master: Master) -> dict[str, float]:
    """Weights by role; a role that is not there has 1.0."""
    return {**master.config.weights, **master.registry.weights}
