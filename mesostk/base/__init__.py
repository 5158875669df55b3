"""What every daemon stands on: the shell around its pure core.

::

    argv, env, files ─▶ config ─▶ main() builds the graph ─▶ daemon.Daemon runs it
                                                               │
    http, client ◀── sockets ──▶ events ─▶ core.Driver ─▶ effects ─▶ streams, replies
    zk, election ── leader, session ──▶ events      │
                                                    └─ Save ─▶ daemon's pipeline ─▶ store ─▶ Saved

    clock, log, metrics, systemd, units: leaves that the rest uses
"""
