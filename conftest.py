"""Settings for the whole suite."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from mesostk.testing.requirements import is_ci

# A machine that is busy with something else must not fail a property; `timeout` bounds each test.
# In CI the examples are the same each time: what others find is for those who run the suite.
settings.register_profile(
    "suite", deadline=None, derandomize=is_ci(), suppress_health_check=[HealthCheck.too_slow]
)
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
