"""The archives that a node is installed from, offline.

::

    checkout or installed wheel ─▶ release "0.1.0+1f2e3d4c" (version + hash of our own wheel)
    requirements/node.txt ──────▶ pip download, per (Python, machine), hashes required
                                   └▶ <directory>/<release>-py3.11-x86_64.tar
                                        node.txt  *.whl  mesostk-….whl  pip-….whl

The playbooks call it on the control node (`python -m mesostk.ops.wheelhouse release|build`); what
it prints on standard output is their answer. A release that was built stays, so that a roll-back
needs nothing but its archive.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import mesostk
from mesostk.errors import ConfigError, MesostkError
from mesostk.ops.artefacts import wheel_locks
from mesostk.ops.paths import checkout

#: Newest first. Debian 12 has glibc 2.36, Ubuntu 24.04 2.39: every tag up to 2.28 installs on both.
_GLIBC_TAGS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014", "manylinux_2_5", "manylinux1")

#: A wheel is a zip; a fixed time (1980, the first that zip knows) makes equal content equal bytes.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def release_name(wheel: Path) -> str:
    """`<version>+<8 hex digits>`: other code is another release.

    Playbooks and package metadata do not count, since nodes run neither: a changed role must not
    make every daemon restart.
    """
    digest = hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if name.startswith("mesostk/_ansible/") or ".dist-info/" in name:
                continue
            digest.update(name.encode() + b"\0" + hashlib.sha256(archive.read(name)).digest())
    return f"{mesostk.__version__}+{digest.hexdigest()[:8]}"


@contextmanager
def _lock(directory: Path) -> Iterator[None]:
    """One builder at a time; the kernel lets go of it when the process ends, however it ends."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: Sequence[str | Path], cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()[-3000:]
        raise MesostkError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{said}")


def _build_from(root: Path, into: Path) -> Path:
    if importlib.util.find_spec("hatchling") is None:
        raise ConfigError(
            "hatchling is missing, which builds the wheel of a checkout: run `make venv`"
        )
    _run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", into], cwd=root)
    return next(into.glob("mesostk-*.whl"))


def _repack(into: Path) -> Path:
    """The wheel that this installation came from, put together again from its RECORD."""
    distribution = importlib.metadata.distribution("mesostk")
    record = distribution.read_text("RECORD")
    if record is None:
        raise ConfigError("this installation of mesostk has no RECORD: install it from a wheel")
    wheel = into / f"mesostk-{distribution.version}-py3-none-any.whl"
    info = f"mesostk-{distribution.version}.dist-info/"
    # What pip adds at installation is not of the wheel.
    added = {info + name for name in ("INSTALLER", "REQUESTED", "direct_url.json", "RECORD")}
    rows: list[tuple[str, str, str]] = []
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, digest, size in sorted(csv.reader(record.splitlines())):
            if name.startswith("..") or name in added or name.endswith(".pyc"):
                continue
            data = Path(str(distribution.locate_file(name))).read_bytes()
            archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), data)
            rows.append((name, digest, size))
        rows.append((info + "RECORD", "", ""))
        text = "".join(",".join(row) + "\n" for row in rows)
        archive.writestr(zipfile.ZipInfo(info + "RECORD", _ZIP_TIME), text)
    return wheel


def own_wheel(directory: Path) -> tuple[str, Path]:
    """Release name and wheel of the code that runs now; built anew only where it is not there."""
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        root = checkout()
        fresh = _repack(Path(scratch)) if root is None else _build_from(root, Path(scratch))
        release = release_name(fresh)
        kept = directory / release / fresh.name
        if not kept.exists():
            kept.parent.mkdir(exist_ok=True)
            fresh.rename(kept)
    return release, kept


def find_release(directory: Path, version: str) -> str:
    """Newest built release of `version` (`0.1.0` or a full name); ConfigError if there is none."""
    known = sorted(
        (path for path in directory.glob("*+*") if path.is_dir()),
        key=lambda path: path.stat().st_mtime,
        reverse=True,
    )
    for path in known:
        if version in (path.name, path.name.partition("+")[0]):
            return path.name
    have = ", ".join(path.name for path in known) or "none"
    raise ConfigError(
        f"mesostk_version {version} has no wheelhouse in {directory} (there: {have}); "
        "build it from that version's checkout, or leave mesostk_version empty"
    )


