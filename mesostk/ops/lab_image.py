"""The image of a lab host: built from Debian packages, named by the hash of its recipe.

No image registry is asked. `lab/build` makes a root file system with debootstrap, the engine
imports it; the hash of recipe and Debian release in the tag says when it must be made anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import docker
import docker.errors

from mesostk.errors import Unavailable
from mesostk.ops import paths
from mesostk.ops.engine import ensure_engine, install_packages, privileged, run_privileged, talking
from mesostk.ops.progress import Lines, Progress

REPOSITORY = "mesostk-lab"
#: Debian releases that hosts are made of, the usual one first.
RELEASES = ("bookworm", "trixie")
DEFAULT_SUITE = RELEASES[0]
#: Files of `lab/` that an image is made of.
RECIPE = ("build", "customize", "entrypoint", "images.py", "packages", "registry.yml")
_DEFAULT_MIRROR = "http://deb.debian.org/debian"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
#: Measured 80 s on 2 busy cores; the rest is for slow mirrors.
_BUILD_LIMIT_S = 900
_ENTRYPOINT = 'ENTRYPOINT ["/usr/local/sbin/lab-entrypoint"]'


def recipe_hash(recipe: Path, suite: str = DEFAULT_SUITE) -> str:
    """12 hex digits over every file of the recipe and the Debian release."""
    digest = hashlib.sha256(suite.encode())
    for name in RECIPE:
        content = (recipe / name).read_bytes()
        digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]


def image_name(suite: str) -> str:
    """Name and tag of the image that the present recipe makes of the Debian release."""
    return f"{REPOSITORY}:{recipe_hash(paths.data_root() / 'lab', suite)}"


def ensure_image(client: docker.DockerClient, suite: str, progress: Progress, state: Path) -> str:
    """The image's name; built first if the engine does not have it. Needs root or sudo for that.

    Labs that are made at the same time wait for one of them to build it. Raises ConfigError or
    Unavailable with the end of the build log, which stays in `state`.
    """
    name = image_name(suite)
    if not _has(client, name):
        with _builder():
            if not _has(client, name):
                _build(client, name, suite, progress, state)
    return name


def _has(client: docker.DockerClient, name: str) -> bool:
    try:
        client.images.get(name)
    except docker.errors.ImageNotFound:
        return False
    return True


@contextmanager
def _builder() -> Iterator[None]:
    """Be the only one that builds images of this recipe; ends with the process at the latest."""
    recipe = os.open(paths.data_root() / "lab", os.O_RDONLY)
    try:
        fcntl.flock(recipe, fcntl.LOCK_EX)
        yield
    finally:
        os.close(recipe)


def remove_images(client: docker.DockerClient) -> list[str]:
    """Remove every image that `ensure_image` made, of any recipe; return their names."""
    removed = []
    for image in client.images.list(name=REPOSITORY):
        for tag in image.tags:
            client.images.remove(tag, force=True)
            removed.append(tag)
    return removed


def _build(
    client: docker.DockerClient, name: str, suite: str, progress: Progress, state: Path
) -> None:
    missing = [
        package
        for package, program in {"debootstrap": "debootstrap", "util-linux": "unshare"}.items()
        if shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin") is None
    ]
    if missing:
        install_packages([*missing, "debian-archive-keyring"], progress)
    progress.step(f"Building the host image {name}, once for all labs")
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    # not on /tmp, which may be a small tmpfs: the root file system takes 1.5 GB for a minute
    work = Path(tempfile.mkdtemp(prefix="image-", dir=state))
    try:
        extras = work / "extras"
        for relative, content in machine_extras(suite).items():
            target = extras / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content)
        extras.mkdir(exist_ok=True)
        tarball = work / "root.tar"
        build = paths.data_root() / "lab" / "build"
        words = [suite, debian_mirror(suite), str(extras), str(work / "root"), str(tarball)]
        _run_recipe(["sh", str(build), *words], state / "image-build.log", progress)
        progress.detail("importing into the engine")
        client.api.import_image(
            src=str(tarball),
            repository=REPOSITORY,
            tag=name.split(":")[1],
            changes=["ENV container=docker", _ENTRYPOINT],
        )
        client.images.get(name)
    finally:
        run_privileged(["rm", "-rf", "--one-file-system", str(work)], "cleaning up", limit_s=120)


def _run_recipe(command: Sequence[str], log: Path, progress: Progress) -> None:
    deadline = time.monotonic() + _BUILD_LIMIT_S
    last: list[str] = []
    with (
        log.open("w") as out,
        subprocess.Popen(
            privileged(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"},
        ) as process,
    ):
        for line in process.stdout or ():
            out.write(line)
            last = [*last[-7:], line]
            if line.startswith("STEP "):
                progress.detail(line.removeprefix("STEP ").strip())
            if time.monotonic() > deadline:
                process.kill()
                raise Unavailable(
                    f"building the host image took over {_BUILD_LIMIT_S} s; see {log}"
                )
    if process.returncode != 0:
        raise Unavailable(
            f"building the host image failed; the end of {log}:\n{''.join(last)}"
            "Debian's archive must be reachable through this machine's apt settings"
        )


def _apt_targets() -> Iterator[tuple[str, str, str]]:
    """(URI, release, component) of every package index that this machine's apt knows."""
    if shutil.which("apt-get") is None:
        return
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    ).stdout
    for line in dict.fromkeys(listed.splitlines()):
        uri, release, component = line.split()
        yield uri, release, component


