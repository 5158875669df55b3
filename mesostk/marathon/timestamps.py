"""Marathon's one way to write a moment: ISO 8601, UTC, milliseconds, `Z`.

Strings of this form sort as the moments they name, so that versions are compared as strings.
"""

from __future__ import annotations

from datetime import UTC, datetime

from mesostk.errors import WireError


def iso(wall_s: float) -> str:
    """`2016-06-20T12:00:00.000Z` for seconds since the epoch."""
    millis = round(wall_s * 1000)
    moment = datetime.fromtimestamp(millis // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{millis % 1000:03d}Z"


def from_iso(text: str) -> float:
    """Seconds since the epoch; raises WireError for anything `iso` or a client would not write."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as err:
        raise WireError(f"'{text}' is not a time such as 2016-06-20T12:00:00.000Z") from err
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()


def next_version(wall_s: float, newest: str | None) -> str:
    """A version later than `newest`, even when the clock stands still or was set back."""
    version = iso(wall_s)
    if newest is None or version > newest:
        return version
    return iso(from_iso(newest) + 0.001)
