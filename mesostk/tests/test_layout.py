"""The shape of the package: who may import whom, what a core may not touch, what each package says.

Source: docs/architecture.md, section on the package layout.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: A package imports only packages above it in this list, and no daemon another daemon.
ORDER = (
    "errors", "wire", "resources", "base", "framework", "master", "agent", "marathon", "chronos",
    "dns", "lb", "autoscale", "ops", "cli", "testing", "tests",
)  # fmt: skip
DAEMONS = {"master", "agent", "marathon", "chronos", "dns", "lb", "autoscale"}

#: What makes a module impure. `random` is allowed for its type: a core is given its generator.
IMPURE = {
    "asyncio", "threading", "time", "os", "socket", "subprocess", "select", "logging",
    "aiohttp", "kazoo", "docker", "uvloop", "requests", "psutil", "sqlite3", "tempfile", "shutil",
    "secrets", "concurrent", "multiprocessing",
}  # fmt: skip

#: Pure wherever they are: cores, their vocabulary and what they compute with. A module that a core
#: imports from its own package is pure too; this list only names where to begin.
PURE_NAMES = {
    "core", "events", "views", "validation", "allocator", "sorter", "registry", "plan", "rollout",
    "matcher", "constraints", "groups", "apps", "queue", "instances", "health", "ports", "taskinfo",
    "schedule", "graph", "jobs", "records", "labels", "model", "policy",
}  # fmt: skip
PURE_PACKAGES = {"wire", "resources", "errors"}

#: The longest that a module may be; tables of wire records, which have no behaviour, may be longer.
MAX_LINES = 500


def modules() -> list[Path]:
    return sorted(p for p in ROOT.rglob("*.py") if "_ansible" not in p.parts)


def shipped() -> list[Path]:
    return [p for p in modules() if "tests" not in p.relative_to(ROOT).parts]


def package_of(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def imports_of(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """(line, module, names) of every import in `path`, also those inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, []
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield node.lineno, node.module or "", [alias.name for alias in node.names]


def why_not_import(importer: str, imported: str) -> str | None:
    """Why package `importer` may not import `imported`, or None if it may."""
    if importer in (imported, "__main__") or imported in ("__init__", ""):
        return None
    if importer not in ORDER or imported not in ORDER:
        return f"{importer} or {imported} has no place in the order of packages"
    if importer in DAEMONS and imported in DAEMONS:
        return f"daemon {importer} imports daemon {imported}; they meet on the wire"
    if ORDER.index(imported) > ORDER.index(importer):
        return f"{importer} stands above {imported} and must not import it"
    return None


def project_imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, package of ours) of every import in `path`."""
    for line, module, names in imports_of(path):
        parts = module.split(".")
        if parts[0] != "mesostk":
            continue
        if len(parts) > 1:
            yield line, parts[1]
        else:
            for name in names:
                if name in ORDER:
                    yield line, name


def pure_modules() -> list[Path]:
    """The modules that must be pure, with all that they import from their own packages."""
    begin = [
        path
        for path in shipped()
        if package_of(path) in PURE_PACKAGES
        or (package_of(path) in DAEMONS and path.stem in PURE_NAMES)
        or path == ROOT / "base" / "core.py"
    ]
    found: dict[Path, None] = {}
    while begin:
        path = begin.pop()
        if path in found:
            continue
        found[path] = None
        for _, module, names in imports_of(path):
            if not module.startswith("mesostk."):
                continue
            own = ROOT.joinpath(*module.split(".")[1:])
            begin += [p for p in (own.with_suffix(".py"), own / "__init__.py") if p.exists()]
            begin += [p for n in names if (p := own / f"{n}.py").exists()]
    return sorted(found)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_packages_import_only_packages_above_them(path: Path) -> None:
    importer = package_of(path)
    if "tests" in path.relative_to(ROOT).parts:
        importer = "tests"
    for line, imported in project_imports(path):
        reason = why_not_import(importer, imported)
        assert reason is None, f"{path}:{line}: {reason}"


@pytest.mark.parametrize("path", pure_modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_cores_touch_no_clock_socket_disk_or_loop(path: Path) -> None:
    for line, module, names in imports_of(path):
        top = module.split(".")[0]
        assert top not in IMPURE, f"{path}:{line}: a pure module imports {module}"
        if top == "random":
            wrong = [name for name in names if name != "Random"]
            assert not wrong, f"{path}:{line}: unseeded randomness: {wrong}"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id == "random":
                assert node.func.attr == "Random", f"{path}:{node.lineno}: unseeded randomness"
            if isinstance(owner, ast.Name) and owner.id in ("datetime", "date"):
                clock = node.func.attr in ("now", "utcnow", "today")
                assert not clock, f"{path}:{node.lineno}: reads the wall clock"
            if isinstance(owner, ast.Name) and owner.id == "uuid":
                assert node.func.attr not in ("uuid1", "uuid4"), f"{path}:{node.lineno}: unseeded"
        is_coroutine = isinstance(node, ast.AsyncFunctionDef | ast.Await)
        assert not is_coroutine, f"{path}:{getattr(node, 'lineno', 0)}: a pure module awaits"


def test_the_rules_would_notice() -> None:
    assert why_not_import("wire", "base") is not None
    assert why_not_import("master", "agent") is not None
    assert why_not_import("base", "testing") is not None
    assert why_not_import("cli", "ops") is None
    assert why_not_import("agent", "base") is None
    assert ROOT / "base" / "core.py" in pure_modules()


def test_every_package_opens_with_a_diagram() -> None:
    for package in sorted(p.parent for p in ROOT.glob("*/__init__.py")):
        text = ast.get_docstring(ast.parse((package / "__init__.py").read_text()))
        assert text is not None, f"{package} has no docstring"
        assert "::" in text, f"{package} has no diagram in its docstring"


def test_test_files_have_names_of_their_own() -> None:
    seen: dict[str, Path] = {}
    for path in modules():
        if path.name.startswith("test_"):
            assert path.name not in seen, f"{path} and {seen[path.name]}"
            seen[path.name] = path


def test_modules_are_short() -> None:
    for path in shipped():
        if package_of(path) == "wire":
            continue
        lines = len(path.read_text().splitlines())
        assert lines <= MAX_LINES, f"{path} has {lines} lines; split it by what it knows"


def test_only_one_module_knows_kazoo() -> None:
    users = [
        p for p in shipped() for _, module, _ in imports_of(p) if module.split(".")[0] == "kazoo"
    ]
    assert set(users) == {ROOT / "base" / "zk.py"}
