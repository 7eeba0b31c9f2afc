"""CLIP out of a folder: the library's own embeddings, attention to the object, long and empty texts, refusals."""

import json
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from sam_core.clip_transformers import CLIP_MEAN, ClipError, TransformersClip, clip_sha256, load_clip
from sam_core.model.checkpoint import file_sha256
from tests.small_clip import SIZES, write_small_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_clip(tmp_path_factory.mktemp("clips") / "small")


@pytest.fixture(scope="module")
def clip(folder: Path) -> TransformersClip:
    return load_clip(folder)


def crops(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_what_a_folder_says(clip: TransformersClip, folder: Path) -> None:
    assert (clip.width, clip.context, clip.image_size, clip.name) == (8, 8, 16, "small")
    assert clip.sha256 == file_sha256(folder / "model.safetensors")
    assert not clip.model.training
    assert clip.mean == (0.5, 0.5, 0.5)


def test_images_are_embedded_as_the_library_does(clip: TransformersClip) -> None:
    reference = clip.model.get_image_features(pixel_values=(crops() - 0.5) / 0.25).pooler_output
    torch.testing.assert_close(clip.embed_images(crops()), F.normalize(reference, dim=-1))


def test_texts_are_embedded_as_the_library_does(clip: TransformersClip) -> None:
    texts = ["a red star", "LEFT of the blue ring"]
    ids = clip.tokenizer(texts, padding=True, return_tensors="pt")
    reference = clip.model.get_text_features(**ids).pooler_output
    found = clip.embed_texts(texts)
    torch.testing.assert_close(found.vectors, F.normalize(reference, dim=-1))
    assert found.truncated == (False, False)


def test_a_text_alone_is_embedded_as_among_others(clip: TransformersClip) -> None:
    together = clip.embed_texts(["red", "the blue ring left of a star"]).vectors
    torch.testing.assert_close(together[:1], clip.embed_texts(["red"]).vectors)


def test_a_tokenizer_without_a_padding_mark(clip: TransformersClip, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "bare")
    path = tmp_path / "bare" / "tokenizer_config.json"
    said = json.loads(path.read_text())
    del said["pad_token"]
    path.write_text(json.dumps(said))
    texts = ["the blue ring left of", "red"]
    found = load_clip(tmp_path / "bare").embed_texts(texts).vectors
    torch.testing.assert_close(found, clip.embed_texts(texts).vectors)


def test_a_mask_over_the_whole_crop_changes_nothing(clip: TransformersClip) -> None:
    whole = torch.ones(3, 16, 16, dtype=torch.bool)
    torch.testing.assert_close(clip.embed_images(crops(), whole), clip.embed_images(crops()))
    torch.testing.assert_close(clip.embed_images(crops(), ~whole), clip.embed_images(crops()))  # nothing to see


def test_the_last_layer_sees_the_object_alone(tmp_path: Path) -> None:
    """With a single layer, which is the last one, pixels of other patches make no difference."""
    shallow = load_clip(write_small_clip(tmp_path / "shallow", sizes=replace(SIZES, vision_layers=1)))
    inside = torch.zeros(3, 16, 16, dtype=torch.bool)
    inside[:, 1, 5] = True  # in the second patch of the first row
    changed = crops()
    changed[:, :, :, 8:] = 0
    torch.testing.assert_close(shallow.embed_images(changed, inside), shallow.embed_images(crops(), inside))
    assert not torch.allclose(shallow.embed_images(changed), shallow.embed_images(crops()))
    changed[:, :, :4, 4:8] = 0
    assert not torch.allclose(shallow.embed_images(changed, inside), shallow.embed_images(crops(), inside))


def test_a_long_text_is_cut_and_said_to_be(clip: TransformersClip) -> None:
    long = "a red star left of the blue ring"  # eight words and two marks
    found = clip.embed_texts([long, "a red star"])
    assert found.truncated == (True, False)
    torch.testing.assert_close(found.vectors[:1], clip.embed_texts(["a red star left of the"]).vectors)


def test_the_library_does_not_warn_of_what_is_cut(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a tokenizer that knows the context, as the released ones do, it foretold indexing errors."""
    shutil.copytree(folder, tmp_path / "knowing")
    path = tmp_path / "knowing" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": 8}))
    knowing = load_clip(tmp_path / "knowing")
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    assert knowing.embed_texts(["a red star left of the blue ring"]).truncated == (True,)
    assert caplog.text == ""


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_text_is_refused(clip: TransformersClip, text: str) -> None:
    with pytest.raises(ValueError, match="an empty text says nothing to look for"):
        clip.embed_texts(["a star", text])


def test_nothing_is_nothing(clip: TransformersClip) -> None:
    assert clip.embed_texts([]).vectors.shape == (0, 8)
    assert clip.embed_images(torch.zeros(0, 3, 16, 16)).shape == (0, 8)


def test_crops_of_another_size_are_refused(clip: TransformersClip) -> None:
    with pytest.raises(ValueError, match="crops for small have shape"):
        clip.embed_images(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="`inside` of 3 crops has shape"):
        clip.embed_images(crops(), torch.ones(2, 16, 16, dtype=torch.bool))


def test_more_crops_than_go_through_at_once(clip: TransformersClip, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = torch.rand(3, 16, 16) < 0.2
    whole = clip.embed_images(crops(), inside)
    monkeypatch.setattr("sam_core.clip_transformers.BATCH", 2)
    torch.testing.assert_close(clip.embed_images(crops(), inside), whole)


def _forget_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _other_kind(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))


def _no_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _damaged(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")


def _renamed(folder: Path) -> None:
    """As in the files of other libraries."""
    weights = load_file(folder / "model.safetensors")
    named = {f"visual.{name}": tensor for name, tensor in weights.items()}
    save_file(named, folder / "model.safetensors", {"format": "pt"})


def _forget_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").rename(folder / "vocab.json")


def _other_tokenizer(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] |= {f"word{number}": 100 + number for number in range(100)}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (shutil.rmtree, "there is no folder"),
        (_forget_config, "holds no CLIP: config.json is missing"),
        (_other_kind, "holds no CLIP: config.json says 'bert'"),
        (_no_json, "is no JSON"),
        (
            _pickled,
            r"has no model.safetensors with the weights; \*.bin is not read: write it anew there by `python -c ",
        ),
        (_damaged, "this CLIP cannot be read"),
        (_renamed, "this CLIP lacks 62 of its weights, such as logit_scale; fetch it again"),
        (_forget_tokenizer, "has no tokenizer: tokenizer.json, or vocab.json and merges.txt; get one"),
        (_other_tokenizer, "the tokenizer knows 112 tokens, the CLIP 12; fetch both again"),
    ],
)
def test_what_is_no_clip_is_refused_in_one_line(
    folder: Path, tmp_path: Path, spoil: Callable[[Path], None], complaint: str
) -> None:
    shutil.copytree(folder, tmp_path / "spoilt")
    spoil(tmp_path / "spoilt")
    with pytest.raises(ClipError, match=complaint) as caught:
        load_clip(tmp_path / "spoilt")
    assert "\n" not in str(caught.value)


def test_missing_weights_say_how_to_get_them(tmp_path: Path) -> None:
    """Of a CLIP whose weights are released as safetensors: the one of 336 px is pickled, and would be refused."""
    with pytest.raises(ClipError, match="hf download openai/clip-vit-large-patch14 --local-dir"):
        load_clip(tmp_path / "nowhere")
    with pytest.raises(ClipError, match="s3://bucket/clip: a CLIP is read from disks"):
        load_clip("s3://bucket/clip")


@pytest.mark.slow
def test_pickled_weights_are_read_once_written_anew_as_it_is_said(folder: Path, tmp_path: Path) -> None:
    pickled = tmp_path / "pickled"
    shutil.copytree(folder, pickled)
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    with pytest.raises(ClipError) as caught:
        load_clip(pickled)
    found = re.search('python -c "(.*)"', str(caught.value))
    assert found
    assert found[1] in (Path(__file__).parents[2] / "docs" / "text.md").read_text()
    subprocess.run([sys.executable, "-c", found[1]], cwd=pickled, check=True, capture_output=True)
    torch.testing.assert_close(
        load_clip(pickled).embed_texts(["red"]).vectors, load_clip(folder).embed_texts(["red"]).vectors
    )


def test_what_older_releases_hold_beside_the_weights_is_passed_over(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder, tmp_path / "old")
    weights = load_file(tmp_path / "old" / "model.safetensors")
    weights |= {"text_model.embeddings.position_ids": torch.arange(8)[None], "other": torch.zeros(1)}
    save_file(weights, tmp_path / "old" / "model.safetensors", {"format": "pt"})
    load_clip(tmp_path / "old")
    assert capfd.readouterr().err == ""


def test_the_hash_of_several_files_depends_on_each(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode())
    both = clip_sha256([tmp_path / "a", tmp_path / "b"])
    assert both not in (file_sha256(tmp_path / "a"), file_sha256(tmp_path / "b"))
    assert both != clip_sha256([tmp_path / "b", tmp_path / "a"])


def test_pixels_are_those_of_a_whole_processor_as_newer_versions_write_it(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "new")
    of_pixels = tmp_path / "new" / "preprocessor_config.json"
    whole = {"image_processor": json.loads(of_pixels.read_text()), "processor_class": "CLIPProcessor"}
    of_pixels.unlink()
    (tmp_path / "new" / "processor_config.json").write_text(json.dumps(whole))
    clip = load_clip(tmp_path / "new")
    assert (clip.mean, clip.std) == ((0.5,) * 3, (0.25,) * 3)


def test_what_else_lies_in_the_folder_makes_no_other_clip(clip: TransformersClip, folder: Path, tmp_path: Path) -> None:
    """Such as the same weights for another library, or a model of ours."""
    shutil.copytree(folder, tmp_path / "more")
    shutil.copy(folder / "model.safetensors", tmp_path / "more" / "open_clip_model.safetensors")
    assert load_clip(tmp_path / "more").sha256 == clip.sha256
    shutil.copytree(folder, tmp_path / "cut", ignore=shutil.ignore_patterns("*.safetensors"))
    clip.model.save_pretrained(tmp_path / "cut", max_shard_size="20KB")
    assert len(list((tmp_path / "cut").glob("model-*.safetensors"))) > 1
    torch.testing.assert_close(
        load_clip(tmp_path / "cut").embed_texts(["red"]).vectors, clip.embed_texts(["red"]).vectors
    )


def test_a_folder_that_says_nothing_of_pixels_has_those_of_clip(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "plain")
    (tmp_path / "plain" / "preprocessor_config.json").unlink()
    assert load_clip(tmp_path / "plain").mean == CLIP_MEAN


def test_a_folder_brings_no_code_along(folder: Path, tmp_path: Path) -> None:
    """Neither files beside the weights nor kernels of a hub, which the library fetches and runs by their name."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "mine.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()")
    named = {"AutoConfig": "mine.Config", "AutoTokenizer": ["mine.Words", "mine.Words"]}
    for name in ("config.json", "tokenizer_config.json"):
        said = json.loads((copy / name).read_text()) | {"auto_map": named, "_attn_implementation": "hub/kernels"}
        (copy / name).write_text(json.dumps(said))
    assert load_clip(copy).model.config._attn_implementation == "sdpa"
    assert not (tmp_path / "ran").exists()
