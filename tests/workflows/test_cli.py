"""Flags, exit statuses, and refusals in one line. Nothing here starts Ray."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sam_core.model.checkpoint import save_model
from sam_core.model.sam import Sam
from sam_core.presets import preset, stage_three
from sam_core.recipes import SmallMaskRule, draft, sa1b
from schemas.ids import content_hash
from tests.workflows.conftest import BIN, Engine, Finished, save_photos
from workflows.cli import BROKEN, Subcommand, main, parse
from workflows.commands import GenerateConfig, SqlConfig
from workflows.listing import Listing


def refused(done: Finished, *words: str) -> None:
    assert done.status == 2
    lines = [line for line in done.err.splitlines() if line.startswith("sam-engine: ")]
    assert len(lines) == 1, done.err
    assert "Traceback" not in done.err
    for word in words:
        assert word in lines[0]


def test_sigterm_leaves_nothing_behind(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent while the source is listed into a database under TMPDIR, which is large for a large source."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    (photo,) = save_photos(tmp_path / "photos", 1)
    seen: list[int] = []

    def terminated(*_: object) -> None:
        seen.append(len(list(scratch.iterdir())))
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Listing, "look_up", terminated)
    before = signal.getsignal(signal.SIGTERM)
    done = engine("ingest", photo, tmp_path / "data")
    assert (done.status, "ended by SIGTERM" in done.err, seen) == (143, True, [1])
    assert not list(scratch.iterdir())
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("error", [RuntimeError("Query interrupted"), ValueError("^^^^")])
def test_a_signal_that_comes_out_as_an_error_of_duckdb_is_a_signal(
    error: Exception, number: int, status: int, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its RuntimeError counted as a bug, and what it says of Python's exception in a file's reader as a wrong use."""

    def in_the_midst(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(number)
        except BaseException:
            raise error from None

    monkeypatch.setattr("workflows.ingest.list_images", in_the_midst)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    done = engine("ingest", "photos", "data")
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler
    assert (done.status, done.err.count("\n"), "goes on where" in done.err) == (status, 1, True)


def test_sigterm_waits_for_an_import_to_end(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C code that imports swallows the exception: the command went on, or hung at a lock that nobody had any more."""
    (tmp_path / "sends_sigterm.py").write_text("import signal\nsignal.raise_signal(signal.SIGTERM)\nwhole = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def in_the_midst(*_: object, **__: object) -> None:
        with contextlib.suppress(BaseException):
            importlib.import_module("sends_sigterm")
        assert sys.modules.pop("sends_sigterm").whole
        time.sleep(60)

    monkeypatch.setattr("workflows.ingest.list_images", in_the_midst)
    done = engine("ingest", "photos", "data")
    assert (done.status, "ended by SIGTERM" in done.err) == (143, True)


def test_sigterm_waits_for_a_process_to_begin(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hooks around the fork swallow the exception, those of `logging` with its lock held: the command went on."""
    sent: list[int] = []
    os.register_at_fork(after_in_parent=lambda: sent and signal.raise_signal(sent.pop()))

    def in_the_midst(*_: object, **__: object) -> None:
        sent.append(signal.SIGTERM)
        subprocess.run(["true"], check=True, preexec_fn=lambda: None)  # else there are no hooks
        time.sleep(60)

    monkeypatch.setattr("workflows.ingest.list_images", in_the_midst)
    done = engine("ingest", "photos", "data")
    assert (done.status, "ended by SIGTERM" in done.err, sent) == (143, True, [])


def test_sigterm_ends_a_command_that_runs_while_its_caller_is_imported(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "calls_the_engine.py").write_text("import __main__\n__main__.call_the_engine()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("workflows.cli._PUT_OFF_TIMES", 3)

    def killed(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr("workflows.ingest.list_images", killed)
    done = []
    monkeypatch.setattr(
        "__main__.call_the_engine", lambda: done.append(engine("ingest", "photos", "data")), raising=False
    )
    importlib.import_module("calls_the_engine")
    assert [each.status for each in done] == [143]


def test_sigterm_while_the_command_line_is_read_is_no_wrong_use(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.cli._tyro", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    done = engine("status", "data")
    assert (done.status, "ended by SIGTERM" in done.err) == (143, True)


def test_flags_become_a_configuration() -> None:
    config = parse(["generate", "photos", "data", "--model", "vit_h", "--run", "night", "--threads", "3"])
    assert isinstance(config, GenerateConfig)
    assert (config.source, config.dataset, config.model, config.run, config.threads) == (
        "photos",
        "data",
        "vit_h",
        "night",
        3,
    )
    assert isinstance(parse(["sql", "data", "SELECT 1", "--format", "csv"]), SqlConfig)


def test_a_recipe_with_single_values_changed() -> None:
    config = parse(["generate", "a", "b", "--recipe", "sa1b", "--nms-iou", "0.5", "--crop-layers", "0"])
    assert isinstance(config, GenerateConfig)
    assert config.thresholds.nms_iou == 0.5
    assert config.thresholds.crop_layers == 0
    assert config.thresholds.small_masks is SmallMaskRule.DROP
    assert config.thresholds.min_region_area == sa1b().min_region_area


def test_the_recipe_of_a_fine_tuned_model_is_that_of_its_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned = tmp_path / "model.safetensors"
    save_model(Sam(stage_three(preset("vit_n"))), tuned)
    config = parse(["generate", "a", "b", "--model", str(tuned)])
    assert isinstance(config, GenerateConfig)
    assert (config.recipe, config.thresholds) == ("draft", draft())
    monkeypatch.setenv("SAM_ENGINE_CHECKPOINTS", str(tmp_path))
    by_name = parse(["generate", "a", "b", "--model", "model"])
    assert isinstance(by_name, GenerateConfig)
    assert by_name.recipe == "draft"
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no header")
    with pytest.raises(ValueError, match="is damaged"):
        parse(["generate", "a", "b", "--model", str(broken)])
    config = parse(["generate", "a", "b", "--model", str(tmp_path / "missing.safetensors")])
    assert isinstance(config, GenerateConfig)  # that it is missing is said by the command


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["generat"],
        ["generate", "a"],
        ["generate", "a", "b", "--crop-layer", "1"],
        ["generate", "a", "b", "--workers", "0"],
        ["generate", "a", "b", "--nms-iou", "7"],
        ["sql", "a", "b", "--format", "xml"],
    ],
)
def test_wrong_usage_is_one_line_and_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert (said.out, len(said.err.splitlines())) == ("", 1)
    assert said.err.startswith("sam-engine: ")
    assert said.err.endswith(" --help`\n") or "no command is called" in said.err


def test_a_list_that_is_given_twice_is_refused_as_half_of_it_would_count() -> None:
    for words in ("evaluate single-point --data a --data b", "export data out --format coco --licences a --licences=b"):
        with pytest.raises(ValueError, match=r"--(data|licences) is given 2 times; name all of its values behind one"):
            parse(words.split())
    # Of one value the last counts.
    parse(["evaluate", "single-point", "--data", "a", "b", "--limit", "1", "--limit", "2"])


def test_a_user_without_an_entry_gets_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: int) -> None:
        raise KeyError

    monkeypatch.setenv("HOME", "")  # so that it is put back
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert main(["--version"]) == 0
    assert Path.home() == Path("/")


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"sam-engine \d+\.\d+\S*\n", capsys.readouterr().out)


def test_a_wrong_recipe_suggests_the_nearest(engine: Engine) -> None:
    refused(engine("generate", "samples", "b", "--recipe", "sa1bb"), "sa1b")


def test_a_wrong_model_suggests_the_nearest(engine: Engine, tmp_path: Path) -> None:
    refused(engine("generate", "samples", tmp_path / "data", "--model", "vit_hh"), "vit_h")
    assert not (tmp_path / "data").exists()


def test_a_corrupt_checkpoint(engine: Engine, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0 not a header ")
    done = engine("generate", photos, tmp_path / "data", "--model", tmp_path / "model.safetensors")
    refused(done, "model.safetensors", "fetch or copy it again")


def test_half_precision_is_for_gpus(engine: Engine, photos: Path, tmp_path: Path, tiny_checkpoint: Path) -> None:
    asked = ("--model", tiny_checkpoint, "--device", "cpu", "--dtype", "bfloat16")
    refused(engine("generate", photos, tmp_path / "data", *asked), "--dtype bfloat16 is for plain ViTs on a GPU", "cpu")
    refused(
        engine("generate", photos, tmp_path / "data", *asked[:2], "--gpu-memory", "0.1"), "0.09 GiB", "at least 0.25"
    )


def test_empty_and_missing_sources(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for command in ("generate", "ingest"):
        refused(engine(command, tmp_path / "empty", tmp_path / "data"), "no images found", "empty")
        refused(engine(command, tmp_path / "gone", tmp_path / "data"), "no such folder or file", "gone")
        refused(engine(command, "https://host/x", tmp_path / "data"), "s3://")


def test_a_parquet_of_uris_without_the_column(engine: Engine, tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": ["x"]}), tmp_path / "list.parquet")
    refused(engine("generate", tmp_path / "list.parquet", tmp_path / "data"), "no column 'uri'", "url")


def test_a_data_set_that_cannot_be_made(engine: Engine, photos: Path, tmp_path: Path, tiny_checkpoint: Path) -> None:
    (tmp_path / "file").write_text("")
    arguments = ("generate", photos, tmp_path / "file" / "data", "--model", tiny_checkpoint)
    refused(engine(*arguments), str(tmp_path / "file"), "Not a directory")
    refused(engine("ingest", photos, "http://host/data"), "local folder or s3://")


def test_no_write_permission() -> None:
    """As somebody else when we are root, to whom nothing is forbidden; everything is imported before the change."""
    code = (
        "import os, sys, workflows.cli, workflows.ingest\n"
        "workflows.cli.parse(sys.argv[1:])\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "sys.exit(workflows.cli.main())"
    )
    with tempfile.TemporaryDirectory() as folder:  # not pytest's, to which others cannot come
        (photo,) = save_photos(Path(folder, "photos"), 1)
        locked = Path(folder, "locked")
        locked.mkdir()
        for path in (Path(folder), photo.parent, photo, locked):
            path.chmod(0o555)
        command = [sys.executable, "-c", code, "ingest", str(photo), str(locked / "data")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        Path(folder).chmod(0o755)
    refused(Finished(done.returncode, done.stdout, done.stderr), "Permission denied", str(locked / "data"))


def test_a_run_that_cannot_be_called_so_is_refused_before_anything_is_read(engine: Engine, tmp_path: Path) -> None:
    refused(engine("generate", tmp_path / "gone", tmp_path / "data", "--run", "my run"), "--run 'my run' cannot be a")


def test_a_full_disk_is_no_bug(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the temporary folder has no room for a file of more than 1 MiB."""
    digests = [content_hash(str(number).encode()) for number in range(40_000)]
    rows = {"uri": [f"{digest}.jpg" for digest in digests], "content_sha256": digests}
    pq.write_table(pa.table(rows), tmp_path / "list.parquet")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        ran = engine("ingest", tmp_path / "list.parquet", tmp_path / "data")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    refused(ran, "File too large", str(tmp_path / "temporary"), "TMPDIR")
    assert not list((tmp_path / "temporary").iterdir())


def test_a_traceback_on_request(engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SAM_ENGINE_TRACEBACK", "1")
    ran = engine("ingest", tmp_path / "gone", tmp_path / "data")
    assert ran.status == 2
    assert "Traceback" in ran.err
    assert "no such folder" in ran.err.splitlines()[-1]


def test_a_bug_does_not_end_as_a_job_with_error_rows_does(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("workflows.ingest.ingest_command", lambda config: {}["bug"])
    ran = engine("ingest", tmp_path, tmp_path / "data")
    assert ran.status == BROKEN
    assert "KeyError: 'bug'" in ran.err


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")])
def test_too_little_memory_is_no_bug(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    """As `segment` met on a picture of 48 MP."""

    def run_out(config: object) -> int:
        raise error

    monkeypatch.setattr("workflows.ingest.ingest_command", run_out)
    refused(engine("ingest", tmp_path, tmp_path / "data"), "too little memory")


def test_ingest_tells_what_it_found(engine: Engine, photos: Path, tmp_path: Path) -> None:
    done = engine("ingest", photos, tmp_path / "data")
    assert done.status == 0
    assert "6 images at 6 places, 0 unreadable" in done.out
    (tmp_path / "facts.csv").write_text("file_name,country\nphoto-001.png,NO\n")
    told = engine("ingest", photos, tmp_path / "data", "--metadata", tmp_path / "facts.csv")
    assert (told.status, "facts.csv: 1 of 1 rows are about images of the source" in told.out) == (0, True)
    found = engine(
        "sql", tmp_path / "data", "SELECT metadata->>'country' AS c FROM images ORDER BY uri", "--format", "csv"
    )
    assert found.out.split() == ["c", "NO"] or "NO" in found.out


def test_a_missing_extra_says_how_to_install_it() -> None:
    with pytest.raises(ValueError, match=r"^annotate needs no_such_web: pip install 'sam-data-engine\[annotate\]'$"):
        Subcommand("annotate", SqlConfig, "no_such_web:serve", extra="annotate").load()
    with pytest.raises(ModuleNotFoundError):
        Subcommand("sql", SqlConfig, "no_such_web:serve").load()


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("words", [["--version"], ["models"]], ids=lambda words: words[0])
def test_output_that_finds_no_room_is_one_line(words: list[str], buffered: bool, tmp_path: Path) -> None:
    given = {"NUMBA_CACHE_DIR": str(tmp_path)}  # or whoever has no place for machine code is told so, too
    given |= {} if buffered else {"PYTHONUNBUFFERED": "1"}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | given
    with Path("/dev/full").open("wb") as full:
        command = [str(BIN / "sam-engine"), *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    assert done.stderr == "sam-engine: No space left on device\n"
    assert done.returncode == 2


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_the_caller_closed_lead_nowhere(closed: str, tmp_path: Path, photos: Path, engine: Engine) -> None:
    engine("ingest", photos, tmp_path / "data")
    command = f"{BIN / 'sam-engine'} sql {tmp_path / 'data'} 'SELECT 7' --format csv {closed}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_a_closed_pipe_is_no_error(tmp_path: Path, photos: Path, engine: Engine) -> None:
    engine("ingest", photos, tmp_path / "data")
    command = f"{BIN / 'sam-engine'} sql {tmp_path / 'data'} 'SELECT * FROM range(200000)' --format csv | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout == "range\n"
    assert done.stderr == ""
