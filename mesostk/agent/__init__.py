"""The agent: runs tasks, reports what becomes of them, and outlives its own restarts.

::

             DISCONNECTED ── leader found, back-off over ──▶ Subscribe ──▶ Registered ──▶ RUNNING
    start ─▶ RECOVERING ─┘        ▲────────────── link lost, silence, new leader ────────────┘

    RUN_TASK ─▶ Checkpoint{framework, executor, task.info} ─▶ Saved ─▶ [Fetch] ─▶ Launch ─▶ Launched
       STAGING                                                          STARTING          RUNNING
    KILL ─▶ KillRun(grace) ─▶ supervisor: TERM … KILL ─▶ Exited ─▶ FINISHED | FAILED | KILLED

    each update: append UPDATE ─▶ Saved ─▶ SendUp ─▶ ACK from master ─▶ append ACK ─▶ Saved ─▶ next

    core.py (state: state.py)   dispatches to  registration.py  tasks.py  updates.py  checks.py
    docker.py                   containers: the engine keeps them, the agent follows their output
    recovery.py                 files of work_dir + runs found alive → events, before registration
    daemon.py                   the shell: disk thread, launcher socket, link to the master, HTTP

Nothing here is decided by the master's memory: the agent owns what runs.
"""
