"""What the labels of one service port say: parsed, checked, or refused with a reason.

A value that could end a line or begin another word of haproxy.cfg is refused here, so that no label
can write configuration that its owner was not asked for. Source: spec/dns-lb-autoscale §2.7.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from mesostk.lb.templates import LABELLED, why_not_template

_TRUE: Final = frozenset({"true", "t", "yes", "y"})

#: One word that HAProxy takes as it is: no blank, quote, backslash, comment or variable.
_WORD = re.compile(r"[^\s\"'\\#$\x00-\x1f\x7f]+")
_WORDS = re.compile(r"[^\"'\\#$\x00-\x1f\x7f]+")
_HOST = re.compile(r"[A-Za-z0-9._*:\[\]-]+")
_ADDRESS = re.compile(r"[A-Za-z0-9._*:\[\]-]+")
_NETWORKS = re.compile(r"[0-9A-Fa-f:.]+(/[0-9.]+)?( +[0-9A-Fa-f:.]+(/[0-9.]+)?)*")
_BALANCE = re.compile(r"[a-z0-9-]+(\([A-Za-z0-9_.,-]+\))?( [A-Za-z0-9_(),.-]+)*")
#: HAPROXY_00_PORT is nobody's label: the original looks for the plain number. No app has a port of
#: so many digits, and `int` refuses thousands of them.
_INDEXED = re.compile(r"HAPROXY_(0|[1-9][0-9]{0,8})_(.+)", re.DOTALL)

MAX_WEIGHT: Final = 1 << 31


class LabelError(ValueError):
    """A label's value is refused; the message names the label, the value and the rule."""


class Labels(msgspec.Struct, kw_only=True):
    """What one service port's labels settle. None or empty: not said."""

    groups: tuple[str, ...] = ()
    vhosts: tuple[str, ...] = ()
    path: str | None = None
    weight: int = 0
    mode: str | None = None
    balance: str = "roundrobin"
    port: int | None = None
    bind_address: str = "*"
    bind_options: str | None = None
    certificate: str | None = None
    enabled: bool = True
    sticky: bool = False
    redirect_to_https: bool = False
    use_hsts: bool = False
    realm: str | None = None
    user: str | None = None
    password: str | None = None
    proxy_pass_path: str | None = None
    reverse_proxy_path: str | None = None
    redirect_path: str | None = None
    networks: tuple[str, ...] = ()
    check_port_index: int | None = None
    templates: dict[str, str] = msgspec.field(default_factory=dict[str, str])


def boolean(text: str) -> bool:
    """True for true, t, yes and y in any case only; `1` is false, as in the original."""
    return text.lower() in _TRUE


