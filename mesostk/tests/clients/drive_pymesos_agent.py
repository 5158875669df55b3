"""pymesos' operator driver for agents, call by call: `drive_pymesos_agent.py HOST:PORT`.

Prints one JSON object: the name of each call that answers something → its body.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pymesos import MesosOperatorAgentDriver

driver = MesosOperatorAgentDriver(sys.argv[1])
told: dict[str, Any] = {}
for name, arguments in {
    "getHealth": (),
    "getFlags": (),
    "getVersion": (),
    "getMetrics": (1_000_000_000,),
    "getLoggingLevel": (),
    "getState": (),
    "getFrameworks": (),
    "getExecutors": (),
    "getTasks": (),
    "getContainers": (True, True),
}.items():
    answer = getattr(driver, name)(*arguments)
    kind = answer["type"].lower()
    told[name] = answer.get(kind, {})
driver.setLoggingLevel(1, 1_000_000_000)
driver._send(
    {
        "type": "LAUNCH_CONTAINER",
        "launch_container": {
            "container_id": {"value": "house"},
            "command": {"value": "echo here; exec sleep 600"},
            "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}}],
        },
    },
    path="/api/v1",
)
driver.launchNestedContainer(
    {
        "container_id": {"value": "room", "parent": {"value": "house"}},
        "command": {"value": "exec sleep 600"},
    }
)
driver.killNestedContainer("room", "house")
driver.waitNestedContainer("room", "house")
driver.removeNestedContainer("room", "house")
driver.killNestedContainer("house")
driver.waitNestedContainer("house")
driver.removeNestedContainer("house")
print(json.dumps(told))
