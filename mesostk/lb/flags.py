"""Flags of marathon-lb, in the original's spelling, and what they settle.

The original's command line has short flags, and flags that take several words
(`--marathon http://a http://b`) or are repeated (`--group a --group b`); `normalised` turns those
into the one form that all daemons here read. Source: spec/dns-lb-autoscale §2.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from mesostk import __version__
from mesostk.base import regular
from mesostk.base.config import Flag, FlagSet, Values
from mesostk.base.flagtext import refuse_unwritable
from mesostk.base.units import port_number
from mesostk.errors import ConfigError
from mesostk.lb import model, render
from mesostk.lb.applying import Rules
from mesostk.lb.haproxy import Paths
from mesostk.lb.head import DEFAULT_OPTIONS, HeadSettings, head
from mesostk.lb.templates import BUILT_IN, Templates

_SHORT: Final = {
    "-m": "--marathon",
    "-c": "--command",
    "-s": "--sse",
    "-H": "--health-check",
    "-d": "--dry",
}

#: Given again, or with several words, their values are joined by commas.
_LISTS: Final = frozenset({"--marathon", "--group"})

#: Flags of the original that cannot mean anything here, and what to do instead.
_REFUSED: Final = {
    "dcos-auth-credentials": "there is no DC/OS here; use --auth-credentials",
    "log-format": "lines of the log have one form; leave it out",
    "lru-cache-capacity": "addresses and health are kept for tasks that Marathon has; leave it out",
}

_PREFIX: Final = "MARATHON_LB_"


def _flag(name: str, type: Any, default: Any, help: str, **more: Any) -> Flag:
    # A dash cannot stand in the name of a variable.
    env = _PREFIX + name.upper().replace("-", "_")
    return Flag(name, type, default, help, env=env, **more)


def flag_set() -> FlagSet:
    """All flags of marathon-lb."""
    return FlagSet(
        "marathon-lb",
        _PREFIX,
        [*_original(), *_own()],
        version=f"marathon-lb {__version__}",
        about="Keeps HAProxy in step with the apps of Marathon.",
    )


def _original() -> list[Flag]:
    return [
        _flag("marathon", str, "http://master.mesos:8080", "Marathons, the first that answers."),
        _flag("haproxy-config", str, "/etc/haproxy/haproxy.cfg", "The file written."),
        _flag("group", str, None, "Groups served; * for all.", required=True),
        _flag("command", str, None, "Command that reloads HAProxy."),
        _flag(
            "max-reload-retries",
            int,
            10,
            "Reloads again without a new process: 0 waits on, -1 repeats for ever.",
            minimum=-1,
        ),
        _flag(
            "reload-interval",
            int,
            10,
            "Wait for the new process before that.",
            unit="s",
            minimum=1,
        ),
        _flag("strict-mode", bool, False, "Serve only ports with HAPROXY_{n}_ENABLED."),
        _flag("sse", bool, False, "Follow Marathon's events (always so as marathon-lb)."),
        _flag(
            "archive-versions",
            int,
            5,
            "Files of before that are kept in archive/ beside the file.",
            minimum=0,
        ),
        _flag("health-check", bool, False, "Leave out tasks that Marathon does not call alive."),
        _flag("lru-cache-capacity", int, None, "Not supported: what is kept is what Marathon has."),
        _flag("haproxy-map", bool, False, "Find host names and app ids by map files."),
        _flag("dont-bind-http-https", bool, False, "No frontends on 80 and 443."),
        _flag("group-https-by-vhost", bool, False, "A TLS frontend for each host name."),
        _flag("ssl-certs", str, "/etc/ssl/cert.pem", "Certificates of port 443, by commas."),
        _flag("skip-validation", bool, False, "Do not ask haproxy -c."),
        _flag("skip-config-cleanup", bool, False, "Do not leave out invalid apps."),
        _flag("dry", bool, False, "Print the file and end."),
        _flag("min-serv-port-ip-per-task", int, 10050, "First port to assign.", minimum=0),
        _flag("max-serv-port-ip-per-task", int, 10100, "Last port to assign.", minimum=0),
        _flag("max-backoff", float, 300.0, "Longest wait before reconnecting.", unit="s"),
        _flag("syslog-socket", str, None, "Where the log goes, too; /dev/null for nowhere."),
        _flag("log-format", str, None, "Not supported: lines have one form."),
        _flag("log-level", str, "INFO", "DEBUG, INFO, WARNING or ERROR."),
        _flag("marathon-auth-credential-file", str, None, "File with user:password."),
        _flag("auth-credentials", str, None, "user:password."),
        _flag("dcos-auth-credentials", str, None, "Not supported: there is no DC/OS here."),
        _flag("marathon-ca-cert", str, None, "CA of Marathon's certificate."),
        _flag("longhelp", bool, False, "Print all labels and templates and end."),
    ]


def _own() -> list[Flag]:
    return [
        _flag("mode", str, "sse", "How to notice changes.", choices=("sse", "poll")),
        _flag("poll-interval", float, 60.0, "Seconds between two looks.", unit="s", minimum=0.1),
        _flag("http-address", str, "127.0.0.1", "Address of marathon-lb's own port."),
        _flag("http-port", port_number, 9092, "Its port; HAProxy hands :9090/_… to it."),
        _flag("template-dir", str, "templates", "Directory of files HAPROXY_<TEMPLATE>."),
        _flag("haproxy-program", str, "haproxy", "The program that validates."),
        _flag("haproxy-user", str, None, "User that HAProxy's workers become."),
        _flag("stats-socket", str, "/var/run/haproxy/socket", "HAProxy's runtime API."),
        _flag("master-socket", str, None, "Socket of HAProxy's master process (haproxy -S)."),
        _flag("state-dir", str, "/var/state/haproxy/", "State of servers over reloads."),
        _flag("stats-bind", str, "0.0.0.0:9090", "Where the statistics are served."),
        _flag("stats-auth", str, None, "user:password of the statistics."),
        _flag(
            "coalesce", float, 0.05, "Longest wait for the events of a burst.", unit="s", minimum=0
        ),
    ]


def normalised(argv: Sequence[str]) -> list[str]:
    """`argv` in the form that all daemons read: long flags, lists joined by commas."""
    result: list[str] = []
    lists: dict[str, list[str]] = {}
    rest = list(argv)
    while rest:
        word = _SHORT.get(rest[0], rest[0])
        rest.pop(0)
        name, equals, value = word.partition("=")
        if name not in _LISTS:
            result.append(word)
            continue
        values = [value] if equals else []
        while rest and not equals and not rest[0].startswith("-"):
            values.append(rest.pop(0))
        if not values:
            raise ConfigError(f"{name} needs a value")
        lists.setdefault(name, []).extend(values)
    return [*(f"{name}={','.join(values)}" for name, values in lists.items()), *result]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the flags settle."""

    marathons: tuple[str, ...]
    rules: Rules
    paths: Paths
    mode: str
    poll_interval_s: float
    max_backoff_s: float
    coalesce_s: float
    http_address: str
    http_port: int
    credentials: tuple[str, str] | None
    ca_cert: str | None


