"""Write the docs' pages of errors, limits, commands and RPCs from the code, or with --check say whether they fit."""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path

import click
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from plait import errors, limits
from plait.cli import main_group
from plait.rpc import plait_pb2

DOCS = Path(__file__).parent.parent / "docs"

_COMMANDS_INTRODUCTION = """\
# The command line

Bare `plait` says where you are and what you could do next. The catalog is what `--catalog` or `PLAIT_CATALOG` names (a
folder, `postgresql://…`, `plait://host:port/repository`), else the nearest folder upwards with `.plait/`. Every command
takes `--json`, and then prints one JSON document; into a pipe nothing is coloured. Errors go to stderr with an
[exit code of their own](../errors.md). `eval "$(plait completion bash)"` completes commands. Plugins add commands of
theirs, as `plait import iceberg` and `plait demo`.
"""
_RPC_INTRODUCTION = """\
# The gRPC API

The service is `plait.v1.Catalog`, of `core/src/plait/rpc/plait.proto`, which says more. Every request names its
repository. Points in the history are specs (`main~3`, `0a1b2c3d`). Every write may be repeated: commits and moved refs
under their idempotency key, working sets by their id. An error's trailing metadata `plait-error-bin` is an
`ErrorDetail`. A token travels as `authorization: Bearer …`. Health and reflection are served too.
"""


def errors_page() -> str:
    lines = [
        "# Errors\n",
        "Each has one stable code, one gRPC status, one HTTP status and one exit code of `plait`.",
        "Their classes are those of [`plait.errors`](reference/python.md#plait.errors).\n",
        "| code | what it means | gRPC | HTTP | exit | retry |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for code, kind in errors.BY_CODE.items():
        meaning = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")
        retry = "yes" if kind.retryable else "no"
        lines.append(f"| `{code}` | {meaning} | {kind.grpc_status} | {kind.http_status} | {kind.exit_code} | {retry} |")
    return "\n".join(lines) + "\n"


def limits_page() -> str:
    lines = [
        "# Limits\n",
        "plait's own bounds: of what it is given, and of how long it waits. What is more is refused before anything is",
        "written. They are constants of `plait.limits`, no settings. Stores have bounds of their own.\n",
        "| name | value | what it bounds |",
        "| --- | --- | --- |",
    ]
    body = ast.parse(inspect.getsource(limits)).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
            told = ast.literal_eval(after.value) if isinstance(after, ast.Expr) else ""
            lines.append(f"| `{name}` | {getattr(limits, name):,} | {_cell(told)} |")
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    lines = [_COMMANDS_INTRODUCTION]
    for name, command in sorted(main_group.commands.items()):
        lines += _command(f"plait {name}", command)
    return "\n".join(lines).rstrip() + "\n"


def _command(name: str, command: click.Command) -> list[str]:
    """A heading, what it does, how it is called, its options; then its own commands."""
    level = "#" * len(name.split())
    usage = " ".join(part for part in command.collect_usage_pieces(click.Context(command)) if part != "[OPTIONS]")
    lines = [f"{level} {name}", "", f"    {name} {usage}".rstrip(), "", _prose(command.help or ""), ""]
    options = [
        one
        for one in command.params
        if isinstance(one, click.Option) and one.name != "json" and "--help" not in one.opts
    ]
    if options:
        lines += ["| option | |", "| --- | --- |", *map(_option, options), ""]
    if isinstance(command, click.Group):
        for inner, found in sorted(command.commands.items()):
            lines += _command(f"{name} {inner}", found)
    return lines


def _option(option: click.Option) -> str:
    opts = [*option.opts, *option.secondary_opts]
    takes = "" if option.is_flag else f" {option.metavar or option.type.name.upper()}"
    if isinstance(option.type, click.Choice):
        takes = " " + "/".join(option.type.choices)
    shown = option.default if option.show_default and not callable(option.default) else None
    told = f"{option.help or ''} Default: `{shown}`.".strip() if shown is not None else option.help or ""
    return f"| `{', '.join(opts)}{takes}` | {_cell(told)} |"


def _prose(text: str) -> str:
    """Help as Markdown: what click must not wrap is code."""
    parts = inspect.cleandoc(text).split("\n\n")
    told = [
        "\n".join("    " + line for line in part.splitlines()[1:]) if part.startswith("\b") else _cell(part)
        for part in parts
    ]
    return "\n\n".join(told)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def rpc_page() -> str:
    file = plait_pb2.DESCRIPTOR
    lines = [_RPC_INTRODUCTION, "| call | request | answer |", "| --- | --- | --- |"]
    for method in file.services_by_name["Catalog"].methods:
        stream = "stream of " if method.server_streaming else ""
        lines.append(
            f"| `{method.name}` | {_fields(method.input_type)} | {stream}{_fields(method.output_type) or 'nothing'} |"
        )
    called = {
        kind for method in file.services_by_name["Catalog"].methods for kind in (method.input_type, method.output_type)
    }
    lines += ["", "## Messages", "", "| message | fields |", "| --- | --- |"]
    lines += [
        f"| `{name}` | {_fields(kind)} |" for name, kind in file.message_types_by_name.items() if kind not in called
    ]
    lines += ["", "## Enumerations", "", "| name | values |", "| --- | --- |"]
    for name, kind in file.enum_types_by_name.items():
        lines.append(f"| `{name}` | {', '.join(f'`{value.name}`' for value in kind.values[1:])} |")
    return "\n".join(lines) + "\n"


def _fields(message: Descriptor) -> str:
    return ", ".join(f"`{field.name}` {_type(field)}" for field in message.fields if field.name != "repository")


def _type(field: FieldDescriptor) -> str:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        return "map of " + " to ".join(_type(entry.fields_by_name[side]) for side in ("key", "value"))
    kind = entry or field.enum_type
    name = kind.name if kind is not None else _SCALARS[field.type]
    return f"{name}[]" if field.is_repeated else f"{name}?" if field.has_presence and kind is None else name


_SCALARS = {
    getattr(FieldDescriptor, name): name.removeprefix("TYPE_").lower()
    for name in dir(FieldDescriptor)
    if name.startswith("TYPE_")
}


def main() -> int:
    pages = {
        DOCS / "errors.md": errors_page(),
        DOCS / "limits.md": limits_page(),
        DOCS / "reference" / "cli.md": commands_page(),
        DOCS / "reference" / "grpc.md": rpc_page(),
    }
    stale = [path for path, text in pages.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.name} is not what the code says: run 'make docs'", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(pages[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
