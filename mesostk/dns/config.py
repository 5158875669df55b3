"""`config.json`: every key of the original, a few of ours, and what is wrong with a file.

Keys are found whatever their case, as Go's JSON does; unknown ones are named in a warning; a value
of another JSON type is an error, `null` keeps the default. Source: spec/dns-lb-autoscale.md §1.2.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from mesostk.base import regular
from mesostk.base.flagtext import decode_json
from mesostk.base.units import whole_number
from mesostk.base.zk import ZkUrl
from mesostk.errors import ConfigError

IP_SOURCES: Final = ("host", "docker", "mesos", "netinfo")

#: What is shown instead of a secret.
MASK: Final = "****"

_LABEL = re.compile(r"[a-zA-Z0-9-]{1,63}")


class Credentials(msgspec.Struct, frozen=True, rename="pascal"):
    """Of `MesosAuthentication` `basic`."""

    principal: str = ""
    secret: str = ""


class Config(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """The settled configuration. Times in seconds; fields in the order of the original's keys."""

    zk: str = ""
    masters: tuple[str, ...] = ()
    refresh_seconds: int = 60
    state_timeout_seconds: int = 300
    zk_detection_timeout: int = 30
    ttl: int = msgspec.field(default=60, name="TTL")
    domain: str = "mesos"
    port: int = 53
    listener: str = "0.0.0.0"  # noqa: S104 - the original's default
    dns_on: bool = True
    http_on: bool = True
    http_port: int = 8123
    http_listener: str = msgspec.field(default="0.0.0.0", name="HTTPListener")  # noqa: S104
    external_on: bool = True
    #: None: not set, so the name servers of this host. The original's 8.8.8.8 is a public service.
    resolvers: tuple[str, ...] | None = None
    zone_resolvers: dict[str, tuple[str, ...]] = {}
    timeout: int = 5
    recurse_on: bool = True
    set_truncate_bit: bool = True
    ip_sources: tuple[str, ...] = msgspec.field(
        default=("netinfo", "mesos", "host"), name="IPSources"
    )
    enforce_rfc952: bool = msgspec.field(default=False, name="EnforceRFC952")
    enumeration_on: bool = True
    srv_record_default_weight: int = msgspec.field(default=1, name="SRVRecordDefaultWeight")
    soa_mname: str = msgspec.field(default="ns1.mesos", name="SOAMname")
    soa_rname: str = msgspec.field(default="root.ns1.mesos", name="SOARname")
    soa_serial: int = msgspec.field(default=0, name="SOASerial")
    soa_refresh: int = msgspec.field(default=60, name="SOARefresh")
    soa_retry: int = msgspec.field(default=600, name="SOARetry")
    soa_expire: int = msgspec.field(default=86400, name="SOAExpire")
    soa_minttl: int = msgspec.field(default=60, name="SOAMinttl")
    mesos_https_on: bool = msgspec.field(default=False, name="MesosHTTPSOn")
    ca_cert_file: str = msgspec.field(default="", name="CACertFile")
    cert_file: str = ""
    key_file: str = ""
    mesos_authentication: str = ""
    mesos_credentials: Credentials = msgspec.field(default_factory=Credentials)
    iam_config_file: str = msgspec.field(default="", name="IAMConfigFile")
    # -- not in the original
    event_stream: bool = True
    staleness_limit_seconds: int = 0
    axfr_allowed: tuple[str, ...] = msgspec.field(default=(), name="AXFRAllowed")
    notify: tuple[str, ...] = ()
    responses_per_second: int = 0
    workers: int = 1
    file: str = ""


class Loaded(msgspec.Struct, frozen=True):
    """A configuration, and sentences for the log."""

    config: Config
    warnings: tuple[str, ...] = ()


