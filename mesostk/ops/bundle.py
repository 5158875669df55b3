"""All that an installation takes from elsewhere in one file, for hosts without a way out.

::

    create, where there is a network                       open_bundle, at the control node
      apt-get --download-only ─▶ debs.tar ┐                 sums right? ─▶ directory ─▶ site.yml
      wheelhouse.build ─▶ wheels/….tar    ├▶ FILE           common_bundle, mesostk_wheelhouse,
      docker save ─▶ images/….tar         ┘                 docker_images
    lock.json: what for, and a sha256 sum of each file and of each package

What is needed is asked of the resolver of packages itself, told that nothing is installed: no
list to forget something in. So a bundle is for the Debian release and the machine that it was made
on.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from mesostk.errors import ConfigError, MesostkError, WireError
from mesostk.ops import wheelhouse
from mesostk.ops.artefacts import debian_packages
from mesostk.ops.progress import Progress

FORMAT: Final = 1
LOCK: Final = "lock.json"

_CHUNK: Final = 1 << 20


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle is for and holds; sums are sha256.

    `files` are the parts of the bundle, `debs` the packages within `debs.tar`.
    """

    format: int
    release: str
    debian: str
    machine: str
    python: str
    files: dict[str, str]
    debs: dict[str, str]
    images: tuple[str, ...] = ()


# -- making -------------------------------------------------------------------------------------


def create(target: Path, wheels: Path, images: Sequence[str], progress: Progress) -> Lock:
    """Make a bundle for hosts of this machine's Debian release. Needs a network.

    `wheels` is the control node's wheelhouse, `images` are names in its Docker engine. Raises
    ConfigError where this cannot be, MesostkError with the words of the program that failed.
    """
    debian, machine = _debian(), platform.machine()
    with tempfile.TemporaryDirectory(prefix="mesostk-bundle-", dir=_room(target)) as scratch:
        parts = Path(scratch) / "parts"
        (parts / "wheels").mkdir(parents=True)
        progress.step("Fetching Debian packages with all that they need")
        debs = _fetch(debian_packages(debian), Path(scratch) / "apt")
        sums = {deb.name: _sum(deb) for deb in debs}
        _pack_debs(parts / "debs.tar", debs, sums)
        progress.step("Fetching wheels")
        python = _python_of(debs)
        release, own, archive = wheelhouse.prepared(wheels, python, machine)
        shutil.copy(archive, parts / "wheels" / archive.name)
        (parts / "wheels" / release).mkdir()
        shutil.copy(own, parts / "wheels" / release / own.name)
        for image in images:
            progress.step(f"Saving image {image}")
            _save(image, parts / "images")
        progress.step("Packing")
        files = {
            path.relative_to(parts).as_posix(): _sum(path)
            for path in sorted(parts.rglob("*"))
            if path.is_file()
        }
        lock = Lock(
            format=FORMAT,
            release=release,
            debian=debian,
            machine=machine,
            python=python,
            files=files,
            debs=sums,
            images=tuple(images),
        )
        _pack(target, parts, lock)
    return lock


