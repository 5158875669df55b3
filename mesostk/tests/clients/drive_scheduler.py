"""A scheduler on `avmesos` or `mesoshttp` (same classes): `drive_scheduler.py PACKAGE URL`.

Launches one task, asks about it, kills it and leaves. Prints one JSON object of what it saw.
"""

from __future__ import annotations

import importlib
import json
import sys
import threading
import time
from typing import Any

package, url = sys.argv[1:]
MesosClient = importlib.import_module(f"{package}.client").MesosClient
client = MesosClient([url], frameworkName=f"by {package}", frameworkUser="nobody", max_reconnect=1)
client.set_failover_timeout(30)
seen: dict[str, Any] = {
    "offers": 0,
    "states": [],
    "reasons": [],
    "declined": 0,
    "errors": [],
}
uuids: set[str] = set()
over = threading.Event()


def subscribed(driver: Any) -> None:
    seen["framework_id"] = driver.frameworkId
    seen["master"] = client.get_master_info()


def offered(offers: Any) -> None:
    seen["offers"] += len(offers)
    for offer in offers:
        raw = offer.get_offer()
        if "launched_on" in seen:
            offer.decline(options={"filters": {"refuse_seconds": 1.0}})
            seen["declined"] += 1
            continue
        seen["launched_on"] = raw["hostname"]
        seen["agent_id"] = raw["agent_id"]["value"]
        offer.accept(
            [
                {
                    "name": "sleeper",
                    "task_id": {"value": "sleeper"},
                    "agent_id": raw["agent_id"],
                    "resources": [
                        {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
                        {"name": "mem", "type": "SCALAR", "scalar": {"value": 32.0}},
                    ],
                    "command": {"value": "sleep 600"},
                }
            ],
            options={"filters": {"refuse_seconds": 0.5}},
        )


def updated(update: Any) -> None:
    status = update["status"]
    if status["task_id"]["value"] != "sleeper" or status.get("uuid") in uuids:
        return
    if "uuid" in status:  # it is told again where its acknowledgement comes late
        uuids.add(status["uuid"])
    seen["states"].append(status["state"])
    seen["reasons"].append(status.get("reason"))
    driver = client.get_driver()
    ids = {"task_id": {"value": "sleeper"}, "agent_id": {"value": seen["agent_id"]}}
    if status.get("reason") == "REASON_RECONCILIATION":
        driver.kill(seen["agent_id"], "sleeper")
    elif status["state"] == "TASK_RUNNING":
        if hasattr(driver, "suppress"):
            driver.suppress()
        driver.revive()
        driver.reconcile([ids])
    elif status["state"] == "TASK_KILLED":
        over.set()


client.on(MesosClient.SUBSCRIBED, subscribed)
client.on(MesosClient.OFFERS, offered)
client.on(MesosClient.UPDATE, updated)
client.on(MesosClient.ERROR, seen["errors"].append)
thread = threading.Thread(target=client.register, daemon=True)
thread.start()
until = time.monotonic() + 120
while not (over.wait(0.2) and seen["declined"]):
    if time.monotonic() > until:
        sys.exit(f"the task was not killed, or nothing else offered, in time: {json.dumps(seen)}")
    if "framework_id" in seen:
        # The client takes a record in when the next one comes: asked about nobody's task, the
        # master always has one more to say.
        client.get_driver().reconcile([{"task_id": {"value": "nobody"}}])
        over.wait(0.2)
client.get_driver().tearDown()
time.sleep(0.5)
print(json.dumps(seen))
