"""Settings: what overrides what, and bad ones are refused where they were made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from plait.errors import InvalidArgument, NotFound
from plait_server.config import Auth, Config, load_config


def load(
    tmp_path: Path, text: str, environ: Mapping[str, str] | None = None, arguments: Mapping[str, str] | None = None
) -> Config:
    path = tmp_path / "plait.toml"
    path.write_text(text)
    return load_config(path, environ or {}, dict(arguments or {}))


def test_without_settings_it_listens_on_this_machine_only(tmp_path: Path) -> None:
    config = load(tmp_path, "")
    assert str(config.grpc) == "127.0.0.1:7450"
    assert str(config.http) == "127.0.0.1:7451"
    assert config.auth is Auth.NONE
    assert config.database_url == "sqlite:///.plait/catalog.db"
    assert config.tls is None


def test_the_environment_overrides_the_file_and_the_command_line_overrides_both(tmp_path: Path) -> None:
    text = '[server]\ngrpc = "127.0.0.1:1"\nhttp = "127.0.0.1:1"\nrepository = "one"\n'
    environ = {
        "PLAIT_SERVER_GRPC": "127.0.0.1:2",
        "PLAIT_SERVER_HTTP": "127.0.0.1:2",
        "PLAIT_DATABASE_URL": "sqlite:///x",
    }
    config = load(tmp_path, text, environ, {"server.grpc": "127.0.0.1:3"})
    assert (config.repository, str(config.http), str(config.grpc)) == ("one", "127.0.0.1:2", "127.0.0.1:3")
    assert config.database_url == "sqlite:///x"


def test_an_empty_http_address_means_no_http_port(tmp_path: Path) -> None:
    assert load(tmp_path, '[server]\nhttp = ""\n').http is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[server]\n\ngrpc = "nowhere"\n', r"plait\.toml:3: server\.grpc = 'nowhere' is no address"),
        ('[server]\ngrpc = "127.0.0.1:99999"\n', r"plait\.toml:2: server\.grpc"),
        ('[server]\n# auth = "none"\nauth = "maybe"\n', r"plait\.toml:3: server\.auth = 'maybe' is no way"),
        ('[server]\nhttp = "127.0.0.1:1"\ngrpc = "0.0.0.0:7450"\n', r"plait\.toml:3: server\.grpc = .* other machines"),
        ('[server]\nhttp = "0.0.0.0:7451"\n', r"plait\.toml:2: server\.http = .* other machines"),
        ('[server]\nauth = "mtls"\n', r"plait\.toml:2: server\.auth = 'mtls' needs certificates"),
        ('[server]\ngrcp = "127.0.0.1:1"\n', r"plait\.toml:2: server\.grcp is no setting"),
        ("[server]\ngrpc = 7450\n", r"plait\.toml:2: server\.grpc = 7450 is no text"),
        ('grpc = "127.0.0.1:1"\n', r"plait\.toml:1: 'grpc' stands outside of a section"),
        ('[tls]\ncert = "nothing.pem"\n', r"plait\.toml:2: tls\.cert = 'nothing\.pem' needs tls\.key"),
        ('[tls]\ncert = "nothing.pem"\nkey = "nothing.key"\n', r"plait\.toml:2: tls\.cert = .* cannot be read"),
        ('[database]\nurl = ""\n', r"plait\.toml:2: database\.url = '' is empty"),
        ('[database]\nurl = "catalog.db"\n', r"plait\.toml:2: database\.url = 'catalog.db' names no database"),
        (
            '[database]\nurl = "mysql://me:hunter2@db/x"\n',
            r"plait\.toml:2: database\.url = 'mysql://me:\*\*\*@db/x' names",
        ),
        ("[server\n", r"plait\.toml: .*line 1"),
        ('\nserver.grpc = "nowhere"\n', r"plait\.toml:2: server\.grpc = 'nowhere' is no address"),
        ('\nserver = { http = "", grpc = "nowhere" }\n', r"plait\.toml:2: server\.grpc = 'nowhere' is no address"),
        ('[server]\ngrpc.host = "nowhere"\n', r"plait\.toml:2: server\.grpc = .* is no text"),
    ],
)
def test_a_bad_setting_is_refused_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        load(tmp_path, text)


def test_a_bad_setting_of_the_environment_names_its_variable(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"PLAIT_SERVER_AUTH: server\.auth = 'x'"):
        load(tmp_path, "", {"PLAIT_SERVER_AUTH": "x"})


def test_a_variable_that_is_no_setting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"^PLAIT_SERVER_GPRC in the environment is no setting") as caught:
        load(tmp_path, "", {"PLAIT_SERVER_GPRC": "127.0.0.1:1", "PLAIT_TOKEN": "t"})
    assert "PLAIT_SERVER_GRPC" in caught.value.remedy


def test_other_machines_may_reach_a_server_that_asks_for_tokens(tmp_path: Path) -> None:
    assert not load(tmp_path, '[server]\nauth = "token"\ngrpc = "0.0.0.0:1"\n').grpc.is_loopback


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"missing\.toml"):
        load_config(tmp_path / "missing.toml", {}, {})


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plait.toml").write_bytes(b'[server]\ngrpc = "\xff"\n')
    with pytest.raises(InvalidArgument, match=r"plait\.toml:2: is not UTF-8"):
        load_config(tmp_path / "plait.toml", {}, {})


@pytest.fixture
def tls(tmp_path: Path) -> str:
    """Settings with a certificate and its key, and room for one more."""
    issued = trustme.CA().issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "server.pem"))
    issued.private_key_pem.write_to_path(str(tmp_path / "server.key"))
    return f'[tls]\ncert = "{tmp_path}/server.pem"\nkey = "{tmp_path}/server.key"\n'


@pytest.mark.parametrize("content", [b"", b"nothing", b"\xff\xfe"])
def test_an_authority_that_is_no_certificate_is_refused_at_start(tmp_path: Path, tls: str, content: bytes) -> None:
    (tmp_path / "clients.pem").write_bytes(content)
    with pytest.raises(InvalidArgument, match=r"plait\.toml:4: tls\.client_ca = .* holds no certificate"):
        load(tmp_path, f'{tls}client_ca = "{tmp_path}/clients.pem"\n')
    assert load(tmp_path, f'{tls}client_ca = "{tmp_path}/server.pem"\n').tls is not None


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_pass_phrase(tmp_path: Path, tls: str) -> None:
    key = load_pem_private_key((tmp_path / "server.key").read_bytes(), None)
    hidden = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (tmp_path / "server.key").write_bytes(hidden)
    with pytest.raises(InvalidArgument, match=r"plait\.toml:3: tls\.key = .* is encrypted"):
        load(tmp_path, tls)


def test_what_is_no_certificate_is_told_without_a_reason_that_there_is_not(tmp_path: Path, tls: str) -> None:
    (tmp_path / "server.pem").write_text("nothing")
    with pytest.raises(InvalidArgument, match=r"are no certificate and its key$"):
        load(tmp_path, tls)
