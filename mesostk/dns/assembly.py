"""The objects that every process of a mesos-dns has: zone, answers, naming, service."""

from __future__ import annotations

import random

import msgspec

from mesostk.base.clock import Clock
from mesostk.dns.answers import Answers
from mesostk.dns.config import Config
from mesostk.dns.forward import Forwarder
from mesostk.dns.limits import Limiter
from mesostk.dns.naming import Naming
from mesostk.dns.records import Rules
from mesostk.dns.replies import Style
from mesostk.dns.server import Service
from mesostk.dns.transfer import Allowed
from mesostk.dns.zone import Zone


class Core(msgspec.Struct, frozen=True):
    """What `make_core` makes."""

    zone: Zone
    answers: Answers
    naming: Naming
    service: Service


def make_core(
    config: Config,
    own_ips: tuple[str, ...],
    resolvers: tuple[str, ...],
    clock: Clock,
    rng: random.Random,
) -> Core:
    """The graph for a configuration; `resolvers` are those for names outside all zones."""
    rules = Rules(
        domain=config.domain,
        ip_sources=config.ip_sources,
        rfc952=config.enforce_rfc952,
        mname=config.soa_mname,
        own_ips=own_ips,
    )
    style = Style(
        domain=config.domain,
        ttl=config.ttl,
        weight=config.srv_record_default_weight,
        recurse_on=config.recurse_on,
        set_truncate_bit=config.set_truncate_bit,
        mname=config.soa_mname,
        rname=config.soa_rname,
        refresh=config.soa_refresh,
        retry=config.soa_retry,
        expire=config.soa_expire,
        external_on=config.external_on,
        zones=tuple(config.zone_resolvers),
    )
    zone = Zone(rules)
    answers = Answers(zone, style, rng)
    naming = Naming(zone, answers, clock.wall)
    # Without externalon nothing is forwarded, and the names of resolvers were not looked at.
    zones = {"": resolvers, **config.zone_resolvers} if config.external_on else {}
    forwarder = Forwarder(zones, float(config.timeout), clock.monotonic, rng)
    limiter = Limiter(config.responses_per_second) if config.responses_per_second else None
    allowed = Allowed(config.axfr_allowed)
    service = Service(zone, answers, forwarder, allowed, limiter, clock.monotonic)
    return Core(zone, answers, naming, service)
