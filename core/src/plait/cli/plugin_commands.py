"""Groups of commands. Those of plugins wait until a word is none of plait's own: to load plugins takes a second."""

from __future__ import annotations

from functools import cache

import click

from plait.errors import Unsupported

_SENTENCE_MAX = 200


class Group(click.Group):
    """A group whose help lists its commands readably."""

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """As click does, but with whole first sentences: cut off after 45 characters, they say little."""
        commands = [(name, self.get_command(context, name)) for name in self.list_commands(context)]
        rows = [(name, found.get_short_help_str(_SENTENCE_MAX)) for name, found in commands if found is not None]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


class PluginGroup(Group):
    """A group of commands that plugins add to through `plait_register_commands`."""

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        found = super().get_command(context, name)
        if found is None:
            root = context.find_root().command
            assert isinstance(root, click.Group)
            _add_to(root)
            found = super().get_command(context, name)
        return found

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does. Raises: Unsupported naming the package that brings a command which is missing."""
        try:
            return super().resolve_command(context, args)
        except click.UsageError as error:
            from plait.plugins import PACKAGES, Plugins

            package = PACKAGES.get(args[0])
            # At the root a kind of store is no command: there only the story is a package of its own.
            if package is None or args[0] in Plugins().kinds or (args[0] == "demo") != (context.parent is None):
                raise
            what = f"{context.command_path} {args[0]}"
            raise Unsupported(f"'{what}' is not installed", remedy=f"pip install {package}") from error


class OpenGroup(PluginGroup):
    """A group whose commands are mostly plugins', so that its help lists them."""

    def list_commands(self, context: click.Context) -> list[str]:
        root = context.find_root().command
        assert isinstance(root, click.Group)
        _add_to(root)
        return super().list_commands(context)


@cache
def _add_to(root: click.Group) -> None:
    """Ask every installed plugin for its commands, once. Raises: InvalidArgument naming a plugin that is broken."""
    from plait.plugins import Plugins

    gathered: list[list[click.Command]] = Plugins().manager.hook.plait_register_commands()
    for commands in gathered:
        for command in commands:
            graft(root, command)


def graft(root: click.Group, command: click.Command) -> None:
    """Add a command; a group that is there already gains the commands that it lacks. plait's own are never replaced."""
    there = root.commands.get(command.name or "")
    if there is None:
        root.add_command(command)
    elif isinstance(there, click.Group) and isinstance(command, click.Group):
        for inner in command.commands.values():
            graft(there, inner)
