"""The command `plait`, also as `python -m plait`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command of `sys.argv`, and exit with its code. Stopped while it still imports, it says so as it does
    later, without Python's own words."""
    try:
        from plait.cli import main as run
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
