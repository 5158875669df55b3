"""The algebra of resources: pure values, no I/O, no clock.

::

    flag text ──text.parse──▶ Resources ◀──Resources.of── tuple[wire.mesos.Resource, …]
                                 │   ▲                        (either reservation format)
              + - contains       │   │ filters: allocatable_to(role), reserved, unreserved, …
              allocate, push, pop▼   │
                              Resources ──to_wire(fmt)──▶ tuple[wire.mesos.Resource, …]
                                       ──legacy_object()─▶ {"cpus": 4.0, "ports": "[…]"}

    kinds.Kind     what a quantity is of: name, type, reservations, allocation, disk, revocable, …
    quantity       int thousandths (SCALAR), sorted disjoint ranges (RANGES), frozenset (SET),
                   or a count of copies for what is never merged or split (volumes, MOUNT disks)

Two quantities add up only if their kinds are the same object; `Kind.of` sees to that.
"""
