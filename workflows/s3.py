"""A data set in an object store, by boto3. One `put_object` is one atomic write, which every S3 dialect understands."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError, ResponseStreamingError

from workflows.storage import S3_SCHEME, Entry, StoreError, require_size

Result = TypeVar("Result")

ATTEMPTS = 5
LONGEST_WAIT_SECONDS = 20.0
SETTLE_SECONDS = 1.0
_ABSENT = {"404", "NoSuchKey", "NotFound", "NoSuchBucket"}
_FORBIDDEN = {"403", "AccessDenied", "Forbidden"}
_TAKEN = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}
_UNSUPPORTED = {"501", "NotImplemented"}
_BUSY = {"500", "502", "503", "504", "InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout", "Throttling"}


class S3Store:
    """Objects under `s3://bucket/prefix`; the contract is `storage.Store`.

    Endpoint, region and credentials come from boto3's own chain (AWS_ENDPOINT_URL included) and are never written
    anywhere. botocore retries requests; the loop here also covers bodies that break off while they are read.
    """

    def __init__(self, root: str) -> None:
        bucket, _, prefix = root.removeprefix(S3_SCHEME).partition("/")
        if not bucket:
            raise ValueError(f"{root}: an S3 address is s3://bucket/prefix")
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.root = f"{S3_SCHEME}{bucket}/{self._prefix}".rstrip("/")
        self._client = _client()

    def get(self, key: str, *, start: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
        if length == 0:
            return b""
        ranged = {} if (start, length) == (0, None) else {"Range": _byte_range(start, length)}

        def read() -> bytes:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key, **ranged)
            with answer["Body"] as body:
                require_size(answer["ContentLength"], at_most)
                data: bytes = body.read()
            return data

        return self._try("read", key, read)

    def put(self, key: str, data: bytes) -> None:
        self._try("write", key, lambda: self._put(key, data))

    def put_if_absent(self, key: str, data: bytes) -> bytes:
        """As the contract says. Where the store knows no conditional put: look, write, wait, and read who came last."""
        try:
            self._try("write", key, lambda: self._put(key, data, IfNoneMatch="*"))
        except StoreError as refusal:
            code = _code(refusal.__cause__)
            if code in _UNSUPPORTED and not self.exists(key):
                self.put(key, data)
                time.sleep(SETTLE_SECONDS)
            elif code not in _UNSUPPORTED | _TAKEN:
                raise
        return self.get(key)

    def exists(self, key: str) -> bool:
        try:
            self._try("look up", key, lambda: self._client.head_object(Bucket=self._bucket, Key=self._prefix + key))
        except FileNotFoundError:
            return False
        return True

    def list(self, folder: str = "") -> Iterator[Entry]:
        prefix = self._prefix + (f"{folder.rstrip('/')}/" if folder else "")
        position: dict[str, str] = {}
        while True:
            page = self._try("list", folder, lambda at=position: self._page(prefix, at))
            for item in page.get("Contents", []):
                yield Entry(item["Key"].removeprefix(self._prefix), item["ETag"].strip('"'))
            if not page.get("IsTruncated"):
                return
            position = {"ContinuationToken": page["NextContinuationToken"]}

    def delete(self, key: str) -> None:
        self._try("delete", key, lambda: self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key))

    def _put(self, key: str, data: bytes, **condition: str) -> None:
        self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=data, **condition)

    def _page(self, prefix: str, position: dict[str, str]) -> Any:
        return self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **position)

    def _try(self, verb: str, key: str, request: Callable[[], Result]) -> Result:
        """Run a request, again after a growing random pause while the failure is one that passes."""
        where = f"{self.root}/{key}".rstrip("/")
        for attempt in range(ATTEMPTS):
            try:
                return request()
            except (ClientError, BotoCoreError) as error:
                if attempt + 1 == ATTEMPTS or not _passes(error):
                    raise _translate(error, verb, where) from error
            time.sleep(random.uniform(0, min(LONGEST_WAIT_SECONDS, 2.0**attempt)))
        raise AssertionError("unreachable: the last attempt returns or raises")


def _client() -> Any:
    config = Config(
        connect_timeout=10,
        read_timeout=60,
        tcp_keepalive=True,
        max_pool_connections=32,
        retries={"mode": "standard", "total_max_attempts": 4},
        request_checksum_calculation="when_required",  # the trailers of the default are unknown to other stores
        response_checksum_validation="when_required",
    )
    try:
        return boto3.session.Session().client("s3", config=config)
    except BotoCoreError as error:
        raise StoreError(f"cannot open S3: {error}") from error


def _byte_range(start: int, length: int | None) -> str:
    return f"bytes={start}-" if length is None else f"bytes={start}-{start + length - 1}"


def _passes(error: ClientError | BotoCoreError) -> bool:
    """Whether the failure is the kind that goes away: busy servers and broken connections."""
    return _code(error) in _BUSY or isinstance(error, HTTPClientError | ResponseStreamingError)


def _code(error: BaseException | None) -> str:
    """The error code that the store answered with; none when it did not answer."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def _translate(error: ClientError | BotoCoreError, verb: str, where: str) -> OSError:
    """The error as one line without request headers, signed addresses or credentials."""
    if isinstance(error, ClientError):
        code = _code(error)
        if code in _ABSENT:
            return FileNotFoundError(f"{where} does not exist")
        reason = str(error.response.get("Error", {}).get("Message", "")).splitlines()
        message = f"cannot {verb} {where}: {code} {reason[0] if reason else ''}".rstrip()
        return PermissionError(message) if code in _FORBIDDEN else StoreError(message)
    if isinstance(error, NoCredentialsError):
        return StoreError(f"cannot {verb} {where}: no AWS credentials found (environment, ~/.aws, instance role)")
    if isinstance(error, HTTPClientError | ResponseStreamingError):
        return StoreError(f"cannot {verb} {where}: {type(error).__name__} in {ATTEMPTS} attempts")
    return StoreError(f"cannot {verb} {where}: {' '.join(str(error).split())}")
