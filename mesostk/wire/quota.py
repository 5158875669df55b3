"""`mesos.v1.quota`: guarantees and limits of roles; `QuotaInfo` is the older, deprecated form."""

from __future__ import annotations

import msgspec

from mesostk.wire.mesos import Message, Resource, Scalar


class QuotaConfig(Message, frozen=True, kw_only=True):
    role: str
    guarantees: dict[str, Scalar] = msgspec.field(default_factory=dict)
    limits: dict[str, Scalar] = msgspec.field(default_factory=dict)


class QuotaRequest(Message, frozen=True, kw_only=True):
    force: bool | None = None
    role: str | None = None
    guarantee: tuple[Resource, ...] = ()


class QuotaInfo(Message, frozen=True, kw_only=True):
    role: str | None = None
    principal: str | None = None
    guarantee: tuple[Resource, ...] = ()


class QuotaStatus(Message, frozen=True, kw_only=True):
    infos: tuple[QuotaInfo, ...] = ()
    configs: tuple[QuotaConfig, ...] = ()
