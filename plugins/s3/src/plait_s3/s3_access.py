"""How a bucket is reached: the endpoint, region and keys that a store's options name, and boto3's client with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.credentials import CredentialProvider, CredentialResolver, Credentials, ReadOnlyCredentials
from botocore.exceptions import PartialCredentialsError
from botocore.loaders import Loader, create_loader
from botocore.session import get_session
from plait.errors import InvalidArgument

from plait_s3.s3_errors import translated

TRANSFER: Final = TransferConfig(use_threads=False)
"""How what is large is sent in parts: in the caller's thread."""

_SAME: Final = ("endpoint", "access_key", "secret_key")
"""The options by which two buckets are of one server and of one user there."""


class Access:
    """A store's options. What they refer to is read when it is asked for; the keys are, for each request."""

    def __init__(self, options: Mapping[str, str], credential: Callable[[str], str]) -> None:
        """`credential` resolves the options' values."""
        self._options = options
        self._credential = credential

    def option(self, name: str) -> str:
        return self._credential(self._options.get(name, ""))

    def in_clear(self) -> Mapping[str, str]:
        """The options that say how, and not where, with their secrets."""
        return {name: value for name in (*_SAME, "region") if (value := self.option(name))}

    def is_as(self, other: Access) -> bool:
        """Whether another is to the same endpoint, with the same credentials."""
        return all(self.option(name) == other.option(name) for name in _SAME)

    def connect(self, bucket: str) -> Any:
        """A client of boto3's; nothing is asked of the server yet. `bucket` is what an error names."""
        endpoint = self.option("endpoint") or None
        config = Config(
            signature_version="s3v4",
            # A server that takes connections and never answers is given up after two minutes.
            retries={"mode": "standard", "total_max_attempts": 4},
            max_pool_connections=32,
            connect_timeout=10,
            read_timeout=30,
            s3={"addressing_style": "path"} if endpoint else {},
        )
        try:
            with translated(f"bucket {bucket!r}"):
                keys = _Keys(self._keys) if any(self._keys()) else None
                return _session(keys).client(
                    "s3", endpoint_url=endpoint, region_name=self.option("region") or "us-east-1", config=config
                )
        except ValueError as error:
            raise InvalidArgument(
                f"bucket {bucket!r} has the endpoint {endpoint!r}, which is no URL",
                remedy="write it with http:// or https:// before the host",
            ) from error

    def _keys(self) -> tuple[str, str]:
        """Raises: PartialCredentialsError where there is one of the two."""
        keys = self.option("access_key"), self.option("secret_key")
        if any(keys) and not all(keys):
            raise PartialCredentialsError(provider="options", cred_var="secret_key" if keys[0] else "access_key")
        return keys


class _Keys(Credentials, CredentialProvider):  # type: ignore[misc]  # botocore left them untyped.
    """Keys that are read for each request: the file that an option names may hold others than before."""

    METHOD = CANONICAL_NAME = "plait"

    def __init__(self, read: Callable[[], tuple[str, str]]) -> None:
        super().__init__(*read())
        self._read = read

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        return ReadOnlyCredentials(*self._read(), None)

    def load(self) -> Credentials:
        return self


@cache
def _descriptions() -> Loader:
    """What botocore knows of services and endpoints: a tenth of a second to read, and the same for every client."""
    return create_loader()


def _session(keys: _Keys | None) -> boto3.session.Session:
    """A session of its own, so that credentials are looked up anew; without keys, where boto3 looks for them."""
    session = get_session()
    session.register_component("data_loader", _descriptions())
    if keys is not None:
        session.register_component("credential_provider", CredentialResolver([keys]))
    return boto3.session.Session(botocore_session=session)
