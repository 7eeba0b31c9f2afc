"""Every kind of source gives the masks that lie in it; wrong ones are refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from sam_core.masks.rle import encode
from sam_core.scenes.textures import texture_bank
from schemas.layout import DATASET_KEY, annotations_key
from tests.schemas import rows
from tests.workflows.conftest import QUICK, Engine, save_photos
from tests.workflows.report.data_sets import DataSet, done, failed, photos, run_record
from tests.workflows.train.conftest import picture, small_config
from workflows.evaluate.truth import open_set, read_image, read_masks
from workflows.originals import MOVED
from workflows.sql import connect
from workflows.storage import open_store
from workflows.train.left_out import UnreadableError
from workflows.train.photos import PhotoReader
from workflows.train.samples import Sampler, numbers_of, photographs
from workflows.train.sources import is_data_set, open_sources
from workflows.uris import UriReader


def masks_of(source: str | Path) -> list[np.ndarray]:
    (opened,) = open_sources((str(source),), need_masks=True)
    return [masks.dense() for _, masks in photographs(opened, refuse)]


def refuse(failure: UnreadableError) -> None:
    raise failure


def expected(seed: int) -> np.ndarray:
    labels = picture(seed)[1]
    return np.stack([labels == value for value in np.unique(labels) if value])


def test_label_pngs(labelled: Path) -> None:
    found = masks_of(labelled)
    assert len(found) == 6
    assert all(np.array_equal(masks, expected(seed)) for seed, masks in enumerate(found))


def test_one_spelling_of_a_place(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a `/` that the shell writes behind a folder would begin another run."""
    monkeypatch.chdir(labelled.parent)
    spelt = [
        open_sources((text,), need_masks=True)[0] for text in ("labelled", "labelled/", "./labelled", "labelled/=2")
    ]
    assert {source.name for source in spelt} == {"labelled"}
    with pytest.raises(ValueError, match="labelled is named twice"):
        open_sources(("labelled", "labelled/"), need_masks=True)


def test_a_prefix_that_ends_as_a_weight_does_is_a_place(labelled: Path, bucket: str) -> None:
    """Folders of partitions are called so."""
    store = open_store(f"s3://{bucket}")
    for path in filter(Path.is_file, labelled.rglob("*")):
        store.put(f"fold=1/{path.relative_to(labelled)}", path.read_bytes())
    texts = (f"s3://{bucket}/fold=1", f"s3://{bucket}/fold=1=2")
    opened = [open_sources((text,), need_masks=True)[0] for text in texts]
    assert [(source.name, source.weight, len(source)) for source in opened] == [(texts[0], 1, 6), (texts[0], 2, 6)]


