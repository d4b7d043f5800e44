"""Who may ask: tokens, certificates, and the name that ends up in the history."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import plait
import pytest
import trustme
from plait.catalog import Catalog
from plait.errors import InvalidArgument, PermissionDenied, StoreUnavailable, Unauthenticated
from plait.hookspecs import Gateway, hookimpl
from plait.persist import Database
from plait.plugins import Plugins
from plait.rpc import plait_pb2 as pb
from plait.rpc.address import find_token, parse_address
from plait.rpc.calls import Calls, Repeat
from plait.types import Commit, Mode, Proposal, Put, Session, SnapshotRef
from plait_conformance.serving import DidNotStart, database_url, serving, start_server
from plait_server.http import find_gateways
from plait_server.repositories import Repositories


def put(name: str) -> Put:
    return Put(("p", name), SnapshotRef("p", "table", name, "v1", b"1" * 32))


def make_token(folder: Path, name: str) -> str:
    """As an administrator does it: beside the database."""
    with plait.open(database_url(folder)) as catalog:
        return catalog.backend.create_token(name)


def prepared(folder: Path) -> str:
    """A database with a token; the token."""
    start_server(folder).stop()
    return make_token(folder, "ci-job")


def test_a_token_names_the_principal_and_the_client_claims_the_author(tmp_path: Path, home: Path) -> None:
    token = prepared(tmp_path)
    with serving(tmp_path, "--auth", "token") as server:
        session = Session("root", "Ada", "notebook")
        with plait.connect(server.url, token=token, session=session) as catalog:
            catalog.add_store("p", "pointer", mode=Mode.POINTER)
            commit = catalog.commit(Proposal("main", (put("a"),), author="Ada"))
            tx = catalog.begin("main").tx
            many = catalog.commit_many([Proposal("main", (put("b"),))])
        assert commit.session == Session("ci-job", "Ada", "notebook")
        assert tx.session.principal == "ci-job"
        assert isinstance(many[0], Commit)
        assert many[0].session.principal == "ci-job"
        assert commit.author == "Ada"


def test_without_a_valid_token_nothing_is_answered(tmp_path: Path, home: Path) -> None:
    with serving(tmp_path, "--auth", "token") as server:
        for token in (None, "", "wrong", "plait_" + "x" * 43):
            with pytest.raises(Unauthenticated, match="token"):
                plait.connect(server.url, token=token)
            with pytest.raises(Unauthenticated, match="token"):
                plait.connect(server.url.replace("/default", "/no-such-repository"), token=token)
        with urllib.request.urlopen(f"{server.http}/healthz") as answer:
            assert answer.status == 200


def ask(url: str, token: str | None = None, context: ssl.SSLContext | None = None) -> Any:
    """The JSON that a gateway answers."""
    request = urllib.request.Request(url, headers={} if token is None else {"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, context=context) as answer:
        return json.load(answer)


def test_a_gateway_is_mounted_for_those_who_are_authenticated(tmp_path: Path, home: Path) -> None:
    token = prepared(tmp_path)
    with serving(tmp_path, "--auth", "token") as server:
        answered = ask(f"{server.http}/fake/v1/config", token)
        assert answered["principal"] == "ci-job"
        assert answered["path"].endswith("/v1/config")
        assert (answered["root"], answered["branches"]) == ("/fake", ["main"])
        for wrong in (None, "wrong"):
            with pytest.raises(urllib.error.HTTPError) as caught:
                ask(f"{server.http}/fake/v1/config", wrong)
            with caught.value as refused:
                assert (refused.code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
                assert json.load(refused)["error"]["type"] == "UNAUTHENTICATED"


@pytest.mark.parametrize("paths", [["/one", "/one"], ["/metrics"], ["one"], ["/"]])
def test_a_gateway_whose_path_is_taken_or_none_is_refused(tmp_path: Path, paths: list[str]) -> None:
    class Bringing:
        @hookimpl
        def plait_register_gateways(self, catalog: Catalog) -> list[Gateway]:
            return [Gateway(path, lambda scope, receive, send: None) for path in paths]  # type: ignore[arg-type,return-value]

    plait.init(tmp_path).close()
    database = Database(f"sqlite:///{tmp_path}/.plait/catalog.db")
    plugins = Plugins([Bringing()], installed=False)
    with closing(database), closing(Repositories(database, plugins)) as repositories:
        with pytest.raises(InvalidArgument, match=f"cannot be mounted at '{paths[-1]}'"):
            find_gateways(repositories, "default")


def test_a_deleted_token_is_refused_by_the_server_that_deleted_it(tmp_path: Path, home: Path) -> None:
    token = prepared(tmp_path)
    other = make_token(tmp_path, "other")
    with serving(tmp_path, "--auth", "token") as server, plait.connect(server.url, token=token) as catalog:
        with plait.connect(server.url, token=other) as deleting:
            deleting.backend.delete_token("ci-job")
        with pytest.raises(Unauthenticated, match="not valid"):
            catalog.refs()


def test_the_token_is_the_argument_else_the_variable_else_the_private_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_token(None) is None
    path = home / ".config" / "plait" / "token"
    path.parent.mkdir(parents=True)
    path.write_text("from-file\n")
    path.chmod(0o640)
    with pytest.raises(PermissionDenied, match="chmod 600"):
        find_token(None)
    path.chmod(0o600)
    assert find_token(None) == "from-file"
    monkeypatch.setenv("PLAIT_TOKEN", "from-variable")
    assert find_token(None) == "from-variable"
    assert find_token("argument") == "argument"


@pytest.mark.parametrize("secret", ["two words", "é", "secret\nsecret", "secret\0", "s" * 5000])
def test_what_is_no_token_is_refused_before_any_call_and_not_shown(
    home: Path, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    path = home / ".config" / "plait" / "token"
    path.parent.mkdir(parents=True)
    path.touch(mode=0o600)
    path.write_text(secret, encoding="utf-8")
    found = []
    for given, told in ((secret, "the token"), (None, f"the token file {path}")):
        with pytest.raises(InvalidArgument, match=f"{told} holds no token") as caught:
            plait.connect("plait://127.0.0.1:1", token=given)
        found.append(str(caught.value))
    assert not any("secret" in text or "words" in text for text in found)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidArgument, match="holds no token"):
        find_token(None)
    monkeypatch.setenv("PLAIT_TOKEN", "from-variable\r\n")
    assert find_token(None) == "from-variable"


@pytest.mark.parametrize(
    "url",
    [
        "plait://",
        "http://host/r",
        "plait://user:secret@host/r",
        "http://user:secret@host/r",
        "plait://host:x/r",
        "plait://host/a/b",
        "plait://h/r?x=1",
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_address(url)
    assert "secret" not in str(caught.value)


def test_an_address_has_a_default_port_and_repository() -> None:
    address = parse_address("plaits://[::1]")
    assert (address.target, address.repository, address.tls) == ("[::1]:7450", "default", True)
    assert parse_address("plait://host:1/r").target == "host:1"


# -- certificates ------------------------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a server's settings and certificates, a client's, and a stranger's; the authority's certificate."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued = {"server": ca.issue_cert("127.0.0.1", "localhost")}
    for name, signer in (("client", ca), ("stranger", trustme.CA())):
        issued[name] = signer.issue_cert(f"{name}@example.org", common_name=f"{name}.example.org")
    issued["nameless"] = ca.issue_cert("nameless@example.org")
    issued["blank"] = ca.issue_cert("blank@example.org", common_name=" ")
    for name, certificate in issued.items():
        certificate.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.pem"))
        certificate.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))
    (tmp_path / "plait.toml").write_text(
        f'[tls]\ncert = "{tmp_path}/server.pem"\nkey = "{tmp_path}/server.key"\nclient_ca = "{tmp_path}/ca.pem"\n'
    )
    monkeypatch.setenv("PLAIT_CA_FILE", str(tmp_path / "ca.pem"))
    return tmp_path / "ca.pem"


def show(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str) -> None:
    monkeypatch.setenv("PLAIT_CERT_FILE", str(folder / f"{name}.pem"))
    monkeypatch.setenv("PLAIT_KEY_FILE", str(folder / f"{name}.key"))


def test_tls_is_spoken_with_those_who_trust_the_authority(
    tmp_path: Path, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path) as server:
        assert server.url.startswith("plaits://")
        with plait.connect(server.url) as catalog:
            assert [ref.name for ref in catalog.refs()] == ["main"]
        trusting = ssl.create_default_context(cafile=str(authority))
        assert server.http.startswith("https://")
        assert ask(f"{server.http}/fake/", context=trusting)["principal"] == "anonymous"
        with pytest.raises(urllib.error.URLError, match="certificate"):
            ask(f"{server.http}/fake/", context=ssl.create_default_context())
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
        monkeypatch.setenv("PLAIT_CA_FILE", str(tmp_path / "other.pem"))
        with pytest.raises(StoreUnavailable, match="check that PLAIT_CA_FILE"):
            plait.connect(server.url)
        with pytest.raises(StoreUnavailable, match="write plaits://"):
            plait.connect(server.url.replace("plaits:", "plait:"))


@pytest.mark.parametrize("names", [{"common_name": "127.0.0.1"}, {}])
def test_a_certificate_for_another_host_is_told_as_that(
    tmp_path: Path, authority: Path, monkeypatch: pytest.MonkeyPatch, names: dict[str, str]
) -> None:
    ca = trustme.CA()
    issued = ca.issue_cert("other.example", **names)
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "server.pem"))
    issued.private_key_pem.write_to_path(str(tmp_path / "server.key"))
    ca.cert_pem.write_to_path(str(authority))
    with serving(tmp_path) as server, pytest.raises(StoreUnavailable, match="check that PLAIT_CA_FILE"):
        plait.connect(server.url)


def test_a_host_that_does_not_exist_was_not_reached(home: Path) -> None:
    calls = Calls(parse_address("plait://nowhere.invalid"), None)
    with closing(calls), pytest.raises(StoreUnavailable, match="resolv"):
        calls.ask(pb.CommitRequest(repository="r"), pb.CommitResponse, repeat=Repeat.NEVER)


def test_with_mutual_tls_the_certificates_common_name_is_the_principal(
    tmp_path: Path, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path, "--auth", "mtls") as server:
        with pytest.raises(StoreUnavailable, match="PLAIT_CERT_FILE and PLAIT_KEY_FILE name yours"):
            plait.connect(server.url)
        show(monkeypatch, tmp_path, "stranger")
        with pytest.raises(StoreUnavailable, match="PLAIT_CERT_FILE and PLAIT_KEY_FILE name yours"):
            plait.connect(server.url)
        show(monkeypatch, tmp_path, "client")
        with plait.connect(server.url, session=Session("root", "Ada")) as catalog:
            catalog.add_store("p", "pointer", mode=Mode.POINTER)
            commit = catalog.commit(Proposal("main", (put("a"),)))
        assert commit.session.principal == "client.example.org"
        for name in ("nameless", "blank"):
            show(monkeypatch, tmp_path, name)
            with pytest.raises(Unauthenticated, match="no common name"):
                plait.connect(server.url)


def test_a_certificate_with_anothers_key_is_refused_at_start(tmp_path: Path, authority: Path) -> None:
    settings = tmp_path / "plait.toml"
    settings.write_text(settings.read_text().replace("server.key", "client.key"))
    with pytest.raises(DidNotStart, match=r"plait.toml:2: tls.cert = .* are no certificate and its key"):
        start_server(tmp_path)


def test_half_of_a_certificate_is_refused(authority: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIT_CERT_FILE", str(authority))
    with pytest.raises(InvalidArgument, match="PLAIT_KEY_FILE"):
        plait.connect("plaits://127.0.0.1:1")
    monkeypatch.delenv("PLAIT_CERT_FILE")
    monkeypatch.setenv("PLAIT_CA_FILE", "missing.pem")
    with pytest.raises(InvalidArgument, match="PLAIT_CA_FILE=missing"):
        plait.connect("plaits://127.0.0.1:1")
