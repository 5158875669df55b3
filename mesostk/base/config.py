"""Flags of a daemon, declared once, and the layers their values come from.

::

    declared default
      ▲ --zk_file FILE            one ZooKeeper URL for all daemons of a host (/etc/mesos/zk)
      ▲ --config_dir DIR …        one file per flag (/etc/mesos-master/quorum); later DIR wins
      ▲ environment               MESOS_QUORUM=2
      ▲ command line              --quorum=2, --quorum 2, --no-hostname_lookup

The same declaration gives `--help`, the `/flags` answer, the tables of the documentation and the
check of the Ansible roles (`FlagSet.describe`). Nothing below `/etc` is read unless told to, so
that a lab on a host never picks up that host's own cluster.

Known difference: the original's wrapper turned files into command-line flags, so a file beat the
environment. Here the environment wins, and a disagreement is a warning.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec

from mesostk.base.flags import (
    Flag,
    FlagRecord,
    builtin_flags,
    help_entry,
    kind_of,
    value_text,
    why_out_of_range,
)
from mesostk.base.flagtext import entries, is_dir, read, text_of
from mesostk.base.units import duration, port_number, size_bytes
from mesostk.errors import ConfigError

__all__ = [
    "Flag",
    "FlagRecord",
    "FlagSet",
    "Values",
    "duration",
    "mask_secrets",
    "port_number",
    "size_bytes",
]

#: Exit code of a usage error, as every command of the toolkit has it.
USAGE_ERROR: Final = 2

_TRUE: Final = frozenset({"true", "1", "yes", "on", ""})
_FALSE: Final = frozenset({"false", "0", "no", "off"})
_SECRET = re.compile(r"(?<=//)[^/@\s]*@")


class _Text(msgspec.Struct, frozen=True):
    """What one layer says about one flag, and where it was found."""

    text: str
    origin: str
    spelled: str


_Layer = dict[str, _Text]


class Values:
    """The settled values: `values.quorum`, or `values["quorum"]`."""

    def __init__(
        self,
        parsed: Mapping[str, Any],
        texts: Mapping[str, str],
        origins: Mapping[str, str],
        warnings: Sequence[str],
    ) -> None:
        self._parsed = dict(parsed)
        self._texts = dict(texts)
        self._origins = dict(origins)
        #: Sentences for the log: deprecated names, files that the environment overrides, typos.
        self.warnings: tuple[str, ...] = tuple(warnings)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._parsed:
            raise AttributeError(f"no flag is called {name}")
        return self._parsed[name]

    def __getitem__(self, name: str) -> Any:
        return self._parsed[name]

    def origin(self, name: str) -> str:
        """Where the value came from: `default`, a path, a variable or `command line`."""
        return self._origins[name]

    def is_set(self, name: str) -> bool:
        """Whether any layer but the default gave a value."""
        return self._origins[name] != "default"

    def as_strings(self) -> dict[str, str]:
        """Every flag with a value, as text, passwords in URLs masked: the answer of `/flags`."""
        return {name: mask_secrets(text) for name, text in sorted(self._texts.items())}


def mask_secrets(text: str) -> str:
    """`text` with `user:password@` of a URL replaced by `****@`."""
    return _SECRET.sub("****@", text)


class FlagSet:
    """All flags of one daemon.

    `negations` are the prefixes that turn a boolean off. `from_zk` makes flags out of the one line
    of `--zk_file`; without it there is no such flag. `version` is what `--version` prints.
    """

    def __init__(
        self,
        prog: str,
        env_prefix: str,
        flags: Sequence[Flag],
        *,
        version: str = "",
        about: str = "",
        negations: Sequence[str] = ("no-",),
        from_zk: Callable[[str], Mapping[str, str]] | None = None,
    ) -> None:
        self.prog = prog
        self.env_prefix = env_prefix
        self.version = version
        self.about = about
        self._negations = tuple(negations)
        self._from_zk = from_zk
        self.flags: dict[str, Flag] = {}
        self._spellings: dict[str, str] = {}
        for flag in (*flags, *builtin_flags(with_zk=from_zk is not None)):
            for name in (flag.name, *flag.old_names):
                if name in self._spellings:
                    raise ConfigError(f"{prog}: flag {name} is declared twice")
                self._spellings[name] = flag.name
            self.flags[flag.name] = flag

    # -- reading ---------------------------------------------------------------------------------

    def main(self, argv: Sequence[str], environ: Mapping[str, str]) -> Values:
        """`load` for a program: prints help or version and ends, or the error and ends (2)."""
        if any(arg in ("--help", "-h") for arg in argv):
            self._print_and_exit(self.help())
        if "--version" in argv:
            self._print_and_exit(self.version)
        try:
            return self.load(argv, environ)
        except ConfigError as error:
            sys.stderr.write(f"{self.prog}: {error}\n")
            sys.stderr.write(f"{self.prog}: --help lists every flag\n")
            raise SystemExit(USAGE_ERROR) from error

    def load(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        config_dirs: Sequence[str | Path] = (),
    ) -> Values:
        """The values of all layers. `argv` comes without the program's name.

        `config_dirs` are read before those that `--config_dir` and the environment name.
        Raises ConfigError, which names flag and source, for anything that is not understood.
        """
        warnings: list[str] = []
        line, told_dirs = self._from_argv(argv)
        env = self._from_environ(environ, warnings)
        if not told_dirs and "config_dir" in env:
            told_dirs = [part for part in env["config_dir"].text.split(":") if part]
        layers: list[_Layer] = []
        if self._from_zk is not None:
            layers.append(self._from_zk_file(line.get("zk_file", env.get("zk_file"))))
        dirs = [*map(Path, config_dirs), *map(Path, told_dirs)]
        files = [self._from_dir(path, warnings) for path in dirs]
        layers += files
        for layer in files:
            warnings += _disagreements(layer, env)
        layers += [env, line]
        if dirs:
            line["config_dir"] = _Text(":".join(map(str, dirs)), "command line", "config_dir")
        return self._settle(layers, warnings)

    def _from_argv(self, argv: Sequence[str]) -> tuple[_Layer, list[str]]:
        layer: _Layer = {}
        dirs: list[str] = []
        rest = list(argv)
        while rest:
            word = rest.pop(0)
            if not word.startswith("--") or word == "--":
                raise ConfigError(f"argument {word!r} is not a flag; flags are --name=value")
            spelled, equals, text = word[2:].partition("=")
            name, base, negated = self._resolve(spelled, "command line")
            flag = self.flags[name]
            if negated:
                if equals:
                    raise ConfigError(f"--{spelled} takes no value")
                text = "false"
            elif flag.type is bool:
                text = text if equals else "true"
            elif not equals:
                if not rest:
                    raise ConfigError(f"--{spelled} needs a value: --{spelled}=VALUE")
                text = rest.pop(0)
            if name == "config_dir":
                dirs += [part for part in text.split(":") if part]
                continue
            _add(layer, name, _Text(text, "command line", base))
        return layer, dirs

    def _from_environ(self, environ: Mapping[str, str], warnings: list[str]) -> _Layer:
        layer: _Layer = {}
        known: dict[str, tuple[str, str, bool]] = {}
        for spelled, name in self._spellings.items():
            flag = self.flags[name]
            variable = self.env_prefix + spelled.upper()
            if flag.env is not None and spelled == name:
                variable = flag.env
            known[variable] = (name, spelled, False)
            if flag.type is bool:
                for prefix in self._negations:
                    negative = self.env_prefix + (prefix + spelled).upper().replace("-", "_")
                    known.setdefault(negative, (name, spelled, True))
        for variable, text in sorted(environ.items()):
            if variable in known:
                name, spelled, negated = known[variable]
                if negated:
                    text = "false" if text.strip().lower() in _TRUE else "true"
                _add(layer, name, _Text(text, variable, spelled))
            elif variable.startswith(self.env_prefix):
                # Unknown ones are often for others (MESOS_NATIVE_JAVA_LIBRARY, MARATHON_APP_*)
                # and so are no error; one that is nearly a flag's name is probably a typo.
                near = difflib.get_close_matches(variable, known, n=1, cutoff=0.9)
                if near:
                    warnings.append(f"{variable} is ignored: no such flag; is {near[0]} meant?")
        return layer

    def _from_zk_file(self, told: _Text | None) -> _Layer:
        if told is None or self._from_zk is None:
            return {}
        try:
            text = read(Path(told.text))
        except ConfigError as error:
            raise ConfigError(f"--zk_file: {error}") from error
        if not text:
            raise ConfigError(
                f"--zk_file: {told.text} is empty; expected one line like zk://host:2181/mesos"
            )
        try:
            made = self._from_zk(text)
        except ValueError as error:
            raise ConfigError(f"--zk_file: {told.text}: {error}") from error
        return {name: _Text(value, told.text, name) for name, value in made.items()}

    def _from_dir(self, path: Path, warnings: list[str]) -> _Layer:
        layer: _Layer = {}
        try:
            found = entries(path)
        except FileNotFoundError:
            warnings.append(f"configuration directory {path} does not exist")
            return layer
        for entry in found:
            if entry.name.startswith("."):
                continue
            if is_dir(entry):
                self._from_keyed_dir(entry, layer, warnings)
                continue
            self._from_file(entry, layer)
        return layer

    def _from_file(self, entry: Path, layer: _Layer) -> None:
        bare = entry.name.startswith("?")
        name, base, negated = self._resolve(entry.name.removeprefix("?"), str(entry))
        if bare and self.flags[name].type is not bool:
            raise ConfigError(f"{entry}: ?{name} is for booleans; write the value into {name}")
        if not bare and negated:
            raise ConfigError(f"{entry}: call it ?{entry.name}, or write false into {name}")
        text = "false" if negated else "true" if bare else read(entry)
        _add(layer, name, _Text(text, str(entry), base))

    def _from_keyed_dir(self, entry: Path, layer: _Layer, warnings: list[str]) -> None:
        name = self._spellings.get(entry.name)
        if name is None or not self.flags[name].keyed_dir:
            warnings.append(f"directory {entry} is ignored: no flag takes a directory of that name")
            return
        parts = []
        for file in entries(entry):
            if file.name.startswith(".") or is_dir(file):
                continue
            content = read(file)
            if content:
                parts.append(f"{file.name}:{content}")
        if parts:
            _add(layer, name, _Text(";".join(parts), str(entry), entry.name))

    def _resolve(self, spelled: str, where: str) -> tuple[str, str, bool]:
        """The flag's present name, the name used, and whether `spelled` turns it off."""
        name = self._spellings.get(spelled)
        if name is not None:
            return name, spelled, False
        for prefix in self._negations:
            base = spelled.removeprefix(prefix)
            name = self._spellings.get(base)
            if spelled.startswith(prefix) and name is not None:
                if self.flags[name].type is not bool:
                    raise ConfigError(f"{where}: {name} is no boolean, so {spelled} means nothing")
                return name, base, True
        near = difflib.get_close_matches(spelled, self._spellings, n=1)
        hint = f"; is {near[0]} meant?" if near else f"; {self.prog} --help lists them all"
        raise ConfigError(f"{where}: no flag is called {spelled!r}{hint}")

    # -- settling --------------------------------------------------------------------------------

    def _settle(self, layers: Sequence[_Layer], warnings: list[str]) -> Values:
        parsed: dict[str, Any] = {}
        texts: dict[str, str] = {}
        origins: dict[str, str] = {}
        for name, flag in self.flags.items():
            told = next((layer[name] for layer in reversed(layers) if name in layer), None)
            if told is None:
                parsed[name] = self._default(flag)
                origins[name] = "default"
                text = self._default_text(flag)
                if text is not None:
                    texts[name] = text
                if flag.required and parsed[name] is None:
                    raise ConfigError(f"--{name} is required: {flag.help}")
                continue
            if told.spelled != name:
                warnings.append(f"{told.origin}: {told.spelled} is an old name of {name}")
            parsed[name], texts[name] = self._parse(flag, told)
            origins[name] = told.origin
        return Values(parsed, texts, origins, warnings)

    def _parse(self, flag: Flag, told: _Text) -> tuple[Any, str]:
        where = f"--{flag.name} from {told.origin}"
        if told.origin == "command line":
            where = f"--{flag.name}"
        text = text_of(flag, told.text, where)
        shown = mask_secrets(text if len(text) <= 200 else text[:200] + "…")
        try:
            value = _boolean(text) if flag.type is bool else flag.type(text.strip())
        except (ValueError, RecursionError) as error:
            reason = str(error) if flag.type not in (int, float) else f"not {kind_of(flag)}"
            raise ConfigError(f"{where}: {shown!r} is refused: {reason}") from error
        if flag.choices is not None and text.strip() not in flag.choices:
            raise ConfigError(f"{where}: {shown!r} is not one of {', '.join(flag.choices)}")
        if not isinstance(value, bool) and isinstance(value, int | float):
            why = why_out_of_range(flag, value)
            if why is not None:
                raise ConfigError(f"{where}: {shown!r} is {why}")
        if flag.type is bool:
            text = "true" if value else "false"
        return value, text.strip()

    def _default(self, flag: Flag) -> Any:
        if isinstance(flag.default, str) and flag.type is not str:
            return flag.type(flag.default)
        return flag.default

    def _default_text(self, flag: Flag) -> str | None:
        if flag.default is None or isinstance(flag.default, str):
            return flag.default
        return value_text(flag, flag.default)

    # -- describing ------------------------------------------------------------------------------

    def describe(self) -> list[FlagRecord]:
        """Every flag by name, for documentation and for checks of what Ansible sets."""
        return [
            FlagRecord(
                name=flag.name,
                kind=kind_of(flag),
                default=self._default_text(flag),
                help=flag.help,
                unit=flag.unit,
                env=flag.env if flag.env is not None else self.env_prefix + flag.name.upper(),
                old_names=flag.old_names,
                choices=flag.choices,
                minimum=flag.minimum,
                required=flag.required,
            )
            for flag in sorted(self.flags.values(), key=lambda flag: flag.name)
        ]

    def help(self) -> str:
        """The text of `--help`."""
        lines = [f"Usage: {self.prog} [--flag=value …]", ""]
        if self.about:
            lines += [*textwrap.wrap(self.about, 96), ""]
        lines += [
            f"Values come from the command line, else {self.env_prefix}<FLAG> in the environment,",
            "else one file per flag in each --config_dir, else the default.",
            "",
        ]
        for record in self.describe():
            lines += help_entry(record)
        return "\n".join(lines)

    def _print_and_exit(self, text: str) -> NoReturn:
        sys.stdout.write(text + "\n")
        raise SystemExit(0)


def _add(layer: _Layer, name: str, told: _Text) -> None:
    other = layer.get(name)
    if other is None:
        layer[name] = told
        return
    if other.spelled != told.spelled:
        both = f"{other.spelled} ({other.origin}) and {told.spelled} ({told.origin})"
        raise ConfigError(f"{both} set the same flag; keep {name} only")
    raise ConfigError(f"flag {name} is given twice: {other.origin} and {told.origin}")


def _disagreements(files: _Layer, env: _Layer) -> Iterable[str]:
    for name, told in files.items():
        if name in env and env[name].text.strip() != told.text:
            yield f"{env[name].origin} overrides {told.origin}, which says something else"


def _boolean(text: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("expected true or false")


def process_inputs() -> tuple[list[str], dict[str, str]]:
    """`(argv, environ)` of this process, the only place that reads them."""
    return sys.argv[1:], dict(os.environ)