def test_a_folder_called_scenes_is_a_folder(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Procedural scenes would be trained on in its place."""
    monkeypatch.chdir(labelled.parent)
    labelled.rename("scenes")
    with pytest.raises(ValueError, match=r"scenes: a folder of that name lies here: say \./scenes for it"):
        open_sources(("scenes/",), need_masks=True)
    (opened,) = open_sources(("./scenes/=2",), need_masks=True)
    assert (opened.name, opened.weight, len(opened), opened.procedural) == ("./scenes", 2, 6, False)
    (Path("scenes") / DATASET_KEY).write_text("{}")
    assert [is_data_set(text) for text in ("scenes", "./scenes", "scenes@masks", "./scenes@masks=2")] == [
        False,
        True,
        True,
        True,
    ]


def test_a_folder_called_samples_is_a_folder(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(labelled / "images")
    Path("samples").mkdir()
    shutil.move("0.png", "samples")
    (opened,) = open_sources(("./samples",), need_masks=False)
    assert len(opened) == 1


def test_sa1b_folder_and_file(sa1b: Path) -> None:
    assert [np.array_equal(m, expected(seed)) for seed, m in enumerate(masks_of(sa1b))] == [True, True]
    assert np.array_equal(masks_of(sa1b / "sa_1.json")[0], expected(1))


def test_run_lengths_of_another_size_are_no_masks(sa1b: Path) -> None:
    """Height and width in the wrong order would be other masks, and nobody would see it."""
    path = sa1b / "sa_0.json"
    document = json.loads(path.read_text())
    document["annotations"][1]["segmentation"]["size"].reverse()
    path.write_text(json.dumps(document))
    complaint = r"sa_0.json: annotation 2: the RLE's size \[64, 48\] is not the image's \[48, 64\]"
    with pytest.raises(ValueError, match=complaint):
        masks_of(sa1b)
    with pytest.raises(ValueError, match=complaint):
        read_masks(open_set(str(sa1b)).rows.to_pylist()[0], UriReader())


def test_coco_polygons_and_crowds(labelled: Path) -> None:
    box = {"bbox": [2, 3, 10, 8], "area": 80, "image_id": 7, "category_id": 1}
    square = {"id": 1, "segmentation": [[2, 3, 12, 3, 12, 11, 2, 11]], **box}
    crowd = {"id": 2, "iscrowd": 1, "segmentation": {"size": [48, 64], "counts": [0, 48 * 64]}, **box}
    sliver = {"id": 3, "segmentation": [[1, 1, 2, 2]], **box}
    image = {"id": 7, "file_name": "0.png", "width": 64, "height": 48}
    document = {"images": [image], "annotations": [square, crowd, sliver], "categories": []}
    (labelled / "instances.json").write_text(json.dumps(document))
    (masks,) = masks_of(labelled / "instances.json")
    wanted = np.zeros((48, 64), bool)
    wanted[3:11, 2:12] = True
    assert np.array_equal(masks, wanted[None])
    shutil.rmtree(labelled / "labels")
    assert [len(found) for found in masks_of(labelled)] == [1]
    (labelled / "images").rename(labelled / "pictures")
    with pytest.raises(OSError, match=r"/0\.png is not there; pictures lie beside the JSON that names them"):
        masks_of(labelled / "instances.json")


def save_thing(path: Path, seed: int) -> None:
    """A disc of noise on a transparent ground."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((80, 90)) - 40
    alpha = np.where(np.hypot(rows, columns) < 36, 255, 0)
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.dstack([rng.integers(0, 255, (80, 90, 3)), alpha]).astype(np.uint8)).save(path)


def test_things_of_a_folder_stand_in_scenes(tmp_path: Path) -> None:
    for seed in range(2):
        save_thing(tmp_path / "things" / f"{seed}.png", seed)
    sources = open_sources((f"cutouts:{tmp_path}/things=3", "scenes"), need_masks=True)
    assert [(source.weight, source.procedural, len(source)) for source in sources] == [(3.0, True, 0), (1.0, True, 0)]
    config = small_config()
    (with_things,), (without,) = ([Sampler((source,), config).sample(4)] for source in sources)
    assert with_things.images.shape == without.images.shape
    assert len(with_things.masks)
    assert not np.array_equal(with_things.images, without.images)
    (tmp_path / "things" / "0.png").unlink()
    one_gone = Sampler(sources[:1], config)
    assert not np.array_equal(one_gone.sample(4).images, without.images)
    assert one_gone.take_left_out() == {f"{tmp_path}/things/0.png": "no such file"}
    (tmp_path / "things" / "1.png").unlink()
    both_gone = Sampler(sources[:1], config)
    with pytest.raises(OSError, match=r"cutouts:.*/things: 100 of the last 100 .*/\d.png: no such file"):
        [both_gone.sample(number) for number in range(8)]


