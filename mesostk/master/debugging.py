"""Documents for who looks into a master: its registry, and what offer constraints exclude.

Source: the original's `src/master/registry.proto` (as JSON), and the help of its allocator's
endpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesostk.master import constraints
from mesostk.wire.operator import WeightInfo

if TYPE_CHECKING:
    from mesostk.master.core import Master

View = dict[str, Any]


def registry(master: Master) -> View:
    """/registrar(1)/registry: all that outlives this master. What is empty is left out."""
    known = master.registry
    whole: View = {
        "master": {"info": master.info},
        "slaves": {
            "slaves": [
                _present(
                    info=record.info,
                    drain_info=record.drain_info,
                    deactivated=record.deactivated or None,
                )
                for record in known.agents.values()
            ]
        },
        "unreachable": {
            "slaves": [
                _present(
                    id=record.id,
                    timestamp=record.time,
                    drain_info=record.drain_info,
                    deactivated=record.deactivated or None,
                )
                for record in known.unreachable.values()
            ]
        },
        "gone": {
            "slaves": [{"id": each.id, "timestamp": each.time} for each in known.gone.values()]
        },
        "machines": {
            "machines": [{"info": {"id": machine, "mode": "DOWN"}}
                         for machine in known.maintenance.down]
        },
        "schedules": [known.maintenance.schedule] if known.maintenance.schedule.windows else [],
        "weights": [
            {"info": WeightInfo(weight=weight, role=role)}
            for role, weight in sorted(known.weights.items())
        ],
        "quota_configs": list(known.quotas.values()),
    }  # fmt: skip
    return {
        name: value
        for name, value in whole.items()
        if value not in ([], {"slaves": []}, {"machines": []})
    }


def _present(**fields: object) -> View:
    return {name: value for name, value in fields.items() if value is not None}


def offer_constraints(master: Master) -> View:
    """/allocator/offer_constraints_debug: of each framework the agents that it excludes itself
    from, by role; more, and why, is told by /explain-offers."""
    return {
        "frameworks": {
            framework.id: {
                "suppressed_roles": sorted(framework.suppressed),
                "excluded_by_attribute_constraints": {
                    role: [
                        agent.id
                        for agent in master.agents.values()
                        if constraints.why_not(framework.offer_constraints, role, agent) is not None
                    ]
                    for role in sorted(framework.roles)
                },
            }
            for framework in master.frameworks.values()
        }
    }
