"""marathon-lb: Marathon's apps become HAProxy's configuration.

::

    /v2/events ─▶ source ─▶ /v2/apps ─▶ model: services, servers, what is refused and why
    (or a timer)                          │
                                          ▼
                          render: haproxy.cfg, map files, servers per backend
                                          │  same as what runs? stop
                     ┌── only servers came or went ──┴── structure changed ──┐
                     ▼                                                       ▼
     runtime API: add, drain, del                           haproxy -c ─▶ swap ─▶ hitless reload
                     └── refused ───────────────────────────────────────────▶┘
                                          invalid: without the app whose line it is

Durable state: none. The last good file on the disk is what HAProxy starts from.
"""
