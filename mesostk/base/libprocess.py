"""What the original reads from the environment for its network library, libprocess (§9.1, §10).

Most of it has flags of the same effect (`--ip`, `--port`, `--advertise_ip` …) and is for others.
"""

from __future__ import annotations

from collections.abc import Mapping

#: The present name and the old one.
_TLS = ("LIBPROCESS_SSL_ENABLED", "SSL_ENABLED")


def refusal(environ: Mapping[str, str]) -> str | None:
    """Why a daemon must not start with this environment; None if it may.

    Who turns TLS on must not find out later that everything goes in the clear.
    """
    for name in _TLS:
        if environ.get(name, "").lower() in ("1", "true"):
            return (
                f"{name}={environ[name]}: connections are not encrypted here; take it away, and "
                "use a private network or a proxy that speaks TLS"
            )
    return None
