"""What a role says of itself is what it does."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mesostk.errors import ConfigError
from mesostk.ops import role_docs


@pytest.mark.parametrize("role", role_docs.roles(), ids=lambda role: role.name)
def test_readme_of_the_role_is_current(role: Path) -> None:
    assert (role / "README.md").read_text() == role_docs.render(role), "run `make docs`"


@pytest.mark.parametrize("role", role_docs.roles(), ids=lambda role: role.name)
def test_each_default_has_the_roles_name_and_a_comment(role: Path) -> None:
    path = role / "defaults" / "main.yml"
    if not path.exists():
        return
    lines = path.read_text().splitlines()
    names = list(yaml.safe_load(path.read_text()) or {})
    assert all(name.startswith(role.name + "_") for name in names)
    for name in names:
        number = next(n for n, line in enumerate(lines) if line.startswith(f"{name}:"))
        # a comment may speak for the variables that follow it without a gap
        while lines[number - 1].startswith((" ", role.name)):
            number -= 1
        assert lines[number - 1].startswith("#"), f"{name} in {path} has no comment above it"


def test_default_without_a_specification_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    (tmp_path / "defaults").mkdir()
    (tmp_path / "meta" / "argument_specs.yml").write_text(
        "argument_specs: {main: {short_description: x, options: {}}}"
    )
    (tmp_path / "defaults" / "main.yml").write_text("forgotten: 1\n")
    with pytest.raises(ConfigError, match="forgotten"):
        role_docs.render(tmp_path)


def test_row_shows_type_default_and_description(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    (tmp_path / "defaults").mkdir()
    (tmp_path / "meta" / "argument_specs.yml").write_text(
        "argument_specs: {main: {short_description: x, options: {a_b: "
        "{type: list, elements: str, description: [Or C(this) | that.]}}}}"
    )
    (tmp_path / "defaults" / "main.yml").write_text("a_b: [1, 2]\n")
    row = "| `a_b` | list of str | `[1, 2]` | Or `this` \\| that. |"
    assert row in role_docs.render(tmp_path)
