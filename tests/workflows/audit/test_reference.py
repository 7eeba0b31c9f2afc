"""COCO files as data sets: what they state, and what they state wrongly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.workflows.conftest import Engine, save_photos

SQUARE = {"category_id": 1, "bbox": [4, 5, 10, 10], "segmentation": [[4, 5, 14, 5, 14, 15, 4, 15]]}


def write_coco(path: Path, *, area: float = 100.0, image: dict[str, Any] | None = None) -> Path:
    """Two images of 60x80 px with a square each; `image` changes the first."""
    images = [{"id": n, "file_name": f"{n}.png", "height": 60, "width": 80} for n in range(2)]
    images[0] |= image or {}
    annotations = [SQUARE | {"id": n, "image_id": n, "area": area} for n in range(2)]
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("area", [0, -1, 1e300])
def test_an_area_that_is_none_is_that_of_the_outline(engine: Engine, tmp_path: Path, area: float) -> None:
    """Masks of which a file stated 0 px were said to be of no size, small ones all; other numbers ended the audit."""
    source, out = write_coco(tmp_path / "x.json", area=area), tmp_path / "a.html"
    done = engine("audit", source, "--out", out, "--json", out.with_suffix(".json"))
    assert done.status == 0, done.err
    totals = json.loads(out.with_suffix(".json").read_text())["found"][0]["totals"]
    assert area > 0 or totals["median_relative_size"] == pytest.approx((100 / (60 * 80)) ** 0.5, abs=1e-6)


@pytest.mark.parametrize("empty", [[], [0, 0, 0, 0]])
def test_outlines_alone_are_audited_as_with_areas_and_boxes(engine: Engine, tmp_path: Path, empty: list[int]) -> None:
    source = write_coco(tmp_path / "x.json")
    document = json.loads(source.read_text())
    del document["annotations"][0]["area"], document["annotations"][0]["bbox"]
    document["annotations"][1] |= {"area": 0, "bbox": empty}
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps(document))
    found = []
    for path in (source, bare):
        out = tmp_path / f"{path.stem}.html"
        done = engine("audit", path, "--out", out, "--json", out.with_suffix(".found"))
        assert done.status == 0, done.err
        found.append(json.loads(out.with_suffix(".found").read_text())["found"][0]["totals"])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ({"id": 1}, "two images have the same id, so whose the masks are cannot be told"),
        ({"height": 10**20}, "an image is stated to be more than 2,147,483,647 px high or wide"),
    ],
)
def test_images_that_cannot_be_are_one_line(engine: Engine, tmp_path: Path, image: dict[str, Any], words: str) -> None:
    refused = engine("audit", write_coco(tmp_path / "x.json", image=image), "--out", tmp_path / "a.html")
    assert (refused.status, words in refused.err, refused.err.count("\n")) == (2, True, 1), refused.err


def test_an_imported_file_is_as_many_images_as_the_file(engine: Engine, tmp_path: Path) -> None:
    """One without masks was none of people's, and masks per image were more than beside them."""
    save_photos(tmp_path / "images", 3)
    source = write_coco(tmp_path / "x.json")
    document = json.loads(source.read_text())
    document["images"] = [{"id": n, "file_name": f"photo-{n:03d}.png", "height": 48, "width": 64} for n in range(3)]
    source.write_text(json.dumps(document))
    assert engine("import", source, tmp_path / "data").status == 0
    done = engine(
        "audit", tmp_path / "data", "--against", source, "--out", tmp_path / "a.html", "--json", tmp_path / "a.json"
    )
    assert done.status == 0, done.err
    found = [one["totals"] for one in json.loads((tmp_path / "a.json").read_text())["found"]]
    assert [(one["images"], one["masks"]) for one in found] == [(3, 2), (3, 2)]
