"""An S3 filesystem: s3fs with one retry layer, complete responses and clear errors.

Each process reads endpoint, region, key and secret from the environment or from the usual AWS files. No setting of this
package holds them, and a pickled filesystem does not contain them.
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
    "InvalidToken": ("the object store refuses the session token", f"{CREDENTIALS_FIX}, and a new AWS_SESSION_TOKEN"),
    "ExpiredToken": ("the session token has expired", f"{CREDENTIALS_FIX}, and a new AWS_SESSION_TOKEN"),
    "TokenRefreshRequired": ("the session token has expired", f"{CREDENTIALS_FIX}, and a new AWS_SESSION_TOKEN"),
    "RequestTimeTooSkewed": ("the object store's clock differs from this machine's", "set this machine's clock"),
    "AuthorizationHeaderMalformed": ("the request was signed for another region", _REGION_FIX),
    "PermanentRedirect": ("the bucket is in another region", _REGION_FIX),
    "IllegalLocationConstraintException": ("the bucket is in another region", _REGION_FIX),
    "NoSuchBucket": ("the bucket does not exist", _BUCKET_FIX),
    "InvalidBucketName": ("is no valid name for a bucket", _BUCKET_FIX),
}
_BAD_REQUEST = 400
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
    """An fsspec filesystem on S3. Options of fsspec's own configuration override the defaults here.

    All requests of s3fs pass through `_call_s3`. Ray Train writes checkpoints through this filesystem, so it has the
    same retries and timeouts as the functions of `stores`.
    """

    connect_timeout = retries.CONNECT_SECONDS
    read_timeout = retries.READ_SECONDS
    retries = 1  # attempts of s3fs's own retry layer; the module `retries` is the only one
    reached = False
    """Whether the endpoint has answered this process. A class attribute, since each thread has its own instance."""

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
        """Pickle the type alone. The loading process reads its own environment, so no secret is pickled."""
        return type(self), ()

    async def _call_s3(self, method: str, *defaults: dict[str, Any], **parameters: Any) -> Any:
        """Send a request, again after temporary failures; all requests of s3fs pass through here.

        The content of an object is read here, so that a truncated response counts as a failed attempt.

        Raises:
            StoreFailureError: all attempts failed, or settings, credentials or the bucket are wrong.
            OSError: the server answered with another error, as s3fs translates it.
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
            mistake = _mistake(error, where) or await self._mistake_of_head(method, error, parameters)
            if mistake is None:
                raise
            raise mistake from error

    call_s3 = sync_wrapper(_call_s3)

    async def _send(self, method: str, *defaults: dict[str, Any], **parameters: Any) -> Any:
        try:
            await self.set_session()
        except ValueError as error:  # raised by the client for an invalid endpoint or region
            raise StoreFailureError(_UNUSABLE, where=_where(parameters), fix=_SETTINGS_FIX) from error
        answer = await super()._call_s3(method, *defaults, **parameters)
        if method == "get_object":
            answer["Body"] = await _whole_body(answer)
        elif method == "delete_objects" and answer.get("Errors"):  # the status is 200 although objects were refused
            raise translate_boto_error(boto.ClientError({"Error": answer["Errors"][0]}, "DeleteObjects"))
        return answer

    async def _mistake_of_head(
        self, method: str, error: Exception, parameters: dict[str, Any]
    ) -> StoreFailureError | None:
        """Ask why a HEAD request was a bad one, by a request whose answer has a body; a HEAD's answer has none."""
        status, _ = retries.answer(error) or (0, "")
        if method not in ("head_object", "head_bucket") or status != _BAD_REQUEST:
            return None
        bucket, key = parameters["Bucket"], parameters.get("Key")
        try:
            if key:
                await self._send("get_object", Bucket=bucket, Key=key, Range="bytes=0-0")
            else:
                await self._send("list_objects_v2", Bucket=bucket, MaxKeys=1)
        except Exception as told:
            return _mistake(told, _where(parameters))
        return None

    async def _completed_before(self, parameters: dict[str, Any], error: Exception) -> dict[str, Any]:
        """Return the object's metadata if an earlier attempt completed this upload although its response was lost."""
        found = await self._send("head_object", Bucket=parameters["Bucket"], Key=parameters["Key"])
        if found["ETag"].strip('"') != _joint_etag(parameters["MultipartUpload"]["Parts"]):
            raise error
        return found

    async def _abort_mpu(self, bucket: str, key: str, mpu: str) -> None:
        """Abort a failed upload. A failure to do so is only logged, since the user must see the first error."""
        try:
            await self._send("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=mpu)
        except Exception as error:
            _log.warning("s3://%s/%s: parts of a failed upload stay behind (%s)", bucket, key, type(error).__name__)

    abort_mpu = sync_wrapper(_abort_mpu)

    async def _cat_file(
        self, path: str, version_id: str | None = None, start: int | None = None, end: int | None = None, **options: Any
    ) -> bytes:
        """Read an object as s3fs does, but with one request, which needs no other permission than to get the object."""
        if start is not None and end is not None and 0 <= end <= start:
            return b""
        try:
            return await super()._cat_file(path, version_id, start, end, **{"max_concurrency": 1, **options})
        except OSError as error:
            if start is not None and (retries.answer(error) or (0, ""))[0] == 416:  # the range starts after the end
                return b""
            raise

    async def _exists(self, path: str) -> bool:
        """Whether an object or a folder exists. Errors are raised; s3fs treats some of them as absence."""
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
        except PermissionError:  # there is no such object, and this user may not list folders
            return False
        return bool(below.get("Contents"))

    exists = sync_wrapper(_exists)

    async def _mkdir(self, path: str, **_: Any) -> None:
        """Do nothing: an object needs no folder, and a misspelt URL must not create a bucket."""

    mkdir = sync_wrapper(_mkdir)


def _joint_etag(parts: list[dict[str, Any]]) -> str | None:
    """Return the ETag of an object uploaded in these parts; None if the ETag of a part is not a digest."""
    try:
        digests = b"".join(bytes.fromhex(part["ETag"].strip('"')) for part in parts)
    except ValueError:
        return None
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"


class _Body:
    """The content of an object, in memory, with the interface of a response's body."""

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
    """Await a request, with a timeout for sending its body; the client has timeouts for reading the response."""
    if not isinstance(body, bytes | bytearray | memoryview):
        return await request
    seconds = len(body) / retries.SLOWEST_UPLOAD_BYTES_PER_SECOND
    async with asyncio.timeout(retries.CONNECT_SECONDS + retries.READ_SECONDS + seconds):
        return await request


def _client_settings() -> dict[str, Any]:
    """Return our settings of the client, without those that the user has chosen.

    By default the client uploads with an unknown length and a checksum after the content, which some servers refuse
    (411 MissingContentLength). Without the checksum, the request's signature covers the SHA-256 of the content.
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
    """Return the region of AWS_REGION, which Python's AWS client does not read, unlike all others."""
    region = os.environ.get("AWS_REGION")
    return {"region_name": region} if region else {}


def _where(parameters: dict[str, Any]) -> str:
    key = parameters.get("Key", parameters.get("Prefix", ""))
    return f"s3://{parameters.get('Bucket', '')}" + (f"/{key}" if key else "")


def _mistake(error: Exception, where: str) -> StoreFailureError | None:
    """Return the error for wrong settings, credentials or a wrong bucket; None for other errors."""
    _, code = retries.answer(error) or (0, "")
    if code in _MISTAKES:
        what, fix = _MISTAKES[code]
        return StoreFailureError(f"{what} ({code})", where=where, fix=fix)
    if isinstance(error, _CREDENTIAL_ERRORS):
        return StoreFailureError(
            f"no usable credentials were found ({type(error).__name__})", where=where, fix=CREDENTIALS_FIX
        )
    if isinstance(error, boto.ProfileNotFound):
        return StoreFailureError(
            "AWS_PROFILE names no profile of the AWS files", where=where, fix="correct AWS_PROFILE"
        )
    if isinstance(error, boto.SSLError):
        fix = "set AWS_CA_BUNDLE to the server's certificate, or use http:// for a server without TLS"
        return StoreFailureError("no secure connection to the object store", where=where, fix=fix)
    if isinstance(error, boto.ParamValidationError):
        return StoreFailureError("is no valid name for a bucket or an object", where=where, fix="correct the URL")
    if isinstance(error, boto.BotoCoreError):
        return StoreFailureError(f"{_UNUSABLE} ({type(error).__name__})", where=where, fix=_SETTINGS_FIX)
    return None
