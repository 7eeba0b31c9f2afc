"""A data set in an object store, by boto3. One `put_object` is one atomic write, which every S3 dialect understands."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

import boto3
import botocore.session
import urllib3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ResponseStreamingError,
    SSLError,
)
from botocore.exceptions import ConnectionError as NoConnectionError
from botocore.loaders import Loader

from workflows.patience import Patience, patience_of
from workflows.storage import S3_SCHEME, Entry, StoreError, require_size

Result = TypeVar("Result")

LARGEST_PUT = 5 * 10**9
_ABSENT = {"404", "NoSuchKey", "NotFound"}
_FORBIDDEN = {"403", "AccessDenied", "Forbidden"}
_TAKEN = {"412", "PreconditionFailed"}
_UNSUPPORTED = {"501", "NotImplemented"}
_WRONG_CLOCK = {"RequestTimeTooSkewed"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken"}
_REDIRECTS = {301, 302, 307}
_REGION_HEADER = "x-amz-bucket-region"
_BUSY_STATUS = {429, 500, 502, 503, 504}
_BUSY = {"SlowDown", "RequestTimeout", "RequestTimeoutException", "Throttling", "ThrottlingException"} | {
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "ConditionalRequestConflict",  # another conditional write is under way: the store asks to try again
    "OperationAborted",
}


class S3Store:
    """Objects under `s3://bucket/prefix`; the contract is `storage.Store`.

    Endpoint, region and credentials come from boto3's own chain (AWS_ENDPOINT_URL included) and are never written
    anywhere. botocore's own retries are off: those here also cover bodies that break off or trickle in.
    """

    def __init__(self, root: str, *, patience: Patience | None = None) -> None:
        bucket, _, prefix = root.removeprefix(S3_SCHEME).partition("/")
        if not bucket:
            raise ValueError(f"{root}: an S3 address is s3://bucket/prefix")
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.root = f"{S3_SCHEME}{bucket}/{self._prefix}".rstrip("/")
        self._patience = patience or patience_of()
        self._client = open_client(self._patience, open_session())

    def get(self, key: str, *, at_most: int | None = None) -> bytes:
        def read() -> bytes:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
            with closing(answer["Body"]) as body:
                require_size(answer["ContentLength"], at_most)
                return _read_body(body, self._patience.body_seconds(answer["ContentLength"]))

        return self._try("read", key, read)

    def put(self, key: str, data: bytes) -> None:
        self._try("write", key, lambda: self._put(key, data))

    def put_file(self, key: str, path: Path) -> None:
        if (size := path.stat().st_size) > LARGEST_PUT:
            raise StoreError(f"cannot write {self.root}/{key}: {size:,} bytes are more than S3 takes at once (5 GB)")

        def send() -> None:
            with path.open("rb") as file:
                self._put(key, file)

        self._try("write", key, send)

    def put_if_absent(self, key: str, data: bytes) -> bytes:
        """As the contract says. Where the store knows no conditional put: look, write, wait, and read who came last."""
        try:
            self._try("write", key, lambda: self._put(key, data, IfNoneMatch="*"))
        except StoreError as refusal:
            code = _code(refusal.__cause__)
            if code in _UNSUPPORTED and not self.exists(key):
                self.put(key, data)
                time.sleep(self._patience.settle_seconds)
            elif code not in _UNSUPPORTED | _TAKEN:
                raise
        return self.get(key)

    def exists(self, key: str) -> bool:
        """By a GET whose body is left unread: the answer to a HEAD has no room for the reason of a refusal."""

        def look() -> None:
            self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)["Body"].close()

        try:
            self._try("look up", key, look)
        except FileNotFoundError:
            return False
        return True

    def list(self, folder: str = "") -> Iterator[Entry]:
        prefix = self._prefix + (f"{folder.rstrip('/')}/" if folder else "")
        position: dict[str, str] = {}
        while True:
            page = self._try("list", folder, partial(self._page, prefix, position))
            for item in page.get("Contents", []):
                if not item["Key"].endswith("/"):  # what consoles put where somebody makes a folder
                    yield Entry(item["Key"].removeprefix(self._prefix), item["ETag"].strip('"'))
            if not page.get("IsTruncated"):
                return
            if "NextContinuationToken" not in page:  # as of a store that knows the first version of this request alone
                what = "the store sends a part of the list, and does not say where the next one begins"
                raise StoreError(f"cannot list {self.root}/{folder}".rstrip("/") + f": {what}")
            position = {"ContinuationToken": page["NextContinuationToken"]}

    def delete(self, key: str) -> None:
        self._try("delete", key, lambda: self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key))

    def _put(self, key: str, data: bytes | BinaryIO, **condition: str) -> None:
        self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=data, **condition)

    def _page(self, prefix: str, position: dict[str, str]) -> Any:
        return self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **position)

    def _try(self, verb: str, key: str, request: Callable[[], Result]) -> Result:
        """Run a request, again after a growing random pause while the failure is one that passes."""
        where = f"{self.root}/{key}".rstrip("/")
        try:
            return self._patience.keep_trying(request, passes)
        except (ClientError, BotoCoreError) as error:
            raise _translate(error, verb, where, self._patience.attempts) from error


@dataclass(frozen=True, slots=True)
class _Sender:
    """Sends requests as botocore does, and reads lists and refusals, which it would read without a limit in all."""

    session: Any
    patience: Patience

    def send(self, request: Any, event_name: str, **_: object) -> Any:
        """For botocore's event before-send: the answer, read unless it is an object's body, which `get` reads."""
        request.stream_output = True
        answer = self.session.send(request)
        if answer.status_code in _REDIRECTS and _REGION_HEADER not in answer.headers:
            raise _sent_on(answer, event_name)
        if answer.status_code >= 300 or not event_name.endswith(".GetObject"):
            self._read(answer)
        return answer

    def _read(self, answer: Any) -> None:
        """Raises what a request raises whose answer breaks off."""
        size = int(answer.headers.get("content-length", 0))
        try:
            with _broken_off_after(self.patience.body_seconds(size), answer.raw):
                data = answer.content  # which the answer keeps
        except urllib3.exceptions.HTTPError as error:
            raise ResponseStreamingError(error=error) from error
        if len(data) < size:
            raise IncompleteReadError(actual_bytes=len(data), expected_bytes=size)


def _sent_on(answer: Any, event_name: str) -> ClientError:
    """What an answer says that is no store's, mostly that https is wanted. botocore takes it for one from the wrong
    region, and asks for the right one by a request that is answered alike, until Python's stack ends."""
    where = answer.headers.get("Location") or "another address, which it does not say"
    message = f"the store sends on to {where}; AWS_ENDPOINT_URL names its address"
    said = {"HTTPStatusCode": answer.status_code, "HTTPHeaders": {}}
    error = {"Code": str(answer.status_code), "Message": message}
    return ClientError({"Error": error, "ResponseMetadata": said}, event_name)