def _abi(python: str) -> str:
    if not re.fullmatch(r"3\.(1[1-9]|[2-9]\d)", python):
        raise ConfigError(f"Python {python!r}: 3.11 or newer is needed, such as 3.11")
    return "cp" + python.replace(".", "")


def _download(locks: Sequence[Path], python: str, machine: str, wheels: Path) -> None:
    """All wheels that `locks` name, into `wheels`; an existing directory is complete."""
    if wheels.is_dir():
        return
    scratch = Path(tempfile.mkdtemp(dir=wheels.parent))
    platforms = [word for tag in _GLIBC_TAGS for word in ("--platform", f"{tag}_{machine}")]
    command: list[str | Path] = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
        *("--disable-pip-version-check", "--only-binary=:all:", "--require-hashes"),
        *("--implementation", "cp", "--python-version", python),
        *("--abi", _abi(python), "--abi", "abi3", "--abi", "none"),
        *platforms,
        *("--dest", str(scratch)),
        *(word for lock in locks for word in ("-r", str(lock))),
    ]
    try:
        _run(command)
        scratch.chmod(0o755)
        scratch.rename(wheels)
    except MesostkError as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise MesostkError(
            f"the wheels for Python {python} on {machine} cannot be fetched: {error}\n"
            "A control node without an index needs the archive of another one in its wheelhouse."
        ) from error


def build(directory: Path, release: str, python: str, machine: str) -> Path:
    """Archive of `release` for nodes with `python` ("3.11") on `machine` ("x86_64").

    Made once, atomically. Raises ConfigError if `release` is not the running code and was never
    built here, MesostkError if the wheels cannot be fetched.
    """
    _abi(python)
    archive = directory / f"{release}-py{python}-{machine}.tar"
    if archive.exists():
        return archive
    own = next(iter((directory / release).glob("mesostk-*.whl")), None)
    if own is None:
        raise ConfigError(f"release {release} has no wheel in {directory}; run `release` first")
    locks = wheel_locks()
    key = hashlib.sha256(b"".join(lock.read_bytes() for lock in locks)).hexdigest()[:8]
    wheels = directory / f"wheels-{key}-py{python}-{machine}"
    _download(locks, python, machine, wheels)
    partial = archive.with_suffix(f".{os.getpid()}.partial")
    with tarfile.open(partial, "w") as tar:
        tar.add(locks[0], "node.txt")
        tar.add(own, own.name)
        for wheel in sorted(wheels.iterdir()):
            tar.add(wheel, wheel.name)
    partial.rename(archive)
    return archive


def prepared(directory: Path, python: str, machine: str) -> tuple[str, Path, Path]:
    """Release name, wheel and archive of the code that runs now; for others than the playbooks."""
    with _lock(directory):
        release, own = own_wheel(directory)
        return release, own, build(directory, release, python, machine)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mesostk.ops.wheelhouse", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    name = commands.add_parser("release", help="print the name of the release to install")
    name.add_argument("--version", help="an older release instead of the running code")
    make = commands.add_parser("build", help="print the path of a release's archive")
    make.add_argument("--release", required=True)
    make.add_argument("--python", required=True, help="version on the node, such as 3.11")
    make.add_argument("--machine", required=True, help="such as x86_64")
    for command in (name, make):
        command.add_argument("--directory", type=Path, required=True)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; prints the answer, errors on standard error with exit code 1."""
    options = _parser().parse_args(argv)
    directory: Path = options.directory.expanduser().absolute()
    try:
        with _lock(directory):
            if options.command == "build":
                answer = build(directory, options.release, options.python, options.machine)
                print(answer)
            elif options.version:
                print(find_release(directory, options.version))
            else:
                print(own_wheel(directory)[0])
    except (MesostkError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
