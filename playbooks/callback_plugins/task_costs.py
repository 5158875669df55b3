"""Callback: how many modules ran on each host, and how long each task took.

    ANSIBLE_CALLBACK_PLUGINS=playbooks/callback_plugins ANSIBLE_CALLBACKS_ENABLED=task_costs \
        ansible-playbook …

A module run is what a task costs a host: a new interpreter each time, 0.3 s of its processor.
`TASK_COSTS_FILE` names a file that gets the figures as JSON as well.
"""

from __future__ import annotations

DOCUMENTATION = r"""
name: task_costs
type: aggregate
short_description: Module runs of each host and seconds of each task
description: Prints both when the playbook has ended.
author: mesostk
"""

import json
import os
import time

from ansible.plugins.callback import CallbackBase

#: Actions that happen on the control node alone.
CONTROL_NODE = {
    *("add_host", "assert", "debug", "fail", "group_by", "import_role", "import_tasks"),
    *("include_role", "include_tasks", "include_vars", "meta", "pause", "set_fact"),
    "validate_argument_spec",
}
#: Actions that run more than one module: they look first, then copy, then set the mode.
RUNS = {"copy": 3, "template": 3}


class CallbackModule(CallbackBase):
    """What Ansible loads."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_costs"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        super().__init__()
        self.runs = {}
        self.seconds = {}
        self.began = None

    def _count(self, result):
        action = result.task.action.rpartition(".")[2]
        # a delegated task costs the host that it was delegated to
        if action in CONTROL_NODE or result.task.delegate_to:
            return
        times = len(result.result.get("results", [None])) if result.task.loop else 1
        tasks = self.runs.setdefault(result.host.name, [])
        tasks += [result.task.get_name()] * (times * RUNS.get(action, 1))

    v2_runner_on_ok = v2_runner_on_failed = _count

    def _close(self):
        if self.began is not None:
            name, then = self.began
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - then
            self.began = None

    def _open(self, task, *_args, **_kwargs):
        self._close()
        self.began = (task.get_name(), time.monotonic())

    v2_playbook_on_task_start = v2_playbook_on_handler_task_start = _open

    def v2_playbook_on_stats(self, _stats):
        self._close()
        self._display.display("\nSECONDS OF EACH TASK, all hosts together")
        for name, seconds in sorted(self.seconds.items(), key=lambda one: -one[1]):
            if seconds >= 0.1:
                self._display.display(f"{seconds:7.1f}  {name}")
        self._display.display("\nMODULE RUNS OF EACH HOST")
        for host in sorted(self.runs):
            self._display.display(f"{len(self.runs[host]):7}  {host}")
        if path := os.environ.get("TASK_COSTS_FILE"):
            with open(path, "w") as file:
                json.dump({"runs": self.runs, "seconds": self.seconds}, file)
