"""Tables in S3 through pyarrow: wherever boto3 goes, with whichever keys it has."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest

from tests.workflows.certificates import self_signed
from tests.workflows.fault_proxy import closed_port, fault_proxy
from tests.workflows.test_sql import fill
from workflows.s3_arrow import bucket_region, configured_endpoint, proxy_to
from workflows.sql import connect, s3_filesystem
from workflows.storage import StoreError, open_store

MINT = """#!/bin/sh
echo x >> {count}
echo '{{"Version": 1, "AccessKeyId": "'KEY$(wc -l < {count})'", "SecretAccessKey": "s", "SessionToken": "t",'
echo ' "Expiration": "'$(date -u -d '+1 minute' +%Y-%m-%dT%H:%M:%SZ)'"}}'
"""


@pytest.fixture
def root(bucket: str, tmp_path: Path) -> str:
    """A data set of one image."""
    return fill(open_store(f"s3://{bucket}/data"), tmp_path)


def configure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *lines: str) -> None:
    """AWS's file with these lines, in the place of the variables."""
    path = tmp_path / "config"
    path.write_text("\n".join(["[default]", "region = us-east-1", *lines]))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)


def count_masks(root: str) -> int:
    ((count,),) = connect(root).execute("SELECT count(rle) FROM masks").fetchall()
    return int(count)


def test_an_endpoint_in_awss_own_file_counts(
    root: str, s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    configure(monkeypatch, tmp_path, f"endpoint_url = {s3_server}")
    assert count_masks(root) == 1
    configure(monkeypatch, tmp_path, "services = here", "[services here]", "s3 =", f"  endpoint_url = {s3_server}")
    assert count_masks(root) == 1


@pytest.mark.parametrize("place", ["variable", "file"])
def test_a_store_with_a_certificate_of_its_own_is_read_by_whichever_way_it_is_trusted(
    place: str, root: str, s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """boto3 trusted it, so runs were made, and pyarrow did not, so none of their tables could be read."""
    certificate, tls = self_signed(tmp_path)
    with fault_proxy(s3_server, tls=tls) as (address, _):
        monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
        configure(monkeypatch, tmp_path, *([f"ca_bundle = {certificate}"] if place == "file" else []))
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        if place == "variable":
            monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        assert open_store(root).exists("dataset.json")
        assert count_masks(root) == 1


def test_a_store_behind_a_proxy_is_read_through_it(root: str, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 went through it, and pyarrow straight to where nobody can be reached."""
    for name in ("HTTP_PROXY", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with closed_port() as away, fault_proxy(s3_server) as (address, proxy):
        monkeypatch.setenv("AWS_ENDPOINT_URL", away)
        monkeypatch.setenv("http_proxy", address)
        assert count_masks(root) == 1
        assert all(f" {away}/" in request for request in proxy.requests)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert proxy_to(away) is None


def test_aws_itself_is_no_configured_endpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    configure(monkeypatch, tmp_path)
    session = boto3.session.Session()
    assert configured_endpoint(session, session.client("s3")) is None


def test_a_connection_outlives_the_keys_that_it_began_with(
    root: str, s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Keys of a program, as short-lived as can be."""
    mint = tmp_path / "mint"
    mint.write_text(MINT.format(count=tmp_path / "count"))
    mint.chmod(0o755)
    with fault_proxy(s3_server) as (address, proxy):
        configure(monkeypatch, tmp_path, f"endpoint_url = {address}", f"credential_process = {mint}")
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        connection = connect(root)
        old = set(proxy.keys)
        proxy.keys.clear()
        assert connection.execute("SELECT count(rle) FROM masks").fetchall() == [(1,)]
        assert proxy.keys
        assert old
        assert not old & set(proxy.keys)


def test_keys_that_cannot_be_had_are_one_line(
    root: str, s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    configure(monkeypatch, tmp_path, f"endpoint_url = {s3_server}", "credential_process = false")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreError, match="cannot open S3: Error when retrieving credentials") as caught:
        connect(root)
    assert "\n" not in str(caught.value)


def test_a_bucket_says_where_it_lies(s3_server: str, bucket: str) -> None:
    client = boto3.client("s3")
    far = f"{bucket}-far"
    client.create_bucket(Bucket=far, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    assert bucket_region(client, far) == "eu-west-1"
    assert bucket_region(client, bucket) == "us-east-1"
    assert bucket_region(client, f"{bucket}-not-there") is None


def test_nothing_is_written_this_way(bucket: str) -> None:
    with pytest.raises(PermissionError, match="only read"):
        s3_filesystem().delete_file(f"{bucket}/a")
