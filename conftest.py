"""Settings for the whole suite."""

from __future__ import annotations

from hypothesis import settings

# A machine that is busy with something else must not fail a property; `timeout` bounds each test.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
