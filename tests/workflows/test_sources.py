from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.workflows.conftest import save_photos
from workflows.sources import SAMPLES, list_images
from workflows.storage import write_file
from workflows.uris import ImageRef, UriReader


def listed(source: str | Path, **options: str) -> list[ImageRef]:
    return list(list_images(str(source), **options))


def names(references: list[ImageRef]) -> list[str]:
    return [reference.uri.rpartition("/")[2] for reference in references]


def write_coco(path: Path, file_names: list[str]) -> Path:
    images = [{"id": n, "file_name": name, "license": 7, "height": 48} for n, name in enumerate(file_names)]
    path.write_text(json.dumps({"images": images, "licenses": [{"id": 7, "name": "CC BY"}], "annotations": []}))
    return path


def test_licences_may_be_null(tmp_path: Path) -> None:
    source = write_coco(tmp_path / "instances.json", ["a.jpg"])
    source.write_text(json.dumps(json.loads(source.read_text()) | {"licenses": None}))
    (found,) = list_images(str(source))
    assert found.licence == "7"


def test_folder_is_recursive_sorted_and_holds_images_only(tmp_path: Path) -> None:
    for name in ("b.JPG", "a/z.png", "a/b/c.webp", "README.txt", ".hidden.png", "c.tiff"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b".")
    found = listed(tmp_path)
    assert [Path(reference.uri).relative_to(tmp_path).as_posix() for reference in found] == [
        "a/b/c.webp",
        "a/z.png",
        "b.JPG",
        "c.tiff",
    ]
    assert all(reference.stamp for reference in found)


def test_folders_that_may_not_be_listed_are_left_out_where_somebody_tells(
    photos: Path, may_not_be_listed: Callable[[Path], None]
) -> None:
    closed = photos / "lost+found"
    save_photos(closed, 1)
    may_not_be_listed(closed)
    for source in (photos, photos / "**" / "*.png"):
        denied: list[str] = []
        assert len(list(list_images(str(source), denied=denied))) == 6
        assert denied == [str(closed)]
        with pytest.raises(PermissionError):
            listed(source)
    for photo in photos.glob("*.png"):
        photo.unlink()
    with pytest.raises(ValueError, match=rf"no images found .*; {re.escape(str(closed))} may not be listed"):
        list_images(str(photos), denied=[])


def test_a_source_that_may_not_be_listed_is_an_error(photos: Path, may_not_be_listed: Callable[[Path], None]) -> None:
    may_not_be_listed(photos)
    with pytest.raises(PermissionError):
        list_images(str(photos), denied=[])


def test_relative_folders_become_absolute(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos.parent)
    assert listed("photos") == listed(photos)


def test_names_of_any_script_and_length(tmp_path: Path) -> None:
    long_name = "x" * 251 + ".png"
    for name in ("фото 1.png", "写真.png", "a'b\"c%20;$(x).png", "tab\there.png", "new\nline.png", long_name):
        (tmp_path / name).write_bytes(b"bytes of " + name.encode())
    reader = UriReader()
    for reference in listed(tmp_path):
        assert reader.read(reference.uri) == b"bytes of " + Path(reference.uri).name.encode()
    assert len(listed(tmp_path)) == 6


def test_a_name_that_is_no_text_is_listed_with_escapes_and_read(tmp_path: Path) -> None:
    Path(tmp_path, b"caf\xe9.png".decode("utf-8", "surrogateescape")).write_bytes(b"latin")
    (tmp_path / "caf\\xe8.png").write_bytes(b"text")
    for source in (tmp_path, tmp_path / "*.png"):
        assert names(listed(source)) == ["caf\\xe8.png", "caf\\xe9.png"]
        assert all(reference.stamp for reference in listed(source))
        assert [UriReader().read(reference.uri) for reference in listed(source)] == [b"text", b"latin"]


def test_globs(photos: Path) -> None:
    assert names(listed(photos / "photo-00[1-3].png")) == ["photo-001.png", "photo-002.png", "photo-003.png"]
    assert len(listed(photos.parent / "**" / "*.png")) == 6
    assert names(listed(photos / "photo-002.png")) == ["photo-002.png"]


