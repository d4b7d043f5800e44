"""`python -m plait_server`: serve a catalog until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from plait import cores
from plait.errors import InvalidArgument, PlaitError
from plait.failpoint import arm_from_environment

from plait_server.config import Config, load_config
from plait_server.json_log import log_as_json
from plait_server.serving import Server


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    arm_from_environment()
    log_as_json()
    stop_asked = _stop_signals()
    try:
        options = _parser().parse_args(words)
        config = load_config(
            options.config,
            os.environ,
            {
                "server.grpc": options.grpc,
                "server.http": options.http,
                "server.auth": options.auth,
                "server.repository": options.repository,
                "database.url": options.database,
            },
        )
        if config.one_core:
            cores.keep_together()
        server = Server(config, init=options.init)
    except PlaitError as error:
        told = {"code": error.code, "message": error.message, "remedy": error.remedy, "details": error.details}
        print(json.dumps(told) if "--json" in words else f"error: {error}", file=sys.stderr)
        return error.exit_code
    _collect_less_often()
    where = _where(config, server)
    print(json.dumps(where) if options.json else f"serving {' · '.join(filter(None, where.values()))}", flush=True)
    stop_asked()
    server.stop()
    return 0


def _stop_signals() -> Callable[[], object]:
    """From now on SIGTERM and SIGINT end nothing; a call of the result waits until one of them came, now or before.

    Neither a handler in Python nor an Event is enough: the one does not run while the main thread is about to block
    in a system call, or when another thread took the signal; the other may find its own lock held. The interpreter's
    wakeup descriptor is written to by the signal itself.
    """
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return lambda: os.read(told, 1)


def _collect_less_often() -> None:
    """A commit makes thousands of objects and no cycles: looking for those among all modules cost a tenth of it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _where(config: Config, server: Server) -> dict[str, str | None]:
    """`plait://127.0.0.1:7450/default` and `http://127.0.0.1:7451`: what a starter of servers waits for."""
    secure = "" if config.tls is None else "s"
    http = None
    if config.http is not None and server.http_port is not None:
        http = f"http{secure}://{replace(config.http, port=server.http_port)}"
    catalog = f"plait{secure}://{replace(config.grpc, port=server.grpc_port)}/{config.repository}"
    return {"catalog": catalog, "http": http}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidArgument(message, remedy="see 'plait serve --help'")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="plait_server", description="Serve a plait catalog over gRPC and HTTP.")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings; plait.toml here, if there is one")
    parser.add_argument("--grpc", metavar="HOST:PORT", help="where to listen; port 0 is any free one")
    parser.add_argument("--http", metavar="HOST:PORT", help="health, metrics and gateways; empty for none")
    parser.add_argument("--database", metavar="URL", help="sqlite:///PATH or postgresql://…")
    parser.add_argument("--repository", metavar="NAME", help="the one for gateways, and what --init makes")
    parser.add_argument("--auth", metavar="HOW", help="none (this machine only), token or mtls")
    parser.add_argument("--json", action="store_true", help="where it serves, or why it does not, as one JSON document")
    parser.add_argument("--init", action="store_true", help="make the database and the repository if they are missing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
