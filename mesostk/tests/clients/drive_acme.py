"""Makes the calls that marathon-acme makes, with its own client: `drive_acme.py URL COUNT`.

Lists the apps with their numbers of ports as marathon-acme counts them, then prints COUNT events of
the kinds it listens to; one JSON object a line.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from marathon_acme.clients import MarathonClient  # type: ignore[import-not-found] # see conftest
from marathon_acme.marathon_util import get_number_of_app_ports  # type: ignore[import-not-found]
from twisted.internet import defer, reactor  # type: ignore[import-not-found]


def say(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


class Listener:
    """Counts what it is told, and stops the program."""

    def __init__(self, left: int) -> None:
        self.left = left

    def told(self, event: dict[str, Any]) -> None:
        say(event=event["eventType"], keys=sorted(event))
        self.left -= 1
        if self.left == 0:
            reactor.stop()


def failed(failure: Any) -> None:
    say(error=failure.getErrorMessage())
    reactor.stop()


def main(url: str, count: int) -> None:
    client = MarathonClient([url])
    listener = Listener(count)

    def listed(apps: list[dict[str, Any]]) -> Any:
        say(ports={app["id"]: get_number_of_app_ports(app) for app in apps})
        say(listening=True)
        # As marathon_acme.service.MarathonAcme.listen_events does.
        kinds = ("event_stream_attached", "api_post_event", "event_stream_detached")
        return client.get_events(dict.fromkeys(kinds, listener.told))

    asked: defer.Deferred = client.get_apps()
    asked.addCallback(listed)
    asked.addErrback(failed)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
