"""The `mesostk` command.

::

    app.py ─▶ lab.py cluster.py apps.py tasks.py status.py contexts.py      one module a group
                 │        │         └──▶ clients.py ─HTTP─▶ Marathon, masters, agents
                 ▼        ▼
               ops.lab  ops.ansible                output.py: tables, JSON, progress, errors

Text for people by default, `-o json` for programs. Exit code 0 done, 1 failed, 2 usage. Modules are
imported by the command that needs them, so that help and completion stay fast.
"""
