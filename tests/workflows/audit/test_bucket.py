"""A COCO file in a bucket, with its pictures there, is audited as the same one on disk is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.workflows.audit.conftest import IMAGES, SIZE, pictures
from tests.workflows.conftest import Engine


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """A file with a square, scored as by a model, in each picture; these lie in `images` beside it, every other one is
    free."""
    names = [path.name for path in pictures(tmp_path / "coco" / "images")]
    square = {"category_id": 1, "bbox": [4, 5, 10, 10], "area": 100, "segmentation": [[4, 5, 14, 5, 14, 15, 4, 15]]}
    square |= {"predicted_iou": 0.9, "stability_score": 0.95, "point_coords": [[9, 10]]}
    document = {
        "images": [
            {"id": n, "file_name": name, "height": SIZE[0], "width": SIZE[1], "license": n % 2}
            for n, name in enumerate(names)
        ],
        "annotations": [square | {"id": n, "image_id": n} for n in range(len(names))],
        "categories": [{"id": 1, "name": "thing"}],
        "licenses": [{"id": 0, "name": "CC BY 4.0"}, {"id": 1, "name": "All rights reserved"}],
    }
    path = tmp_path / "coco" / "instances.json"
    path.write_text(json.dumps(document))
    return path


def upload(folder: Path, bucket: str) -> str:
    for path in folder.rglob("*.*"):
        boto3.client("s3").upload_file(str(path), bucket, f"set/{path.relative_to(folder)}")
    return f"s3://{bucket}/set/instances.json"


@pytest.mark.parametrize("rule", [(), ("--licences", "cc by*")])
def test_the_same_as_on_disk(coco: Path, bucket: str, engine: Engine, tmp_path: Path, rule: tuple[str, ...]) -> None:
    def audit(place: str, name: str) -> tuple[dict[str, Any], str]:
        out = tmp_path / f"{name}.html"
        done = engine("audit", place, *rule, "--out", out, "--json", out.with_suffix(".json"))
        assert done.status == 0, done.err
        return json.loads(out.with_suffix(".json").read_text()), out.read_text()

    places = {"far": upload(coco.parent, bucket), "near": str(coco)}
    (far, page), (near, _) = audit(places["far"], "far"), audit(places["near"], "near")
    images = IMAGES // 2 if rule else IMAGES
    assert (far["looked"]["images"], far["looked"]["unreadable"]) == (images, 0)
    assert far["found"][0].pop("name") == "set · instances"
    assert near["found"][0].pop("name") == "coco · instances"
    for one, name in ((far, "far"), (near, "near")):
        assert one.pop("protocol").splitlines()[0] == f"sam-engine import {places[name]} DATASET --stage automatic"
        del one["made_at"], one["config"]
    drawn = [one["found"][0].pop("examined") for one in (far, near)]
    assert far == near
    for name in ("images", "masks", "covered", "duplicates"):
        assert drawn[0][name] == pytest.approx(drawn[1][name])
    assert "1 mask · photo-" in page  # examples were drawn


def test_what_is_not_in_the_bucket_is_one_line(bucket: str, engine: Engine) -> None:
    for place, words in ((f"s3://{bucket}/no.json", "no.json does not exist"), (f"s3://{bucket}-no/a.json", "bucket")):
        refused = engine("audit", place)
        assert (refused.status, words in refused.err, refused.err.count("\n")) == (2, True, 1)
