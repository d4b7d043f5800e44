"""boto3's errors as plait's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from botocore import exceptions
from botocore.exceptions import BotoCoreError, ClientError
from plait.errors import InvalidArgument, NotFound, PermissionDenied, StoreUnavailable

GONE: Final = {"404", "NoSuchKey", "NoSuchVersion", "NotFound", "405", "MethodNotAllowed"}
LOST: Final = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict", "404", "NoSuchKey"}
_REFUSED: Final = {
    "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "401", "AllAccessDisabled",
    "ExpiredToken", "InvalidToken",
}  # fmt: skip
_MISNAMED: Final = {"KeyTooLongError", "ObjectParentIsFile", "ExistingObjectIsDirectory"}
"""Of servers over disks, where `p` is no object beside `p/q`."""
_WITHOUT_CREDENTIALS: Final = (
    exceptions.NoCredentialsError,
    exceptions.PartialCredentialsError,
    exceptions.CredentialRetrievalError,
    exceptions.TokenRetrievalError,
    exceptions.SSOError,
    exceptions.ProfileNotFound,
)
_NO_NAMES: Final = (exceptions.ParamValidationError, exceptions.InvalidRegionError)


def code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn boto3's errors into plait's, naming `what` was asked for."""
    try:
        yield
    except ClientError as error:
        code = code_of(error)
        if code in GONE:
            raise NotFound(f"{what} does not exist") from error
        if code == "NoSuchBucket":
            raise NotFound(f"{what}: the bucket does not exist", remedy="create it, or check 'bucket'") from error
        if code in _REFUSED:
            raise PermissionDenied(f"{what}: {error}", remedy="check access_key, secret_key and the policy") from error
        if code in _MISNAMED:
            raise InvalidArgument(
                f"{what} cannot have this name on its server: {error}",
                remedy="choose a shorter one, or one that is no folder of others'",
            ) from error
        raise StoreUnavailable(f"{what}: {error}", remedy="check the store's endpoint") from error
    except _WITHOUT_CREDENTIALS as error:
        raise PermissionDenied(
            f"{what} cannot be asked for: {error}",
            remedy="set the store's options access_key and secret_key, both, or credentials where boto3 finds them",
        ) from error
    except _NO_NAMES as error:
        raise InvalidArgument(
            f"{what}: {' '.join(str(error).split())}",
            remedy="check the store's options bucket, without s3://, and region",
        ) from error
    except (BotoCoreError, OSError) as error:
        raise StoreUnavailable(f"{what} cannot be reached: {error}", remedy="check the store's endpoint") from error
