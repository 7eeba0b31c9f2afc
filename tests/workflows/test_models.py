from __future__ import annotations

import errno
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from socket import gethostname
from types import SimpleNamespace

import numpy as np
import pytest

from sam_core.device_settings import DeviceSettings
from sam_core.model.checkpoint import CheckpointError, file_sha256, save_model
from sam_core.model.sam import Sam
from sam_core.presets import vit_t, vit_test
from sam_core.recipes import Recipe
from schemas.layout import model_card_key, model_weights_key
from schemas.records import ModelRecord, from_json
from tests.workflows.fakes import run_record
from workflows.cli import parse
from workflows.failures import one_line
from workflows.models import (
    GeneratorSpec,
    Model,
    find_model,
    keep_packaged,
    name_of,
    print_models,
    register_model,
    settings_for,
    stored_model,
)
from workflows.storage import LocalStore, open_store

QUICK = Recipe(points_per_side=1, min_predicted_iou=0, min_stability_score=0)


def test_a_checkpoint_is_found_and_known_by_its_hash(tiny_checkpoint: Path) -> None:
    model = find_model(str(tiny_checkpoint))
    assert (model.name, model.sha256) == ("vit_test", file_sha256(tiny_checkpoint))
    assert model.model_id == f"vit_test-{model.sha256[:12]}"
    assert Path(model.path).is_absolute()


