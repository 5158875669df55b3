"""Another release than the one that is tested: the same code under another version."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from mesostk.ops.paths import checkout

#: What a wheel is built from.
_SOURCES = (
    *("mesostk", "playbooks", "roles", "inventory", "lab", "examples", "requirements"),
    *("pyproject.toml", "ansible.cfg", "Vagrantfile", "README.md", "LICENSE"),
)


def built(version: str, scratch: Path, wheelhouse: Path) -> str:
    """Name of a release `version` that was built into `wheelhouse` from a copy of the checkout.

    The copy's own code names and builds it, as on the control node of somebody who has that
    version.
    """
    root = checkout()
    assert root is not None, "a release is built from a checkout"
    for name in _SOURCES:
        source = root / name
        if source.is_dir():
            skipped = shutil.ignore_patterns("__pycache__", "tests")
            shutil.copytree(source, scratch / name, ignore=skipped)
        else:
            shutil.copy(source, scratch / name)
    main = scratch / "mesostk" / "__init__.py"
    text, count = re.subn(r'__version__ = "[^"]+"', f'__version__ = "{version}"', main.read_text())
    assert count == 1
    main.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "mesostk.ops.wheelhouse", "release", "--directory", str(wheelhouse)],
        cwd=scratch,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    release = done.stdout.strip()
    assert release.startswith(f"{version}+"), release
    return release
