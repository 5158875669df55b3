"""How long an instance that is about to go is shown as Killing before it is killed.

::

    decided ─▶ Killing, told to subscribers ─▶ balancers take it out … drain seconds ─▶ KILL

An app that a balancer serves (label HAPROXY_GROUP) gets the time of `--kill_drain_seconds`, any
other none; the label MARATHON_DRAIN_SECONDS of the app overrules both.
"""

from __future__ import annotations

import math
from typing import Final

from mesostk.wire.marathon import AppDefinition

LABEL: Final = "MARATHON_DRAIN_SECONDS"
BALANCED_LABEL: Final = "HAPROXY_GROUP"

#: Longer, a typing error would hold a deployment for ever.
MAX_S: Final = 3600.0


def given(app: AppDefinition) -> float | None:
    """Seconds that the app's own label gives, None without it; ValueError for anything else."""
    text = app.labels.get(LABEL)
    if text is None:
        return None
    seconds = float(text)
    if not (math.isfinite(seconds) and 0 <= seconds <= MAX_S):
        raise ValueError(f"{text!r} is not between 0 and {MAX_S:g}")
    return seconds


def why_invalid(app: AppDefinition) -> str | None:
    """What is wrong with the app's label."""
    try:
        given(app)
    except ValueError:
        return f"{LABEL} must be a number of seconds between 0 and {MAX_S:g}"
    return None


def seconds(app: AppDefinition, default_s: float) -> float:
    """Seconds between Killing and KILL for an instance of `app`.

    A label that makes no sense, which only an app stored long ago can have, counts for nothing.
    """
    own = None if why_invalid(app) is not None else given(app)
    if own is not None:
        return own
    return default_s if app.labels.get(BALANCED_LABEL) else 0.0
