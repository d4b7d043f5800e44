"""Objects of an S3 bucket, by obstore, which asks servers as deltalake does: both are made on Rust's object_store."""

from __future__ import annotations

import hashlib
import re
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import IO, Any, ClassVar, Final, cast

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import S3Store
from plait.errors import InvalidArgument, NotFound, PermissionDenied, StoreUnavailable, Unsupported

from plait_delta.files import OPTIONS, SCHEME, Failpoint, Files, Info, Native
from plait_delta.gateway import Gateway

OUTSIDE: Final = "../../../"
"""How a root's log names its table's folder."""
INSIDE: Final = "_outside/"
"""The same for deltalake, see plait_delta.gateway_names. As long, so that logs keep their sizes."""
_CLIENT: Final = {"connect_timeout": "5s", "read_timeout": "60s", "timeout": "86400s"}
"""A server that says nothing is given up soon, one that sends a large file slowly is not."""
_RETRIES: Final = 3
_FORBIDDEN: Final = " 403 Forbidden"
_IN_MEMORY_BYTES: Final = 16 << 20
_LISTED_FROM: Final = 4
"""From how many files of a folder on it is listed, instead of asking for each."""


@contextmanager
def translated(place: str) -> Iterator[None]:
    """The server's errors about an object as plait's own."""
    try:
        yield
    except (FileNotFoundError, NotFoundError) as error:
        raise NotFound(f"object {place} does not exist") from error
    except (PermissionError, PermissionDeniedError, UnauthenticatedError) as error:
        raise _denied(place) from error
    except (BaseError, OSError) as error:
        if _FORBIDDEN in str(error):
            raise _denied(place) from error  # A listing's refusal has no class of its own.
        reason = str(error).splitlines()[0].rpartition(" - ")[2]  # Before it stands the whole request.
        raise StoreUnavailable(f"{place} cannot be reached: {reason}", remedy="check the store's endpoint") from error


def _denied(place: str) -> PermissionDenied:
    return PermissionDenied(
        f"{place} may not be read or written", remedy="check the store's access_key, and what the bucket grants it"
    )


