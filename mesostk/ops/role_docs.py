"""The README of each role, made of its argument specification and its defaults.

`make docs` writes them; a test compares what is there with what would be written.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mesostk.errors import ConfigError
from mesostk.ops.paths import data_root

_FOOTER = "Made from `meta/argument_specs.yml` and `defaults/main.yml` by `make docs`.\n"


def _text(value: str | list[str]) -> str:
    """A description as Markdown: C(code) and B(bold) of Ansible's docs, lines made one."""
    words = " ".join(value if isinstance(value, list) else [value]).split()
    text = " ".join(words)
    for mark, wrap in (("C", "`"), ("B", "**"), ("V", "`"), ("O", "`")):
        parts = text.split(f"{mark}(")
        text = parts[0] + "".join(
            wrap + part.replace(")", wrap, 1) if ")" in part else part for part in parts[1:]
        )
    return text


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _default(name: str, option: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    if name not in defaults:
        return "required" if option.get("required") else "-"
    value = defaults[name]
    if isinstance(value, str) and "{{" in value:
        return f"`{' '.join(value.split())}`"
    return f"`{value if isinstance(value, str) and value else json.dumps(value)}`"


def _type(option: Mapping[str, Any]) -> str:
    kind = str(option.get("type", "str"))
    choices = option.get("choices")
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    return f"{kind} of {option['elements']}" if "elements" in option else kind


def render(role: Path) -> str:
    """The README of the role in directory `role`.

    Raises ConfigError if a default has no specification.
    """
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())
    spec = specs["argument_specs"]["main"]
    path = role / "defaults" / "main.yml"
    defaults: dict[str, Any] = yaml.safe_load(path.read_text()) or {} if path.exists() else {}
    options: dict[str, dict[str, Any]] = spec.get("options") or {}
    unknown = sorted(defaults.keys() - options.keys())
    if unknown:
        raise ConfigError(
            f"role {role.name}: {', '.join(unknown)} in defaults/main.yml has no entry in "
            "meta/argument_specs.yml; describe it there"
        )
    about = _text(spec["short_description"])
    more = f"\n{_text(spec['description'])}\n" if "description" in spec else ""
    rows = "".join(
        f"| `{name}` | {_cell(_type(option))} | {_cell(_default(name, option, defaults))} "
        f"| {_cell(_text(option['description']))} |\n"
        for name, option in options.items()
    )
    table = f"\n| variable | type | default | |\n|---|---|---|---|\n{rows}" if rows else ""
    return f"# {role.name}\n\n{about}.\n{more}{table}\n{_FOOTER}"


def roles() -> list[Path]:
    """Directories of all roles, by name."""
    return sorted(path for path in (data_root() / "roles").iterdir() if path.is_dir())


def main() -> int:
    """Write each README that is not what it should be, and name it."""
    try:
        for role in roles():
            path, text = role / "README.md", render(role)
            if not path.exists() or path.read_text() != text:
                path.write_text(text)
                print(path)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
