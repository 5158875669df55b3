"""The lab's image registry: Debian's `docker-registry` in a container beside the hosts.

Its images are in the host image (`lab/images.py`), so that it is full as soon as it runs, needs no
network and costs one container start. The agents' engines ask it before Docker Hub.
"""

from __future__ import annotations

import time

import docker
import docker.errors
import requests
from docker.models.containers import Container
from docker.types import EndpointConfig

from mesostk.errors import ConfigError, Unavailable
from mesostk.ops.lab import LABEL, LabSpec

PORT = 5000
#: Between the bridge's own address and the first master.
_LAST_OCTET = 5
_IMAGE_LABEL = "mesostk.lab.image"
_API = "1.41"
#: For what hangs: it answers 50 ms after its start on an idle machine.
_START_LIMIT_S = 120.0
_COMMAND = ["docker-registry", "serve", "/etc/docker/registry/config.yml"]


def address(spec: LabSpec) -> str:
    """Its address on the lab's network."""
    return str(spec.network().network_address + _LAST_OCTET)


def url(spec: LabSpec) -> str:
    """Where engines reach it, as `registry-mirrors` of daemon.json wants it."""
    return f"http://{address(spec)}:{PORT}"


def ensure(client: docker.DockerClient, spec: LabSpec, image: str, network: str) -> str:
    """Make or start it; say what was done, nothing if nothing.

    Made anew when the host image changed: what was pushed by hand is then lost. Raises ConfigError
    if a stranger has its name.
    """
    name = f"{spec.name}-registry"
    try:
        container = client.containers.get(name)
    except docker.errors.NotFound:
        container = None
    if container is not None and container.labels.get(LABEL) != spec.name:
        raise ConfigError(
            f"a container named {name} exists that is not this lab's: "
            f"`docker rename {name} OTHER`, or use another --name for the lab"
        )
    if container is not None and _is_right(container, image, client.networks.get(network).id):
        if container.status == "running":
            return ""
        container.start()
        return "started"
    if container is not None:
        container.remove(force=True)
    _create(client, spec, image, network).start()
    return "made"


def _is_right(container: Container, image: str, network_id: str | None) -> bool:
    # None where the network was taken away from it: it then answers nobody.
    ends = container.attrs["NetworkSettings"]["Networks"].values()
    return (
        container.status in ("running", "exited")
        and container.labels.get(_IMAGE_LABEL) == image
        and bool(ends)
        and all(end["NetworkID"] in ("", network_id) for end in ends)
    )


def _create(client: docker.DockerClient, spec: LabSpec, image: str, network: str) -> Container:
    return client.containers.create(
        image,
        name=f"{spec.name}-registry",
        hostname="registry",
        entrypoint=_COMMAND,
        labels={LABEL: spec.name, _IMAGE_LABEL: image},
        network=network,
        networking_config={
            network: EndpointConfig(_API, aliases=["registry"], ipv4_address=address(spec))
        },
    )


def wait(spec: LabSpec) -> None:
    """Return when it answers. Raises Unavailable, with where to look, if it does not."""
    deadline = time.monotonic() + _START_LIMIT_S
    while True:
        try:
            requests.get(url(spec) + "/v2/", timeout=5).raise_for_status()
        except requests.RequestException as error:
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"the lab's registry does not answer: {error}; "
                    f"look at `docker logs {spec.name}-registry`"
                ) from error
            time.sleep(0.05)
        else:
            return
