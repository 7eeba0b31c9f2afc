from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ResponseStreamingError
from botocore.loaders import JSONFileLoader

from workflows import patience, s3
from workflows.failures import one_line
from workflows.patience import Patience
from workflows.storage import LocalStore, Store, StoreError, lies_in, open_store, split_place, write_file

MakeStore = Callable[[], Store]


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return open_store(tmp_path / "root")
    return open_store(f"s3://{request.getfixturevalue('bucket')}/some/prefix/")


def keys(store: Store, folder: str = "") -> list[str]:
    return [entry.key for entry in store.list(folder)]


def test_objects_come_back_whole(store: Store) -> None:
    store.put("a/b.bin", b"0123456789")
    assert store.get("a/b.bin") == b"0123456789"
    store.put("a/b.bin", b"")
    assert store.get("a/b.bin") == b""


def test_existence_and_deletion(store: Store) -> None:
    assert not store.exists("x")
    store.put("x", b"1")
    assert store.exists("x")
    store.delete("x")
    store.delete("x")
    assert not store.exists("x")


def test_a_missing_object_is_a_file_not_found(store: Store) -> None:
    with pytest.raises(FileNotFoundError):
        store.get("nowhere/at/all")


def test_listing_is_recursive_ordered_and_limited_to_the_folder(store: Store) -> None:
    for key in ("b/2", "b/1", "a", "b/sub/3", "bb/4", "ünïcode/名.bin"):
        store.put(key, b".")
    assert keys(store, "b") == keys(store, "b/") == ["b/1", "b/2", "b/sub/3"]
    assert set(keys(store)) == {"a", "b/1", "b/2", "b/sub/3", "bb/4", "ünïcode/名.bin"}
    assert keys(store, "none") == []