def options(values: Values, environ: Mapping[str, str]) -> Options:
    """The settings that `values` and HAPROXY_* in `environ` give; ConfigError if they clash."""
    for name, instead in _REFUSED.items():
        if values[name] is not None:
            raise ConfigError(f"--{name} is not supported: {instead}")
    config = Path(values["haproxy-config"])
    span = _span(values["min-serv-port-ip-per-task"], values["max-serv-port-ip-per-task"])
    rules = Rules(
        model.Settings(
            groups=frozenset(values.group.split(",")),
            strict=values["strict-mode"],
            health_check=values["health-check"],
            framework_name=environ.get("FRAMEWORK_NAME"),
            assigned_ports=span,
        ),
        render.Settings(
            bind_http_https=not values["dont-bind-http-https"],
            certificates=tuple(values["ssl-certs"].split(",")),
            use_maps=values["haproxy-map"],
            group_https_by_vhost=values["group-https-by-vhost"],
            directory=str(config.parent),
        ),
        Templates(_head(values, environ), overrides(environ, Path(values["template-dir"]))),
        values["skip-validation"],
        values["skip-config-cleanup"],
    )
    return Options(
        marathons=tuple(one.rstrip("/") for one in values.marathon.split(",") if one),
        rules=rules,
        paths=Paths(
            config=config,
            program=values["haproxy-program"],
            stats_socket=values["stats-socket"],
            master_socket=values["master-socket"],
            state_directory=values["state-dir"],
            command=values.command,
            archive_versions=values["archive-versions"],
            reload_retries=values["max-reload-retries"],
            reload_interval_s=float(values["reload-interval"]),
        ),
        mode=values.mode,
        poll_interval_s=values["poll-interval"],
        max_backoff_s=values["max-backoff"],
        coalesce_s=values.coalesce,
        http_address=values["http-address"],
        http_port=values["http-port"],
        credentials=_credentials(values),
        ca_cert=values["marathon-ca-cert"],
    )


def _head(values: Values, environ: Mapping[str, str]) -> str:
    return head(
        HeadSettings(
            stats_socket=values["stats-socket"],
            state_directory=values["state-dir"],
            stats_bind=values["stats-bind"],
            control=f"{values['http-address']}:{values['http-port']}",
            stats_auth=values["stats-auth"],
            user=values["haproxy-user"],
            options=environ.get("HAPROXY_GLOBAL_DEFAULT_OPTIONS", DEFAULT_OPTIONS),
        )
    )


def overrides(environ: Mapping[str, str], directory: Path) -> dict[str, str]:
    """Templates from the environment, else from files of `directory`, by name without HAPROXY_."""
    found = {}
    for name in ("HEAD", *BUILT_IN):
        file = directory / f"HAPROXY_{name}"
        if f"HAPROXY_{name}" in environ:
            # A variable has one line only, so a line's end is spelled out.
            found[name] = environ[f"HAPROXY_{name}"].replace("\\n", "\n")
            refuse_unwritable(found[name], f"HAPROXY_{name}")
        else:
            text = _read("template-dir", file)
            if text is not None:
                found[name] = text
    return found


def _span(low: int, high: int) -> tuple[int, int] | None:
    if low == 0 and high == 0:
        return None
    if low == 0 or high == 0 or low > high:
        raise ConfigError(
            "--min-serv-port-ip-per-task and --max-serv-port-ip-per-task: give the first and the"
            " last port of a range, or 0 for both"
        )
    return low, high


def _credentials(values: Values) -> tuple[str, str] | None:
    text = values["auth-credentials"]
    path = values["marathon-auth-credential-file"]
    if path is not None:
        content = _read("marathon-auth-credential-file", Path(path))
        if content is None:
            raise ConfigError(f"--marathon-auth-credential-file: there is no file {path}")
        lines = content.splitlines()
        text = lines[0] if lines else ""
    if text is None:
        return None
    user, colon, password = text.partition(":")
    if not colon or ":" in password or not user:
        flag = "auth-credentials" if path is None else "marathon-auth-credential-file"
        raise ConfigError(f"--{flag}: expected user:password with exactly one colon")
    return user, password


def _read(flag: str, path: Path) -> str | None:
    """None where there is nothing."""
    try:
        return regular.read(path).decode()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"--{flag}: cannot read {path}: {error}") from error
