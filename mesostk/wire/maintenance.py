"""`mesos.v1.maintenance`: windows in which machines will be away, and who agreed to it."""

from __future__ import annotations

from typing import Literal

from mesostk.wire.mesos import FrameworkID, MachineID, Message, TimeInfo, Unavailability


class Window(Message, frozen=True, kw_only=True):
    machine_ids: tuple[MachineID, ...] = ()
    unavailability: Unavailability


class Schedule(Message, frozen=True, kw_only=True):
    windows: tuple[Window, ...] = ()


class InverseOfferStatus(Message, frozen=True, kw_only=True):
    status: Literal["UNKNOWN", "ACCEPT", "DECLINE"]
    framework_id: FrameworkID
    timestamp: TimeInfo


class DrainingMachine(Message, frozen=True, kw_only=True):
    id: MachineID
    statuses: tuple[InverseOfferStatus, ...] = ()


class Status(Message, frozen=True, kw_only=True):
    draining_machines: tuple[DrainingMachine, ...] = ()
    down_machines: tuple[MachineID, ...] = ()
