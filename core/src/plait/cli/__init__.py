"""The command line `plait`. Thin: every command is a call or two of `plait.Catalog`, and something printed."""

from __future__ import annotations

import sys
import traceback
import uuid
from pathlib import Path

import click

from plait.cli import history, items, refs, stores, working_sets
from plait.cli.session import Session, pass_session, where_now
from plait.errors import BY_CODE, PlaitError

_EXIT_CODES = "\n".join(
    f"  {kind.exit_code:>2}  {code.lower().replace('_', ' ')}"
    for code, kind in sorted(BY_CODE.items(), key=lambda pair: pair[1].exit_code)
)


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "PLAIT"},
    epilog=f"\b\nExit codes:\n   0  done\n{_EXIT_CODES}",
)
@click.option(
    "--catalog", metavar="WHERE", help="A folder, or plait://host:port/repository. Default: the nearest .plait/"
)
@click.option("--no-color", is_flag=True, help="Never colour the output.")
@click.version_option(package_name="plait")
@click.pass_context
def main_group(context: click.Context, catalog: str | None, no_color: bool) -> None:
    """One history for data that lives in many stores."""
    session = context.ensure_object(Session)
    session.where = catalog
    session.no_color = no_color
    if context.invoked_subcommand is None:
        where_now(session)


for _command in (*history.COMMANDS, *items.COMMANDS, *refs.COMMANDS, *stores.COMMANDS, *working_sets.COMMANDS):
    main_group.add_command(_command)


@main_group.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@pass_session
def completion(session: Session, shell: str) -> None:
    """Print what makes SHELL complete plait's commands: eval "$(plait completion bash)"."""
    click.echo(
        f'eval "$(_PLAIT_COMPLETE={shell}_source plait)"'
        if shell != "fish"
        else "_PLAIT_COMPLETE=fish_source plait | source"
    )


def main() -> None:
    """Run the command of `sys.argv`. Exits with the error's documented code; no traceback reaches the user."""
    session = Session()
    _add_plugin_commands()
    try:
        main_group.main(standalone_mode=False, obj=session)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("stopped", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except PlaitError as error:
        session.print_error(error)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        sys.exit(_unexpected(error))
    finally:
        session.close()


def _unexpected(error: Exception) -> int:
    """One line for the user; the traceback goes into a file that the line names."""
    error_id = uuid.uuid4().hex[:12]
    folder = Path(".plait") if Path(".plait").is_dir() else Path.home() / ".cache" / "plait"
    report = folder / "errors" / f"{error_id}.txt"
    try:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text("".join(traceback.format_exception(error)))
        kept = f" · please report it with {report}"
    except OSError:
        kept = ""
    click.echo(f"plait failed unexpectedly ({type(error).__name__}: {error}){kept}", err=True)
    return 1


def _add_plugin_commands() -> None:
    """Commands of plugins, loaded only when the word is none of plait's own."""
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    if words and words[0] in main_group.commands:
        return
    if not words:
        return  # Loading plugins takes a second: plait's own help does not wait for them.
    from plait.plugins import Plugins

    try:
        gathered: list[list[click.Command]] = Plugins().manager.hook.plait_register_commands()
    except PlaitError as error:
        click.echo(f"plugins are not loaded: {error}", err=True)
        return
    for commands in gathered:
        for command in commands:
            main_group.add_command(command)


if __name__ == "__main__":
    main()
