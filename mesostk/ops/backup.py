"""A backup as one file: stores, configurations and inventory, with a sum for each.

::

    backup.yml ─▶ directory ─▶ pack ─▶ prod-20261122-180500.tar.gz (mode 0600: it holds secrets)
                                         ├── manifest.json        what is in it, and sha256 sums
                                         ├── stores/mesos.jsonl   see dump.py
                                         ├── hosts/NAME.tar.gz    configuration of a host
                                         └── inventory/…          what made them
    unpack ─▶ sums right? ─▶ directory ─▶ check_stores ─▶ restore.yml
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from mesostk.errors import ConfigError, WireError
from mesostk.marathon.wholeness import app_ids
from mesostk.master import registry
from mesostk.ops import dump

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"

#: Stores a backup must have; a cluster without Marathon has only the first.
REQUIRED: Final = "mesos"


class StoreInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One store of a backup: where it was, whose, how many records."""

    root: str
    cluster_id: str
    counter: int
    records: int
    taken_at: float


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds. `missing` are hosts that did not answer; `files` are sha256 sums."""

    format: int
    cluster: str
    version: str
    taken_at: float
    stores: dict[str, StoreInfo]
    hosts: list[str]
    missing: list[str]
    files: dict[str, str]


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What a restored cluster must show: apps that Marathon lists, agents that masters know."""

    apps: frozenset[str]
    agents: frozenset[str]


def pack(
    directory: Path,
    target: Path,
    *,
    cluster: str,
    version: str,
    taken_at: float,
    hosts: Sequence[str],
) -> Manifest:
    """Make one file of what backup.yml brought, whole or not at all.

    `hosts` are those of the inventory. Raises WireError if a store is missing or not whole.
    """
    contents = dict(_files(directory))
    stores = {
        Path(name).stem: _info(dump.decode(io.BytesIO(data), name))
        for name, data in contents.items()
        if name.startswith("stores/")
    }
    if REQUIRED not in stores:
        raise WireError(f"no host could dump the masters' registry: there is no {REQUIRED}.jsonl")
    present = [name for name in hosts if f"hosts/{name}.tar.gz" in contents]
    manifest = Manifest(
        format=FORMAT,
        cluster=cluster,
        version=version,
        taken_at=taken_at,
        stores=stores,
        hosts=present,
        missing=[name for name in hosts if name not in present],
        files={name: hashlib.sha256(data).hexdigest() for name, data in contents.items()},
    )
    document = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".new")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        with tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, data in {MANIFEST: document, **contents}.items():
                archive.addfile(_member(name, len(data), taken_at), io.BytesIO(data))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(target)
    return manifest


def add_inventory(directory: Path, inventory: Path) -> None:
    """Put the inventory, a file with its variables or a directory, beside what was taken."""
    parts = [inventory]
    if inventory.is_file():
        parts += [inventory.parent / name for name in ("group_vars", "host_vars")]
    top = inventory if inventory.is_dir() else inventory.parent
    for part in parts:
        for path in [part] if part.is_file() else sorted(part.rglob("*")):
            if path.is_file() and not path.is_symlink():
                kept = directory / "inventory" / path.relative_to(top)
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_bytes(path.read_bytes())


def _files(directory: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path.relative_to(directory).as_posix(), path.read_bytes()


def _member(name: str, size: int, changed_at: float) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = size, int(changed_at), 0o600
    return member


def _info(taken: dump.Dump) -> StoreInfo:
    return StoreInfo(
        root=taken.root,
        cluster_id=taken.epoch.cluster_id,
        counter=taken.epoch.counter,
        records=len(taken.records),
        taken_at=taken.taken_at,
    )


def unpack(source: Path, directory: Path) -> Manifest:
    """Write the files of a backup below `directory`, which is made with mode 0700.

    Raises ConfigError if there is no such file, WireError, naming the part, for one that is no
    backup, was cut or was changed. Nothing is written outside `directory`.
    """
    try:
        with tarfile.open(source, mode="r:gz") as archive:
            contents = {
                member.name: file.read()
                for member in archive
                if member.isreg() and (file := archive.extractfile(member)) is not None
            }
    except OSError as error:
        if error.errno is not None:
            raise ConfigError(f"cannot read {source}: {error.strerror}") from error
        raise WireError(f"{source} is no backup: {error}") from error
    except (tarfile.TarError, EOFError) as error:
        raise WireError(f"{source} is no backup, or was cut: {error}") from error
    manifest = _manifest(source, contents.pop(MANIFEST, b""))
    for name in sorted(contents.keys() | manifest.files.keys()):
        if name not in contents:
            raise WireError(f"{source}: {name} is missing")
        if manifest.files.get(name) != hashlib.sha256(contents[name]).hexdigest():
            raise WireError(f"{source}: {name} is not what was packed: its sum differs")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, data in contents.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise WireError(f"{source}: {name!r} is no name of a part of a backup")
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(data)
    return manifest


def _manifest(source: Path, data: bytes) -> Manifest:
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise WireError(f"{source} is no backup: {MANIFEST}: {error}") from error
    if manifest.format != FORMAT:
        raise WireError(f"{source} has format {manifest.format}; this version reads {FORMAT}")
    return manifest


def check_stores(directory: Path) -> Contents:
    """Read every record of an unpacked backup as the daemons would.

    Raises WireError naming the records that they could not use.
    """
    stores = {path.stem: _read(path) for path in sorted((directory / "stores").glob("*.jsonl"))}
    if REQUIRED not in stores:
        raise WireError(f"there is no store {REQUIRED}")
    known = registry.load(stores[REQUIRED].records)
    if known.unreadable:
        named = "; ".join(f"{path}: {why}" for path, why in known.unreadable[:5])
        raise WireError(f"the masters' registry is not whole: {named}")
    marathon = stores.get("marathon")
    apps = frozenset() if marathon is None else app_ids(marathon.records)
    return Contents(apps=apps, agents=frozenset(known.agents))


def _read(path: Path) -> dump.Dump:
    with path.open("rb") as file:
        return dump.decode(file, path.name)
