"""The server's settings: defaults, `plait.toml`, the environment, the command line; each overrides the one before.

    [server]      grpc = "127.0.0.1:7450"   http = "127.0.0.1:7451"
                  auth = "none" | "token" | "mtls"   repository = "default"
                  cores = "one" | "all"
    [database]    url = "sqlite:///.plait/catalog.db"
    [tls]         cert = "server.pem"   key = "server.key"   client_ca = "clients.pem"

In the environment a setting is PLAIT_SECTION_KEY: `PLAIT_SERVER_GRPC`, `PLAIT_DATABASE_URL`, `PLAIT_TLS_CERT`.
A bad setting is refused, and the error says where it was made.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from plait.connecting import is_url, shown
from plait.errors import InvalidArgument, NotFound, PermissionDenied

DEFAULT_FILE = "plait.toml"
DEFAULTS: Mapping[str, str] = {
    "server.grpc": "127.0.0.1:7450",
    "server.http": "127.0.0.1:7451",
    "server.auth": "none",
    "server.repository": "default",
    "server.cores": "one",
    "database.url": "sqlite:///.plait/catalog.db",
    "tls.cert": "",
    "tls.key": "",
    "tls.client_ca": "",
}


class Auth(StrEnum):
    """How clients prove who they are."""

    NONE = "none"
    TOKEN = "token"
    MTLS = "mtls"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to listen; port 0 is any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM bytes; `client_ca` is who signs clients' certificates. `https` is the same for the HTTP port."""

    cert: bytes
    key: bytes
    client_ca: bytes | None
    https: ssl.SSLContext


@dataclass(frozen=True, slots=True)
class Config:
    """Checked settings. `http` None: no HTTP port. `repository` is the one that gateways serve and `--init` makes.
    `one_core`: whether calls that wait for the commit point stay together with it on one processor core."""

    grpc: Endpoint
    http: Endpoint | None
    auth: Auth
    repository: str
    database_url: str
    tls: Tls | None
    one_core: bool


@dataclass(frozen=True, slots=True)
class _Setting:
    name: str
    value: str
    where: str

    def bad(self, why: str, remedy: str = "") -> InvalidArgument:
        return InvalidArgument(f"{self.where}: {self.name} = {self.value!r} {why}", remedy=remedy)


def load_config(path: Path | None, environ: Mapping[str, str], arguments: Mapping[str, str | None]) -> Config:
    """Read and check all settings. `path` None: `plait.toml` here, if there is one; `arguments` are by setting's name.

    Raises: NotFound for a named file that is not there, InvalidArgument with the file and line of a bad setting.
    """
    found = {name: _Setting(name, value, "default") for name, value in DEFAULTS.items()}
    if path is not None and not path.is_file():
        raise NotFound(f"the configuration file {path} does not exist", remedy="check --config, or leave it out")
    file = path or Path(DEFAULT_FILE)
    if file.is_file():
        found.update({setting.name: setting for setting in _read_file(file)})
    variables = {name: "PLAIT_" + name.upper().replace(".", "_") for name in DEFAULTS}
    sections = tuple({f"PLAIT_{name.partition('.')[0].upper()}_" for name in DEFAULTS})
    unknown = sorted(name for name in environ.keys() - variables.values() if name.startswith(sections))
    if unknown:
        known = ", ".join(sorted(variables.values()))
        raise InvalidArgument(f"{unknown[0]} in the environment is no setting", remedy=f"the settings are {known}")
    for name, variable in variables.items():
        if variable in environ:
            found[name] = _Setting(name, environ[variable], variable)
        value = arguments.get(name)
        if value is not None:
            found[name] = _Setting(name, value, f"--{name.partition('.')[2]}")
    return _check(found)


def _check(found: Mapping[str, _Setting]) -> Config:
    grpc = _endpoint(found["server.grpc"])
    http = _endpoint(found["server.http"]) if found["server.http"].value else None
    setting = found["server.auth"]
    if setting.value not in set(Auth):
        raise setting.bad("is no way to authenticate", "write none, token or mtls")
    auth = Auth(setting.value)
    for endpoint, name in ((grpc, "server.grpc"), (http, "server.http")):
        if auth is Auth.NONE and endpoint is not None and not endpoint.is_loopback:
            raise found[name].bad(
                "can be reached from other machines, and auth is 'none'",
                "listen on 127.0.0.1, or set auth to 'token' or 'mtls'",
            )
    tls = _tls(found)
    if auth is Auth.MTLS and (tls is None or tls.client_ca is None):
        raise setting.bad("needs certificates", "set cert, key and client_ca in [tls]")
    for name in ("server.repository", "database.url"):
        if not found[name].value:
            raise found[name].bad("is empty", "give it a value, or leave the setting out")
    _check_database(found["database.url"])
    cores = found["server.cores"]
    if cores.value not in ("one", "all"):
        raise cores.bad("is no choice of processor cores", "write one or all")
    return Config(
        grpc, http, auth, found["server.repository"].value, found["database.url"].value, tls, cores.value == "one"
    )


