"""Write examples/*.ipynb from the examples/*.py beside them, or with --check say whether they fit.

A cell begins at `# %%`, one of text at `# %% [markdown]`: what Jupytext, VS Code and PyCharm call the percent format.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

EXAMPLES = Path(__file__).parent.parent / "examples"


def notebook(script: str) -> str:
    """The notebook of a script, without outputs; the same script gives the same bytes."""
    cells = []
    for number, part in enumerate(("\n" + script).split("\n# %%")[1:]):
        head, _, body = part.partition("\n")
        is_text = head.strip() == "[markdown]"
        source = body.strip("\n")
        if is_text:
            source = "\n".join(line.removeprefix("#").removeprefix(" ") for line in source.splitlines())
        cells.append((new_markdown_cell if is_text else new_code_cell)(source, id=f"cell-{number}"))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    made = new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})
    nbformat.validate(made)
    return nbformat.writes(made) + "\n"


def main() -> int:
    stale = [
        script
        for script in sorted(EXAMPLES.glob("*.py"))
        if not (target := script.with_suffix(".ipynb")).exists() or target.read_text() != notebook(script.read_text())
    ]
    for script in stale:
        if "--check" in sys.argv:
            print(f"{script.stem}.ipynb is not what {script.name} says: run 'make docs'", file=sys.stderr)
        else:
            script.with_suffix(".ipynb").write_text(notebook(script.read_text()))
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
