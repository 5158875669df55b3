"""The v1 scheduler client under Marathon and Chronos.

::

    Detector ─set_leader─▶ ┌────────────── Driver (aiohttp) ──────────────┐
    framework ──subscribe▶ │ events ─▶ SchedulerCore ─▶ OpenStream, Post… │ ⇄ master
              ──send─────▶ │           (states below)                     │
              ◀─callbacks─ └──────────────────────────────────────────────┘

    IDLE ──subscribe──▶ WAITING ──leader, back-off over──▶ SUBSCRIBING ──SUBSCRIBED──▶ CONNECTED
     ▲ ERROR, stop         ▲   └─307: there at once─┘            │                        │
     └─────────────────────┴───── refused, cut, silent, 403, other leader ◀───────────────┘

Nothing is kept for later: a call made while not connected is dropped, a call whose answer is lost
is not repeated. A framework reconciles in `on_connected`, which finds out what was lost.
"""
