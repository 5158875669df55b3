"""Calls about resource providers and images, answered by an agent that has none of these.

As an original that was built without local resource providers and runs without
`--resource_provider_config_dir` and image stores: no type of provider is known, removing a
configuration misses the directory, and there is nothing to prune. Source: the original's
src/slave/http.cpp, src/slave/validation.cpp, src/resource_provider/{daemon,local,registrar}.cpp.
"""

from __future__ import annotations

from collections.abc import Callable

from mesostk.agent.state import State
from mesostk.errors import Rejected
from mesostk.wire import agent_operator as wire


def _add(_state: State, call: wire.Call) -> None:
    assert call.add_resource_provider_config is not None
    _refuse(call.add_resource_provider_config, "add_resource_provider_config")


def _update(_state: State, call: wire.Call) -> None:
    assert call.update_resource_provider_config is not None
    _refuse(call.update_resource_provider_config, "update_resource_provider_config")


def _refuse(config: wire.ResourceProviderConfig, field: str) -> None:
    info = config.info
    if info.id is not None:
        text = f"Expecting '{field}.info.id' to be unset"
        raise Rejected(400, f"Failed to validate agent::Call: {text}")
    raise Rejected(
        400,
        f"Failed to validate resource provider config with type '{info.type}' and name"
        f" '{info.name}': Unknown local resource provider type '{info.type}'",
    )


def _remove(_state: State, _call: wire.Call) -> None:
    raise Rejected(500, "Missing required flag --resource_provider_config_dir")


def _mark_gone(state: State, call: wire.Call) -> None:
    """A provider that is not there is gone."""
    assert call.mark_resource_provider_gone is not None
    if state.agent_id is None:
        name = call.mark_resource_provider_gone.resource_provider_id.value
        raise Rejected(
            500,
            f"Could not mark resource provider '{name}' as gone: Agent has not registered yet",
        )


def _prune(_state: State, _call: wire.Call) -> None:
    """Images are the Docker engine's, of which the original prunes none either."""


#: Each answers 200 and nothing, or raises Rejected.
CALLS: dict[str, Callable[[State, wire.Call], None]] = {
    "ADD_RESOURCE_PROVIDER_CONFIG": _add,
    "UPDATE_RESOURCE_PROVIDER_CONFIG": _update,
    "REMOVE_RESOURCE_PROVIDER_CONFIG": _remove,
    "MARK_RESOURCE_PROVIDER_GONE": _mark_gone,
    "PRUNE_IMAGES": _prune,
}