def test_pictures_without_a_thing_are_no_cutouts(tmp_path: Path) -> None:
    save_photos(tmp_path / "photos", 2)
    with pytest.raises(ValueError, match=r"cutouts:.*photos: none of 2 pictures shows one solid thing"):
        open_sources((f"cutouts:{tmp_path}/photos",), need_masks=True)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/nowhere: "):
        open_sources((f"cutouts:{tmp_path}/nowhere",), need_masks=True)
    save_thing(tmp_path / "photos" / "z.png", 0)
    (source,) = open_sources((f"cutouts:{tmp_path}/photos",), need_masks=True)
    with pytest.raises(ValueError, match="procedural scenes have no end; validate on images"):
        next(photographs(source, refuse))


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_masks_of_a_data_set_and_images_that_moved(tmp_path: Path, tiny_checkpoint: Path, engine: Engine) -> None:
    save_photos(tmp_path / "photos", 2)
    data = tmp_path / "data"
    named = ("--model", tiny_checkpoint, "--run", "first")
    assert engine("generate", tmp_path / "photos", data, *named, *QUICK).status == 0
    found = masks_of(data)
    assert len(found) == 2
    assert [len(m) for m in masks_of(f"{data}@masks")] == [len(m) for m in found]
    with pytest.raises(ValueError, match=r"no image with masks$"):
        masks_of(f"{data}@annotations")
    with pytest.raises(ValueError, match="has no run 'sweep'"):
        masks_of(f"{data}@sweep")
    with pytest.raises(ValueError, match="@round-3: no engine round of that number has frozen masks there"):
        masks_of(f"{data}@round-3")
    ((run_id,),) = connect(str(data)).sql("SELECT run_id FROM runs").fetchall()
    assert len(masks_of(f"{data}@{run_id}")) == len(masks_of(f"{data}@first")) == 2
    (opened,) = open_sources((f"{data}@masks",), need_masks=True)
    shutil.move(tmp_path / "photos", tmp_path / "elsewhere")
    moved = rf"photo-\d+.png is not there any more; if the images moved, run `sam-engine ingest NEW_PLACE {data}`$"
    with pytest.raises(OSError, match=moved):
        masks_of(f"{data}@masks")
    with pytest.raises(ValueError, match=f"no such file{MOVED}$"):  # between opening and reading
        next(photographs(opened, refuse))
    assert engine("ingest", tmp_path / "elsewhere", data).status == 0
    assert len(masks_of(data)) == 2


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("nowhere", "no such data set, folder or file"),
        ("empty", "no masks found; expected a data set"),
        ("scenes=0", "weight of a source is positive"),
        ("other.json", "neither a COCO instances JSON nor one of SA-1B"),
        ("deep.json", "deep.json: not JSON"),
        ("nameless.json", "nameless.json: image has no file_name"),
        ("twice.json", "twice.json: two images have the same id, so whose the masks are cannot be told"),
    ],
)
def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, complaint: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "nameless.json").write_text(json.dumps({"image": {}, "annotations": []}))
    images = [{"id": 1, "file_name": name, "width": 64, "height": 48} for name in ("a.png", "b.png")]
    (tmp_path / "twice.json").write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    with pytest.raises(ValueError, match=complaint):
        open_sources((text,), need_masks=True)


def test_a_source_is_named_once(labelled: Path) -> None:
    with pytest.raises(ValueError, match=r"is named twice; .*=2 draws it twice as often"):
        open_sources((str(labelled), "scenes", f"{labelled}=3"), need_masks=True)


def test_corrections_of_an_audit_are_no_masks_to_learn_from(tmp_path: Path) -> None:
    """Nor to be measured against: they are a model's masks that people looked at, and no export has them."""
    rng = np.random.default_rng(0)
    data = DataSet(tmp_path / "data")
    one, other = data.add_images(photos(tmp_path / "photos", 2, rng=rng))
    mask = np.zeros((24, 36), bool)
    mask[3:9, 4:20] = True
    said = [
        rows.annotation("drawn", 1, mask, image_id=one),
        rows.annotation("audited", 1, mask, image_id=other, stage="audit"),
    ]
    rows.put(data.root, annotations_key("s1", 1), pa.concat_tables(said))
    for name in ("data", "data@annotations"):
        (source,) = open_sources((str(tmp_path / name),), need_masks=True)
        assert source.index["image_id"].to_pylist() == [one]


