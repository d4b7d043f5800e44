"""The address of a served catalog, and the client's credentials: URL, token, certificates."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import grpc

from plait.errors import InvalidArgument, PermissionDenied
from plait.refspec import check_repository_name

DEFAULT_PORT = 7450
DEFAULT_REPOSITORY = "default"
_TOKEN_CHARACTERS_MAX = 4096
_REMEDY = "write plait://host:port/repository, or plaits://… for TLS"


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed `plait://host:port/repository`."""

    target: str
    repository: str
    tls: bool


def parse_address(url: str) -> Address:
    """Read a URL; port and repository have defaults. Raises: InvalidArgument."""
    try:
        parts = urlsplit(str(url))
        port = parts.port or DEFAULT_PORT
    except ValueError as error:
        raise InvalidArgument(f"this is no address of a catalog: {error}", remedy=_REMEDY) from error
    if parts.username is not None or parts.password is not None:
        raise InvalidArgument(
            "an address holds no credentials: they would be shown", remedy="set PLAIT_TOKEN, or keep a token file"
        )
    if parts.scheme not in ("plait", "plaits") or not parts.hostname or parts.query or parts.fragment:
        raise InvalidArgument(f"{url!r} is no address of a catalog", remedy=_REMEDY)
    repository = check_repository_name(unquote(parts.path.strip("/")) or DEFAULT_REPOSITORY)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Address(f"{host}:{port}", repository, parts.scheme == "plaits")


def find_token(token: str | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """The token as given, or `PLAIT_TOKEN`, or the file `~/.config/plait/token`; None when there is none.

    Raises: PermissionDenied when others than its owner may read the file, InvalidArgument for what is no token.
    """
    if token is not None:
        return _token(token, "the token")
    if environ.get("PLAIT_TOKEN", "").strip():
        return _token(environ["PLAIT_TOKEN"], "PLAIT_TOKEN")
    path = Path(environ.get("HOME") or Path.home()) / ".config" / "plait" / "token"
    try:
        mode = path.stat().st_mode
        if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
            raise PermissionDenied(
                f"the token file {path} may be read by others than you",
                remedy=f"chmod 600 {path}, and make a new token",
            )
        return _token(path.read_text(encoding="utf-8", errors="replace"), f"the token file {path}") or None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PermissionDenied(f"the token file {path} cannot be read: {error.strerror}") from error


def _token(text: str, where: str) -> str:
    """The token, without the line end that files and shells add. Raises: InvalidArgument that never shows the token."""
    token = text.strip() if isinstance(text, str) else None
    if token is None or not re.fullmatch(r"[!-~]*", token) or len(token) > _TOKEN_CHARACTERS_MAX:
        raise InvalidArgument(
            f"{where} holds no token: one is a single word of plain characters",
            remedy="give it as 'plait token create NAME' printed it",
        )
    return token


def channel_credentials(environ: Mapping[str, str] = os.environ) -> grpc.ChannelCredentials:
    """TLS: the system's certificate authorities or `PLAIT_CA_FILE`; for mutual TLS `PLAIT_CERT_FILE`, `PLAIT_KEY_FILE`.

    Raises: InvalidArgument naming the variable.
    """
    ca, cert, key = (_read(name, environ) for name in ("PLAIT_CA_FILE", "PLAIT_CERT_FILE", "PLAIT_KEY_FILE"))
    if (cert is None) != (key is None):
        raise InvalidArgument("PLAIT_CERT_FILE and PLAIT_KEY_FILE are set together or not at all")
    return grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=cert)


def _read(name: str, environ: Mapping[str, str]) -> bytes | None:
    path = environ.get(name)
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidArgument(f"{name}={path} cannot be read: {error.strerror}", remedy="check the path") from error
