"""A Marathon that is scripted, load balancers for real, and the servers behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp

from mesostk.lb import runtime
from mesostk.testing.addresses import free_block
from mesostk.testing.balanced import PATIENCE_S, Backend, Balancer, ScriptedMarathon, until
from mesostk.testing.lb import app, task

IP = "127.0.0.61"
CHECK = {"protocol": "TCP", "portIndex": 0, "intervalSeconds": 1}


class Site:
    """One Marathon, one load balancer, and the servers behind it."""

    def __init__(self, directory: Path) -> None:
        self.marathon = ScriptedMarathon(IP)
        self.directory = directory
        self.balancer: Balancer
        self.others: list[Balancer] = []
        self.backends: dict[str, list[Backend]] = {}
        self.labels: dict[str, dict[str, str]] = {}

    async def start(self) -> None:
        """Start Marathon and HAProxy; `balancer.start` starts marathon-lb."""
        await self.marathon.start()
        self.balancer = Balancer(self.directory, IP, [self.marathon.url], free_block(IP))
        self.balancer.make_certificate()
        self.balancer.start_haproxy()

    async def grow(self, app_id: str, count: int = 1) -> list[Backend]:
        """Start instances of an app, and have Marathon know them."""
        fresh = [Backend(IP, app_id) for _ in range(count)]
        for one in fresh:
            await one.start()
        self.backends.setdefault(app_id, []).extend(fresh)
        self.publish(app_id)
        return fresh

    def add_balancer(self, directory: Path, ip: str) -> Balancer:
        """A further load balancer with the same ports on another address; its HAProxy runs."""
        other = Balancer(directory, ip, self.balancer.marathons, self.balancer.port)
        other.make_certificate()
        other.start_haproxy()
        self.others.append(other)
        return other

    def publish(self, app_id: str, killing: tuple[Backend, ...] = ()) -> None:
        """Have Marathon know the app as it is, with `killing` about to end."""
        tasks = [
            task(one.port, one.port, IP, state="TASK_KILLING" if one in killing else "TASK_RUNNING")
            for one in self.backends[app_id]
        ]
        number = list(self.backends).index(app_id)
        self.marathon.apps[app_id] = app(
            app_id,
            {
                "HAPROXY_0_VHOST": app_id[1:] + ".example",
                "HAPROXY_0_BIND_ADDR": IP,
                **self.labels.get(app_id, {}),
            },
            ports=[self.balancer.port + 100 + number],
            tasks=tasks,
            instances=len(tasks),
            healthChecks=[CHECK],
        )

    async def kill(self, app_id: str, victim: Backend) -> None:
        """As Marathon does: Killing is told, the balancers react, then it dies at once."""
        await self.marathon.emit(
            "instance_changed_event", instanceId=f"t.{victim.port}", condition="Killing"
        )
        name = f"127_0_0_61_{victim.port}"

        async def gone() -> bool:
            names = [
                one[1] for each in (self.balancer, *self.others) for one in await each.running()
            ]
            # Requests under way have the rest of drainSeconds to end.
            return name not in names and not await self._is_busy(name)

        await until(gone, "server drained")
        victim.die()
        self.backends[app_id].remove(victim)
        self.publish(app_id)
        await self.marathon.emit(taskStatus="TASK_KILLED", taskId=f"t.{victim.port}")

    async def _is_busy(self, name: str) -> bool:
        """Whether some balancer still has connections to the server."""
        for each in (self.balancer, *self.others):
            rows = runtime.statistics(await runtime.ask(each.stats_socket, "show stat", PATIENCE_S))
            if any(row["svname"] == name and row["scur"] != "0" for row in rows):
                return True
        return False

    async def settled(self) -> None:
        """Return once every balancer serves exactly the instances that there are."""
        wanted = {f"{one.ip}:{one.port}" for some in self.backends.values() for one in some}
        for each in (self.balancer, *self.others):
            await each.serves(len(wanted), wanted)

    async def get(self, url: str, **options: Any) -> tuple[int, str]:
        """Status and text of an answer."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, allow_redirects=False, **options) as answer,
        ):
            return answer.status, await answer.text()

    async def stop(self) -> None:
        """End everything."""
        for each in (self.balancer, *self.others):
            each.close()
        await self.marathon.stop()
        for some in self.backends.values():
            for one in some:
                one.die()