def _matching(pattern: re.Pattern[str], rule: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if pattern.fullmatch(text) is None:
            raise ValueError(rule)
        return text

    return parse


_word = _matching(_WORD, "expected one word without quotes, backslashes, # or $")
_words = _matching(_WORDS, "expected one line without quotes, backslashes, # or $")
_host = _matching(_HOST, "expected host names, joined by commas without blanks")
_address = _matching(_ADDRESS, "expected one address")
_networks = _matching(_NETWORKS, "expected networks like 10.1.40.0/24, separated by blanks")
_balance = _matching(_BALANCE, "expected an algorithm like leastconn or hdr(name)")


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError as error:
            raise ValueError("expected a whole number") from error
        if not low <= value <= high:
            raise ValueError(f"expected {low} to {high}")
        return value

    return parse


def _set(name: str, parse: Callable[[str], Any]) -> Callable[[Labels, str], None]:
    def apply(labels: Labels, text: str) -> None:
        setattr(labels, name, parse(text))

    return apply


def _vhost(labels: Labels, text: str) -> None:
    # An empty label is how users of templates switch a vhost off.
    labels.vhosts = tuple(_host(part) for part in text.lower().split(",")) if text else ()


def _path(labels: Labels, text: str) -> None:
    labels.path = _words(text) if text else None
    if labels.weight == 0:
        labels.weight = 1


def _mode(labels: Labels, text: str) -> None:
    if text.lower() not in ("http", "tcp"):
        raise ValueError("expected http or tcp")
    labels.mode = text.lower()


def _auth(labels: Labels, text: str) -> None:
    parts = text.split(":")
    if len(parts) != 3:
        raise ValueError("expected realm:user:password-hash")
    labels.realm = _words(parts[0])
    labels.user = _word(parts[1])
    if re.fullmatch(r"[^\s\"'\\#\x00-\x1f\x7f]+", parts[2]) is None:
        raise ValueError("the password hash has a blank, a quote, a backslash or a #")
    labels.password = parts[2]


def _group(labels: Labels, text: str) -> None:
    labels.groups = tuple(text.split(","))


def _network(labels: Labels, text: str) -> None:
    labels.networks = tuple(_networks(text.strip()).split()) if text.strip() else ()


#: Name after HAPROXY_{n}_ → what it does. Applied in alphabetical order: BACKEND_WEIGHT comes
#: before PATH, which lifts a weight of 0 only.
_APPLY: Final[Mapping[str, Callable[[Labels, str], None]]] = {
    "AUTH": _auth,
    "BACKEND_HEALTHCHECK_PORT_INDEX": _set("check_port_index", _integer(0, 1000)),
    "BACKEND_NETWORK_ALLOWED_ACL": _network,
    "BACKEND_WEIGHT": _set("weight", _integer(-MAX_WEIGHT, MAX_WEIGHT)),
    "BALANCE": _set("balance", _balance),
    "BIND_ADDR": _set("bind_address", _address),
    "BIND_OPTIONS": _set("bind_options", _words),
    "ENABLED": _set("enabled", boolean),
    "GROUP": _group,
    "HTTP_BACKEND_PROXYPASS_PATH": _set("proxy_pass_path", _word),
    "HTTP_BACKEND_REDIR": _set("redirect_path", _word),
    "HTTP_BACKEND_REVPROXY_PATH": _set("reverse_proxy_path", _word),
    "MODE": _mode,
    "PATH": _path,
    "PORT": _set("port", _integer(1, 65535)),
    "REDIRECT_TO_HTTPS": _set("redirect_to_https", boolean),
    "SSL_CERT": _set("certificate", _word),
    "STICKY": _set("sticky", boolean),
    "USE_HSTS": _set("use_hsts", boolean),
    "VHOST": _vhost,
}

#: Every label of a service port, without the prefix.
NAMES: Final = tuple(sorted({*_APPLY, *LABELLED}))


def by_index(labels: Mapping[str, str]) -> dict[int, list[tuple[str, str]]]:
    """The per-port labels of an app: index → (name, value), in the order of their names."""
    found: dict[int, list[tuple[str, str]]] = {}
    for key in sorted(labels):
        match = _INDEXED.fullmatch(key)
        if match is not None:
            found.setdefault(int(match[1]), []).append((match[2], labels[key]))
    return found


def parse(index: int, pairs: Iterable[tuple[str, str]], base: Labels) -> Labels:
    """`base` with the labels of service port `index` applied; LabelError for the first bad one."""
    for name, text in pairs:
        apply = _APPLY.get(name)
        try:
            if apply is not None:
                apply(base, text)
            elif name in LABELLED:
                _template(base, name, text)
        except ValueError as error:
            raise LabelError(f"label HAPROXY_{index}_{name}: {shown(text)}: {error}") from error
    return base


def _template(labels: Labels, name: str, text: str) -> None:
    text = text.replace("\r\n", "\n")
    wrong = why_not_template(name, text)
    if wrong is not None:
        raise ValueError(wrong)
    # A form that strips the last newline would glue the next line of the file to this one.
    labels.templates[name] = text if not text or text.endswith("\n") else text + "\n"


def shown(text: str) -> str:
    """`text` for a message: quoted, cut at 80 characters."""
    return repr(text if len(text) <= 80 else text[:80] + "…")
