"""Groups of words whose modules are imported when a word is used: help and completion stay quick.

Contexts and commands are `Any` here: newer releases of typer bring a click of their own.
"""

from __future__ import annotations

import difflib
import importlib
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup

#: Word → (module of mesostk.cli, function or Typer, help). A Typer becomes a group of words.
Words = dict[str, tuple[str, str, str]]


class LazyGroup(TyperGroup):
    """A group whose words are imported when they are used; a subclass names them."""

    words: ClassVar[Words] = {}

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 # click's signature
        """All words, in the order of a session."""
        return list(self.words)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 # click's signature
        """The command of a word; None where there is none."""
        if cmd_name not in self.words:
            return None
        module, attribute, _ = self.words[cmd_name]
        target = getattr(importlib.import_module(f"mesostk.cli.{module}"), attribute)
        if isinstance(target, typer.Typer):
            command: Any = typer.main.get_group(target)
        else:
            single = typer.Typer(add_completion=False, rich_markup_mode=None)
            single.command()(target)
            command = typer.main.get_command(single)
        command.name = cmd_name
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As every group; a word that is none is told with the one that was meant."""
        word = args[0] if args else ""
        near = difflib.get_close_matches(word, self.words, 1)
        if near and word not in self.words and not ctx.resilient_parsing:
            ctx.fail(f"No such command '{word}'. Did you mean '{near[0]}'?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 # click's signature
        """The words with their help, without importing what they lead to."""
        with formatter.section("Commands"):
            formatter.write_dl([(word, text) for word, (_, _, text) in self.words.items()])
