"""Mesos-DNS: names for agents, frameworks, masters and every running task.

::

    ZooKeeper ─▶ members ─┐         facts          names        bytes
    leading master ──────▶ source ─▶ naming ─▶ zone ─▶ answers ─▶ server ◀─▶ clients
      event stream, or       │         │       (records)   ▲        ├─▶ forward ─▶ resolvers
      /state (reading)       │         │                  http      └─▶ transfer ─▶ secondaries
                             │         └─▶ worker: the same from naming on, in another process
                             └─▶ resolve: hosts that are known by name

`labels`, `facts`, `records`, `zone`, `reading`, `answers` and `limits` are pure.
"""
