"""S3 for this package: s3fs with one retry layer, whole answers and errors in plain words.

Endpoint, region, key and secret come from the environment or from the usual AWS files, in every process anew;
nothing of them is in a setting of ours, and nothing travels with a pickled filesystem.
"""

import asyncio
import hashlib
import logging
import os
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

from botocore import exceptions as boto
from botocore.session import Session
from fsspec.asyn import sync_wrapper
from s3fs import S3FileSystem
from s3fs.errors import translate_boto_error

from dpt_ray.data.storage import retries
from dpt_ray.errors import StoreFailureError

_log = logging.getLogger("dpt_ray.storage")

CREDENTIALS_FIX = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
_REGION_FIX = "set AWS_REGION to the bucket's region"
_BUCKET_FIX = "create the bucket, or correct its name or AWS_ENDPOINT_URL"
_UNUSABLE = "the object store cannot be used"
_SETTINGS_FIX = "check AWS_ENDPOINT_URL (it begins with http:// or https://), AWS_REGION and the AWS files"
_MISTAKES: dict[str, tuple[str, str]] = {
    "SignatureDoesNotMatch": ("the object store refuses the key or its secret", CREDENTIALS_FIX),
    "InvalidAccessKeyId": ("the object store does not know the key", CREDENTIALS_FIX),
    "InvalidSecurity": ("the object store refuses the credentials", CREDENTIALS_FIX),
    "InvalidToken": ("the object store refuses the session token", f"{CREDENTIALS_FIX}, and AWS_SESSION_TOKEN anew"),
    "ExpiredToken": ("the session token has expired", f"{CREDENTIALS_FIX}, and AWS_SESSION_TOKEN anew"),
    "TokenRefreshRequired": ("the session token has expired", f"{CREDENTIALS_FIX}, and AWS_SESSION_TOKEN anew"),
    "RequestTimeTooSkewed": ("the object store's clock differs from this machine's", "set this machine's clock"),
    "AuthorizationHeaderMalformed": ("the request was signed for another region", _REGION_FIX),
    "PermanentRedirect": ("the bucket is in another region", _REGION_FIX),
    "IllegalLocationConstraintException": ("the bucket is in another region", _REGION_FIX),
    "NoSuchBucket": ("the bucket does not exist", _BUCKET_FIX),
    "InvalidBucketName": ("that is no name for a bucket", _BUCKET_FIX),
}
_CREDENTIAL_ERRORS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.NoAuthTokenError,
    boto.TokenRetrievalError,
    boto.SSOError,
    boto.LoginError,
)