def object_store(bucket: str, options: Mapping[str, str]) -> S3Store:
    """The bucket; what the options leave open is taken from the environment, as by every tool. Nothing else is: another
    account's token is not sent along with these keys. Asks nothing yet.

    Raises: InvalidArgument.
    """
    settings: dict[str, Any] = {"region": options.get("region") or "us-east-1"}
    if options.get("endpoint"):
        settings["aws_endpoint_url_s3"] = options["endpoint"]  # Goes before all that the environment says of it.
        settings["virtual_hosted_style_request"] = False  # The endpoint of an option never has the bucket in it.
    if options.get("access_key") or options.get("secret_key"):
        keys = {"access_key_id": options.get("access_key", ""), "secret_access_key": options.get("secret_key", "")}
        settings["credential_provider"] = lambda: {**keys, "token": None, "expires_at": None}
        settings["skip_signature"] = False
    client: dict[str, Any] = {**_CLIENT, "allow_http": options.get("endpoint", "").startswith("http://")}
    retries = {"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=60)}
    try:
        return S3Store(bucket, client_options=cast(Any, client), retry_config=cast(Any, retries), **settings)
    except BaseError as error:
        raise InvalidArgument(
            f"bucket {bucket!r} cannot be reached with these options: {error}",
            remedy="see docs/stores/delta.md for what a store on S3 needs",
        ) from error


def put_new(store: S3Store, key: str, data: bytes) -> str | None:
    """Put an object unless there is one, which is None; else its ETag.

    One with these very bytes is taken for it: a put whose answer was lost is sent again, and meets itself.
    """
    try:
        put = obstore.put(store, key, data, mode="create", use_multipart=False)
    except AlreadyExistsError:
        held = obstore.get(store, key)
        return held.meta["e_tag"] or "" if bytes(held.bytes()) == data else None
    return put["e_tag"] or ""


class Traffic:
    """What was asked of a server: requests, and bytes to and fro. Thread-safe."""

    def __init__(self) -> None:
        self.counts = {"requests": 0, "bytes": 0}
        self._lock = threading.Lock()

    def add(self, size: int = 0, requests: int = 1) -> None:
        with self._lock:
            self.counts["requests"] += requests
            self.counts["bytes"] += size


class BucketFiles(Files):
    """URLs of objects in one bucket: `s3://bucket/key`. An object is there whole or not at all, and stays."""

    is_remote: ClassVar[bool] = True
    misread: ClassVar[re.Pattern[str]] = re.compile(r"[%#?\[\]|^\\\x00-\x1f\x7f]")

    def __init__(
        self, bucket: str, options: Mapping[str, str], *, failpoint: Failpoint, credential: Callable[[str], str]
    ) -> None:
        """`credential` resolves the values of options, each time that the bucket is asked."""
        self.bucket = bucket
        self._traffic = Traffic()
        self._options = options
        self._failpoint = failpoint
        self._credential = credential
        self._starting = threading.Lock()
        self._gateway: Gateway | None = None
        self._resolved: dict[str, str] = {}
        self._store: S3Store | None = None

    @property
    def store(self) -> S3Store:
        """The bucket, by the keys that count now: the file that an option names may hold others than before."""
        with self._starting:
            return self._renewed()

    def _renewed(self) -> S3Store:
        """`store`, for who holds the lock."""
        resolved = {name: self._credential(self._options[name]) for name in sorted(OPTIONS & self._options.keys())}
        if self._store is None or resolved != self._resolved:
            self._resolved, self._store = resolved, object_store(self.bucket, resolved)
            if self._gateway is not None and self._gateway.is_usable:
                self._gateway.renew(resolved)
        return self._store

    def key(self, place: str) -> str:
        """The key of an object. Raises: Unsupported for one of another bucket, InvalidArgument for what names none."""
        bucket, _, key = place.removeprefix(SCHEME).partition("/")
        if not place.startswith(SCHEME) or bucket != self.bucket:
            raise Unsupported(
                f"{place} lies in another bucket than the store's, {self.bucket}", remedy="add a store for that bucket"
            )
        if not {".", ".."}.isdisjoint(key.split("/")):
            raise InvalidArgument(f"{place} has '.' or '..' in it", remedy="write the place without")
        return key

    def counts(self) -> Mapping[str, int]:
        """What was asked of the server, by native handles too: requests, and bytes to and fro."""
        served = self._gateway.counts() if self._gateway is not None else {}
        return {name: count + served.get(name, 0) for name, count in self._traffic.counts.items()}

    def normal(self, place: str) -> str:
        scheme, _, rest = place.partition("://")
        if scheme in ("s3a", "s3n"):
            scheme = "s3"
        return f"{scheme}://" + "/".join(filter(None, rest.split("/")))

    def read(self, place: str) -> bytes:
        with translated(place):
            data = bytes(obstore.get(self.store, self.key(place)).bytes())
        self._traffic.add(len(data))
        return data

    @contextmanager
    def open(self, place: str) -> Iterator[IO[bytes]]:
        """A copy on the local disk, where it is large."""
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as copy:
            with translated(place):
                for chunk in obstore.get(self.store, self.key(place)).stream():
                    copy.write(chunk)
                    self._traffic.add(len(chunk), requests=0)
            self._traffic.add()
            copy.seek(0)
            yield cast(IO[bytes], copy)

    def put_new(self, place: str, data: bytes) -> bool:
        self._failpoint("delta.bucket.before_put")
        self._traffic.add(len(data))
        with translated(place):
            put = put_new(self.store, self.key(place), data)
        if put is None:
            return False
        self._failpoint("delta.bucket.after_put")
        return True

    def replace(self, place: str, data: bytes) -> None:
        with translated(place):
            obstore.put(self.store, self.key(place), data)
        self._traffic.add(len(data))

    def infos(self, places: Iterable[str]) -> Mapping[str, Info]:
        by_folder: dict[str, list[str]] = {}
        for place in places:
            by_folder.setdefault(place.rpartition("/")[0], []).append(place)
        found = {}
        for folder, wanted in by_folder.items():
            if len(wanted) < _LISTED_FROM:
                infos = {place: self._info(place) for place in wanted}
            else:
                infos = {f"{folder}/{name}": info for name, info in self._listed(folder)[1].items()}
            found.update({place: info for place in wanted if (info := infos.get(place)) is not None})
        return found

    def _info(self, place: str) -> Info | None:
        self._traffic.add()
        try:
            with translated(place):
                return _described(obstore.head(self.store, self.key(place)))
        except NotFound:
            return None

    def _listed(self, folder: str) -> tuple[list[str], dict[str, Info]]:
        with translated(folder):
            found = obstore.list_with_delimiter(self.store, self.key(folder))
        self._traffic.add()
        folders = [path.rpartition("/")[2] for path in found["common_prefixes"]]
        return sorted(folders), {one["path"].rpartition("/")[2]: _described(one) for one in found["objects"]}

    def children(self, folder: str) -> tuple[list[str], list[str]]:
        folders, files = self._listed(folder)
        return folders, sorted(files)

    def below(self, folder: str) -> Iterator[tuple[str, Info]]:
        with translated(folder):
            for page in obstore.list(self.store, self.key(folder) or None, chunk_size=1000):
                self._traffic.add()
                for one in page:
                    yield f"{SCHEME}{self.bucket}/{one['path']}", _described(one)

    def remove(self, place: str) -> None:
        key = self.key(place)
        self._traffic.add()
        with translated(place):
            for page in obstore.list(self.store, key, chunk_size=1000):
                self._traffic.add()
                obstore.delete(self.store, [one["path"] for one in page])
            obstore.delete(self.store, key)

    def sha256(self, place: str, *, trusting: bool = False) -> str:
        key = self.key(place)
        hashed = hashlib.sha256()
        with translated(place):
            known = self._written(key) if trusting else None
            if known is not None and known[0] == obstore.head(self.store, key)["e_tag"]:
                self._traffic.add()
                return known[1]
            for chunk in obstore.get(self.store, key).stream():
                hashed.update(chunk)
                self._traffic.add(len(chunk), requests=0)
        self._traffic.add()
        return hashed.hexdigest()

    def _written(self, key: str) -> tuple[str, str] | None:
        """ETag and hash of what native handles wrote there, if they did and the server that knows it still runs."""
        gateway = self._gateway
        return gateway.written(key) if gateway is not None and gateway.is_usable else None

    @property
    def gateway(self) -> Gateway:
        """Where native handles read and write; started when the first one asks."""
        with self._starting:
            self._renewed()
            if self._gateway is None or not self._gateway.is_usable:
                self._gateway = Gateway(self.bucket, self._resolved)
            return self._gateway

    def native(self, folder: str) -> Native:
        return Native(self.check_native(folder), self.gateway.options)

    def close(self) -> None:
        with self._starting:
            if self._gateway is not None:
                self._gateway.close()
                self._gateway = None


def _described(found: Any) -> Info:
    return Info(found["size"], int(found["last_modified"].timestamp() * 1_000_000))