def _read_body(body: Any, seconds: float) -> bytes:
    """The whole body of an answer."""
    with _broken_off_after(seconds, body._raw_stream):
        data: bytes = body.read()
    return data


@contextmanager
def _broken_off_after(seconds: float, stream: Any) -> Iterator[None]:
    """Breaks off an answer that takes too long: a trickle never times out by itself."""
    watch = threading.Timer(seconds, stream.shutdown)
    watch.daemon = True
    watch.start()
    try:
        yield
    finally:
        watch.cancel()


def open_session() -> boto3.session.Session:
    """A session that finds endpoint, region and credentials anew, with the descriptions of services that are here."""
    core = botocore.session.get_session()
    core.register_component("data_loader", _descriptions())
    session = boto3.session.Session(botocore_session=core)
    places = _descriptions().search_paths
    places[:] = dict.fromkeys(places)  # each session adds its folder
    return session


@cache
def _descriptions() -> Loader:
    """What botocore knows of services: a megabyte of JSON that a session would read for itself, for 0.2 s."""
    return botocore.session.get_session().get_component("data_loader")


def open_client(patience: Patience, session: boto3.session.Session) -> Any:
    """A client of a session that waits within these limits. Raises StoreError."""
    config = Config(
        connect_timeout=patience.connect_seconds,
        read_timeout=patience.read_seconds,
        tcp_keepalive=True,
        max_pool_connections=32,
        retries={"total_max_attempts": 1},
        request_checksum_calculation="when_required",  # the trailers of the default are unknown to other stores
        response_checksum_validation="when_required",
    )
    try:
        client = session.client("s3", config=config)
    except BotoCoreError as error:
        raise StoreError(f"cannot open S3: {error}") from error
    client.meta.events.register("before-send.s3", _Sender(client._endpoint.http_session, patience).send)
    return client


