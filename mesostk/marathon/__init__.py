"""Marathon: keeps the wanted number of instances of each app running on Mesos.

::

    /v2/* ─▶ api ─▶ commands ─┐                                  ┌─▶ Save ─▶ ZooKeeper or file
    Mesos ─▶ driver ─▶ events ├─▶ core.Marathon.handle(now, ev) ─┤     └─ Saved ─▶ what it held back
    probes ─▶ results ────────┘        │ settle: every app that  ├─▶ Send ─▶ Mesos (ACCEPT, KILL, …)
                                       │ changed is compared     ├─▶ Reply ─▶ the waiting request
                                       ▼ with what is wanted     ├─▶ Emit ─▶ /v2/events
              apps × instances ─▶ rollout ─▶ kill these, want k  └─▶ StartProbes, StopProbes
                                                          │
              offers ─▶ matcher ─▶ instance + TaskInfo ◀──┘ launch queue, back-off

Nothing leaves the core before every decision taken earlier is durable. znodes: `repository`.
A standby has no core: it forwards all requests to the leader (`proxy`).
"""
