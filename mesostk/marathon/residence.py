"""A place where instances of an app keep data: what is reserved for it on one agent."""

from __future__ import annotations

import msgspec

from mesostk.marathon.instances import InstanceId
from mesostk.resources.kinds import Kind
from mesostk.wire.marathon import LocalVolume
from mesostk.wire.mesos import Resource

#: On each reservation, as the original labels its own (spec/marathon §3.11).
FRAMEWORK_LABEL = "marathon_framework_id"
TASK_LABEL = "marathon_task_id"


class Residence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`id` is that of every instance that lives there, one after the other.

    `resources` are the reserved ones, volumes included; `ports` those of the app in their order.
    `is_confirmed`: a task ran there, or all of it was offered. `is_leaving`: to be given back.
    `is_lost`: it may be nowhere.
    `created_at`: wall seconds.
    """

    id: InstanceId
    app_id: str
    agent_id: str
    host: str
    ports: tuple[int | None, ...] = ()
    resources: tuple[Resource, ...]
    volumes: tuple[LocalVolume, ...]
    created_at: float
    incarnation: int = 1
    is_confirmed: bool = False
    is_leaving: bool = False
    is_lost: bool = False

    @property
    def role(self) -> str:
        """The role that everything here is reserved for."""
        first = next(iter(self.resources), None)
        return "*" if first is None or first.role is None else first.role


def label_of(kind: Kind, key: str) -> str | None:
    """The value of a label on a dynamic reservation; None without one."""
    if not kind.is_dynamically_reserved:
        return None
    labels = kind.reservations[-1].labels
    for label in () if labels is None else labels.labels:
        if label.key == key:
            return label.value
    return None
