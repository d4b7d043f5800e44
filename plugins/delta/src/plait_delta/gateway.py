"""The parent's side of the S3 server that deltalake is given for a bucket: `plait_delta.gateway_worker`, in a process.

In a process of its own, since some calls of deltalake hold Python's interpreter while they wait for the server: in one
process both would wait for ever.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from plait.errors import StoreUnavailable

from plait_delta.files import BRANCHES, LOG

_ENDS_SECONDS: Final = 5
_REMEDY: Final = "retry: it is started again"


class Gateway:
    """Serves one bucket to this process until it is closed, or this process ends. Thread-safe."""

    def __init__(self, bucket: str, options: Mapping[str, str]) -> None:
        """`options` are resolved. Returns when it answers. Raises: StoreUnavailable."""
        self._asking = threading.Lock()
        self._owner = os.getpid()
        self._secret = secrets.token_hex(24)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "plait_delta.gateway_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # A Ctrl-C is for this process, which may have something to clean up in the bucket.
        )
        told = self._ask({"bucket": bucket, "options": dict(options), "secret": self._secret})
        self._port = int(told["port"])

    @property
    def pid(self) -> int:
        """The process that serves."""
        return self._process.pid

    @property
    def is_usable(self) -> bool:
        """Whether it runs, and is not a parent's from which this process was forked."""
        return self._owner == os.getpid() and self._process.poll() is None

    @property
    def options(self) -> dict[str, str]:
        """deltalake's storage options. Whoever has them, has the store's rights while this runs."""
        endpoint = f"http://127.0.0.1:{self._port}"
        return {
            "AWS_ENDPOINT_URL": endpoint,
            # What the environment says of the bucket and the way to it is not for this server.
            "AWS_ENDPOINT_URL_S3": endpoint,
            "AWS_SKIP_SIGNATURE": "false",
            "proxy_url": endpoint,
            "proxy_excludes": "127.0.0.1",
            "AWS_ACCESS_KEY_ID": self._secret,
            "AWS_SECRET_ACCESS_KEY": "unused",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
            # Who asks the bucket itself tries again already, and gives up.
            "max_retries": "0",
            "timeout": "86400s",
        }

    def renew(self, options: Mapping[str, str]) -> None:
        """Ask the bucket with other keys from now on, for handles that are open too."""
        self._ask({"do": "renew", "options": dict(options)})

    @contextmanager
    def view(self, table_key: str, log: bytes) -> Iterator[str]:
        """A table that is only read, with this log and the files of another below `_outside/`; its key."""
        key = f"{table_key}/{BRANCHES}/view/{secrets.token_hex(8)}"
        name = f"{key}/{LOG}/{0:020}.json"
        self._ask({"do": "show", "key": name, "log": log.decode()})
        try:
            yield key
        finally:
            with suppress(StoreUnavailable):
                self._ask({"do": "hide", "key": name})

    def written(self, key: str) -> tuple[str, str] | None:
        """ETag and SHA-256 of what was written there through it; None for nothing."""
        told = self._ask({"do": "written", "key": key})["written"]
        return None if told is None else (told[0], told[1])

    def counts(self) -> Mapping[str, int]:
        """What it asked of the bucket: requests, and bytes to and fro."""
        told: dict[str, int] = self._ask({"do": "count"})
        return told

    def _ask(self, question: Mapping[str, object]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            with self._asking:
                self._process.stdin.write(json.dumps(question) + "\n")
                self._process.stdin.flush()
                answer = self._process.stdout.readline()
            told: dict[str, Any] = json.loads(answer)
        except (OSError, ValueError) as error:
            raise StoreUnavailable("the process that serves buckets to deltalake has ended", remedy=_REMEDY) from error
        return told

    def close(self) -> None:
        """End the process. Repeat: no-op."""
        if self._owner != os.getpid():
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError, ValueError):
            self._process.stdin.close()
        try:
            self._process.wait(_ENDS_SECONDS)  # It ends by itself, and takes its temporary files along.
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