def test_a_glob_enters_no_links_that_could_circle(tmp_path: Path) -> None:
    for name in ("a/b.png", "a/.hidden.png", "a/.kept/c.png", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b".")
    (tmp_path / "a/up").symlink_to("..")
    assert names(listed(tmp_path / "**" / "*.png")) == ["b.png"] == names(listed(tmp_path / "a" / "**.png"))
    assert names(listed(tmp_path / "**")) == ["b.png", "notes.txt"]
    assert names(listed(tmp_path / "*" / "up" / "a" / "*.png")) == ["b.png"]
    assert names(listed(tmp_path / "*" / ".kept" / "*.png")) == ["c.png"] == names(listed(tmp_path / "a/.kept/?.png"))


def test_globs_from_here_and_from_above(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    for pattern in ("*.png", "./*.png", "../photos/*.png", "../*/*.png", f"/{photos.relative_to('/')}/*.png"):
        assert names(listed(pattern)) == names(listed(photos))


def test_a_file_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "a[1].png").write_bytes(b".")
    assert names(listed(tmp_path / "a[1].png")) == ["a[1].png"]


def test_s3_prefix_and_glob(bucket: str) -> None:
    client = boto3.client("s3")
    for key in ("set/b.png", "set/a.jpg", "set/deep/c.png", "set/notes.txt", "settle/d.png"):
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    found = listed(f"s3://{bucket}/set")
    assert [reference.uri for reference in found] == [
        f"s3://{bucket}/set/a.jpg",
        f"s3://{bucket}/set/b.png",
        f"s3://{bucket}/set/deep/c.png",
    ]
    assert UriReader().read(found[0].uri) == b"set/a.jpg"
    assert names(listed(f"s3://{bucket}/set/*.png")) == ["b.png", "c.png"]


def test_one_object_and_a_prefix_that_looks_like_a_pattern(bucket: str) -> None:
    client = boto3.client("s3")
    for key in ("set[1]/a.png", "set[1]/b[2].png", "set1/c.png", "set2.png/d.png"):
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    (one,) = listed(f"s3://{bucket}/set1/c.png")
    assert (one.uri, UriReader().read(one.uri)) == (f"s3://{bucket}/set1/c.png", b"set1/c.png")
    assert names(listed(f"s3://{bucket}/set[1]/b[2].png")) == ["b[2].png"]
    assert names(listed(f"s3://{bucket}/set[1]/")) == names(listed(f"s3://{bucket}/set[1]")) == ["a.png", "b[2].png"]
    assert names(listed(f"s3://{bucket}/set[12]/*")) == ["c.png"]
    assert names(listed(f"s3://{bucket}/set2.png")) == ["d.png"]
    with pytest.raises(ValueError, match="no images found"):
        listed(f"s3://{bucket}/gone.png")


def test_hidden_objects_are_left_out_as_hidden_files_are(bucket: str) -> None:
    client = boto3.client("s3")
    for key in ("x/._a.jpg", "x/a.jpg", "x/.trash/b.jpg", "x/c/d.jpg"):
        client.put_object(Bucket=bucket, Key=key, Body=b".")
    assert names(listed(f"s3://{bucket}/x")) == names(listed(f"s3://{bucket}/x/*.jpg")) == ["a.jpg", "d.jpg"]
    assert names(listed(f"s3://{bucket}/x/.*/*.jpg")) == ["b.jpg"]
    assert names(listed(f"s3://{bucket}/x/.trash")) == ["b.jpg"]


def test_parquet_of_uris(photos: Path, tmp_path: Path) -> None:
    table = pa.table(
        {
            "uri": [str(photos / "photo-001.png"), "photos/photo-000.png", "s3://bucket/key.jpg"],
            "licence": ["CC0", None, "CC BY"],
            "country": ["NO", None, "TR"],
        }
    )
    pq.write_table(table, tmp_path / "list.parquet")
    first, second, third = listed(tmp_path / "list.parquet")
    assert (first.uri, first.licence, json.loads(first.metadata)) == (
        str(photos / "photo-001.png"),
        "CC0",
        {"country": "NO"},
    )
    assert (second.uri, second.licence, second.metadata) == (str(photos / "photo-000.png"), "", "")
    assert (third.uri, third.stamp) == ("s3://bucket/key.jpg", "")
    assert first.stamp


