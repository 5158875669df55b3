"""What `/help` of a master says of its endpoints."""

from __future__ import annotations

from mesostk.base.help import Pages

PAGES: Pages = {
    "allocator": {"/offer_constraints_debug": "The offer constraints of frameworks."},
    "master": {
        "/": "The page of the cluster.",
        "/api/v1": "The v1 operator API: POST of a mesos.v1.master.Call.",
        "/api/v1/scheduler": "The v1 scheduler API: POST of a mesos.v1.scheduler.Call.",
        "/create-volumes": "POST creates persistent volumes: slaveId=VALUE, volumes=JSON.",
        "/destroy-volumes": "POST destroys persistent volumes: slaveId=VALUE, volumes=JSON.",
        "/explain-offers": "Why agents are not offered: framework=VALUE, role=VALUE.",
        "/flags": "The flags of this master.",
        "/frameworks": "Frameworks with their tasks: framework_id=VALUE.",
        "/health": "200 while it answers.",
        "/machine/down": "POST of JSON machines takes them down for their maintenance.",
        "/machine/up": "POST of JSON machines brings them back.",
        "/maintenance/schedule": "GET or POST the schedule of maintenance.",
        "/maintenance/status": "Machines that drain and that are down.",
        "/quota": "GET quotas, POST one, DELETE /quota/ROLE.",
        "/redirect": "307 to the leading master.",
        "/reserve": "POST reserves: slaveId=VALUE, resources=JSON, source=JSON.",
        "/roles": "Roles with their weights, quotas and resources.",
        "/slaves": "Agents: slave_id=VALUE.",
        "/state": "Everything about the cluster.",
        "/state-summary": "Agents and frameworks with counts of their tasks.",
        "/tasks": "Tasks: framework_id=VALUE, task_id=VALUE, limit=VALUE, offset=VALUE,"
        " order=asc|desc.",
        "/teardown": "POST removes a framework with all that it runs: frameworkId=VALUE.",
        "/unreserve": "POST gives reservations back: slaveId=VALUE, resources=JSON.",
        "/weights": "GET weights, PUT JSON of role and weight.",
    },
    "registrar(1)": {"/registry": "What this master knows of the registry."},
}
