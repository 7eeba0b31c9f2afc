"""DuckDB sees committed files of a data set, and can do nothing but read them."""

import fnmatch
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from schemas.window import KEPT_BYTES, SMALL_BYTES, CommittedFiles


class _Counting(pafs.SubTreeFileSystem):  # type: ignore[misc]
    """The local disk, which counts what is opened on it."""

    def __init__(self) -> None:
        super().__init__("/", pafs.LocalFileSystem())
        self.opened = 0

    def open_input_file(self, path: str) -> pa.NativeFile:
        self.opened += 1
        return super().open_input_file(path)


class _Busy(io.BytesIO):
    """A file of 13 bytes that a store keeps back."""

    def __init__(self, _: str) -> None:
        super().__init__()

    def size(self) -> int:
        return 13

    def read(self, _: int | None = -1) -> bytes:
        raise OSError("the store is busy")


@pytest.fixture
def window(tmp_path: Path) -> CommittedFiles:
    (tmp_path / "masks").mkdir()
    for name in ("b.txt", "a.txt", "unfinished.txt"):
        (tmp_path / "masks" / name).write_text(f"this is {name}")
    sizes = {"masks/b.txt": 13, "masks/a.txt": 13}
    return CommittedFiles(pafs.LocalFileSystem(), str(tmp_path), sizes=sizes, built_in={"masks/z.txt": b"built in"})


def test_patterns_find_committed_files_built_in_ones_first(window: CommittedFiles) -> None:
    assert window.glob("dataset://masks/*.txt") == ["masks/z.txt", "masks/a.txt", "masks/b.txt"]
    assert window.glob("dataset://masks/a.txt") == ["masks/a.txt"]
    assert window.glob("dataset://../*") == []


def test_files_are_read_from_any_position(window: CommittedFiles) -> None:
    file = window.open("dataset://masks/a.txt")
    assert file.read(4) == b"this"
    assert file.seek(8) == 8
    assert file.read() == b"a.txt"
    file.close()
    late = window.open("masks/b.txt")
    late.seek(8)
    assert late.read(1) == b"b"
    assert window.info("dataset://masks/a.txt") == {"name": "masks/a.txt", "size": 13, "type": "file"}
    assert window.open("masks/z.txt").read() == b"built in"


@pytest.mark.parametrize(("keep", "opened"), [(0, 4), (13, 3), (26, 2)])
def test_small_files_are_kept_as_far_as_there_is_room(tmp_path: Path, keep: int, opened: int) -> None:
    for name in "ab":
        (tmp_path / name).write_text(f"this is {name}.txt")
    store = _Counting()
    window = CommittedFiles(store, str(tmp_path), sizes={"a": 13, "b": 13}, built_in={}, keep=keep)
    for name in "abab":
        with closing(window.open(name)) as file:
            file.seek(8)
            assert file.read() == f"{name}.txt".encode()
    assert store.opened == opened


def test_what_two_threads_read_side_by_side_takes_room_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        (tmp_path / name).write_text("13 bytes each")
    store, both = _Counting(), threading.Barrier(2, timeout=60)
    window = CommittedFiles(store, str(tmp_path), sizes={"a": 13, "b": 13}, built_in={}, keep=26)

    def together(path: str) -> pa.NativeFile:
        both.wait()
        return pafs.LocalFileSystem().open_input_file(path)

    with monkeypatch.context() as patch, ThreadPoolExecutor(2) as threads:
        patch.setattr(store, "open_input_file", together)
        assert set(threads.map(lambda _: window.open("a").read(), range(2))) == {b"13 bytes each"}
    for name in "bab":
        assert window.open(name).read() == b"13 bytes each"
    assert store.opened == 1


def test_what_could_not_be_read_takes_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("13 bytes each")
    store = _Counting()
    window = CommittedFiles(store, str(tmp_path), sizes={"a": 13}, built_in={}, keep=13)
    with monkeypatch.context() as patch:
        patch.setattr(store, "open_input_file", _Busy)
        with pytest.raises(OSError, match="a: the store is busy"):
            window.open("a").read()
    for _ in range(2):
        assert window.open("a").read() == b"13 bytes each"
    assert store.opened == 1


