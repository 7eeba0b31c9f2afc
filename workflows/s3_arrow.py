"""S3 for pyarrow, seen as boto3 sees it: the same endpoint, proxy and trusted certificates, the region of the bucket,
and keys that never grow old."""

from __future__ import annotations

from typing import Any, NoReturn

import boto3
import pyarrow as pa
import pyarrow.fs as pafs
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.httpsession import ProxyConfiguration
from botocore.utils import get_environ_proxies

from workflows.patience import patience_of
from workflows.s3 import open_client, open_session, passes
from workflows.storage import StoreError


class S3AsBoto3(pafs.FileSystemHandler):  # type: ignore[misc]
    """For `pyarrow.fs.PyFileSystem`, for reading alone; paths are bucket/key.

    Keys of roles expire within hours, so whatever is opened is opened with those that boto3 has then. Raises StoreError
    when there is no way to get them, or to the store.
    """

    def __init__(self) -> None:
        self._session = open_session()
        self._patience = patience_of()
        self._client = open_client(self._patience, self._session)
        self._endpoint = configured_endpoint(self._session, self._client)
        self._trusted = trusted_certificates(self._session)
        self._opened: dict[str, tuple[dict[str, str], pafs.S3FileSystem]] = {}

    def get_type_name(self) -> str:
        return "s3-as-boto3"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> list[pafs.FileInfo]:
        return [self._at(path).get_file_info(path) for path in paths]

    def get_file_info_selector(self, selector: pafs.FileSelector) -> list[pafs.FileInfo]:
        return list(self._at(selector.base_dir).get_file_info(selector))

    def open_input_stream(self, path: str) -> pa.NativeFile:
        return self._at(path).open_input_stream(path)

    def open_input_file(self, path: str) -> pa.NativeFile:
        return self._at(path).open_input_file(path)

    def _refuse(self, *_: object) -> NoReturn:
        raise PermissionError("S3 is only read here; stores write")

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = delete_file = _refuse
    move = copy_file = open_output_stream = open_append_stream = _refuse

    def _at(self, path: str) -> pafs.S3FileSystem:
        """The file system that reaches the bucket of a path with the keys of now."""
        bucket, keys = path.partition("/")[0], self._keys()
        known, opened = self._opened.get(bucket, ({}, None))
        if opened is None or known != keys:
            opened = self._open(self._region(bucket) if opened is None else opened.region, keys)
            self._opened[bucket] = keys, opened
        return opened

    def _open(self, region: str | None, keys: dict[str, str]) -> pafs.S3FileSystem:
        return pafs.S3FileSystem(
            endpoint_override=self._endpoint,
            region=region,
            connect_timeout=self._patience.connect_seconds,
            request_timeout=self._patience.read_seconds,
            retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=self._patience.attempts),
            proxy_options=proxy_to(self._client.meta.endpoint_url),
            **({"tls_ca_file_path": self._trusted} if self._trusted else {}),
            **keys,
        )

    def _keys(self) -> dict[str, str]:
        """Arguments of S3FileSystem; none where boto3 finds no keys."""
        try:
            found = self._session.get_credentials()
            keys = found.get_frozen_credentials() if found else None
        except BotoCoreError as error:
            raise StoreError(f"cannot open S3: {error}") from error
        if keys is None:
            return {}
        return {"access_key": keys.access_key, "secret_key": keys.secret_key, "session_token": keys.token}

    def _region(self, bucket: str) -> str | None:
        """Stores other than AWS take any region, and need not know the request that tells it."""
        if self._endpoint:
            return str(name) if (name := self._session.region_name) else None
        try:
            return self._patience.keep_trying(lambda: bucket_region(self._client, bucket), passes)
        except BotoCoreError as error:
            raise StoreError(f"cannot find the region of s3://{bucket}: {error}") from error


def configured_endpoint(session: boto3.session.Session, client: Any) -> str | None:
    """The address of a store other than AWS, by whichever of AWS's variables or files; None for AWS."""
    asked = client.meta.endpoint_url
    standard = session.client("s3", config=Config(ignore_configured_endpoint_urls=True)).meta.endpoint_url
    return None if asked == standard else str(asked)


def trusted_certificates(session: boto3.session.Session) -> str | None:
    """The file of certificates that stores may have, by AWS_CA_BUNDLE or AWS's file; None for those of the system."""
    named = session._session.get_config_variable("ca_bundle")
    return str(named) if named else None


def proxy_to(address: str) -> str | None:
    """The proxy that boto3 goes through to an address, by HTTP_PROXY, HTTPS_PROXY and NO_PROXY; None where it goes
    straight."""
    proxy = ProxyConfiguration(get_environ_proxies(address)).proxy_url_for(address)
    return str(proxy) if proxy else None


def bucket_region(client: Any, bucket: str) -> str | None:
    """Where a bucket lies, which AWS tells even those whom it refuses; None when there is none. boto3 needs no answer,
    as it goes where it is sent; pyarrow does not."""
    try:
        answer = client.head_bucket(Bucket=bucket)
    except ClientError as error:
        answer = error.response
    region: str | None = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
    return region