def test_names_that_are_no_utf8_are_read(tmp_path: Path) -> None:
    """As in archives of an old Windows, of which one name ended training and evaluation."""
    for kind, pixels in zip(("images", "labels"), picture(0), strict=True):
        (tmp_path / kind).mkdir()
        with (tmp_path / kind / "caf\udce9.png").open("wb") as file:
            Image.fromarray(pixels).save(file, "png")
    (row,) = open_set(str(tmp_path)).rows.to_pylist()
    assert row["uris"] == [f"{tmp_path}/images/caf\\xe9.png"]
    assert read_masks(row, UriReader()).ids.tolist() == [1, 2, 3]
    assert read_image(row, UriReader()).shape == (48, 64, 3)


def test_masks_that_overlap_are_not_left_out_unsaid(labelled: Path) -> None:
    """An export of labels puts them into `labels-2`, which training and evaluation passed over."""
    shutil.copytree(labelled / "labels", labelled / "labels-2")
    with pytest.raises(ValueError, match=r"the masks in labels-2 would be left out; export as coco, or take it"):
        open_sources((str(labelled),), need_masks=True)


def test_labels_belong_to_the_picture_at_the_same_place(labelled: Path) -> None:
    """Folders of one data set may number their pictures alike."""
    for number, folder in ((0, "a"), (1, "b")):
        for kind in ("images", "labels"):
            (labelled / kind / folder).mkdir()
            shutil.move(labelled / kind / f"{number}.png", labelled / kind / folder / "9.png")
    (opened,) = open_sources((str(labelled),), need_masks=True)
    pairs = list(zip(opened.index["uris"].to_pylist(), opened.index["masks_uri"].to_pylist(), strict=True))
    assert len(pairs) == 6
    assert all(picture.split("/")[-2:] == labels.split("/")[-2:] for (picture,), labels in pairs if "/9." in labels)
    found = [
        masks for (picture,), masks in zip((p for p, _ in pairs), masks_of(labelled), strict=True) if "/9." in picture
    ]
    assert [np.array_equal(masks, expected(number)) for number, masks in enumerate(found)] == [True, True]
    (labelled / "images" / "a" / "9.png").unlink()
    with pytest.raises(ValueError, match=r"labels/a/9.png has no picture images/a/9.\*"):
        open_sources((str(labelled),), need_masks=True)
    Image.new("RGB", (64, 48)).save(labelled / "images" / "2.jpg")
    with pytest.raises(ValueError, match=r"images/2.jpg and images/2.png differ in their ending alone"):
        open_sources((str(labelled),), need_masks=True)


@pytest.mark.parametrize(
    "changed", ["labelled/labels/0.png", "labelled/images/0.png", "sa1b/sa_0.json", "sa1b/sa_0.png"]
)
def test_files_that_were_corrected_are_other_data(labelled: Path, sa1b: Path, changed: str) -> None:
    """A run of them that has ended would be shown again instead of training on what was corrected."""

    def sha256(folder: Path) -> str:
        return open_sources((str(folder),), need_masks=True)[0].sha256

    before = {folder: sha256(folder) for folder in (labelled, sa1b)}
    assert before == {folder: sha256(folder) for folder in before}
    path = labelled.parent / changed
    path.write_bytes(path.read_bytes() + b" ")
    assert [sha256(folder) == known for folder, known in before.items()] == [
        not changed.startswith(folder.name) for folder in before
    ]