def test_large_files_are_not_kept(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(SMALL_BYTES + 1))
    store = _Counting()
    window = CommittedFiles(store, str(tmp_path), sizes={"a": SMALL_BYTES + 1}, built_in={}, keep=KEPT_BYTES)
    for _ in range(2):
        with closing(window.open("a")) as file:
            assert file.read(1) == b"\0"
    assert store.opened == 2


@pytest.mark.usefixtures("window")
def test_what_is_kept_is_the_file_that_was_listed(tmp_path: Path) -> None:
    sizes = {"masks/a.txt": 13, "masks/b.txt": 13}
    keeping = CommittedFiles(pafs.LocalFileSystem(), str(tmp_path), sizes=sizes, built_in={}, keep=KEPT_BYTES)
    assert keeping.open("masks/a.txt").read() == b"this is a.txt"
    for name in "ab":
        (tmp_path / "masks" / f"{name}.txt").write_text("this is another file")
    assert keeping.open("masks/a.txt").read() == b"this is a.txt"
    with pytest.raises(FileNotFoundError, match=r"masks/b\.txt: another command has written it anew"):
        keeping.open("masks/b.txt").read()


def test_a_file_that_is_never_read_is_never_opened(window: CommittedFiles, tmp_path: Path) -> None:
    (tmp_path / "masks" / "a.txt").unlink()
    window.open("masks/a.txt").close()


def test_a_file_that_another_took_the_place_of_is_not_read(window: CommittedFiles, tmp_path: Path) -> None:
    early, late = window.open("masks/a.txt"), window.open("masks/a.txt")
    assert early.read(4) == b"this"
    other = tmp_path / "other"
    other.write_text("this is another file")
    other.replace(tmp_path / "masks" / "a.txt")
    assert early.read() == b" is a.txt"
    with pytest.raises(FileNotFoundError, match=r"masks/a\.txt: another command has written it anew"):
        late.read(4)