def test_a_name_is_looked_up(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM_ENGINE_CHECKPOINTS", str(tiny_checkpoint.parent))
    assert find_model("vit_test").path == str(tiny_checkpoint)


def test_a_wrong_name_suggests_the_nearest() -> None:
    with pytest.raises(CheckpointError, match="did you mean 'vit_b'"):
        find_model("vitb")


def test_a_corrupt_checkpoint_is_one_line(tmp_path: Path, tiny_checkpoint: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(tiny_checkpoint.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"broken.safetensors .*fetch or copy it again") as caught:
        find_model(str(broken))
    assert "\n" not in str(caught.value)


def test_a_generator_makes_masks(tiny_checkpoint: Path) -> None:
    spec = GeneratorSpec(find_model(str(tiny_checkpoint)), QUICK, "cpu")
    [generation] = spec.load().attempt_many([np.zeros((20, 30, 3), np.uint8)])
    assert generation.candidates == 3


def test_only_plain_vits_on_a_gpu_go_in_batches(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "cc")
    model, wanted = find_model(str(tiny_checkpoint)), DeviceSettings(memory_bytes=6 << 30)
    on_gpu = settings_for(model, "cuda", wanted, exact_reference=False)
    assert on_gpu == wanted.resolve("cuda")
    spec = GeneratorSpec(model, QUICK, "cuda", settings=on_gpu)
    assert (spec.dtype, spec.kernels) == ("bfloat16", "device attention=triton compile=on decoder=triton masks=triton")
    assert settings_for(model, "cpu", wanted, exact_reference=False) is None
    assert settings_for(model, "cuda", wanted, exact_reference=True) is None
    tiny_vit = tmp_path / "tiny.safetensors"
    encoder = replace(vit_t().image_encoder, out_chans=vit_test().mask_decoder.transformer_dim)
    save_model(Sam(replace(vit_test(), image_encoder=encoder)), tiny_vit)
    assert settings_for(find_model(str(tiny_vit)), "cuda", wanted, exact_reference=False) is None
    assert (GeneratorSpec(model, QUICK, "cpu").dtype, GeneratorSpec(model, QUICK, "cpu").kernels) == ("float32", "fast")


def test_another_checkpoint_at_the_same_place_is_refused(replaced_model: Model) -> None:
    with pytest.raises(CheckpointError, match="not the checkpoint that the command began with"):
        GeneratorSpec(replaced_model, QUICK, "cpu").load()


def test_a_model_that_another_machine_keeps_elsewhere_is_found_by_its_name(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers that had this package in another folder could not load the model that ships with it."""
    monkeypatch.setenv("SAM_ENGINE_CHECKPOINTS", str(tiny_checkpoint.parent))
    there = replace(find_model("vit_test"), path="/elsewhere/vit_test.safetensors")
    assert there.load().sha256 == there.sha256
    for wrong in (replace(there, sha256="0" * 64), replace(there, name="none")):
        with pytest.raises(CheckpointError, match=f"no checkpoint /elsewhere/vit_test.safetensors on {gethostname()}"):
            wrong.load()


def test_the_data_set_notes_which_model_was_used(tmp_path: Path, tiny_checkpoint: Path) -> None:
    store, model = LocalStore(tmp_path), find_model(str(tiny_checkpoint))
    register_model(store, model, run_record().created_at)
    key = model_card_key(model.model_id)
    record = from_json(ModelRecord, store.get(key), where=key)
    assert (record.name, record.sha256) == (model.name, model.sha256)


def test_a_model_that_comes_with_the_package_is_kept_in_the_data_set(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, model, now = LocalStore(tmp_path), find_model(str(tiny_checkpoint)), run_record().created_at
    keep_packaged(store, model, now)
    assert not store.exists(model_weights_key(model.model_id))  # its owner keeps it
    monkeypatch.setattr("workflows.models.PACKAGED_WEIGHTS", tiny_checkpoint.parent)
    keep_packaged(store, model, now)
    kept = stored_model(store, model.model_id)
    assert Path(kept.path).is_relative_to(tmp_path)
    assert find_model(kept.path).sha256 == model.sha256


def test_a_registered_model_is_copied_out_of_a_bucket_once(
    bucket: str, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store, model = open_store(f"s3://{bucket}"), find_model(str(tiny_checkpoint))
    register_model(store, model, run_record().created_at)
    with pytest.raises(FileNotFoundError):
        stored_model(store, model.model_id)
    key = model_weights_key(model.model_id)
    store.put(key, tiny_checkpoint.read_bytes())
    stored = stored_model(store, model.model_id)
    assert stored == replace(model, path=f"s3://{bucket}/{key}")
    assert not list(tmp_path.rglob("*.safetensors"))  # not before it is needed, and by whom
    kept = stored.here()
    assert file_sha256(kept) == model.sha256
    store.delete(key)
    assert stored.here() == kept
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [kept]


def test_a_model_in_a_bucket_is_known_by_its_address(
    bucket: str, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store, address = open_store(f"s3://{bucket}"), f"s3://{bucket}/models/mine.safetensors"
    with pytest.raises(CheckpointError, match=f"there is no checkpoint {address}"):
        find_model(address)
    store.put("models/mine.safetensors", tiny_checkpoint.read_bytes())
    model = find_model(address)
    assert model == replace(find_model(str(tiny_checkpoint)), path=address)
    assert name_of(address) == "vit_test"
    assert GeneratorSpec(model, QUICK, "cpu").load().images_at_once == 1
    save_model(Sam(vit_t()), tmp_path / "other.safetensors")
    store.put("models/mine.safetensors", (tmp_path / "other.safetensors").read_bytes())
    assert find_model(address).name == "vit_t"  # what lies there now, while a run goes on with what it began with
    assert file_sha256(model.here()) == model.sha256
    shutil.rmtree(model.here().parent)
    with pytest.raises(CheckpointError, match="is not the checkpoint any more that the command began with"):
        model.here()


def test_no_room_for_a_model_of_a_bucket_names_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("workflows.models.open_store", lambda _: SimpleNamespace(get=lambda _: b"weights"))
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left") as caught:
        find_model("s3://bucket/model.safetensors")
    assert one_line(caught.value).startswith(f"{tmp_path}: No space left on device (temporary files lie there; TMPDIR")


@pytest.mark.parametrize("made", ["open to all", "a link"])
def test_a_folder_that_others_may_have_made_is_not_used(
    bucket: str, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: str
) -> None:
    """Its name can be guessed, and who owns it exchanges a model between the check of its hash and its use."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / f"sam-engine-{os.getuid()}"
    if made == "a link":
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    open_store(f"s3://{bucket}").put("mine.safetensors", tiny_checkpoint.read_bytes())
    with pytest.raises(PermissionError, match="is not this user's alone: remove it"):
        find_model(f"s3://{bucket}/mine.safetensors")
    assert not list(folder.iterdir())


@pytest.mark.parametrize("address", ["s3://bucket", "s3://", "s3://bucket/folder/"])
def test_an_address_without_a_file_is_refused(address: str) -> None:
    with pytest.raises(CheckpointError, match="give s3://bucket/key"):
        find_model(address)


@pytest.mark.parametrize("words", [("vit_b",), ("--folder", "checkpoints")])
def test_a_list_of_one_model_is_none(words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="models list shows all of them"):
        parse(["models", "list", *words])


def test_every_model_that_people_can_use_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Not the one of the tests, of which people were told where to put its weights."""
    assert print_models() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["vit_b", "vit_l", "vit_h", "vit_t", "vit_n"]
    assert "sam_vit_h_4b8939.pth" in next(line for line in lines if line.startswith("vit_h"))