def test_what_goes_while_a_folder_is_listed_was_not_there(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for key in ("a", "b", "c/d", "e"):
        store.put(key, b".")
    listed = store.list()
    assert next(listed).key == "a"
    store.delete("b")
    store.delete("c/d")
    (tmp_path / "c").rmdir()
    assert [entry.key for entry in listed] == ["e"]


def test_a_stamp_changes_with_the_content(store: Store) -> None:
    store.put("a", b"one")
    if isinstance(store, LocalStore):
        os.utime(Path(store.root, "a"), (0, 0))  # clocks of file systems stand still for milliseconds
    before = next(iter(store.list()))
    store.put("a", b"two")
    after = next(iter(store.list()))
    assert before.key == after.key
    assert before.stamp != after.stamp


def test_put_if_absent_has_one_winner_among_many(store: Store) -> None:
    seen: list[bytes] = []
    writers = [
        threading.Thread(target=lambda text=f"{number}": seen.append(store.put_if_absent("plan", text.encode())))
        for number in range(8)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert set(seen) == {store.get("plan")}
    assert len(seen) == 8


def test_unknown_schemes_are_refused() -> None:
    with pytest.raises(ValueError, match="local folder or s3"):
        open_store("ftp://host/path")
    with pytest.raises(ValueError, match="s3://bucket/prefix"):
        open_store("s3://")
    with pytest.raises(ValueError, match="an empty path names no folder"):
        open_store("")


class TestLocalStore:
    def test_keys_cannot_leave_the_root(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="would leave"):
            LocalStore(tmp_path).put("../x", b"")
        with pytest.raises(ValueError, match="would leave"):
            LocalStore(tmp_path).get("/etc/hostname")

    def test_a_torn_write_is_never_listed_and_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = LocalStore(tmp_path)
        store.put("masks/shard", b"old")
        (tmp_path / "masks" / ".0123.tmp").write_bytes(b"left by a killed writer")
        assert keys(store) == ["masks/shard"]

        def full(_: int) -> None:
            assert keys(store) == ["masks/shard"]
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "shard")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            store.put("masks/shard", b"new")
        assert store.get("masks/shard") == b"old"
        assert len(list((tmp_path / "masks").iterdir())) == 2

    def test_what_is_written_outlives_a_loss_of_power(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Bytes are on the disk before the name is, and then the name is, too."""
        done: list[str] = []
        sync, replace, link = os.fsync, Path.replace, os.link

        def name(descriptor: int) -> str:
            return "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"

        monkeypatch.setattr(os, "fsync", lambda number: (done.append(name(number)), sync(number)))
        monkeypatch.setattr(Path, "replace", lambda path, other: (done.append("name"), replace(path, other))[1])
        monkeypatch.setattr(os, "link", lambda path, other: (done.append("name"), link(path, other)))
        (tmp_path / "large").write_bytes(b"large")
        store = LocalStore(tmp_path / "out")
        for write in (
            lambda: store.put("put", b"data"),
            lambda: store.put_file("copied", tmp_path / "large"),
            lambda: store.put_if_absent("linked", b"data"),
        ):
            done.clear()
            write()
            assert done == ["file", "name", "folder"]

    def test_what_ctrl_c_breaks_off_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(_: int) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "fsync", interrupted)
        (tmp_path / "large").write_bytes(b"large")
        for write in (
            lambda: LocalStore(tmp_path / "out").put("file", b"data"),
            lambda: LocalStore(tmp_path / "out").put_file("file", tmp_path / "large"),
            lambda: LocalStore(tmp_path / "out").put_if_absent("file", b"data"),
        ):
            with pytest.raises(KeyboardInterrupt):
                write()
        assert not list((tmp_path / "out").iterdir())

    def test_a_full_disk_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left") as caught:
            LocalStore(tmp_path).put("masks/shard", b"new")
        assert one_line(caught.value) == f"{tmp_path}/masks/shard: No space left on device"

    def test_a_folder_that_is_read_only_is_named_by_what_was_to_be_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(path: Path, _: str) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

        monkeypatch.setattr(Path, "open", refuse)
        with pytest.raises(OSError, match="Read-only") as caught:
            LocalStore(tmp_path).put("masks/shard", b"new")
        assert one_line(caught.value) == f"{tmp_path}/masks/shard: Read-only file system"

    def test_a_folder_is_not_written_over(self, tmp_path: Path) -> None:
        (tmp_path / "taken").mkdir()
        with pytest.raises(IsADirectoryError, match=r"is a folder; give the name of a file.*/taken"):
            LocalStore(tmp_path).put("taken", b"data")
        assert [path.name for path in tmp_path.iterdir()] == ["taken"]

    def test_links_that_lead_to_no_file_are_left_out(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"1")
        (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
        (tmp_path / "itself").symlink_to(tmp_path / "itself")
        assert [entry.key for entry in LocalStore(tmp_path).list()] == ["file"]

    def test_linked_folders_do_not_go_round_in_circles(self, tmp_path: Path) -> None:
        store = LocalStore(tmp_path)
        store.put("a/file", b"")
        (tmp_path / "a" / "again").symlink_to(tmp_path)
        assert keys(store) == ["a/file"]

    @pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
    def test_put_if_absent_works_on_disks_without_hard_links(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        """Another writer that came at the same time, and last, has won for both."""

        def refuse(*_: object) -> None:
            raise OSError(number, "no hard links here")

        monkeypatch.setattr(os, "link", refuse)
        store = LocalStore(tmp_path)
        monkeypatch.setattr("workflows.storage.time.sleep", lambda _: store.put("a", b"other"))
        assert store.put_if_absent("a", b"1") == b"other"
        assert store.put_if_absent("a", b"2") == b"other"
        assert keys(store) == ["a"]


class TestS3Store:
    def test_services_are_read_about_once_in_a_process_and_keys_by_every_session(
        self, s3_server: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        s3.S3Store("s3://bucket")
        read: list[str] = []
        monkeypatch.setattr(JSONFileLoader, "load_file", lambda _, path: read.append(path))
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "renewed")
        sessions = [s3.open_session() for _ in range(2)]
        assert [session.get_credentials().access_key for session in sessions] == ["renewed"] * 2
        clients = [s3.open_client(Patience(), session) for session in sessions]
        assert [client.meta.endpoint_url for client in clients] == [s3_server] * 2
        assert not read
        places = s3._descriptions().search_paths
        assert len(places) == len(set(places))

    def test_listing_goes_page_by_page(self, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        store = s3.S3Store(f"s3://{bucket}")
        for number in range(7):
            store.put(f"p/{number}", b"")
        pages = _count_calls(store, monkeypatch, "list_objects_v2", MaxKeys=2)
        listing = store.list("p")
        assert next(listing).key == "p/0"
        assert len(pages) == 1
        assert [entry.key for entry in listing] == [f"p/{number}" for number in range(1, 7)]
        assert len(pages) == 4

    def test_what_consoles_write_for_a_folder_is_no_object(self, bucket: str) -> None:
        """A folder that was made in a console was `not empty` to `sam-engine export`."""
        store = s3.S3Store(f"s3://{bucket}/made")
        for key in ("", "inside/"):
            store.put(key, b"")
        assert not list(store.list())
        store.put("inside/file", b"")
        assert [entry.key for entry in store.list()] == ["inside/file"]

    def test_a_body_that_breaks_off_is_read_again(self, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        store = s3.S3Store(f"s3://{bucket}", patience=Patience(longest_pause_seconds=0))
        store.put("a", b"content")
        whole = store._client.get_object
        broken = [ResponseStreamingError(error="reset"), ResponseStreamingError(error="reset")]

        def get_object(**request: Any) -> Any:
            if broken:
                raise broken.pop()
            return whole(**request)

        monkeypatch.setattr(store._client, "get_object", get_object)
        assert store.get("a") == b"content"
        assert not broken

    def test_retries_end_in_one_line(self, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        store = s3.S3Store(f"s3://{bucket}/x", patience=Patience(longest_pause_seconds=0))
        monkeypatch.setattr(store._client, "put_object", _refuse("SlowDown", "Please reduce your request rate."))
        with pytest.raises(StoreError, match=rf"cannot write s3://{bucket}/x/key: SlowDown Please reduce"):
            store.put("key", b"")

    def test_what_does_not_pass_is_not_repeated(self, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        store = s3.S3Store(f"s3://{bucket}")
        monkeypatch.setattr(patience.random, "uniform", lambda *_: pytest.fail("waited for nothing"))
        monkeypatch.setattr(store._client, "put_object", _refuse("ExpiredToken", "The provided token has expired."))
        with pytest.raises(StoreError, match="ExpiredToken"):
            store.put("key", b"")
        monkeypatch.setattr(store._client, "get_object", _refuse("AccessDenied", "Access Denied"))
        with pytest.raises(PermissionError, match="AccessDenied"):
            store.get("key")

    def test_put_if_absent_on_a_store_without_conditional_puts(
        self, bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another writer that came at the same time, and last, has won for both."""
        store = s3.S3Store(f"s3://{bucket}")
        monkeypatch.setattr(s3.time, "sleep", lambda _: store.put("a", b"other"))
        plain = store._client.put_object

        def put_object(**request: Any) -> Any:
            if "IfNoneMatch" in request:
                return _refuse("NotImplemented", "A header you provided implies functionality")()
            return plain(**request)

        monkeypatch.setattr(store._client, "put_object", put_object)
        assert store.put_if_absent("a", b"1") == b"other"
        assert store.put_if_absent("a", b"2") == b"other"

    def test_a_missing_bucket_is_one_line(self, s3_server: str) -> None:
        with pytest.raises(StoreError, match="s3://no-such-bucket/key: there is no such bucket"):
            open_store("s3://no-such-bucket").get("key")


def _refuse(code: str, message: str) -> Callable[..., Any]:
    def refuse(**_: Any) -> Any:
        raise ClientError({"Error": {"Code": code, "Message": message}}, "PutObject")

    return refuse


def _count_calls(store: s3.S3Store, monkeypatch: pytest.MonkeyPatch, name: str, **extra: Any) -> list[str]:
    calls: list[str] = []
    whole = getattr(store._client, name)

    def counted(**request: Any) -> Any:
        calls.append(name)
        return whole(**request, **extra)

    monkeypatch.setattr(store._client, name, counted)
    return calls


@pytest.mark.parametrize(
    ("text", "place", "table"),
    [
        ("masks", "masks", ""),
        ("masks@run-1", "masks", "run-1"),
        ("/home/ann@corp.example/masks", "/home/ann@corp.example/masks", ""),
        ("s3://bucket/pre@fix/masks@annotations", "s3://bucket/pre@fix/masks", "annotations"),
    ],
)
def test_a_table_is_named_after_the_last_folder(text: str, place: str, table: str) -> None:
    assert split_place(text) == (place, table)


def test_a_file_is_written_locally_and_into_a_bucket(tmp_path: Path, bucket: str) -> None:
    write_file(str(tmp_path / "new" / "page.html"), b"page")
    assert (tmp_path / "new" / "page.html").read_bytes() == b"page"
    write_file(f"s3://{bucket}/reports/page.html", b"page")
    assert open_store(f"s3://{bucket}/reports").get("page.html") == b"page"


@pytest.mark.parametrize("place", ["s3://{}", "s3://{}/", "s3://{}/reports/", "reports/", ""])
def test_a_file_has_a_name(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """A page for a bucket went into a local folder called `s3:`, one for a folder of it into an object `reports/`, and
    one for a folder that is not there yet into a file of that name."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IsADirectoryError, match="is a folder; give the name of a file"):
        write_file(place.format(bucket), b"page")
    assert not list(tmp_path.iterdir())
    assert not list(open_store(f"s3://{bucket}").list())


def test_what_is_no_file_gets_the_bytes_and_stays(tmp_path: Path) -> None:
    """A page written to /dev/null by a superuser put a file in its place."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_file(str(pipe), b"page")
        assert os.read(reader, 10) == b"page"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "latest.html").symlink_to("pages/page.html")
    for page in (b"first", b"second"):
        write_file(str(tmp_path / "latest.html"), page)
        assert (tmp_path / "latest.html").is_symlink()
        assert (tmp_path / "pages" / "page.html").read_bytes() == page


def test_what_lies_in_a_folder_or_below_a_prefix(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert lies_in(tmp_path / "link" / "b", tmp_path / "a")
    assert lies_in(tmp_path / "a", f"{tmp_path}/a/")
    assert lies_in(tmp_path, "/")
    assert not lies_in(tmp_path / "ab", tmp_path / "a")
    assert lies_in("s3://bucket/a/b", "s3://bucket/a/")
    assert lies_in("s3://bucket/a", "s3://bucket")
    assert not lies_in("s3://bucket/ab", "s3://bucket/a")
    assert not lies_in("s3://bucket/a", tmp_path)
    assert not lies_in(tmp_path, "s3://bucket")