@pytest.mark.parametrize("error", [OSError("AWS Error NO_SUCH_KEY"), PermissionError("masks/a.txt: denied")])
def test_a_file_that_cannot_be_read_is_named(
    window: CommittedFiles, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def refuse(key: str) -> NoReturn:
        raise error

    monkeypatch.setattr(window, "_open_listed", refuse)
    with pytest.raises(type(error), match=r"^masks/a\.txt: (AWS Error NO_SUCH_KEY|denied)$"):
        window.open("masks/a.txt").read()


def test_a_file_whose_footer_cannot_be_read_is_named(window: CommittedFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store says only of what it opens what that is."""

    def refuse(_: pa.NativeFile) -> NoReturn:
        raise OSError("AWS Error SERVICE_UNAVAILABLE during GetObject operation")

    monkeypatch.setattr("schemas.window.read_span", refuse)
    with pytest.raises(OSError, match=r"^masks/a\.txt: AWS Error SERVICE_UNAVAILABLE"):
        window.glob("masks/a.txt#0")


@pytest.mark.parametrize("key", ["masks/unfinished.txt", "../secret", "/etc/passwd", "masks/../masks/a.txt", ""])
def test_nothing_else_is_there(window: CommittedFiles, key: str) -> None:
    with pytest.raises(FileNotFoundError, match="not a committed file of this data set"):
        window.open(f"dataset://{key}")
    with pytest.raises(FileNotFoundError):
        window.info(key)


@pytest.mark.parametrize("mode", ["wb", "w", "ab", "r+b", "xb"])
def test_writing_is_refused(window: CommittedFiles, mode: str) -> None:
    with pytest.raises(PermissionError, match="SQL only reads a data set, it does not write"):
        window.open("dataset://masks/a.txt", mode)


def test_duckdb_reads_through_it(window: CommittedFiles) -> None:
    connection = duckdb.connect()
    connection.register_filesystem(window)
    found = connection.execute("SELECT content FROM read_text('dataset://masks/*') ORDER BY 1").fetchall()
    assert found == [("built in",), ("this is a.txt",), ("this is b.txt",)]


def test_of_an_image_only_files_that_may_hold_it_are_opened(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    spans = {"a": ["05", "1c", "7f"], "b": ["80"], "c": ["1b", "f0"], "none": []}
    sizes = {}
    for name, images in spans.items():
        path = tmp_path / "masks" / f"{name}.parquet"
        pq.write_table(pa.table({"image_id": pa.array(images, pa.string())}), path, row_group_size=2)
        sizes[f"masks/{name}.parquet"] = path.stat().st_size
    pq.write_table(pa.table({"image_id": ["33"]}), tmp_path / "masks" / "unknown.parquet", write_statistics=False)
    sizes["masks/unknown.parquet"] = (tmp_path / "masks" / "unknown.parquet").stat().st_size
    built_in = {"masks/empty.parquet": b"not looked at"}
    window = CommittedFiles(pafs.LocalFileSystem(), str(tmp_path), sizes=sizes, built_in=built_in)
    for beginning, holders in {"1": "ac", "80": "bc", "05": "a", "0": "a", "f": "c", "f1": "", "1c": "ac"}.items():
        found = window.glob(f"dataset://masks/*.parquet#{beginning}")
        assert found == [f"masks/{name}.parquet" for name in ("empty", *holders, "unknown")], beginning
    for row, holders in {"00-04": "", "00-05": "a", "7f-80": "abc", "81-ef": "c", "f1-ff": ""}.items():
        found = window.glob(f"dataset://masks/*.parquet#{row}")
        assert found == [f"masks/{name}.parquet" for name in ("empty", *holders, "unknown")], row
    (tmp_path / "masks" / "a.parquet").unlink()
    assert "masks/a.parquet" in window.glob("masks/*.parquet#7")  # footers are read once
    assert len(window.glob("masks/*.parquet#")) == 6


def test_files_are_not_gone_through_for_each_row_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export asks for a page after the other: it would look at the square of the number of files."""
    (tmp_path / "masks").mkdir()
    sizes = {}
    for number in range(40):
        path = tmp_path / "masks" / f"{number:02d}.parquet"
        pq.write_table(pa.table({"image_id": [f"{number:02x}"]}), path)
        sizes[f"masks/{number:02d}.parquet"] = path.stat().st_size
    window = CommittedFiles(pafs.LocalFileSystem(), str(tmp_path), sizes=sizes, built_in={"masks/none.parquet": b""})
    looked_at: list[str] = []
    filtered = fnmatch.filter
    monkeypatch.setattr(fnmatch, "filter", lambda keys, how: looked_at.extend(keys) or filtered(keys, how))
    for number in range(40):
        found = window.glob(f"dataset://masks/*.parquet#{number:02x}-{number:02x}")
        assert found == ["masks/none.parquet", f"masks/{number:02d}.parquet"]
    assert len(looked_at) == 41 + 40  # all files once, and the built-in one every time


def test_each_thread_reads_where_it_sought(window: CommittedFiles) -> None:
    """DuckDB's threads share a handle: between one's seek and its read, others seek."""
    file = window.open("dataset://masks/a.txt")
    file.seek(8)
    other = threading.Thread(target=lambda: (file.seek(0), file.read(2)))
    other.start()
    other.join()
    assert file.read(1) == b"a"
    assert file.read() == b".txt"


def test_many_row_groups_are_read_whole_by_many_threads(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    numbers = np.random.default_rng(0).integers(0, 2**40, (6, 300_000))
    table = pa.table({f"column_{n}": column for n, column in enumerate(numbers)})
    pq.write_table(table, tmp_path / "masks" / "a.parquet", row_group_size=4096)
    sizes = {"masks/a.parquet": (tmp_path / "masks" / "a.parquet").stat().st_size}
    window = CommittedFiles(pafs.LocalFileSystem(), str(tmp_path), sizes=sizes, built_in={})
    connection = duckdb.connect(config={"threads": 8})
    connection.register_filesystem(window)
    sums = ", ".join(f"sum(column_{n})::BIGINT" for n in range(len(numbers)))
    for _ in range(3):
        found = connection.execute(f"SELECT {sums} FROM read_parquet('dataset://masks/*.parquet')").fetchone()
        assert found == tuple(numbers.sum(axis=1).tolist())
