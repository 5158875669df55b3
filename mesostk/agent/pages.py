"""What `/help` of an agent says of its endpoints."""

from __future__ import annotations

from mesostk.base.help import Pages

PAGES: Pages = {
    "slave(1)": {
        "/api/v1": "The v1 operator API: POST of a mesos.v1.agent.Call.",
        "/api/v1/executor": "The v1 executor API: POST of a mesos.v1.executor.Call.",
        "/containerizer/debug": "What containers wait for.",
        "/containers": "Containers: container_id=VALUE, framework_id=VALUE, executor_id=VALUE.",
        "/flags": "The flags of this agent.",
        "/health": "200 while it answers.",
        "/monitor/statistics": "What executors and their tasks use.",
        "/state": "Everything about this agent.",
    },
}
