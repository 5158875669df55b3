"""The master's flags: every one of the original (spec §9.2), so that its configuration loads here.

Flags of parts that do not exist here are accepted, say so in `--help` and, when set, in the log.
Those that would promise protection are refused instead of ignored (`refusal`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mesostk import MESOS_VERSION, __version__
from mesostk.base.config import Flag, FlagSet, Values, duration, port_number, size_bytes
from mesostk.base.zk import zk_url
from mesostk.master import acls, guard, rate_limits, whitelist
from mesostk.master.state import Config
from mesostk.resources.text import parse_quantities
from mesostk.wire import json
from mesostk.wire.mesos import DomainInfo
from mesostk.wire.operator import WeightInfo

_UNUSED = "Accepted for the original's sake; has no effect here."

_ACCEPTED_TEXTS: dict[str, str | None] = {"log_dir": None, "webui_dir": None}

#: Flags that name a part, and the names of the only one there is here.
_PARTS: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "allocator": ("hierarchical", ("hierarchical", "HierarchicalDRF")),
    "authenticators": ("crammd5", ("crammd5",)),
    "authorizers": ("local", ("local",)),
    "http_authenticators": ("basic", ("basic",)),
    "http_framework_authenticators": (None, ("basic",)),
}

#: Flags that are refused when set: without what they ask for, a cluster would be less protected, or
#: another one, than its operator believes. Name ↦ the reason.
_REFUSED: dict[str, str] = {
    "hooks": "hooks are libraries of the original, which cannot be loaded here",
    "master_contender": "only ZooKeeper elects a leader here; use --zk",
    "master_detector": "only ZooKeeper tells who leads here; use --zk",
    "modules": "modules are libraries of the original, which cannot be loaded here",
    "modules_dir": "modules are libraries of the original, which cannot be loaded here",
}

_ACCEPTED_SWITCHES: dict[str, bool] = {
    "initialize_driver_logging": True,
    "log_auto_initialize": True,
    "memory_profiling": False,
    "quiet": False,
}

_ACCEPTED_DURATIONS: dict[str, str] = {
    "authentication_v0_timeout": "15secs",
    "registry_fetch_timeout": "1mins",
    "registry_store_timeout": "20secs",
}

_OLD_NAMES = {
    "agent_ping_timeout": ("slave_ping_timeout",),
    "agent_removal_rate_limit": ("slave_removal_rate_limit",),
    "agent_reregister_timeout": ("slave_reregister_timeout",),
    "authenticate_agents": ("authenticate_slaves",),
    "authenticate_frameworks": ("authenticate",),
    "authenticate_http_readwrite": ("authenticate_http",),
    "max_agent_ping_timeouts": ("max_slave_ping_timeouts",),
    "max_executors_per_agent": ("max_executors_per_slave",),
    "recovery_agent_removal_limit": ("recovery_slave_removal_limit",),
    "role_sorter": ("user_sorter",),
}

#: Hundreds of short tasks a second that end one by one would make as many offers. At most one
#: allocation interval.
_GATHERING_S = 0.02

_RATE = re.compile(r"\s*(?P<count>\d+)\s*/\s*(?P<time>[^/]+?)\s*")


# -- types of values ----------------------------------------------------------------------------


def _share(text: str) -> float:
    """`60%` as 0.6."""
    if not text.endswith("%"):
        raise ValueError("expected a percentage such as 60%")
    share = float(text[:-1]) / 100
    if not 0 <= share <= 1:
        raise ValueError("expected 0% to 100%")
    return share


def _rate(text: str) -> tuple[int, float]:
    """`1/10mins` as (1, 600.0)."""
    match = _RATE.fullmatch(text)
    if match is None or int(match["count"]) == 0:
        raise ValueError("expected a number per time such as 1/10mins")
    return int(match["count"]), duration(match["time"])


def _names(text: str) -> frozenset[str]:
    return frozenset(part.strip() for part in text.split(",") if part.strip())


def _weights(text: str) -> Mapping[str, float]:
    """`role=weight,role=weight`, or the JSON array of the operator API."""
    pairs: list[tuple[str, float]] = []
    if text.lstrip().startswith("["):
        infos = json.decode(text, tuple[WeightInfo, ...])
        pairs = [(info.role or "*", info.weight) for info in infos]
    else:
        for part in filter(None, text.split(",")):
            role, equals, weight = part.partition("=")
            if not equals:
                raise ValueError("expected role=weight,role=weight")
            pairs.append((role.strip(), float(weight)))
    for role, amount in pairs:
        if not amount > 0:
            raise ValueError(f"the weight of {role} must be above 0")
    return dict(pairs)


def _min_allocatable(text: str) -> tuple[Mapping[str, int], ...]:
    """`cpus:0.01|mem:32`: sets of thousandths, any of which must be there."""
    return tuple(parse_quantities(part) for part in text.split("|") if part.strip())


def _domain(text: str) -> DomainInfo:
    return json.decode(text, DomainInfo)


# -- the table ----------------------------------------------------------------------------------


def _flag(name: str, type: object, default: object, help: str, **more: object) -> Flag:
    return Flag(name, type, default, help, old_names=_OLD_NAMES.get(name, ()), **more)  # type: ignore[arg-type]  # one row of the tables below each


def _identity() -> list[Flag]:
    return [
        _flag("zk", zk_url, None, "zk://host:2181,…/path under which masters elect their leader "
              "and keep their registry; without it this master leads alone."),
        _flag("zk_session_timeout", duration, "10secs", "ZooKeeper session timeout.", minimum=1),
        _flag("quorum", int, None, "Accepted; the quorum is that of the ZooKeeper servers.",
              minimum=1),
        _flag("ip", str, None, "Address to listen on and to be reached at."),
        _flag("port", port_number, 5050, "Port to listen on; 0 takes a free one.", minimum=0),
        _flag("advertise_ip", str, None, "Address at which others reach it, if not --ip."),
        _flag("advertise_port", port_number, None, "Port at which others reach it, if not --port."),
        _flag("ip_discovery_command", str, None, "Program that prints the address to use."),
        _flag("hostname", str, None, "Name in redirects and for people."),
        _flag("hostname_lookup", bool, True, "Find the name of the address; else it is the name."),
        _flag("cluster", str, None, "Name of the cluster, for people."),
        _flag("work_dir", str, None, "Directory of the registry when there is no --zk.",
              file_value=False),
        _flag("domain", _domain, None,
              'JSON {"fault_domain":{"region":{"name"},"zone":{"name"}}}.', is_json=True),
        _flag("require_agent_domain", bool, False, "Refuse agents without a domain."),
        _flag("logging_level", str, "INFO", "Lowest level that is logged.",
              choices=("INFO", "WARNING", "ERROR")),
        _flag("logbufsecs", int, 0, _UNUSED),
    ]  # fmt: skip


def _registry() -> list[Flag]:
    return [
        _flag("registry", str, "replicated_log", "replicated_log: in ZooKeeper, or in work_dir "
              "without --zk. in_memory: forgotten at the end.",
              choices=("replicated_log", "in_memory")),
        _flag("registry_gc_interval", duration, "15mins", "How often old records are dropped.",
              minimum=1),
        _flag("registry_max_agent_age", duration, "2weeks",
              "Unreachable and gone agents are remembered for this long."),
        _flag("registry_max_agent_count", int, 102400, "And so many of each at most.", minimum=0),
    ]  # fmt: skip


def _agents() -> list[Flag]:
    return [
        _flag("agent_reregister_timeout", duration, "10mins", "Time for agents to come back after "
              "a failover, before they are unreachable.", minimum=600),
        _flag("recovery_agent_removal_limit", _share, "100%", "Share of the agents that may be "
              "lost at a failover; if more are, the master ends."),
        _flag("agent_removal_rate_limit", _rate, None,
              "At most so many agents are marked unreachable, e.g. 1/10mins."),
        _flag("agent_ping_timeout", duration, "15secs", "How often agents are pinged.",
              minimum=0.1),
        _flag("max_agent_ping_timeouts", int, 5, "Missed pings after which one is unreachable.",
              minimum=1),
        _flag("max_executors_per_agent", int, None,
              "An agent that runs so many executors is not offered.", minimum=1),
    ]  # fmt: skip


def _allocation() -> list[Flag]:
    return [
        _flag("allocation_interval", duration, "1secs", "Least time for which a refusal of an "
              "offer holds; changes are offered at once.", minimum=0.01),
        _flag("allocator_agent_recovery_factor", float, 0.8, "With quotas set, nothing is offered "
              "after a failover until this part of the agents is back.", minimum=0),
        _flag("allocator_recovery_timeout", duration, "10mins",
              "… or this time has gone by.", minimum=0),
        _flag("roles", _names, None, "The only roles that frameworks may use, comma separated."),
        _flag("weights", _weights, None, "role=weight,role=weight: shares of roles."),
        _flag("whitelist", whitelist.path_of, None, "file:///path with the hostnames of the only "
              "agents that are offered, one a line; read again when it changes.",
              file_value=False),
        _flag("role_sorter", str, "drf", "Which role is served next: drf, the one with the least "
              "share; random, by draw, a heavier one rather.", choices=("drf", "random")),
        _flag("framework_sorter", str, "drf", "And which framework of a role.",
              choices=("drf", "random")),
        _flag("fair_sharing_excluded_resource_names", _names, None,
              "Resources that do not count for shares, e.g. gpus."),
        _flag("filter_gpu_resources", bool, True,
              "Agents with gpus are offered to GPU_RESOURCES frameworks only."),
        _flag("min_allocatable_resources", _min_allocatable, "cpus:0.01|mem:32",
              "What an offer must contain at least: any of the sets."),
        _flag("offer_timeout", duration, None, "Offers are rescinded after this time."),
        _flag("offer_constraints_re2_max_mem", size_bytes, "4096B",
              "A regex of offer constraints may need so much, as RE2 would count it."),
        _flag("offer_constraints_re2_max_program_size", int, 100,
              "… and so many steps, repetitions written out.", minimum=1),
        _flag("rate_limits", rate_limits.parse, None, 'JSON or file:///path: {"limits":[{'
              '"principal","qps","capacity"}],"aggregate_default_qps","aggregate_default_capacity"}'
              ": so many calls a second of a principal's frameworks, and so many may wait.",
              is_json=True),
        _flag("root_submissions", bool, True, "Frameworks may run as root."),
    ]  # fmt: skip


def _history() -> list[Flag]:
    return [
        _flag("max_completed_frameworks", int, 50, "Kept in /state.", minimum=0),
        _flag("max_completed_tasks_per_framework", int, 1000, "Kept in /state.", minimum=0),
        _flag("max_unreachable_tasks_per_framework", int, 1000, "Kept in /state.", minimum=1),
        _flag("max_operator_event_stream_subscribers", int, 1000,
              "More close the oldest one.", minimum=1),
        _flag("publish_per_framework_metrics", bool, True, "Metrics for each framework."),
        _flag("external_log_file", str, None,
              "Where somebody writes this master's log to; shown as /master/log by /files."),
        _flag("max_body", size_bytes, "64MB", "Largest body of a request."),
    ]  # fmt: skip


def _protecting() -> list[Flag]:
    return [
        _flag("authenticate_frameworks", bool, False,
              "As --authenticate_http_frameworks, for there are no other frameworks here."),
        _flag("authenticate_agents", bool, False,
              "Agents only with a --credential that is among --credentials."),
        _flag("acls", acls.parse, None,
              "JSON or file:///path: which principals may do what; see docs/security.md.",
              is_json=True),
        _flag("firewall_rules", str, None,
              'JSON or file:///path: {"disabled_endpoints":{"paths":["/…"]}} are answered 403.',
              is_json=True),
        _flag("credentials", str, None,
              'file:///path of {"credentials":[{"principal":…,"secret":…}]}, for HTTP Basic.',
              is_json=True),
        _flag("authenticate_http_readonly", bool, False,
              "Documents, metrics and flags only for principals of --credentials."),
        _flag("authenticate_http_readwrite", bool, False,
              "/api/v1 and what changes only for principals of --credentials."),
        _flag("authenticate_http_frameworks", bool, False,
              "/api/v1/scheduler only for principals of --credentials."),
    ]  # fmt: skip


def _accepted() -> list[Flag]:
    return [
        *(_flag(name, str, default, _UNUSED) for name, default in _ACCEPTED_TEXTS.items()),
        *(
            _flag(name, str, default, "Accepted; there is no other here.", choices=names)
            for name, (default, names) in _PARTS.items()
        ),
        *(_flag(name, str, None, f"Refused: {why}.") for name, why in _REFUSED.items()),
        _flag("registry_strict", bool, False, "Refused: the original never supported it either."),
        *(_flag(name, bool, default, _UNUSED) for name, default in _ACCEPTED_SWITCHES.items()),
        *(_flag(name, duration, text, _UNUSED) for name, text in _ACCEPTED_DURATIONS.items()),
    ]


def master_flags() -> FlagSet:
    """The flags of `mesos-master`."""
    table = (
        *_identity(),
        *_registry(),
        *_agents(),
        *_allocation(),
        *_history(),
        *_protecting(),
        *_accepted(),
    )
    return FlagSet(
        "mesos-master",
        "MESOS_",
        table,
        version=f"mesos {MESOS_VERSION} (mesostk {__version__})",
        about="Keeps the members of a cluster, and offers what they have to frameworks.",
        from_zk=lambda line: {"zk": line},
    )


def refusal(values: Values) -> str | None:
    """Why these values cannot be used together; None if they can."""
    why = guard.refusal(values)
    if why is not None:
        return why
    for name, reason in _REFUSED.items():
        if values[name] is not None:
            return f"--{name}: {reason}; take the flag away"
    if values.registry_strict:
        return "--registry_strict is not supported, nor by the original; take the flag away"
    if values.zk is None and values.work_dir is None and values.registry != "in_memory":
        return "--work_dir is required when there is no --zk: the registry is kept there"
    return None


def shown(values: Values) -> dict[str, str]:
    """What /flags and /state tell: every flag with a value, but no secret."""
    texts = values.as_strings()
    return {name: "****" if name == "credentials" else text for name, text in texts.items()}


def without_effect(values: Values) -> list[str]:
    """Names of flags that somebody set and that do nothing here."""
    names = [*_ACCEPTED_TEXTS, *_ACCEPTED_SWITCHES, *_ACCEPTED_DURATIONS, "logbufsecs"]
    return [name for name in names if values.is_set(name)]


def acls_of(values: Values) -> acls.Acls:
    """Who may do what; without --acls, everybody everything."""
    given: acls.Acls | None = values.acls
    return acls.NO_ACLS if given is None else given


def config_of(values: Values, *, ip: str, port: int, hostname: str) -> Config:
    """The core's configuration; `ip` and `port` are where others reach this master."""
    return Config(
        ip=ip,
        port=port,
        hostname=hostname,
        version=MESOS_VERSION,
        domain=values.domain,
        require_agent_domain=values.require_agent_domain,
        agent_ping_timeout_s=values.agent_ping_timeout,
        max_agent_ping_timeouts=values.max_agent_ping_timeouts,
        agent_reregister_timeout_s=values.agent_reregister_timeout,
        max_executors_per_agent=values.max_executors_per_agent,
        agent_removal_rate=values.agent_removal_rate_limit,
        recovery_agent_removal_limit=values.recovery_agent_removal_limit,
        registry_gc_interval_s=values.registry_gc_interval,
        registry_max_agent_age_s=values.registry_max_agent_age,
        registry_max_agent_count=values.registry_max_agent_count,
        allocation_interval_s=values.allocation_interval,
        gathering_s=min(values.allocation_interval, _GATHERING_S),
        allocator_agent_recovery_factor=values.allocator_agent_recovery_factor,
        allocator_recovery_timeout_s=values.allocator_recovery_timeout,
        offer_timeout_s=values.offer_timeout,
        max_regex_size=values.offer_constraints_re2_max_program_size,
        max_regex_bytes=values.offer_constraints_re2_max_mem,
        min_allocatable=values.min_allocatable_resources,
        filter_gpu_resources=values.filter_gpu_resources,
        fair_sharing_excluded=_or_empty(values.fair_sharing_excluded_resource_names),
        role_sorter=values.role_sorter,
        framework_sorter=values.framework_sorter,
        rate_limits=values.rate_limits,
        weights={} if values.weights is None else values.weights,
        roles=values.roles,
        whitelist=None if values.whitelist is None else whitelist.read(values.whitelist),
        root_submissions=values.root_submissions,
        acls=acls_of(values),
        max_completed_frameworks=values.max_completed_frameworks,
        max_completed_tasks_per_framework=values.max_completed_tasks_per_framework,
        max_unreachable_tasks_per_framework=values.max_unreachable_tasks_per_framework,
        max_operator_subscribers=values.max_operator_event_stream_subscribers,
    )


def _or_empty(names: frozenset[str] | None) -> frozenset[str]:
    return frozenset() if names is None else names
