"""Tags: each role has its own, and a word that is none is refused rather than doing nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesostk.errors import ConfigError
from mesostk.ops.ansible import run_playbook, tags_of
from mesostk.ops.paths import data_root
from mesostk.ops.progress import Lines
from mesostk.ops.role_docs import roles

PLAYBOOKS = data_root() / "playbooks"


def test_every_role_is_applied_alone_by_its_name() -> None:
    # `service` is a part of others, and `validate` is always there.
    applied = {role.name for role in roles()} - {"service", "validate"}
    assert tags_of(PLAYBOOKS / "site.yml") == applied | {"verify"}
    assert tags_of(PLAYBOOKS / "upgrade.yml") >= {"mesos_agent", "marathon", "verify"}


@pytest.mark.parametrize("words", [["marathno"], ["marathon,marathno"], ["verify", "marathno"]])
def test_a_word_that_is_no_tag_is_refused_with_those_that_are(
    words: list[str], tmp_path: Path
) -> None:
    inventory = data_root() / "inventory" / "lab"
    with pytest.raises(ConfigError, match=r"--tags marathno: the tags of site\.yml are common, "):
        run_playbook("site", inventory, Lines(), tmp_path, tags=words)
    assert list(tmp_path.iterdir()) == []
