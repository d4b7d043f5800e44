"""The command line `plait`. Thin: every command is a call or two of `plait.Catalog`, and something printed."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
import uuid
from collections.abc import Sequence
from pathlib import Path

import click

from plait.cli import changing, diff, events, history, items, log, merging, refs, stores, working_sets
from plait.cli.plugin_commands import PluginGroup
from plait.cli.session import Session, json_option, pass_session
from plait.cli.where import where_now
from plait.errors import BY_CODE, InvalidArgument, PlaitError, StoreUnavailable

_EXIT_CODES = "\n".join(
    f"  {kind.exit_code:>2}  {code.lower().replace('_', ' ')}"
    for code, kind in sorted(BY_CODE.items(), key=lambda pair: pair[1].exit_code)
)
_STOPPED, _READER_GONE = 130, 141  # As shells tell of SIGINT and SIGPIPE.


@click.group(
    cls=PluginGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Plugins add more: 'plait import --help', 'plait export --help', 'plait demo'."
    f"\n\n\b\nExit codes:\n   0  done\n{_EXIT_CODES}\n 130  stopped\n 141  nobody reads the output any more",
)
@click.option(
    "--catalog",
    metavar="WHERE",
    help="A folder, plait://host:port/repository, or postgresql://… Default: PLAIT_CATALOG, then the nearest .plait/",
)
@click.option("--no-color", is_flag=True, help="Never colour the output; as NO_COLOR does.")
@click.version_option(package_name="plait")
@json_option
@click.pass_context
def main_group(context: click.Context, catalog: str | None, no_color: bool) -> None:
    """One history for data that lives in many stores."""
    session = context.ensure_object(Session)
    session.where = catalog
    session.no_color = no_color or bool(os.environ.get("NO_COLOR"))
    if session.no_color:
        context.color = False
    if context.invoked_subcommand is None:
        where_now(session)


for _command in (
    *changing.COMMANDS,
    *diff.COMMANDS,
    *events.COMMANDS,
    *history.COMMANDS,
    *items.COMMANDS,
    *log.COMMANDS,
    *merging.COMMANDS,
    *refs.COMMANDS,
    *stores.COMMANDS,
    *working_sets.COMMANDS,
):
    main_group.add_command(_command)


@main_group.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@json_option
@pass_session
def completion(session: Session, shell: str) -> None:
    """Print what makes SHELL complete plait's commands: eval "$(plait completion bash)"."""
    script = f'eval "$(_PLAIT_COMPLETE={shell}_source plait)"'
    if shell == "fish":
        script = "_PLAIT_COMPLETE=fish_source plait | source"
    session.emit({"shell": shell, "script": script}, script)


def main() -> None:
    """Run the command of `sys.argv`, and exit with its code."""
    sys.exit(run())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (None: that of the process); its documented exit code. No error passes but SystemExit."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    session = Session()
    # An error that click finds before it reaches --json is JSON too.
    session.as_json = "--json" in (words[: words.index("--")] if "--" in words else words)
    with session.logging():
        try:
            return _run(session, words)
        finally:
            try:
                session.close()
            except Exception as error:
                _unexpected(session, error)


def _run(session: Session, words: list[str]) -> int:
    if sys.stdout is None:  # It was closed by who began the process: whatever is opened next would get its number.
        return _output_refused(session, os.strerror(errno.EBADF))
    try:
        code = main_group.main(words, prog_name="plait", standalone_mode=False, obj=session)
        sys.stdout.flush()
    except click.exceptions.Exit as error:
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _stopped()
    except click.ClickException as error:
        return _misused(session, error)
    except PlaitError as error:
        session.print_error(error)
        return error.exit_code
    except SystemExit:
        # Click's own way out of a completion, and of a pipe that nobody reads any more.
        if "_PLAIT_COMPLETE" in os.environ:
            raise
        return _READER_GONE
    except BrokenPipeError:
        _give_up_output()
        return _READER_GONE
    except OSError as error:
        if not _is_output_refused(error):
            return _unexpected(session, error)
        _give_up_output()
        return _output_refused(session, error.strerror or str(error))
    except UnicodeEncodeError as error:  # UTF-8 has all characters: it is a name for a system whose locale has few.
        told = f"{error.object[:80]!r} cannot be named in this locale, whose encoding is {error.encoding}"
        refused = InvalidArgument(told, remedy="export LC_ALL=C.UTF-8")
        session.print_error(refused)
        return refused.exit_code
    except Exception as error:
        return _stopped() if _was_interrupted(error) else _unexpected(session, error)
    return code if isinstance(code, int) else 0


def _stopped() -> int:
    click.echo("stopped", err=True)
    return _STOPPED


def _was_interrupted(error: BaseException) -> bool:
    """Whether it came of an interrupt: libraries that are cut off in the middle may fail in ways of their own."""
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, KeyboardInterrupt):
            return True
        at = at.__cause__ or at.__context__
    return False


def _output_refused(session: Session, reason: str) -> int:
    told = f"the standard output cannot be written: {reason}"
    refused = StoreUnavailable(told, remedy="make room, or send it elsewhere; what was done stays done")
    session.print_error(refused)
    return refused.exit_code


def _is_output_refused(error: OSError) -> bool:
    """Whether it was the standard output that the system takes no more of: an empty line tells."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO) or error.filename is not None:
        return False
    try:
        os.write(sys.stdout.fileno(), b"\n")
    except io.UnsupportedOperation:
        return False
    except OSError:
        return True
    return False


def _give_up_output() -> None:
    """Or Python complains when it flushes at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _misused(session: Session, error: click.ClickException) -> int:
    """What click refuses: an unknown option, a missing argument, a file that is not there."""
    if session.as_json:
        session.print_error(InvalidArgument(error.format_message(), remedy="see --help"))
    else:
        error.show()
    return error.exit_code


def _unexpected(session: Session, error: Exception) -> int:
    """One line for the user; the traceback goes into a file that the line names."""
    error_id = uuid.uuid4().hex[:12]
    told = PlaitError(f"plait failed unexpectedly ({type(error).__name__}), error {error_id}")
    told.details["error_id"] = error_id
    try:
        report = _reports(session) / f"{error_id}.txt"
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    except (OSError, ValueError):
        told.message += f": {str(error).partition(chr(10))[0]}"
    else:
        told.remedy = f"please report it, with {report}"
        told.details["report"] = str(report)
    session.print_error(told)
    return told.exit_code


def _reports(session: Session) -> Path:
    """The folder for reports: the catalog's own, where there is one."""
    if session.where is not None and "://" not in session.where:
        where = Path(session.where)
        inside = where if where.name == ".plait" else where / ".plait"
        if inside.is_dir():
            return inside / "errors"
    return Path.home() / ".cache" / "plait" / "errors"


if __name__ == "__main__":
    main()
