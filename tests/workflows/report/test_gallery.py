import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.workflows.report.data_sets import DataSet, boxes, done, failed, photos, run_record
from workflows.report.gallery import Picture, choose, pictures
from workflows.report.picture import write_picture
from workflows.report.scope import read_runs
from workflows.sql import connect


def gallery(root: Path, *, images: int = 12, seed: int = 0) -> list[Picture]:
    connection = connect(str(root))
    return pictures(connection, read_runs(connection), images=images, seed=seed)


def opened(uri: str) -> Image.Image:
    head, data = uri.split(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.fixture
def small_set(empty_set: DataSet, tmp_path: Path) -> tuple[DataSet, list[Path]]:
    """Three photographs with two boxes each."""
    rng = np.random.default_rng(0)
    paths = photos(tmp_path / "photos", 3, rng=rng)
    identifiers = empty_set.add_images(paths)
    empty_set.add_run([done(image, boxes((24, 36), 2, rng=rng), rng=rng) for image in identifiers], run_record())
    return empty_set, paths


def test_the_seed_decides_which_images_are_drawn(two_runs: Path) -> None:
    drawn = {seed: [picture.image_id for picture in gallery(two_runs, images=3, seed=seed)] for seed in range(4)}

    assert drawn[0] == [picture.image_id for picture in gallery(two_runs, images=3)]
    assert len({tuple(images) for images in drawn.values()}) > 1
    assert all(len(images) == 3 for images in drawn.values())


def test_images_that_most_runs_finished_come_first(small_set: tuple[DataSet, list[Path]]) -> None:
    data_set, _ = small_set
    rng = np.random.default_rng(0)
    connection = connect(str(data_set.root))
    last = choose(connection, [run_record().run_id], images=3, seed=0)[-1]["image_id"]
    data_set.add_run([done(last, boxes((24, 36), 1, rng=rng), rng=rng)], run_record("second"))

    connection = connect(str(data_set.root))
    first = choose(connection, [run_record().run_id, run_record("second").run_id], images=1, seed=0)

    assert [image["image_id"] for image in first] == [last]


def test_a_picture_has_the_photo_and_a_transparent_layer_per_run(two_runs: Path) -> None:
    for picture in gallery(two_runs):
        assert opened(picture.photo or "").size == (36, 24)
        for layer in picture.layers:
            assert opened(layer.source).size == (36, 24)
            assert opened(layer.source).mode == "RGBA"
            assert layer.masks == 0 or opened(layer.source).getbbox()


def test_a_run_that_finished_a_photo_and_found_nothing_has_a_layer(small_set: tuple[DataSet, list[Path]]) -> None:
    """Or it would look like one that has not seen the photo; beside a run of masks nothing would be compared."""
    data_set, _ = small_set
    rng = np.random.default_rng(0)
    first, second, _ = (picture.image_id for picture in gallery(data_set.root))
    found = [done(first, [], rng=rng), failed(second, "Empty", "the file has no bytes")]
    data_set.add_run(found, run_record("nothing", minute=9))

    counted = {picture.image_id: [layer.masks for layer in picture.layers] for picture in gallery(data_set.root)}

    assert (counted[first], counted[second]) == ([2, 0], [2])


def test_large_photos_become_small(empty_set: DataSet, tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    Image.new("RGB", (4000, 10), "red").save(path)
    (identifier,) = empty_set.add_images([path])
    mask = np.ones((10, 4000), bool)
    empty_set.add_run([done(identifier, [mask], rng=np.random.default_rng(0))], run_record())

    (picture,) = gallery(empty_set.root)

    assert opened(picture.photo or "").size == (800, 2)
    assert opened(picture.layers[0].source).size == (800, 2)


def test_many_pictures_share_the_room_of_a_few(empty_set: DataSet, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(30)]
    for number, path in enumerate(paths):
        Image.new("RGB", (460, 460), (number, 0, 0)).save(path)
    empty_set.add_images(paths)

    shown = gallery(empty_set.root, images=30)

    width, height = opened(shown[0].photo or "").size
    assert width * height * len(shown) <= 12 * 800 * 600


def test_moved_changed_and_broken_images_say_so(small_set: tuple[DataSet, list[Path]]) -> None:
    data_set, paths = small_set
    paths[0].unlink()
    paths[1].write_bytes(paths[2].read_bytes())

    problems = {picture.name: picture.problem for picture in gallery(data_set.root)}

    moved = "if the images moved, `sam-engine ingest NEW_PLACE DATASET`"
    assert problems == {
        "photo-0.png": f"{paths[0]}: no such file; {moved}",
        "photo-1.png": f"{paths[1]}: the file has other bytes than when it was ingested",
        "photo-2.png": "",
    }
    assert all(picture.layers for picture in gallery(data_set.root))


def test_an_image_is_found_at_another_of_its_places(small_set: tuple[DataSet, list[Path]], tmp_path: Path) -> None:
    data_set, paths = small_set
    copy = tmp_path / "zoo.png"
    copy.write_bytes(paths[0].read_bytes())
    data_set.add_images([copy], part="copy")
    paths[0].unlink()

    assert all(picture.photo for picture in gallery(data_set.root))


def test_without_runs_the_photographs_are_shown(empty_set: DataSet, tmp_path: Path) -> None:
    empty_set.add_images(photos(tmp_path / "photos", 2, rng=np.random.default_rng(0)))

    shown = gallery(empty_set.root)

    assert len(shown) == 2
    assert all(picture.photo and not picture.layers for picture in shown)


def test_picture_for_a_readme(small_set: tuple[DataSet, list[Path]], tmp_path: Path) -> None:
    out = tmp_path / "masks.png"

    write_picture(str(small_set[0].root), out, images=2, width=300)

    with Image.open(out) as image:
        above = np.asarray(image)[: (image.height - 8) // 2]
        below = np.asarray(image)[(image.height + 8) // 2 :]
    assert abs(above.shape[1] - 300) <= 2
    assert above.shape == below.shape
    assert (above != below).any()


def test_no_masks_no_picture(empty_set: DataSet, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no masks to show"):
        write_picture(str(empty_set.root), tmp_path / "masks.png")