def debian_mirror(suite: str, targets: Iterable[tuple[str, str, str]] | None = None) -> str:
    """The mirror from which this machine gets Debian; Debian's own if it gets none.

    A mirror holds all releases, so the one for the machine's own release serves `suite` as well.
    """
    found: dict[str, str] = {}
    for uri, release, component in _apt_targets() if targets is None else targets:
        if release in RELEASES and component == "main":
            found.setdefault(release, uri.rstrip("/"))
    return found.get(suite, next(iter(found.values()), _DEFAULT_MIRROR))


def apt_sources(suite: str, targets: Iterable[tuple[str, str, str]]) -> str:
    """sources.list for `suite` from the mirrors that `targets` name for any Debian release."""
    debian = re.compile(rf"({'|'.join(RELEASES)})(-updates|-security)?")
    lines = []
    for uri, release, component in targets:
        known = debian.fullmatch(release)
        if known is not None and component == "main":
            wanted = suite + (known.group(2) or "")
            lines.append(f"deb [signed-by={_KEYRING}] {uri} {wanted} {component}\n")
    return "".join(dict.fromkeys(lines))


def machine_extras(suite: str) -> Mapping[str, str]:
    """Files, by path below the root, that let the host use the network as this machine does.

    apt sources of the release, apt's acquire settings (proxies among them), private certificates.
    """
    extras = {}
    if sources := apt_sources(suite, _apt_targets()):
        extras["etc/apt/sources.list"] = sources
    if shutil.which("apt-config") is not None:
        dump = subprocess.run(
            ["apt-config", "dump"], capture_output=True, text=True, timeout=30, check=False
        ).stdout
        extras["etc/apt/apt.conf.d/90lab"] = acquire_settings(dump)
    for certificate in sorted(Path("/usr/local/share/ca-certificates").rglob("*.crt")):
        extras[f"usr/local/share/ca-certificates/{certificate.name}"] = certificate.read_text()
    return extras


def acquire_settings(dump: str) -> str:
    """The lines of `apt-config dump` that say how to fetch: proxies, time limits, checks."""
    wanted = re.compile(
        r'Acquire::(http|https|ftp|Check-[A-Za-z-]+|Retries|Languages|ForceIPv4)(::.*)? ".+";'
    )
    return "".join(line + "\n" for line in dump.splitlines() if wanted.fullmatch(line))


if __name__ == "__main__":
    with talking():
        print(ensure_image(ensure_engine(Lines()), DEFAULT_SUITE, Lines(), paths.labs_dir()))
