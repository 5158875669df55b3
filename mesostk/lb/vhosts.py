"""The rules by which ports 80 and 443 find a service by its host name and path.

Each service gives one block for each port. With several host names one acl collects them and one
rule routes; with map files, plain services share one rule and a line in the map each.
Source: spec/dns-lb-autoscale §2.8.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from mesostk.lb.model import Service
from mesostk.lb.templates import MAP_LABELS, Templates

_UNCLEAN = re.compile(r"[^a-zA-Z0-9-]")

#: The rule that looks into the map comes after all others.
MAP_WEIGHT: Final = -1


def cleaned(text: str) -> str:
    """`text` as part of a name in haproxy.cfg."""
    return _UNCLEAN.sub("_", text)


class Block(msgspec.Struct):
    """One service's rules: port 80, port 443, and per host name for grouped TLS."""

    weight: int
    http: str = ""
    https: str = ""
    grouped: dict[str, str] = msgspec.field(default_factory=dict[str, str])


class Maps(msgspec.Struct):
    """What goes into the map files; the single rules that use them are written once."""

    domains: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    apps: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    has_http_rule: bool = False
    has_https_rule: bool = False
    has_app_rule: bool = False


def template(templates: Templates, service: Service, name: str) -> str:
    """Template `name` as it is for `service`: its label's text, else the common one."""
    own = service.labels.templates
    if own:
        text = own.get(MAP_LABELS.get(name, name))
        if text is not None:
            return text
    return templates[name]


class _Rules:
    """One service's block in the making."""

    def __init__(
        self, templates: Templates, service: Service, directory: str, maps: Maps | None
    ) -> None:
        self._templates = templates
        self._service = service
        self._maps = maps
        labels = service.labels
        first = labels.vhosts[0]
        self._values = {
            "backend": service.backend,
            "cleanedUpHostname": cleaned(first) + "_" + service.app_id[1:].replace("/", "_"),
            "hostname": first,
            "appId": service.app_id,
            "path": labels.path or "",
            "realm": labels.realm or "",
            "bindAddr": labels.bind_address,
            "haproxy_dir": directory,
        }
        self.block = Block(labels.weight)

    def text(self, name: str, hostname: str | None = None) -> str:
        values: Mapping[str, str] = self._values
        if hostname is not None:
            values = {**values, "hostname": hostname}
        return template(self._templates, self._service, name).format_map(values)

    def http(self, name: str, hostname: str | None = None) -> None:
        self.block.http += self.text(name, hostname)

    def https(self, name: str, hostname: str) -> None:
        text = self.text(name, hostname)
        self.block.https += text
        self.block.grouped[hostname] = self.block.grouped.get(hostname, "") + text

    def build(self) -> Block:
        labels = self._service.labels
        if len(labels.vhosts) > 1:
            self._http_several()
        else:
            self._http_single(labels.vhosts[0])
        self._https()
        return self.block

    # -- port 80 --------------------------------------------------------------------------------

    def _http_single(self, host: str) -> None:
        labels = self._service.labels
        suffix = _suffix(labels.realm is not None, labels.path is not None)
        if labels.redirect_to_https and labels.path is not None:
            self.http("HTTP_FRONTEND_ACL_ONLY")
            self.http("HTTP_FRONTEND_ACL_ONLY_WITH_PATH")
            self.http("BACKEND_REDIRECT_HTTP_TO_HTTPS_WITH_PATH")
        elif labels.redirect_to_https:
            self.http("HTTP_FRONTEND_ACL")
            self.http("BACKEND_REDIRECT_HTTP_TO_HTTPS")
        elif not suffix and self._maps is not None:
            self._http_mapped(self._maps, host, "MAP_HTTP_FRONTEND_ACL")
        else:
            self.http("HTTP_FRONTEND_ACL" + suffix)

    def _http_several(self) -> None:
        labels = self._service.labels
        maps = self._maps
        if labels.path is not None:
            with_auth = "_AND_AUTH" if labels.realm is not None else ""
            self.http("HTTP_FRONTEND_ACL_ONLY_WITH_PATH" + with_auth)
        is_plain = labels.path is None and labels.realm is None
        for host in labels.vhosts:
            if is_plain and not labels.redirect_to_https and maps is not None:
                self._http_mapped(maps, host, "MAP_HTTP_FRONTEND_ACL_ONLY")
            else:
                self.http("HTTP_FRONTEND_ACL_ONLY", host)
        if labels.redirect_to_https:
            with_path = "_WITH_PATH" if labels.path is not None else ""
            self.http("BACKEND_REDIRECT_HTTP_TO_HTTPS" + with_path)
        elif labels.path is not None:
            with_auth = "_AND_AUTH" if labels.realm is not None else ""
            self.http("HTTP_FRONTEND_ROUTING_ONLY_WITH_PATH" + with_auth)
        elif labels.realm is not None:
            self.http("HTTP_FRONTEND_ROUTING_ONLY_WITH_AUTH")
        elif maps is None:
            self.http("HTTP_FRONTEND_ROUTING_ONLY")

    def _http_mapped(self, maps: Maps, host: str, name: str) -> None:
        if not maps.has_http_rule:
            self.block.weight = MAP_WEIGHT
            self.http(name)
            maps.has_http_rule = True
        maps.domains.setdefault(host, self._service.backend)

    # -- port 443 -------------------------------------------------------------------------------

    def _https(self) -> None:
        labels = self._service.labels
        if labels.path is not None:
            text = self.text("HTTPS_FRONTEND_ACL_ONLY_WITH_PATH")
            self.block.https += text
            for host in labels.vhosts:
                self.block.grouped[host] = text
        suffix = _suffix(labels.realm is not None, labels.path is not None)
        for host in labels.vhosts:
            if not suffix and self._maps is not None:
                self._https_mapped(self._maps, host)
            else:
                self.https("HTTPS_FRONTEND_ACL" + suffix, host)

    def _https_mapped(self, maps: Maps, host: str) -> None:
        text = self.text("MAP_HTTPS_FRONTEND_ACL", host)
        # Each host name has a frontend of its own where TLS is grouped, so each needs the rule.
        self.block.grouped[host] = text
        if not maps.has_https_rule:
            self.block.weight = MAP_WEIGHT
            self.block.https += text
            maps.has_https_rule = True
        maps.domains.setdefault(host, self._service.backend)


def _suffix(has_auth: bool, has_path: bool) -> str:
    if has_auth:
        return "_WITH_AUTH_AND_PATH" if has_path else "_WITH_AUTH"
    return "_WITH_PATH" if has_path else ""


def block(templates: Templates, service: Service, directory: str, maps: Maps | None) -> Block:
    """The rules of a service that has host names; `maps` None: no map files are used."""
    return _Rules(templates, service, directory, maps).build()