def passes(error: Exception) -> bool:
    """Whether the failure is the kind that goes away: busy servers and broken connections."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return _code(error) in _BUSY or status in _BUSY_STATUS
    if isinstance(error, SSLError) and _is_distrust(error):
        return False
    return isinstance(error, HTTPClientError | NoConnectionError | IncompleteReadError)


def _is_distrust(error: SSLError) -> bool:
    """Whether the store's certificate is refused, or the file with those that may be trusted is not there."""
    (cause,) = error.kwargs["error"].args[:1] or (None,)
    return isinstance(cause, ValueError | FileNotFoundError)


def _code(error: BaseException | None) -> str:
    """The error code that the store answered with; none when it did not answer."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def _translate(error: ClientError | BotoCoreError, verb: str, where: str, attempts: int) -> OSError:
    """The error as one line without request headers, signed addresses or credentials."""
    if isinstance(error, ClientError):
        return _refusal(error, verb, where, attempts)
    if isinstance(error, NoCredentialsError):
        return StoreError(f"cannot {verb} {where}: no AWS credentials found (environment, ~/.aws, instance role)")
    if isinstance(error, SSLError) and _is_distrust(error):
        hint = "AWS_CA_BUNDLE names a file of certificates to trust"
        return StoreError(f"cannot {verb} {where}: {error.kwargs['error']} ({hint})")
    if passes(error):
        why = f": {error.kwargs['error']}" if isinstance(error, SSLError) else ""
        tried = f"{attempts} attempts{_asked(error)}"
        return StoreError(f"cannot {verb} {where}: {type(error).__name__} in {tried}{why}")
    return StoreError(f"cannot {verb} {where}: {' '.join(str(error).split())}")


def _asked(error: BotoCoreError) -> str:
    """Whom a request that nobody answered was sent to: the address that settings name, without path and credentials."""
    address = error.kwargs.get("proxy_url") or error.kwargs.get("endpoint_url")
    asked = urlsplit(address) if address else None
    return f" at {asked.scheme}://{asked.netloc.rpartition('@')[2]}" if asked else ""


def _refusal(error: ClientError, verb: str, where: str, attempts: int) -> OSError:
    """What the store answered, with the way out where there is one."""
    code = _code(error)
    if code == "NoSuchBucket":
        return StoreError(f"cannot {verb} {where}: there is no such bucket")
    if code in _ABSENT:
        return FileNotFoundError(f"{where} does not exist")
    reason = str(error.response.get("Error", {}).get("Message", "")).splitlines()
    message = f"cannot {verb} {where}: {code} {reason[0] if reason else ''}".rstrip()
    if code in _FORBIDDEN:
        return PermissionError(message)
    if code in _WRONG_CLOCK:
        return StoreError(f"{message} (set the clock of {socket.gethostname()})")
    if code in _EXPIRED:
        return StoreError(f"{message} (renew the credentials and run the same command again)")
    return StoreError(f"{message} ({attempts} attempts)" if passes(error) else message)
