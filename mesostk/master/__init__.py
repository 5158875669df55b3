"""The master: who is a member, who may use what, and which updates go where.

::

    agents ──link──▶ AgentSubscribed, AgentCalled ─┐                       ┌▶ SendToAgent
    schedulers ────▶ SchedulerSubscribed, …Called ─┼▶ Master.handle ──────▶┼▶ SendToScheduler
    operators ─────▶ OperatorSubscribed, …Called ──┘   core.py, HANDLERS   ├▶ Publish, Reply
    store ─────────▶ Elected, Saved ─────────────────▶ agents frameworks   └▶ Save (registry.py)
                                                       offers tasks
                                                       allocator ◀─ sorter

    an agent:   (recovered) ─▶ connected ◀─▶ disconnected ─▶ unreachable ─▶ connected …
                                   └──────────────┴─────────────┴─▶ gone (never returns)

Only membership is durable (`registry.py`); frameworks, tasks and offers are rebuilt from what
agents and frameworks say when they come back.
"""
