"""Settings for the whole suite."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A machine that is busy with something else must not fail a property; `timeout` bounds each test.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


@pytest.fixture(scope="session", autouse=True)
def own_ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests do to their clusters is not for the ledger of whoever runs them."""
    before = os.environ.get("MESOSTK_LEDGER_DIR")
    os.environ["MESOSTK_LEDGER_DIR"] = str(tmp_path_factory.mktemp("ledger"))
    yield
    if before is None:
        del os.environ["MESOSTK_LEDGER_DIR"]
    else:
        os.environ["MESOSTK_LEDGER_DIR"] = before