def test_pictures_of_coco_in_images_are_found_where_the_first_is_gone(tmp_path: Path, bucket: str) -> None:
    """All the others were looked for beside the file, and none was there."""
    save_photos(tmp_path / "images", 2)
    found = listed(write_coco(tmp_path / "instances.json", ["photo-007.png", "photo-000.png"]))
    assert [(Path(reference.uri).parent.name, bool(reference.stamp)) for reference in found] == [
        ("images", False),
        ("images", True),
    ]
    for path in ("instances.json", "images/photo-000.png"):
        write_file(f"s3://{bucket}/set/{path}", (tmp_path / path).read_bytes())
    assert [reference.uri for reference in listed(f"s3://{bucket}/set/instances.json")] == [
        f"s3://{bucket}/set/images/photo-00{n}.png" for n in (7, 0)
    ]


def test_parquet_without_the_column_names_those_there(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": ["x"], "caption": ["y"]}), tmp_path / "list.parquet")
    with pytest.raises(ValueError, match=r"list.parquet: no column 'uri'; the columns are url, caption"):
        listed(tmp_path / "list.parquet")


def test_parquet_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "list.parquet").write_text("not Parquet")
    with pytest.raises(ValueError, match=r"list.parquet: not a Parquet file"):
        listed(tmp_path / "list.parquet")


@pytest.mark.parametrize("uri", ["http://host/a.jpg", "file:///etc/passwd", "ftp://x/y", None, ""])
def test_manifests_name_local_paths_and_s3_only(tmp_path: Path, uri: str | None) -> None:
    pq.write_table(pa.table({"uri": pa.array(["ok.png", uri])}), tmp_path / "list.parquet")
    with pytest.raises(ValueError, match=r"list.parquet row 1: "):
        listed(tmp_path / "list.parquet")


def test_a_remote_manifest_may_not_name_local_files(bucket: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"uri": ["/etc/passwd"]}), tmp_path / "list.parquet")
    boto3.client("s3").put_object(Bucket=bucket, Key="list.parquet", Body=(tmp_path / "list.parquet").read_bytes())
    with pytest.raises(ValueError, match="a manifest on S3 may not name"):
        listed(f"s3://{bucket}/list.parquet")


def test_coco_finds_its_pictures_beside_it_or_in_images(tmp_path: Path) -> None:
    save_photos(tmp_path / "images", 2)
    document = write_coco(tmp_path / "instances.json", ["photo-000.png", "photo-001.png"])
    found = listed(document)
    assert [reference.uri for reference in found] == [str(tmp_path / "images" / f"photo-00{n}.png") for n in (0, 1)]
    assert found[1].licence == "CC BY"
    assert json.loads(found[1].metadata) == {"id": 1, "file_name": "photo-001.png", "height": 48}
    save_photos(tmp_path / "elsewhere", 2)
    moved = listed(document, image_folder=str(tmp_path / "elsewhere"))
    assert moved[0].uri == str(tmp_path / "elsewhere" / "photo-000.png")
    with pytest.raises(ValueError, match=r"images is no COCO JSON, of whose pictures alone --image-folder says"):
        listed(str(tmp_path / "images"), image_folder=str(tmp_path / "elsewhere"))


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "s3://other/key.jpg"])
def test_coco_cannot_leave_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="leaves the image folder"):
        listed(write_coco(tmp_path / "instances.json", [name]))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "{",
            r"x.json: not a COCO JSON \(is not JSON: Expecting property name .*: line 1 column 2",
        ),
        ("[]", r"x.json: not a COCO JSON \(must be an object, not list\)"),
        ('{"images": 3}', "x.json: images is 3; it must be a list"),
        ('{"images": ["a.jpg"]}', r"x.json: not a COCO JSON \(images\[0\] must be an object, not str\)"),
        ('{"images": [{"id": 1}]}', "x.json: not a COCO JSON with `images` that have a `file_name`"),
        ('{"images": [], "licenses": [3]}', "x.json: not a COCO JSON with"),
        ('{"annotations": []}', "x.json has no images"),
    ],
)
def test_json_that_is_no_coco(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=complaint):
        listed(tmp_path / "x.json")


def test_samples_are_photographs_of_this_machine() -> None:
    found = listed("samples")
    assert names(found) == list(SAMPLES)
    assert len(found) >= 8
    assert all(Path(reference.uri).is_file() for reference in found)


def test_samples_are_not_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_photos(tmp_path / "samples", 1)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"say \./samples for it"):
        listed("samples")
    assert names(listed("./samples")) == ["photo-000.png"]


