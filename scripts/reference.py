"""Write docs/errors.md and docs/limits.md from the code, or with --check say whether they are what the code says."""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path

from plait import errors, limits

DOCS = Path(__file__).parent.parent / "docs"


def errors_page() -> str:
    lines = [
        "# Errors\n",
        "Each has one stable code, one gRPC status, one HTTP status and one exit code of `plait`.\n",
        "| code | what it means | gRPC | HTTP | exit | retry |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for code, kind in errors.BY_CODE.items():
        meaning = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")
        retry = "yes" if kind.retryable else "no"
        lines.append(f"| `{code}` | {meaning} | {kind.grpc_status} | {kind.http_status} | {kind.exit_code} | {retry} |")
    return "\n".join(lines) + "\n"


def limits_page() -> str:
    lines = ["# Limits\n", "Every bound that plait puts on its input.\n", "| name | value |", "| --- | --- |"]
    tree = ast.parse(inspect.getsource(limits))
    names = [
        node.target.id for node in tree.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    lines += [f"| `{name}` | {getattr(limits, name):,} |" for name in names]
    return "\n".join(lines) + "\n"


def main() -> int:
    pages = {DOCS / "errors.md": errors_page(), DOCS / "limits.md": limits_page()}
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
