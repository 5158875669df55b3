"""Fill the lab's image registry with stand-ins for the images that the tutorial names.

Runs once, as root in the root file system being built: no network, no engine, no mesostk. Layers
are files of this very system (busybox, Debian's Python), pushed to Debian's `docker-registry` as
an engine would push them, so that a task pulls them like any other image.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import time
from http.client import HTTPConnection
from pathlib import Path

REGISTRY = ("127.0.0.1", 5000)
CONFIGURATION = "/etc/docker/registry/config.yml"
#: Seconds; it answers within a tenth of one.
START_LIMIT_S = 20.0

#: What `python3 -m http.server` needs, and what a script of the standard library may ask for, as
#: patterns: releases of Debian name some libraries differently.
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
PYTHON_PACKAGES = (
    *("python3-minimal", f"{PYTHON}-minimal", f"lib{PYTHON}-minimal", f"lib{PYTHON}-stdlib"),
    *("libc6", "zlib1g", "libexpat1", "libssl3*", "libffi8", "libbz2-1.0", "liblzma5"),
    *("libsqlite3-0", "libuuid1", "libzstd1", "media-types"),
)
PATH_VARIABLE = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ACCOUNTS = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"

HELLO = """
Hello from Docker!
This host's engine pulled an image from the lab's registry and ran a container of it.
"""
PAGE = """<!DOCTYPE html>
<title>Welcome to nginx!</title>
<h1>Welcome to nginx!</h1>
<p>The lab's stand-in for nginx:1.7.7, served by busybox.</p>
"""
# As process 1 of a container, httpd alone would ignore SIGTERM.
SERVE = """#!/bin/sh
httpd -f -v -p 80 -h /usr/share/nginx/html &
trap 'kill $!; exit 0' TERM QUIT INT
wait $!
"""


def output(*command: str) -> str:
    """What `command` prints; raises if it fails."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def layer(files: dict[str, bytes], links: dict[str, str], copies: list[Path]) -> bytes:
    """A tar archive: contents by name, symbolic links by name, and files of this system."""
    packed = io.BytesIO()
    names = [*files, *links, *(str(path).lstrip("/") for path in copies), "tmp/x", "root/x"]
    folders = {str(folder) for name in names for folder in Path(name).parents} - {"."}
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for folder in sorted(folders):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            archive.addfile(entry)
        for source in copies:
            archive.add(source, str(source).lstrip("/"), recursive=False)
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
        for name, target in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return packed.getvalue()


def busybox_layer() -> bytes:
    """A shell and the usual small programs."""
    busybox = Path("/bin/busybox")
    listed = output(str(busybox), "--list")
    links = {f"bin/{name}": "busybox" for name in listed.split() if name != "busybox"}
    return layer({"etc/passwd": ACCOUNTS.encode()}, links, [busybox])


def python_layer() -> bytes:
    """Debian's Python with the standard library and the C libraries it is linked to."""
    # a pattern also finds names that other packages only mention
    shown = output(
        "dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\\n", *PYTHON_PACKAGES
    )
    packages = [line.split()[1] for line in shown.splitlines() if line.startswith("installed ")]
    listed = output("dpkg", "--listfiles", *packages)
    wanted = [
        Path(line)
        for line in dict.fromkeys(listed.splitlines())
        if line.startswith("/") and not line.startswith(("/usr/share/doc", "/usr/share/man"))
    ]
    # true for links to files, too, but not for /lib and its like, which are links to folders here
    present = [path for path in wanted if path.is_file()]
    return layer({}, {"usr/bin/python": "python3"}, present)


class Registry:
    """The registry on loopback, for as long as images are put into it."""

    def __init__(self) -> None:
        command = ["docker-registry", "serve", CONFIGURATION]
        self._process = subprocess.Popen(command, stdout=sys.stderr)
        deadline = time.monotonic() + START_LIMIT_S
        while True:
            try:
                self._send("GET", "/v2/", b"", "text/plain")
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def end(self) -> None:
        """End it; what was pushed is in its storage."""
        self._process.terminate()
        self._process.wait(START_LIMIT_S)

    def _send(self, method: str, address: str, body: bytes, kind: str) -> str:
        """Send `body`; where the registry says that it is. Raises RuntimeError if refused."""
        connection = HTTPConnection(*REGISTRY, timeout=60)
        try:
            connection.request(method, address, body, {"Content-Type": kind})
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {address}: {answer.status} {said.decode()}")
        return answer.headers.get("Location", "")

    def _blob(self, repository: str, body: bytes, media_type: str) -> dict[str, object]:
        digest = "sha256:" + hashlib.sha256(body).hexdigest()
        kind = "application/octet-stream"
        place = self._send("POST", f"/v2/{repository}/blobs/uploads/", b"", kind)
        self._send("PUT", f"{place}&digest={digest}", body, kind)
        return {"mediaType": media_type, "size": len(body), "digest": digest}

    def push(self, image: str, layers: list[bytes], settings: dict[str, object]) -> None:
        """Put in `image` (repository:tag) with these layers and what containers start with."""
        repository, tag = image.split(":")
        docker = "application/vnd.docker"
        config = {
            "architecture": output("dpkg", "--print-architecture").strip(),
            "os": "linux",
            "config": {"Env": [PATH_VARIABLE], **settings},
            "rootfs": {
                "type": "layers",
                "diff_ids": ["sha256:" + hashlib.sha256(one).hexdigest() for one in layers],
            },
            "history": [{"created_by": "lab/images.py"} for _ in layers],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{docker}.distribution.manifest.v2+json",
            "config": self._blob(
                repository, json.dumps(config).encode(), f"{docker}.container.image.v1+json"
            ),
            "layers": [
                self._blob(
                    repository,
                    gzip.compress(one, compresslevel=4, mtime=0),
                    f"{docker}.image.rootfs.diff.tar.gzip",
                )
                for one in layers
            ],
        }
        address = f"/v2/{repository}/manifests/{tag}"
        self._send("PUT", address, json.dumps(manifest).encode(), str(manifest["mediaType"]))


def main() -> None:
    """Make the images and push them."""
    shell, python = busybox_layer(), python_layer()
    hello = layer({"etc/hello": HELLO.encode()}, {}, [])
    html = "usr/share/nginx/html/index.html"
    web = layer({html: PAGE.encode(), "usr/local/bin/nginx": SERVE.encode()}, {}, [])
    registry = Registry()
    try:
        registry.push("library/hello-world:latest", [shell, hello], {"Cmd": ["cat", "/etc/hello"]})
        registry.push("libmesos/ubuntu:latest", [shell], {"Cmd": ["/bin/sh"]})
        registry.push("library/python:3", [shell, python], {"Cmd": ["python3"]})
        registry.push(
            "library/nginx:1.7.7",
            [shell, web],
            {"Cmd": ["nginx"], "ExposedPorts": {"80/tcp": {}}},
        )
    finally:
        registry.end()


if __name__ == "__main__":
    main()