def load(path: Path) -> Loaded:
    """The configuration in a file; ConfigError names the file, the key and the remedy."""
    try:
        text = regular.read(path)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; name it with -config") from error
    try:
        return parse(text, str(path.absolute()))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse(text: bytes, file: str = "") -> Loaded:
    """The configuration in `text`, checked as a whole."""
    try:
        document = decode_json(text, object)
    except ValueError as error:
        raise ConfigError(f"no JSON: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError("expected a JSON object of keys")
    warnings: list[str] = []
    said = _spelled(document, warnings)
    if isinstance(said.get("MesosCredentials"), dict):
        said["MesosCredentials"] = {
            key.capitalize(): value for key, value in said["MesosCredentials"].items()
        }
    try:
        config = msgspec.convert(said, Config)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `$.")
        raise ConfigError(f"{place.rstrip('`') or 'document'}: {what}") from error
    config = msgspec.structs.replace(config, file=file)
    for check in _CHECKS:
        config = check(config, warnings)
    return Loaded(config, tuple(warnings))


def _spelled(document: Mapping[str, Any], warnings: list[str]) -> dict[str, Any]:
    """`document` with keys as they are declared, without nulls and unknown ones."""
    known = {
        field.encode_name.lower(): field.encode_name for field in msgspec.structs.fields(Config)
    }
    said: dict[str, Any] = {}
    for key, value in document.items():
        name = known.get(key.lower())
        if name is None or name == "File":
            warnings.append(f"{key} is no key of this version and is ignored")
        elif value is not None:
            said[name] = value
    return said


def shown(config: Config) -> dict[str, Any]:
    """All keys as /v1/config shows them; secrets masked."""
    view: dict[str, Any] = msgspec.to_builtins(config)
    if config.mesos_credentials.secret:
        view["MesosCredentials"]["Secret"] = MASK
    # user:password@ of the URL, which the original does not send.
    view["Zk"] = re.sub(r"(?<=//)[^/@]*@", MASK + "@", config.zk)
    return view


# -- checks, in the original's order ------------------------------------------------------------

_Check = Callable[[Config, list[str]], Config]


def _services(config: Config, _warnings: list[str]) -> Config:
    if not config.dns_on and not config.http_on:
        raise ConfigError("DnsOn and HttpOn are both false: there is nothing to do; set one")
    if not config.zk and not config.masters:
        raise ConfigError('neither Zk nor Masters is set: "zk": "zk://host:2181/mesos"')
    if config.zk:
        try:
            ZkUrl.parse(config.zk)
        except ConfigError as error:
            raise ConfigError(f"Zk: {error}") from error
    return config


def _numbers(config: Config, _warnings: list[str]) -> Config:
    for name, value, least, most in (
        ("RefreshSeconds", config.refresh_seconds, 1, None),
        ("StateTimeoutSeconds", config.state_timeout_seconds, 1, None),
        ("ZkDetectionTimeout", config.zk_detection_timeout, 0, None),
        ("TTL", config.ttl, 0, 2**31 - 1),
        ("Port", config.port, 0, 65535),
        ("HttpPort", config.http_port, 0, 65535),
        ("Timeout", config.timeout, 0, None),
        ("SRVRecordDefaultWeight", config.srv_record_default_weight, 0, 65535),
        ("SOARefresh", config.soa_refresh, 0, 2**32 - 1),
        ("SOARetry", config.soa_retry, 0, 2**32 - 1),
        ("SOAExpire", config.soa_expire, 0, 2**32 - 1),
        ("StalenessLimitSeconds", config.staleness_limit_seconds, 0, None),
        ("ResponsesPerSecond", config.responses_per_second, 0, None),
        ("Workers", config.workers, 1, 64),
    ):
        if value < least or (most is not None and value > most):
            bound = f"at least {least}" if most is None else f"from {least} to {most}"
            raise ConfigError(f"{name}: {value} is refused; a number {bound} is expected")
    # 0 is the default, as in the original.
    return msgspec.structs.replace(config, timeout=config.timeout or 5)


def _masters(config: Config, _warnings: list[str]) -> Config:
    masters = tuple(_endpoint("Masters", text, None) for text in config.masters)
    _no_doubles("Masters", masters)
    return msgspec.structs.replace(config, masters=masters)


def _resolvers(config: Config, _warnings: list[str]) -> Config:
    if not config.external_on:
        return config
    resolvers = config.resolvers
    if resolvers is not None:
        resolvers = tuple(_endpoint("Resolvers", text, 53) for text in resolvers)
        _no_doubles("Resolvers", resolvers)
    zones: dict[str, tuple[str, ...]] = {}
    for zone, listed in config.zone_resolvers.items():
        where = f"ZoneResolvers[{zone}]"
        name = _domain_name(where, zone)
        if not listed:
            raise ConfigError(f"{where}: the list is empty; name a resolver or leave the zone out")
        zones[name] = tuple(_endpoint(where, text, 53) for text in listed)
        _no_doubles(where, zones[name])
    names = [*zones, config.domain.lower()]
    for one in names:
        for other in names:
            if one is not other and (one == other or one.endswith("." + other)):
                raise ConfigError(
                    f"ZoneResolvers: {one} is within {other}; zones must not contain each other"
                )
    return msgspec.structs.replace(config, resolvers=resolvers, zone_resolvers=zones)


def _sources(config: Config, _warnings: list[str]) -> Config:
    _no_doubles("IPSources", config.ip_sources)
    if not config.ip_sources:
        raise ConfigError(f"IPSources: empty; expected some of {', '.join(IP_SOURCES)}")
    for source in config.ip_sources:
        if source not in IP_SOURCES:
            known = ", ".join(IP_SOURCES)
            raise ConfigError(f"IPSources: {source!r} is not known; expected some of {known}")
    return config


def _names(config: Config, _warnings: list[str]) -> Config:
    return msgspec.structs.replace(
        config,
        domain=_domain_name("Domain", config.domain),
        soa_mname=_soa_name("SOAMname", config.soa_mname),
        soa_rname=_soa_name("SOARname", config.soa_rname.replace("@", ".")),
    )


def _listeners(config: Config, _warnings: list[str]) -> Config:
    for name, text in (("Listener", config.listener), ("HTTPListener", config.http_listener)):
        try:
            ipaddress.ip_address(text)
        except ValueError as error:
            raise ConfigError(
                f"{name}: {text!r} is no IP address; use 0.0.0.0 or an address of this host"
            ) from error
    return config


def _tls(config: Config, warnings: list[str]) -> Config:
    if bool(config.cert_file) != bool(config.key_file):
        raise ConfigError("CertFile and KeyFile go together; set both or none")
    for name, path in (
        ("CACertFile", config.ca_cert_file),
        ("CertFile", config.cert_file),
        ("KeyFile", config.key_file),
    ):
        if path and not Path(path).is_file():
            raise ConfigError(f"{name}: there is no file {path}")
    if config.mesos_https_on and not config.ca_cert_file:
        warnings.append("MesosHTTPSOn without CACertFile: the master's certificate is not checked")
    return config


def _authentication(config: Config, warnings: list[str]) -> Config:
    kind, credentials = config.mesos_authentication, config.mesos_credentials
    if kind not in ("", "basic", "iam"):
        raise ConfigError(f"MesosAuthentication: {kind!r} is none of basic, iam or empty")
    if kind == "basic" and not credentials.principal and not credentials.secret:
        raise ConfigError("MesosAuthentication basic needs MesosCredentials: principal, secret")
    if kind == "iam" and not Path(config.iam_config_file).is_file():
        raise ConfigError(f"IAMConfigFile: there is no file {config.iam_config_file!r}")
    if not kind and credentials.principal:
        warnings.append('MesosCredentials have no effect without "MesosAuthentication": "basic"')
    return config


def _transfers(config: Config, _warnings: list[str]) -> Config:
    for text in config.axfr_allowed:
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError as error:
            raise ConfigError(
                f"AXFRAllowed: {text!r} is no address or network like 10.0.3.0/24"
            ) from error
    notify = tuple(_endpoint("Notify", text, 53) for text in config.notify)
    return msgspec.structs.replace(config, notify=notify)


_CHECKS: Final[tuple[_Check, ...]] = (
    _services,
    _numbers,
    _masters,
    _resolvers,
    _sources,
    _names,
    _listeners,
    _tls,
    _authentication,
    _transfers,
)


def _endpoint(key: str, text: str, default_port: int | None) -> str:
    """`ip:port` of an address with or without a port; IPv6 with a port is in brackets."""
    host, port = text.strip(), "" if default_port is None else str(default_port)
    if host.startswith("["):
        host, _, rest = host[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    try:
        ip = ipaddress.ip_address(host)
    except ValueError as error:
        raise ConfigError(f"{key}: {text!r} is not an IP address with a port") from error
    number = whole_number(port)
    if number is None or not 0 < number < 65536:
        raise ConfigError(f"{key}: {text!r} needs a port from 1 to 65535, like {host}:5050")
    return f"[{ip}]:{number}" if ip.version == 6 else f"{ip}:{number}"


def _no_doubles(key: str, values: tuple[str, ...]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise ConfigError(f"{key}: {value} is there twice; leave one out")
        seen.add(value)


def _domain_name(key: str, text: str) -> str:
    name = text.lower().strip(".") if key.startswith("Zone") else text.lower()
    if len(name) > 200 or not all(_LABEL.fullmatch(part) for part in name.split(".")):
        raise ConfigError(
            f"{key}: {text!r} is no domain; letters, digits and dashes, joined by single dots"
        )
    return name


def _soa_name(key: str, text: str) -> str:
    name = text.lower().strip(".")
    if not name or any(not part or len(part) > 63 for part in name.split(".")):
        raise ConfigError(f"{key}: {text!r} is no name")
    return name
