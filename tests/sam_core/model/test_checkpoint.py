"""Checkpoints: round trips, the released files, and one clear line for everything that is wrong."""

import hashlib
import json
import pathlib
import pickle
import struct

import pytest
import torch
from safetensors.torch import save_file

from sam_core.model import checkpoint
from sam_core.model.checkpoint import CHECKPOINTS_VARIABLE, RELEASED_FILES, CheckpointError, load_model, save_model
from sam_core.model.sam import Sam
from sam_core.presets import vit_b, vit_t, vit_test
from tests.sam_core.model.reference import shallow


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder that SAM_ENGINE_CHECKPOINTS names; no weights in the package."""
    monkeypatch.setenv(CHECKPOINTS_VARIABLE, str(tmp_path))
    monkeypatch.setattr(checkpoint, "PACKAGED_WEIGHTS", tmp_path / "package")
    return tmp_path


def equal_states(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_what_is_saved_is_loaded(tmp_path):
    sam, path = Sam(vit_test()), tmp_path / "model.safetensors"
    save_model(sam, path, {"steps": "100"})
    loaded = load_model(path)
    assert (loaded.name, loaded.sam.config, loaded.metadata) == ("vit_test", vit_test(), {"steps": "100"})
    assert equal_states(loaded.sam.state_dict(), sam.state_dict())
    assert torch.equal(loaded.sam.pixel_mean, sam.pixel_mean)
    assert not loaded.sam.training
    assert all(parameter.requires_grad for parameter in loaded.sam.parameters())
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_equal_models_are_equal_files(tmp_path):
    sam, metadata = Sam(vit_test()), {"steps": "100", "seed": "0", "data": "scenes"}
    for name in ("a", "b"):
        save_model(sam, tmp_path / name, metadata)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_half_precision_files_load_in_single_precision(tmp_path):
    sam, path = Sam(vit_test()), tmp_path / "half.safetensors"
    save_model(sam, tmp_path / "full.safetensors")
    save_model(sam, path, dtype=torch.float16)
    assert path.stat().st_size < 0.6 * (tmp_path / "full.safetensors").stat().st_size
    loaded = load_model(path).sam.state_dict()
    for name, tensor in sam.state_dict().items():
        assert loaded[name].dtype == torch.float32
        torch.testing.assert_close(loaded[name], tensor, atol=1e-3, rtol=1e-3)
    matrix = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
    assert torch.equal(loaded[matrix], sam.state_dict()[matrix])


def test_a_name_is_found_in_the_folder_then_in_the_package(folder):
    first, second = Sam(vit_test()), Sam(vit_test())
    (folder / "package").mkdir()
    save_model(second, folder / "package" / "vit_test.safetensors")
    assert equal_states(load_model("vit_test").sam.state_dict(), second.state_dict())
    save_model(first, folder / "vit_test.safetensors")
    assert equal_states(load_model("vit_test").sam.state_dict(), first.state_dict())


def test_a_released_file_is_recognised_by_its_official_name(folder, monkeypatch):
    small = shallow(vit_b())
    monkeypatch.setattr(checkpoint, "preset", lambda name: small)
    sam = Sam(small)
    torch.save(sam.state_dict(), folder / RELEASED_FILES["vit_b"])
    loaded = load_model("vit_b")
    assert loaded.name == "vit_b"
    assert equal_states(loaded.sam.state_dict(), sam.state_dict())


def test_official_weights_that_are_missing_say_where_to_put_them(folder):
    for name, file_name in RELEASED_FILES.items():
        with pytest.raises(
            CheckpointError, match=f"{name} has no weights here: `sam-engine models fetch {name}`"
        ) as error:
            load_model(name)
        assert f"or put {file_name} into the folder" in str(error.value)
        assert str(folder) in str(error.value)


def test_without_the_variable_the_message_says_so(folder, monkeypatch):
    monkeypatch.delenv(CHECKPOINTS_VARIABLE)
    with pytest.raises(CheckpointError, match="now unset"):
        load_model("vit_b")


def test_a_wrong_name_suggests_the_nearest(folder):
    with pytest.raises(CheckpointError, match="no model is called 'vit_bb'; did you mean 'vit_b'"):
        load_model("vit_bb")
    with pytest.raises(CheckpointError, match="or give the path of a checkpoint"):
        load_model("vit_n-2ecbc4b7c12b")


def test_a_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*missing\.safetensors"):
        load_model(tmp_path / "missing.safetensors")


def test_a_model_in_a_bucket_has_to_be_copied(folder):
    with pytest.raises(CheckpointError, match=r"^s3://bucket/model\.safetensors: models are read from disks here"):
        load_model("s3://bucket/model.safetensors")


def truncated(path):
    save_model(Sam(vit_test()), path)
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize(
    "write",
    [lambda path: path.write_bytes(b""), lambda path: path.write_text("no weights here" * 50), truncated],
    ids=["empty", "text", "truncated"],
)
def test_a_corrupt_file(tmp_path, suffix, write):
    path = tmp_path / f"model{suffix}"
    write(path)
    with pytest.raises(CheckpointError, match=f"model{suffix} is damaged") as error:
        load_model(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["model.pth", "model.SAFETENSORS", "renamed"])
def test_weights_of_ours_under_another_name(tmp_path, name):
    save_model(Sam(vit_test()), tmp_path / name)
    assert load_model(tmp_path / name).name == checkpoint.configuration_name(tmp_path / name) == "vit_test"


def test_a_pickled_module_is_not_unpickled(tmp_path):
    torch.save(Sam(vit_test()), tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        load_model(tmp_path / "model.pth")


@pytest.mark.parametrize(
    "content",
    [[1, 2], {"image_encoder.pos_embed": 3}, {"weight": torch.zeros(2)}]
    + [{"image_encoder.pos_embed": torch.tensor(768.0)}, {checkpoint._TINY_MARK: torch.zeros(2), 3: torch.zeros(2)}],
)
def test_another_model_in_a_pth_file(tmp_path, content):
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="is not a released checkpoint of vit_b, vit_l, vit_h"):
        load_model(tmp_path / "model.pth")


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        (None, "does not say which model"),
        ({checkpoint.HEADER_KEY: "?"}, "unknown header"),
        ({checkpoint.HEADER_KEY: "{}"}, "unknown header"),
        ({checkpoint.HEADER_KEY: json.dumps({"config": "{}", "metadata": {}})}, "not a model configuration"),
        ({checkpoint.HEADER_KEY: json.dumps({"config": vit_test().to_json(), "metadata": [1]})}, "unknown header"),
    ],
)
def test_a_header_that_is_not_ours(tmp_path, metadata, complaint):
    save_file({"weight": torch.zeros(2)}, tmp_path / "model.safetensors", metadata=metadata)
    with pytest.raises(CheckpointError, match=complaint):
        load_model(tmp_path / "model.safetensors")


def test_shapes_that_do_not_fit_name_the_first(tmp_path):
    sam, path = Sam(vit_test()), tmp_path / "model.safetensors"
    sam.mask_decoder.iou_token = torch.nn.Embedding(1, 16)
    del sam.mask_decoder.mask_tokens
    save_model(sam, path)
    with pytest.raises(CheckpointError) as error:
        load_model(path)
    assert "does not fit vit_test: mask_decoder.iou_token.weight has shape (1, 16) where (1, 32)" in str(error.value)
    assert "2 parameters differ" in str(error.value)


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


@pytest.mark.parametrize(
    "wrap", [lambda bomb: bomb, lambda bomb: {"image_encoder.pos_embed": bomb}, lambda bomb: [bomb]]
)
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors", ".bin"])
@pytest.mark.parametrize("write", ["torch", "legacy", "pickle"])
def test_a_bomb_does_not_go_off(tmp_path, wrap, suffix, write):
    path, fired = tmp_path / f"model{suffix}", tmp_path / "fired"
    if write == "pickle":
        path.write_bytes(pickle.dumps(wrap(Bomb(fired))))
    else:
        torch.save(wrap(Bomb(fired)), path, _use_new_zipfile_serialization=write == "torch")
    with pytest.raises(CheckpointError, match="is damaged, or holds more than tensors"):
        load_model(path)
    assert not fired.exists()
    if write == "pickle":  # the bomb is a real one
        pickle.loads(path.read_bytes())
        assert fired.exists()


@pytest.mark.parametrize("length", [2**63, 2**40, 100_000_001, 7])
def test_a_header_longer_than_its_file(tmp_path, length):
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{" * 64)
    with pytest.raises(CheckpointError, match="is damaged"):
        load_model(path)


def test_tensors_that_reach_beyond_the_file(tmp_path):
    header = json.dumps({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(CheckpointError, match="is damaged"):
        load_model(path)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_weights_of_a_wrong_kind(tmp_path, dtype):
    sam, path = Sam(vit_test()), tmp_path / "model.safetensors"
    save_model(sam, path, dtype=dtype)
    with pytest.raises(CheckpointError, match="which are no weights"):
        load_model(path)


@pytest.mark.parametrize("values", [[float("nan")], [float("inf")], [float("-inf")], [float("inf"), float("-inf")]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weights_that_are_no_numbers(tmp_path, values, dtype):
    sam, path = Sam(vit_test()), tmp_path / "model.safetensors"
    sam.mask_decoder.iou_token.weight.data[0, 3 : 3 + len(values)] = torch.tensor(values)
    save_model(sam, path, dtype=dtype)
    with pytest.raises(CheckpointError, match=r"holds NaN or infinity in mask_decoder\.iou_token\.weight, 1 of"):
        load_model(path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weights_that_are_large_are_numbers(tmp_path, dtype):
    sam, path = Sam(vit_test()), tmp_path / "model.safetensors"
    largest = torch.finfo(dtype).max
    sam.mask_decoder.iou_token.weight.data[0, :3] = largest  # their sum is infinite
    save_model(sam, path, dtype=dtype)
    assert (load_model(path).sam.mask_decoder.iou_token.weight[0, :3] == largest).all()


@pytest.mark.parametrize(
    "change",
    [{"depth": 10**9}, {"embed_dim": 2**40}, {"image_size": 2**30}, {"depth": -1}, {"depth": 1.5}, {"depth": True}]
    + [{"mlp_ratio": float("nan")}, {"num_heads": 0}, {"patch_size": 0}, {"global_attn_indexes": "ab"}],
)
def test_a_model_too_large_to_be_built_is_refused_at_once(tmp_path, change):
    config = json.loads(vit_test().to_json())
    _refused_at_once(tmp_path, config | {"image_encoder": config["image_encoder"] | change})


@pytest.mark.parametrize(
    "change",
    [{"depths": [2, 2, 10**9, 2]}, {"depths": [2, 2, 2.5, 2]}, {"depths": [2]}, {"depths": 2}, {"embed_dims": "abcd"}]
    + [{"num_heads": [0, 0, 0, 0]}, {"window_sizes": [7, 7, 10**9, 7]}, {"out_chans": 2**40}, {"image_size": "1024"}]
    + [{"image_size": -1024}, {"mlp_ratio": 1e300}],
)
def test_a_tiny_model_that_cannot_be_built_is_refused_at_once(tmp_path, change):
    config = json.loads(vit_t().to_json())
    _refused_at_once(tmp_path, config | {"image_encoder": config["image_encoder"] | change})


@pytest.mark.parametrize(
    "change",
    [{"pixel_mean": ["a", "b", "c"]}, {"pixel_mean": [[1], [2], [3]]}, {"pixel_std": [1, float("inf"), 1]}]
    + [{"name": 5}],
)
def test_a_model_without_sense_is_refused_at_once(tmp_path, change):
    _refused_at_once(tmp_path, json.loads(vit_test().to_json()) | change)


def _refused_at_once(folder, config):
    header = {"config": json.dumps(config), "metadata": {}}
    save_file({"x": torch.zeros(2)}, folder / "m.safetensors", metadata={checkpoint.HEADER_KEY: json.dumps(header)})
    with pytest.raises(CheckpointError, match="unknown header") as error:
        load_model(folder / "m.safetensors")
    assert "\n" not in str(error.value)