class ObjectStore(S3FileSystem):
    """An fsspec filesystem on S3. Options may come from fsspec's own configuration; ours are defaults below them.

    All of s3fs's requests pass through `_call_s3`, so Ray Train, which writes checkpoints through this
    filesystem, has the same retries and timeouts as the functions of `stores`.
    """

    connect_timeout = retries.CONNECT_SECONDS
    read_timeout = retries.READ_SECONDS
    retries = 1  # attempts of s3fs's own layer; ours is the module of that name
    reached = False
    """Whether the endpoint has answered this process; on the class, as each thread has an instance of its own."""

    def __init__(
        self,
        *,
        config_kwargs: dict[str, Any] | None = None,
        client_kwargs: dict[str, Any] | None = None,
        **options: Any,
    ):
        super().__init__(
            config_kwargs={**_client_settings(), **(config_kwargs or {})},
            client_kwargs={**_region(), **(client_kwargs or {})},
            **{"use_listings_cache": False, **options},
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the kind only: the process that loads it has its own environment, and secrets don't travel."""
        return type(self), ()

    async def _call_s3(self, method: str, *defaults: dict[str, Any], **parameters: Any) -> Any:
        """Send one kind of request until it is answered; all that s3fs does goes through here.

        The content of an object is read here, so that an answer cut short counts as a failed attempt.

        Raises:
            StoreFailureError: it kept failing, or settings, credentials or the bucket are wrong.
            OSError: any other answer that is an error, as s3fs translates it.
        """
        where = _where(parameters)
        failed = False

        async def attempt() -> Any:
            nonlocal failed
            try:
                answer = await _in_time(self._send(method, *defaults, **parameters), parameters.get("Body"))
                ObjectStore.reached = True
                return answer
            except Exception as error:
                ObjectStore.reached |= retries.answer(error) is not None
                if failed and method == "complete_multipart_upload" and isinstance(error, FileNotFoundError):
                    return await self._completed_before(parameters, error)
                failed = True
                raise

        try:
            return await retries.with_retries(attempt, where=where, reached=lambda: ObjectStore.reached)
        except Exception as error:
            mistake = _mistake(error, where)
            if mistake is None:
                raise
            raise mistake from error

    call_s3 = sync_wrapper(_call_s3)

    async def _send(self, method: str, *defaults: dict[str, Any], **parameters: Any) -> Any:
        try:
            await self.set_session()
        except ValueError as error:  # how the client refuses an endpoint or a region
            raise StoreFailureError(_UNUSABLE, where=_where(parameters), fix=_SETTINGS_FIX) from error
        answer = await super()._call_s3(method, *defaults, **parameters)
        if method == "get_object":
            answer["Body"] = await _whole_body(answer)
        elif method == "delete_objects" and answer.get("Errors"):  # refused in an answer with status 200
            raise translate_boto_error(boto.ClientError({"Error": answer["Errors"][0]}, "DeleteObjects"))
        return answer

    async def _completed_before(self, parameters: dict[str, Any], error: Exception) -> dict[str, Any]:
        """Return what is there if an earlier attempt finished this upload although its answer was lost."""
        found = await self._send("head_object", Bucket=parameters["Bucket"], Key=parameters["Key"])
        if found["ETag"].strip('"') != _joint_etag(parameters["MultipartUpload"]["Parts"]):
            raise error
        return found

    async def _abort_mpu(self, bucket: str, key: str, mpu: str) -> None:
        """Abandon a failed upload, which nobody can read; the failure itself is what the user must hear of."""
        try:
            await self._send("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=mpu)
        except Exception as error:
            _log.warning("s3://%s/%s: parts of a failed upload stay behind (%s)", bucket, key, type(error).__name__)

    abort_mpu = sync_wrapper(_abort_mpu)

    async def _cat_file(
        self, path: str, version_id: str | None = None, start: int | None = None, end: int | None = None, **options: Any
    ) -> bytes:
        """As in s3fs, but with one request, which needs no permission but to get the object."""
        if start is not None and end is not None and 0 <= end <= start:
            return b""
        try:
            return await super()._cat_file(path, version_id, start, end, **{"max_concurrency": 1, **options})
        except OSError as error:
            if start is not None and (retries.answer(error) or (0, ""))[0] == 416:  # begins behind the end
                return b""
            raise

    async def _exists(self, path: str) -> bool:
        """Whether an object or a folder is there. Errors are raised; s3fs takes some of them for absence."""
        bucket, key, _ = self.split_path(path)
        with suppress(FileNotFoundError):
            await (
                self._call_s3("head_object", Bucket=bucket, Key=key)
                if key
                else self._call_s3("head_bucket", Bucket=bucket)
            )
            return True
        if not key:
            return False
        try:
            below = await self._call_s3("list_objects_v2", Bucket=bucket, Prefix=key.rstrip("/") + "/", MaxKeys=1)
        except PermissionError:  # there is no such object, and folders are not for this user to see
            return False
        return bool(below.get("Contents"))

    exists = sync_wrapper(_exists)

    async def _mkdir(self, path: str, **_: Any) -> None:
        """Do nothing: an object needs no folder, and nobody wants a bucket from a misspelt URL."""

    mkdir = sync_wrapper(_mkdir)


def _joint_etag(parts: list[dict[str, Any]]) -> str | None:
    """Return the ETag that S3 gives to an object of these parts; None if theirs are no digests."""
    try:
        digests = b"".join(bytes.fromhex(part["ETag"].strip('"')) for part in parts)
    except ValueError:
        return None
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"


class _Body:
    """An object's content, read already, in the form of a stream."""

    def __init__(self, content: bytes):
        self._content, self._position = content, 0

    async def read(self, amount: int = -1) -> bytes:
        start = self._position
        self._position = len(self._content) if amount is None or amount < 0 else start + amount
        return self._content[start : self._position]

    def close(self) -> None:
        pass


async def _whole_body(answer: dict[str, Any]) -> _Body:
    try:
        content = await answer["Body"].read()
    finally:
        answer["Body"].close()
    expected = answer.get("ContentLength")
    if expected is not None and len(content) != expected:
        raise boto.IncompleteReadError(actual_bytes=len(content), expected_bytes=expected)
    return _Body(content)


async def _in_time(request: Awaitable[Any], body: Any) -> Any:
    """Await a request, whose reading has timeouts of its own, and bound the sending of its body."""
    if not isinstance(body, bytes | bytearray | memoryview):
        return await request
    seconds = len(body) / retries.SLOWEST_UPLOAD_BYTES_PER_SECOND
    async with asyncio.timeout(retries.CONNECT_SECONDS + retries.READ_SECONDS + seconds):
        return await request


def _client_settings() -> dict[str, Any]:
    """Return the client's settings that the user has not chosen.

    By default the client sends checksums behind an upload of unknown length, which some servers refuse
    (411 MissingContentLength). Without them the request's signature covers the SHA-256 of the content.
    """
    settings: dict[str, Any] = {"retries": {"total_max_attempts": 1}}
    try:
        chosen = Session().get_scoped_config()
    except boto.BotoCoreError as error:
        raise _mistake(error, "object store") or error from None
    if not (os.environ.get("AWS_REQUEST_CHECKSUM_CALCULATION") or chosen.get("request_checksum_calculation")):
        settings["request_checksum_calculation"] = "when_required"
    return settings


def _region() -> dict[str, str]:
    """Return the region of AWS_REGION, which Python's AWS client, unlike all others, doesn't read itself."""
    region = os.environ.get("AWS_REGION")
    return {"region_name": region} if region else {}


def _where(parameters: dict[str, Any]) -> str:
    key = parameters.get("Key", parameters.get("Prefix", ""))
    return f"s3://{parameters.get('Bucket', '')}" + (f"/{key}" if key else "")


def _mistake(error: Exception, where: str) -> StoreFailureError | None:
    """Return what to tell the user if settings, credentials or the bucket are wrong; None for other errors."""
    _, code = retries.answer(error) or (0, "")
    if code in _MISTAKES:
        what, fix = _MISTAKES[code]
        return StoreFailureError(f"{what} ({code})", where=where, fix=fix)
    if isinstance(error, _CREDENTIAL_ERRORS):
        return StoreFailureError(
            f"there are no usable credentials ({type(error).__name__})", where=where, fix=CREDENTIALS_FIX
        )
    if isinstance(error, boto.ProfileNotFound):
        return StoreFailureError(
            "AWS_PROFILE names no profile of the AWS files", where=where, fix="correct AWS_PROFILE"
        )
    if isinstance(error, boto.SSLError):
        fix = "set AWS_CA_BUNDLE to the server's certificate, or use http:// for a server without TLS"
        return StoreFailureError("no secure connection to the object store", where=where, fix=fix)
    if isinstance(error, boto.ParamValidationError):
        return StoreFailureError("that is no name for a bucket or an object", where=where, fix="correct the URL")
    if isinstance(error, boto.BotoCoreError):
        return StoreFailureError(f"{_UNUSABLE} ({type(error).__name__})", where=where, fix=_SETTINGS_FIX)
    return None
