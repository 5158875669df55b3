"""Who gets events by HTTP callback: URLs that clients named, and those of `--http_endpoints`.

Stored, so that a new leader goes on; only with `--event_subscriber http_callback`.
Source: spec/marathon §1.8 (`/v2/eventSubscriptions`, gone from the original since 1.5).
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from mesostk.marathon import repository
from mesostk.marathon.events import AddCallback, RemoveCallback, SetCallbacks
from mesostk.marathon.refusal import Refused
from mesostk.marathon.state import State, Turn
from mesostk.wire.marathon import Callbacks, Subscribed, Unsubscribed

#: Every event is sent to each; a client that subscribes anew at each start would add up.
MAX_URLS: Final = 100
MAX_URL_CHARS: Final = 1024


def why_invalid(url: str) -> str | None:
    """Why events cannot be sent to `url`, or None."""
    if len(url) > MAX_URL_CHARS:
        return f"a callback URL is longer than {MAX_URL_CHARS} characters"
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError as error:
        return f"'{url}' is no URL: {error}"
    if parts.scheme not in {"http", "https"} or not parts.hostname or not has_port:
        return f"'{url}' is no URL like http://host:port/path"
    return None


def refuse_disabled(state: State) -> None:
    """Raise `Refused` (400) unless callbacks were switched on."""
    if not state.settings.callbacks:
        raise Refused(
            400,
            "http event callback system is not running on this Marathon instance; "
            "start it with --event_subscriber http_callback",
        )


def all_urls(state: State) -> tuple[str, ...]:
    """Every URL once, those of the flag first."""
    return tuple(dict.fromkeys((*state.settings.http_endpoints, *state.callback_urls)))


def begin(state: State, turn: Turn, urls: tuple[str, ...]) -> None:
    """A new leader sends to `urls`, which were stored."""
    state.callback_urls = urls
    if state.settings.callbacks:
        turn.perform(SetCallbacks(all_urls(state)))


def add(state: State, turn: Turn, command: AddCallback) -> None:
    """Subscribe a URL; the answer is the event that tells of it."""
    refuse_disabled(state)
    why = why_invalid(command.url)
    if why is not None:
        raise Refused(422, why)
    if len(state.callback_urls) >= MAX_URLS and command.url not in state.callback_urls:
        raise Refused(422, f"There are {MAX_URLS} callback URLs; remove one first")
    _set(state, turn, tuple(dict.fromkeys((*state.callback_urls, command.url))))
    event = Subscribed(
        timestamp=turn.at, client_ip=command.caller.client_ip, callback_url=command.url
    )
    turn.emit(event)
    turn.reply(command.request, 200, event)


def remove(state: State, turn: Turn, command: RemoveCallback) -> None:
    """Unsubscribe a URL, whether or not it was subscribed."""
    refuse_disabled(state)
    event = Unsubscribed(
        timestamp=turn.at, client_ip=command.caller.client_ip, callback_url=command.url
    )
    turn.emit(event)
    _set(state, turn, tuple(url for url in state.callback_urls if url != command.url))
    turn.reply(command.request, 200, event)


def _set(state: State, turn: Turn, urls: tuple[str, ...]) -> None:
    if urls == state.callback_urls:
        return
    state.callback_urls = urls
    turn.put(repository.CALLBACKS, repository.write(Callbacks(callback_urls=urls)))
    turn.perform(SetCallbacks(all_urls(state)))