def _check_database(setting: _Setting) -> None:
    """Raises: InvalidArgument that never shows a password."""
    if not re.match(r"(sqlite|postgresql)(\+\w+)?://", setting.value):
        named = shown(setting.value) if is_url(setting.value) else setting.value
        raise replace(setting, value=named).bad(
            "names no database", "write sqlite:///PATH or postgresql://user@host/database"
        )


def _tls(found: Mapping[str, _Setting]) -> Tls | None:
    cert, key, client_ca = (found[name] for name in ("tls.cert", "tls.key", "tls.client_ca"))
    if not cert.value and not key.value:
        if client_ca.value:
            raise client_ca.bad("needs cert and key beside it")
        return None
    for one, other in ((cert, key), (key, cert)):
        if not one.value:
            raise other.bad(f"needs {one.name} beside it", "set both, or none of them")
    https = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found_cert, found_key = _bytes(cert), _bytes(key)
    asked = []

    def passphrase() -> str:
        """Else OpenSSL asks the terminal, where nobody may be; and gRPC reads no encrypted key."""
        asked.append(key.value)
        return ""

    try:
        https.load_cert_chain(cert.value, key.value, password=passphrase)
    except ssl.SSLError as error:
        if asked:
            raise key.bad("is encrypted", "write it without a pass phrase: openssl pkey -in KEY -out NEW") from error
        why = f": {error.reason}" if error.reason else ""
        raise cert.bad(f"and {key.name} = {key.value!r} are no certificate and its key{why}") from error
    return Tls(found_cert, found_key, _authorities(client_ca) if client_ca.value else None, https)


def _authorities(setting: _Setting) -> bytes:
    """Certificates of those who sign clients' ones. Raises: InvalidArgument where there are none."""
    found = _bytes(setting)
    checked = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        checked.load_verify_locations(cadata=found.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError) as error:
        raise setting.bad("holds no certificate", "name a PEM file of those who sign clients' certificates") from error
    return found


def _bytes(setting: _Setting) -> bytes:
    try:
        return Path(setting.value).read_bytes()
    except OSError as error:
        raise setting.bad(f"cannot be read: {error.strerror}", "check the path, and the file's mode") from error


def _endpoint(setting: _Setting) -> Endpoint:
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]]+)):(\d{1,5})", setting.value)
    if match is None or int(match[3]) > 65535:
        raise setting.bad("is no address to listen on", "write HOST:PORT; port 0 is any free one")
    return Endpoint(match[1] or match[2], int(match[3]))


# -- the file ----------------------------------------------------------------------------------------------------------


def _read_file(path: Path) -> list[_Setting]:
    try:
        text = path.read_text(encoding="utf-8")
        sections = tomllib.loads(text)
    except OSError as error:
        raise PermissionDenied(f"the configuration file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InvalidArgument(f"{path}:{line}: is not UTF-8", remedy="save the file as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument(f"{path}: {error}", remedy='write [section] and, below it, key = "value"') from error
    settings = []
    for section, values in sections.items():
        if not isinstance(values, dict):
            raise InvalidArgument(f"{path}{_line(text, '', section)}: {section!r} stands outside of a section")
        for key, value in values.items():
            name, where = f"{section}.{key}", f"{path}{_line(text, section, key)}"
            if name not in DEFAULTS:
                known = ", ".join(sorted(DEFAULTS))
                raise InvalidArgument(f"{where}: {name} is no setting", remedy=f"the settings are {known}")
            if not isinstance(value, str):
                raise InvalidArgument(f"{where}: {name} = {value!r} is no text", remedy="write it in quotes")
            settings.append(_Setting(name, value, where))
    return settings


def _line(text: str, section: str, key: str) -> str:
    """`:LINE` of a setting, which tomllib does not tell; nothing where it is written in an unusual way."""
    here: list[str] = []
    wanted = [*filter(None, [section]), key]
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[\s*([^\]]+?)\s*\]", line):
            here = _parts(header[1])
        elif assigned := re.match(r"\s*([^=#]+?)\s*=(.*)", line):
            named = [*here, *_parts(assigned[1])]
            is_inline = named == [section] and re.search(rf"\b{re.escape(key)}\b", assigned[2])
            if named[: len(wanted)] == wanted or is_inline:
                return f":{number}"
    return ""


def _parts(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in dotted.split(".")]