def test_empty_and_missing_sources(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no images found"):
        listed(tmp_path)
    with pytest.raises(ValueError, match=r"nowhere: no such folder or file"):
        listed(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no images found"):
        listed(tmp_path / "*.jpg")
    with pytest.raises(ValueError, match="local paths and s3:// only"):
        listed("https://host/images")
    with pytest.raises(ValueError, match="an empty source"):  # of an unset variable, not all that lies here
        listed("")


def test_reading_what_is_no_regular_file(tmp_path: Path) -> None:
    for uri in (str(tmp_path), "/dev/zero", str(tmp_path / "gone.png")):
        with pytest.raises(FileNotFoundError, match="no such file"):
            UriReader().read(uri)


def test_a_manifest_on_s3_is_read_by_ranges(bucket: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"uri": [f"s3://x/{n}.png" for n in range(5)]}), tmp_path / "l.parquet", row_group_size=2)
    boto3.client("s3").put_object(Bucket=bucket, Key="l.parquet", Body=(tmp_path / "l.parquet").read_bytes())
    assert names(listed(f"s3://{bucket}/l.parquet")) == [f"{n}.png" for n in range(5)]
    with pytest.raises(OSError, match="does not exist"):
        listed(f"s3://{bucket}/other.parquet")


@pytest.mark.parametrize("digest", ["abc", "G" * 64])
def test_a_content_hash_that_is_none_is_refused(tmp_path: Path, digest: str) -> None:
    pq.write_table(pa.table({"uri": ["a.png"], "content_sha256": [digest]}), tmp_path / "list.parquet")
    with pytest.raises(ValueError, match="row 0: 'content_sha256' must be 64 hexadecimal digits"):
        listed(tmp_path / "list.parquet")


def test_a_content_hash_in_capitals_is_the_same(tmp_path: Path) -> None:
    """As many tools write it, which was refused as no hexadecimal digits."""
    pq.write_table(pa.table({"uri": ["a.png"], "content_sha256": ["AB" * 32]}), tmp_path / "list.parquet")
    (reference,) = listed(tmp_path / "list.parquet")
    assert (reference.content_sha256, reference.stamp) == ("ab" * 32, "ab" * 32)


@pytest.mark.parametrize("size", ["abc", 1.5, -1, True, [1], 1e300])
def test_a_size_that_is_none_is_refused(tmp_path: Path, size: object) -> None:
    columns = {"uri": ["a.png"], "content_sha256": ["a" * 64], "bytes": [size]}
    pq.write_table(pa.table(columns), tmp_path / "list.parquet")
    with pytest.raises(ValueError, match="row 0: 'bytes' must be the size of the file"):
        listed(tmp_path / "list.parquet")


def test_sizes_with_gaps_are_floats_in_many_tables(tmp_path: Path) -> None:
    columns = {"uri": ["a.png", "b.png"], "content_sha256": ["a" * 64, "b" * 64], "bytes": [7.0, float("nan")]}
    pq.write_table(pa.table(columns), tmp_path / "list.parquet")
    assert [found.bytes for found in listed(tmp_path / "list.parquet")] == [7, None]


@pytest.mark.parametrize("pictures", [b"\x89PNG", {"bytes": b"\x89PNG", "path": "a.png"}, [b"\x89PNG"]])
def test_pictures_inside_a_manifest_are_refused(tmp_path: Path, pictures: object) -> None:
    """As text in the metadata of every image they would be four times as long as the files."""
    pq.write_table(pa.table({"uri": ["a.png"], "image": [pictures]}), tmp_path / "list.parquet")
    with pytest.raises(ValueError, match="column 'image' holds bytes, which are no text; leave it out"):
        listed(tmp_path / "list.parquet")


def test_what_a_manifest_states_about_content_is_no_metadata(tmp_path: Path) -> None:
    columns = {"uri": ["a.png"], "content_sha256": ["a" * 64], "bytes": [7], "country": ["NO"]}
    pq.write_table(pa.table(columns), tmp_path / "list.parquet")
    (found,) = listed(tmp_path / "list.parquet")
    assert (found.content_sha256, found.bytes, found.stamp) == ("a" * 64, 7, "a" * 64)
    assert json.loads(found.metadata) == {"country": "NO"}
