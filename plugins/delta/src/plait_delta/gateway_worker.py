"""A bucket as deltalake needs it: on loopback, for this process alone, a branch's files inside the branch's folder.

`plait_delta.gateway_names` says how. It does only what deltalake asks for: the S3 of one client, not of any.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import shutil
import sys
import tempfile
import threading
from collections.abc import Mapping
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any, BinaryIO, Final
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError

from plait_delta.bucket import Traffic, object_store, put_new
from plait_delta.gateway_names import is_hidden, stored, to_read, to_store

_PAGE_KEYS: Final = 1000
_CHUNK_BYTES: Final = 1 << 20
_PARTS_AT_ONCE: Final = 4
_XMLNS: Final = "http://s3.amazonaws.com/doc/2006-03-01/"


class Bucket:
    """What the server answers from, and what it has seen. Thread-safe."""

    def __init__(self, name: str, options: Mapping[str, str], secret: str) -> None:
        self.name = name
        self.store = object_store(name, options)
        self.secret = secret
        self.uploads: dict[str, tempfile.TemporaryDirectory[str]] = {}
        """What is being sent in parts: its folder for them. (One for all would be old to who cleans /tmp.)"""
        self.checkpoints: dict[str, bytes] = {}
        """The last one of each root's log, which its writer looks at once more, by key."""
        self.views: dict[str, bytes] = {}
        """Objects that are nowhere but here, by key: the logs of what is read only once."""
        self.written: dict[str, tuple[str, str]] = {}
        """ETag and SHA-256 of what was sent, by key: not to be read again to hash it."""
        self.traffic = Traffic()

    def told(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        """The answer to a question of the parent."""
        match question["do"]:
            case "renew":
                self.store = object_store(self.name, question["options"])
            case "show":
                self.views[question["key"]] = question["log"].encode()
            case "hide":
                self.views.pop(question["key"], None)
            case "written":
                return {"written": self.written.get(question["key"])}
            case "count":
                return self.traffic.counts
        return {}


def main() -> None:
    """Serve what the first line of the input says, and answer the lines after it, until they end."""
    first = json.loads(sys.stdin.readline())
    server = _Server(("127.0.0.1", 0), _Handler)
    server.bucket = Bucket(first["bucket"], first["options"], first["secret"])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"port": server.server_port}), flush=True)
    for line in sys.stdin:
        print(json.dumps(server.bucket.told(json.loads(line))), flush=True)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    bucket: Bucket

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a client that has hung up."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = 600
    server: _Server

    # -- what comes in -----------------------------------------------------------------------------------------------

    def do_HEAD(self) -> None:
        self._answer(self._head)

    def do_GET(self) -> None:
        self._answer(self._list if "list-type" in self._query() else self._get)

    def do_PUT(self) -> None:
        self._answer(self._put_part if "uploadId" in self._query() else self._put)

    def do_POST(self) -> None:
        query = self._query()
        if "uploads" in query:
            self._answer(self._begin_upload)
        elif "uploadId" in query:
            self._answer(self._end_upload)
        else:
            self._answer(self._delete_many)

    def do_DELETE(self) -> None:
        self._answer(self._abort_upload if "uploadId" in self._query() else self._delete)

    def _answer(self, method: Any) -> None:
        if not self._is_known():
            self.close_connection = True  # What a stranger sends is not read.
            self._fail(403, "AccessDenied", "this server answers the process that started it alone")
            return
        with tempfile.SpooledTemporaryFile(max_size=16 * _CHUNK_BYTES) as body:
            try:
                if not self._take(body):
                    self.close_connection = True
                    return
                body.seek(0)
                method(body)
            except (FileNotFoundError, NotFoundError) as error:
                self._fail(404, "NoSuchKey", str(error))
            except AlreadyExistsError as error:
                self._fail(412, "PreconditionFailed", str(error))
            except (PermissionError, PermissionDeniedError, UnauthenticatedError) as error:
                self._fail(403, "AccessDenied", str(error))
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            except (BaseError, OSError, ValueError) as error:
                self._fail(500, "InternalError", str(error))
                self.close_connection = True

    def _take(self, body: IO[bytes]) -> bool:
        """Read the request's content. Returns: whether it came whole.

        Raises: OSError where the disk is full, once all is read: who still sends when the connection ends hears no
        answer.
        """
        left = int(self.headers.get("Content-Length") or 0)
        failed: OSError | None = None
        while left:
            chunk = self.rfile.read(min(left, _CHUNK_BYTES))
            if not chunk:
                return False
            left -= len(chunk)
            if failed is None:
                try:
                    body.write(chunk)
                except OSError as error:
                    failed = error
        if failed is not None:
            raise failed
        return True

    def _is_known(self) -> bool:
        """Whether the request is from who has the secret: it is the name of the key that signed it."""
        found = re.search(r"Credential=([0-9a-f]+)/", self.headers.get("Authorization", ""))
        bucket = unquote(urlsplit(self.path).path).split("/")[1]
        return found is not None and hmac.compare_digest(found[1], self._bucket.secret) and bucket == self._bucket.name

    @property
    def _bucket(self) -> Bucket:
        return self.server.bucket

    def _query(self) -> dict[str, str]:
        found = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        return {name: values[0] for name, values in found.items()}

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).split("/", 2)[2]

    # -- objects -----------------------------------------------------------------------------------------------------

    def _held(self) -> bytes | None:
        """An object that is nowhere but here."""
        key = self._key()
        return self._bucket.views.get(key) or self._bucket.checkpoints.get(key)

    def _shown(self) -> tuple[str, bool]:
        """The key in the bucket of what is asked for, and whether it is in the log of a root."""
        key, in_log = stored(self._key())
        if is_hidden(key, in_log):
            raise FileNotFoundError(key)
        self._bucket.traffic.add()
        return key, in_log

    def _head(self, body: BinaryIO) -> None:
        if (held := self._held()) is not None:
            self._send(200, {"Content-Length": str(len(held)), "ETag": '"held"', **_DATED})
            return
        key, _ = self._shown()
        found = obstore.head(self._bucket.store, key)
        self._send(200, {"Content-Length": str(found["size"]), **_headers(found)})

    def _get(self, body: BinaryIO) -> None:
        bounds = re.match(r"bytes=(\d+)-(\d*)\Z", self.headers.get("Range", ""))
        if (held := self._held()) is not None:
            self._send_part(held, bounds, {"ETag": '"held"', **_DATED})
            return
        key, in_log = self._shown()
        if in_log:
            found = obstore.get(self._bucket.store, key)
            data = to_read(bytes(found.bytes()))
            self._bucket.traffic.add(len(data), requests=0)
            self._send_part(data, bounds, _headers(found.meta))
            return
        options: Any = {}
        if bounds:
            options["range"] = (int(bounds[1]), int(bounds[2]) + 1) if bounds[2] else {"offset": int(bounds[1])}
        found = obstore.get(self._bucket.store, key, options=options)
        start, end = found.range
        headers = {"Content-Length": str(end - start), **_headers(found.meta)}
        if bounds:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{found.meta['size']}"
        self._send(206 if bounds else 200, headers)
        self._stream(found)

    def _stream(self, found: Any) -> None:
        """The rest of an answer that has begun: what breaks now can only be told by hanging up."""
        try:
            for chunk in found.stream(min_chunk_size=_CHUNK_BYTES):
                self.wfile.write(chunk)
                self._bucket.traffic.add(len(chunk), requests=0)
        except (BaseError, OSError):
            self.close_connection = True

    def _put(self, body: BinaryIO) -> None:
        key, in_log = stored(self._key())
        new = self.headers.get("If-None-Match") == "*"
        if in_log and not is_hidden(key, in_log):
            data = to_store(body.read())
            self._bucket.traffic.add(len(data))
            if new:
                etag = put_new(self._bucket.store, key, data)
            else:
                etag = obstore.put(self._bucket.store, key, data)["e_tag"] or ""
            if etag is None:
                self._fail(412, "PreconditionFailed", f"{key} is there")
            else:
                self._send(200, {"ETag": etag or '""'})
        else:
            self._send(200, {"ETag": self._keep(key, body, new=new)})

    def _keep(self, key: str, body: BinaryIO, *, new: bool = False) -> str:
        """Send a file to the bucket, and note its hash. A checkpoint of a root is kept here."""
        if is_hidden(*stored(key)):
            log, _, name = key.rpartition("/")
            for other in [one for one in self._bucket.checkpoints if one.startswith(f"{log}/")]:
                del self._bucket.checkpoints[other]
            if name != "_last_checkpoint":  # By which others would be looked for that are not listed.
                self._bucket.checkpoints[key] = body.read()
            return '"held"'
        hashed = hashlib.sha256()
        while chunk := body.read(_CHUNK_BYTES):
            hashed.update(chunk)
            self._bucket.traffic.add(len(chunk), requests=0)
        body.seek(0)
        mode: Any = "create" if new else "overwrite"
        # Few at a time, so that each gets through before it is given up, also on a slow line.
        found = obstore.put(self._bucket.store, key, body, mode=mode, max_concurrency=_PARTS_AT_ONCE)
        self._bucket.traffic.add()
        self._bucket.written[key] = (found["e_tag"] or "", hashed.hexdigest())
        return found["e_tag"] or '""'

    def _delete(self, body: BinaryIO) -> None:
        obstore.delete(self._bucket.store, stored(self._key())[0])
        self._bucket.traffic.add()
        self._send(204, {})

    def _delete_many(self, body: BinaryIO) -> None:
        asked = [one.text or "" for one in ElementTree.fromstring(body.read()).iter() if one.tag.endswith("Key")]
        obstore.delete(self._bucket.store, [stored(key)[0] for key in asked])
        self._bucket.traffic.add()
        gone = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in asked)
        self._send_xml(f'<DeleteResult xmlns="{_XMLNS}">{gone}</DeleteResult>')

    # -- objects in parts --------------------------------------------------------------------------------------------

    def _begin_upload(self, body: BinaryIO) -> None:
        upload = secrets.token_hex(8)
        self._bucket.uploads[upload] = tempfile.TemporaryDirectory(prefix="plait-delta-")
        self._send_xml(
            f'<InitiateMultipartUploadResult xmlns="{_XMLNS}"><UploadId>{upload}</UploadId>'
            "</InitiateMultipartUploadResult>"
        )

    def _upload(self) -> Path:
        upload = self._query()["uploadId"]
        if upload not in self._bucket.uploads:
            raise FileNotFoundError(upload)
        return Path(self._bucket.uploads[upload].name)

    def _put_part(self, body: BinaryIO) -> None:
        number = int(self._query()["partNumber"])
        with (self._upload() / f"{number:05}").open("wb") as part:
            shutil.copyfileobj(body, part)
        self._send(200, {"ETag": f'"{number}"'})

    def _end_upload(self, body: BinaryIO) -> None:
        with tempfile.TemporaryFile() as whole:
            for part in sorted(self._upload().iterdir()):
                with part.open("rb") as stream:
                    shutil.copyfileobj(stream, whole)
                part.unlink()
            whole.seek(0)
            etag = self._keep(stored(self._key())[0], whole)
        self._bucket.uploads.pop(self._query()["uploadId"]).cleanup()
        self._send_xml(
            f'<CompleteMultipartUploadResult xmlns="{_XMLNS}"><ETag>{escape(etag)}</ETag>'
            "</CompleteMultipartUploadResult>"
        )

    def _abort_upload(self, body: BinaryIO) -> None:
        self._upload()
        self._bucket.uploads.pop(self._query()["uploadId"]).cleanup()
        self._send(204, {})

    # -- listings ----------------------------------------------------------------------------------------------------

    def _list(self, body: BinaryIO) -> None:
        query = self._query()
        prefix = query.get("prefix", "")
        views = [(key, data) for key, data in sorted(self._bucket.views.items()) if prefix and key.startswith(prefix)]
        if views:
            entries = [_entry(key, len(data), '"held"', _DATED_ISO) for key, data in views]
            self._send_xml(_listing(entries, [], None))
            return
        held, _ = stored(prefix)
        after = query.get("continuation-token") or query.get("start-after") or None
        folder = held.rstrip("/")
        if query.get("delimiter"):
            found = obstore.list_with_delimiter(self._bucket.store, folder or None)
            self._bucket.traffic.add()
            objects, folders = list(found["objects"]), list(found["common_prefixes"])
        else:
            pages = obstore.list(self._bucket.store, folder or None, offset=after, chunk_size=_PAGE_KEYS)
            objects, folders = list(next(iter(pages), [])), []
            self._bucket.traffic.add()
        entries, last = [], None
        for one in objects:
            key = one["path"]
            if key.startswith(held) and not is_hidden(*stored(key)):
                shown = prefix + key.removeprefix(held)
                entries.append(_entry(shown, one["size"], one["e_tag"] or '""', one["last_modified"].isoformat()))
        if not query.get("delimiter") and len(objects) >= _PAGE_KEYS:
            last = objects[-1]["path"]
        self._send_xml(_listing(entries, [f"{prefix}{one.removeprefix(held)}/" for one in folders], last))

    # -- what goes out -----------------------------------------------------------------------------------------------

    def _send(self, status: int, headers: Mapping[str, str], data: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers and status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _send_part(self, data: bytes, bounds: re.Match[str] | None, headers: Mapping[str, str]) -> None:
        if bounds is None:
            self._send(200, headers, data)
            return
        start = int(bounds[1])
        end = min(int(bounds[2]) + 1 if bounds[2] else len(data), len(data))
        self._send(206, {**headers, "Content-Range": f"bytes {start}-{end - 1}/{len(data)}"}, data[start:end])

    def _send_xml(self, text: str) -> None:
        self._send(200, {"Content-Type": "application/xml"}, f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode())

    def _fail(self, status: int, code: str, message: str) -> None:
        text = f"<Error><Code>{code}</Code><Message>{escape(message.splitlines()[0])}</Message></Error>".encode()
        self._send(status, {"Content-Type": "application/xml"}, b"" if self.command == "HEAD" else text)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: what fails is told to deltalake, and by it."""


_DATED: Final = {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
_DATED_ISO: Final = "2026-01-01T00:00:00+00:00"


def _headers(found: Any) -> dict[str, str]:
    return {
        "ETag": found["e_tag"] or '""',
        "Last-Modified": format_datetime(found["last_modified"], usegmt=True),
        "Accept-Ranges": "bytes",
    }


def _entry(key: str, size: int, etag: str, changed: str) -> str:
    return (
        f"<Contents><Key>{escape(key)}</Key><LastModified>{changed}</LastModified>"
        f"<ETag>{escape(etag)}</ETag><Size>{size}</Size></Contents>"
    )


def _listing(entries: list[str], folders: list[str], next_token: str | None) -> str:
    prefixes = "".join(f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>" for one in folders)
    more = f"<NextContinuationToken>{escape(next_token)}</NextContinuationToken>" if next_token else ""
    return (
        f'<ListBucketResult xmlns="{_XMLNS}"><IsTruncated>{"true" if next_token else "false"}</IsTruncated>'
        f"<KeyCount>{len(entries) + len(folders)}</KeyCount>{more}{''.join(entries)}{prefixes}</ListBucketResult>"
    )


if __name__ == "__main__":
    main()
