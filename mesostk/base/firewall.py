"""`--firewall_rules` of masters and agents: endpoints that nobody may use."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from mesostk.base.flagtext import decode_json
from mesostk.errors import ConfigError


class _Paths(msgspec.Struct, frozen=True):
    paths: tuple[str, ...] = ()


class _Firewall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    disabled_endpoints: _Paths = _Paths()


def disabled_paths(text: str | None, plain_path: Callable[[str], str]) -> frozenset[str]:
    """What the flag's text closes, each as `plain_path` spells it; nothing without it.

    Raises ConfigError for what is no such rule.
    """
    if text is None:
        return frozenset()
    try:
        rules = decode_json(text, _Firewall)
    except ValueError as error:
        raise ConfigError(
            f'--firewall_rules: {error}; expected {{"disabled_endpoints":{{"paths":["/…"]}}}}'
        ) from error
    for path in rules.disabled_endpoints.paths:
        if not path.startswith("/"):
            raise ConfigError(f"--firewall_rules: path '{path}' does not start with a slash")
    return frozenset(plain_path(path) for path in rules.disabled_endpoints.paths)