def test_notes_beside_pictures_and_what_a_mac_leaves_are_no_pictures(labelled: Path, sa1b: Path) -> None:
    (labelled / "images" / "0.json").write_text("{}")
    (labelled / "images" / "1.xml").write_text("<annotation/>")
    (labelled / "labels" / "._0.png").write_bytes(b"Mac OS X")
    (labelled / "labels" / "5.png").rename(labelled / "labels" / "5.PNG")
    assert len(masks_of(labelled)) == 6
    (sa1b / "._sa_0.json").write_bytes(b"Mac OS X")
    (sa1b / "sa_0.png").rename(sa1b / "sa_0.PNG")
    assert len(masks_of(sa1b)) == 2


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_label_files_that_are_none_are_named(labelled: Path, content: bytes) -> None:
    (labelled / "labels" / "0.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"labels/0.png: not a label image"):
        masks_of(labelled)


def test_distillation_leaves_out_what_could_not_be_read_before(tmp_path: Path) -> None:
    """One broken file would stop it at the same step again and again."""
    rng = np.random.default_rng(0)
    data = DataSet(tmp_path / "data")
    fine, broken, _ = data.add_images(photos(tmp_path / "photos", 3, rng=rng))
    mask = np.ones((24, 36), bool)
    found = [done(fine, [mask], rng=rng), failed(broken, "Damaged", "cannot be decoded")]
    data.add_run(found, run_record("one"), shard=0)
    (opened,) = open_sources((str(data.root),), need_masks=False)
    names = sorted(Path(uri).name for (uri,) in opened.index["uris"].to_pylist())
    assert names == ["photo-0.png", "photo-2.png"]
    with pytest.raises(ValueError, match="data@masks: images without masks are all of a data set; leave @masks out"):
        open_sources((f"{data.root}@masks",), need_masks=False)


def test_weights_and_scenes_decide_how_often_a_source_is_drawn(labelled: Path, sa1b: Path) -> None:
    sources = open_sources((f"{labelled}=1", f"{sa1b}=6", "scenes=2"), need_masks=True)
    sampler = Sampler(sources, small_config())
    drawn = [sampler.describe(number) for number in range(3000)]
    shares = [sum(str(folder) in name for name in drawn) / 3000 for folder in (labelled, sa1b)]
    # 6 images, 2 x 6 and, for scenes, twice the 8 images of the others.
    assert shares == pytest.approx([6 / 34, 12 / 34], abs=0.03)
    assert drawn.count("scenes") / 3000 == pytest.approx(16 / 34, abs=0.03)


def test_a_sample_is_a_function_of_its_number(labelled: Path) -> None:
    sampler = Sampler(open_sources((str(labelled), "scenes"), need_masks=True), small_config(jitter=(0.5, 2), flip=0.5))
    forwards = [sampler.sample(number) for number in range(6)]
    for number in reversed(range(6)):
        again = sampler.sample(number)
        assert (again.images == forwards[number].images).all()
        assert (again.masks == forwards[number].masks).all()
        assert 1 <= len(again.masks) <= 3


def test_scenes_of_a_step_share_textures_and_steps_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("sam_core.scenes.scene.texture_bank", lambda seed: asked.append(seed) or texture_bank(seed))
    config = small_config()
    sampler = Sampler(open_sources(("scenes",), need_masks=True), config)
    for step in range(6):
        sampler.batch(numbers_of(step, config.images, rank=0, workers=1, part=0, parts=1))
        assert set(asked) == {step % 4}
        asked.clear()
    assert texture_bank.cache_info().currsize <= 4


def test_workers_and_parts_share_out_a_steps_numbers() -> None:
    cut = [
        numbers_of(5, 12, rank=rank, workers=3, part=part, parts=2)
        for part, rank in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    ]
    assert [number for piece in cut for number in piece] == list(range(60, 72))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (30, 41)])
def test_masks_of_run_lengths_lie_by_rows(size: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).random(size) < 0.5
    entry = {"uris": ["a.jpg"], "masks_uri": None, "height": size[0], "width": size[1], "rles": [encode(mask)]}
    (read,) = PhotoReader(UriReader()).masks(entry, np.zeros((*size, 3), np.uint8))
    found = read()
    assert found.flags.c_contiguous
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, mask)
