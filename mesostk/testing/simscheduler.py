"""The scheduler API in a simulated world: what `framework.driver` does over HTTP."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

from mesostk.framework import core as framework
from mesostk.testing import simstore
from mesostk.testing.simhost import Process
from mesostk.testing.simmaster import ELECTION
from mesostk.testing.simnet import Network, Stream
from mesostk.testing.simzk import Zk
from mesostk.wire import scheduler
from mesostk.wire.mesos import FrameworkID, FrameworkInfo, MasterInfo


class SchedulerClient:
    """One life's subscription, by the real `SchedulerCore`; the `on_…` are set before use."""

    def __init__(self, process: Process, net: Network, rng: random.Random) -> None:
        self._process = process
        self._net = net
        self._stream: Stream | None = None
        self._calls: deque[framework.Post] = deque()
        self._is_posting = False
        self.on_connected: Callable[[FrameworkID, MasterInfo | None], None] = lambda _id, _m: None
        self.on_disconnected: Callable[[str], None] = lambda _reason: None
        self.on_event: Callable[[scheduler.Event], None] = lambda _event: None
        self.on_info_answered: Callable[[str | None], None] = lambda _refusal: None
        self._driver = process.drive(
            framework.SchedulerCore(rng),
            {
                framework.OpenStream: ("", self._open_stream),
                framework.CloseStream: ("", self._close_stream),
                framework.Post: ("", self._queue_post),
                framework.Deliver: ("", lambda e: self.on_event(e.event)),
                framework.Connected: ("", lambda e: self.on_connected(e.framework_id, e.master)),
                framework.Disconnected: ("", lambda e: self.on_disconnected(e.reason)),
                framework.InfoAnswered: ("", lambda e: self.on_info_answered(e.refusal)),
            },
            has_clock=False,
        )

    def subscribe(self, info: FrameworkInfo) -> None:
        """Connect as `info`, and stay connected."""
        self._driver.feed(framework.SubscribeAsked(info))

    def set_info(self, info: FrameworkInfo) -> None:
        """Connect as `info` from the next time on."""
        self._driver.feed(framework.InfoChanged(info))

    def send(self, call: scheduler.Call) -> None:
        """Make a call; dropped while not connected."""
        self._driver.feed(framework.CallMade(call))

    def follow_leader(self, zk: Zk) -> None:
        """Have a detector tell who leads the masters."""
        simstore.detect(self._process, zk, ELECTION, self._detected)

    def _detected(self, data: bytes | None) -> None:
        address = None if data is None else framework.leader_address(data)
        self._driver.feed(framework.LeaderKnown(address))

    # -- stream and calls -----------------------------------------------------------------------

    def _open_stream(self, effect: framework.OpenStream) -> None:
        feed, attempt = self._driver.feed, effect.attempt
        stream = self._net.open(self._process, effect.address, "scheduler", effect.call)
        assert stream is not None
        self._stream = stream
        stream.on_begin = lambda stream_id: feed(framework.StreamOpened(attempt, stream_id))
        stream.on_refused = lambda status, text: feed(
            framework.StreamRefused(attempt, status, text, f"//{text}" if status == 307 else None)
        )
        stream.on_client_end = lambda reason: feed(framework.StreamEnded(attempt, reason))
        stream.on_record = lambda record: feed(framework.Received(attempt, record))

    def _close_stream(self, _effect: framework.CloseStream) -> None:
        self._calls.clear()
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _queue_post(self, effect: framework.Post) -> None:
        self._calls.append(effect)
        self._post()

    def _post(self) -> None:
        if self._is_posting or not self._calls:
            return
        self._is_posting = True
        post = self._calls.popleft()

        def answered(status: int, text: str) -> None:
            self._is_posting = False
            type_ = str(post.call.type)
            if status in (200, 202):
                self._driver.feed(framework.CallDone(post.attempt, type_))
            else:
                self._driver.feed(framework.CallRefused(post.attempt, type_, status, text))
            self._post()

        self._net.post(
            self._process, post.address, "scheduler", post.call, post.stream_id, answered
        )