def _room(target: Path) -> Path:
    """Beside the target: what is fetched is of its size, and /tmp may be small."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.absolute().parent


def _debian() -> str:
    found = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    name = found.get("VERSION_CODENAME", "")
    if shutil.which("apt-get") is None or not name:
        raise ConfigError(
            "a bundle is made on a machine of the hosts' own Debian or Ubuntu release: there is no"
            " apt-get here"
        )
    return name


def _fetch(packages: Mapping[str, Sequence[str]], into: Path) -> list[Path]:
    """Download packages as if nothing were installed."""
    archives = into / "archives"
    (archives / "partial").mkdir(parents=True)
    nothing = into / "status"
    nothing.touch()
    names = sorted({name for some in packages.values() for name in some})
    _run(
        [
            "apt-get", "-q", "-y", "--no-install-recommends", "--download-only",
            "-o", f"Dir::State::status={nothing}", "-o", f"Dir::Cache={into}",
            "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root",
            "install", *names,
        ],
        remedy="run apt-get update first, or look at this machine's /etc/apt/sources.list",
    )  # fmt: skip
    return sorted(archives.glob("*.deb"))


def _python_of(debs: Iterable[Path]) -> str:
    """Version of the python3 that hosts will have, e.g. "3.11"."""
    for deb in debs:
        if found := re.match(r"python3_(\d+\.\d+)\.", deb.name):
            return found[1]
    raise MesostkError("apt found no package python3")


def index_of(debs: Iterable[Path], sums: Mapping[str, str]) -> str:
    """The file Packages of an apt repository that has the packages beside it."""
    entries = []
    for deb in debs:
        fields = _run(["dpkg-deb", "--field", str(deb)]).rstrip("\n")
        entries.append(
            f"{fields}\nFilename: ./{deb.name}\nSize: {deb.stat().st_size}\n"
            f"SHA256: {sums[deb.name]}\n"
        )
    return "\n".join(entries)


def _pack_debs(target: Path, debs: Sequence[Path], sums: Mapping[str, str]) -> None:
    index = target.with_name("Packages")
    index.write_text(index_of(debs, sums))
    with tarfile.open(target, "w") as archive:
        for path in [*debs, index]:  # the index last: where it was unpacked, all were
            archive.add(path, path.name, filter=_plain)
    index.unlink()


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = 0o644
    return member


def _save(image: str, into: Path) -> None:
    if not re.fullmatch(r"[a-z0-9][\w.:/@-]*", image):
        raise ConfigError(f"--image {image!r} is no name of an image")
    into.mkdir(exist_ok=True)
    file = into / (re.sub(r"[^\w.-]", "_", image) + ".tar")
    _run(["docker", "save", "-o", str(file), image], remedy=f"docker pull {image} first")


def _pack(target: Path, parts: Path, lock: Lock) -> None:
    document = parts / LOCK
    document.write_bytes(msgspec.json.format(msgspec.json.encode(lock), indent=2) + b"\n")
    partial = target.with_name(target.name + ".new")
    with tarfile.open(partial, "w") as archive:
        for name in (LOCK, *lock.files):
            archive.add(parts / name, name, filter=_plain)
    partial.replace(target)


def _run(command: Sequence[str], remedy: str = "") -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
        )
    except FileNotFoundError:
        raise ConfigError(f"there is no {command[0]} on this machine") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise MesostkError(
            f"{command[0]} failed: {said}" + (f"\nremedy: {remedy}" if remedy else "")
        )
    return done.stdout


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# -- using --------------------------------------------------------------------------------------


def open_bundle(source: Path, into: Path) -> tuple[Path, Lock]:
    """Unpack a bundle below `into`, once; returns its directory and its lock.

    Raises ConfigError if it cannot be read, WireError if it is no bundle or not as it was made.
    Nothing is written outside the directory.
    """
    try:
        with tarfile.open(source, "r:") as archive:
            member = archive.next()
            file = archive.extractfile(member) if member and member.name == LOCK else None
            lock = _lock(source, b"" if file is None else file.read())
            digest = hashlib.sha256(msgspec.json.encode(lock)).hexdigest()[:12]
            directory = into / digest
            if not (directory / LOCK).exists():
                _unpack(source, archive, lock, directory)
    except OSError as error:
        if error.errno is not None:
            raise ConfigError(f"cannot read {source}: {error.strerror}") from error
        raise WireError(f"{source} is no bundle: {error}") from error
    except tarfile.TarError as error:
        raise WireError(f"{source} is no bundle, or was cut: {error}") from error
    return directory, lock


def _lock(source: Path, data: bytes) -> Lock:
    try:
        lock = msgspec.json.decode(data, type=Lock)
    except msgspec.MsgspecError as error:
        raise WireError(f"{source} is no bundle: {LOCK}: {error}") from error
    if lock.format != FORMAT:
        raise WireError(f"{source} has format {lock.format}; this version reads {FORMAT}")
    for name in lock.files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise WireError(f"{source}: {name!r} is no name of a part of a bundle")
    return lock


def _unpack(source: Path, archive: tarfile.TarFile, lock: Lock, directory: Path) -> None:
    """Write the parts whose sums are right; the lock comes last and says that all are there."""
    missing = dict(lock.files)
    for member in archive:
        if member.name == LOCK:
            continue
        wanted = missing.pop(member.name, None)
        file = archive.extractfile(member) if member.isreg() else None
        if wanted is None or file is None:
            raise WireError(f"{source}: {member.name} is not in its lock")
        path = directory / member.name
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with path.open("wb") as out:
            while piece := file.read(_CHUNK):
                digest.update(piece)
                out.write(piece)
        if digest.hexdigest() != wanted:
            raise WireError(f"{source}: {member.name} is not what was packed: its sum differs")
    if missing:
        raise WireError(f"{source} was cut: {', '.join(sorted(missing))} missing")
    partial = directory / f"{LOCK}.new"
    partial.write_bytes(msgspec.json.encode(lock))
    partial.replace(directory / LOCK)


def variables(directory: Path, lock: Lock) -> dict[str, object]:
    """What the playbooks are told so that they take everything from the bundle."""
    return {
        "common_bundle": str(directory / "debs.tar"),
        "mesostk_wheelhouse": str(directory / "wheels"),
        "mesostk_version": lock.release,
        "docker_images": [str(path) for path in sorted((directory / "images").glob("*.tar"))],
    }
