"""Images that are gone when their round comes stop nobody; held-out ones are missed before anybody works."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from schemas.catalog import connect
from tests.workflows.rounds.conftest import Document, Opened
from tests.workflows.train import here
from workflows.rounds.config import EngineConfig, parse_engine
from workflows.rounds.engine import WaitingError, run_rounds
from workflows.rounds.outcomes import Prefilled, Staged, from_details
from workflows.rounds.steps import STEPS
from workflows.train.loop import MachineError


def go_on(opened: Opened, config: EngineConfig, *, most: int | None = None, simulate: bool = True) -> None:
    run_rounds(opened(config, simulate=simulate), STEPS, most=most, tell=lambda _: None)


def remove(config: EngineConfig, sql: str) -> str:
    """Delete the file of one of these images and all embeddings; the image."""
    named = f"SELECT image_id, uri FROM images JOIN ({sql}) USING (image_id)"
    image, uri = connect(config.dataset).execute(named).fetchone()
    Path(uri).unlink()
    shutil.rmtree(Path(config.dataset) / "embeddings", ignore_errors=True)
    return str(image)


@pytest.mark.parametrize("number", [1, 2])
def test_gone_before_prefill(
    config: EngineConfig, opened: Opened, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """An annotated image is no example of the detector, one to be annotated has nothing prefilled."""
    go_on(opened, config, most=len(STEPS["assisted_manual"]) + 1)
    gone = remove(config, f"SELECT image_id FROM round_queue WHERE round = {number} ORDER BY place LIMIT 1")
    with pytest.raises(WaitingError, match="round 2 waits for 2 of 2 images"):
        go_on(opened, config, simulate=False)
    assert ("no such file; if the images moved" in capsys.readouterr().err) == (number == 1)
    prefilled = from_details(Prefilled, opened(config).read(2).details)
    failed = "SELECT image_id, error_class FROM outcomes WHERE run_id = ? AND status <> 'ok'"
    found = connect(config.dataset).execute(failed, [prefilled.run_id]).fetchall()
    assert found == ([] if number == 1 else [(gone, "Unreadable")])


@pytest.mark.parametrize("policy", ["most_diverse", "most_uncertain"])
def test_gone_before_a_policy_looks(document: Document, opened: Opened, policy: str) -> None:
    document["stages"] = [{"stage": "assisted_manual", "images": 2, "rounds": 2, "policy": policy}]
    config = parse_engine(document, where="e")
    go_on(opened, config, most=len(STEPS["assisted_manual"]) - 1)
    fresh = "image_id NOT IN (SELECT image_id FROM round_queue) AND uri LIKE '%/pool/%'"
    gone = remove(config, f"SELECT image_id FROM images WHERE {fresh} ORDER BY image_id LIMIT 1")
    done = remove(config, "SELECT image_id FROM round_queue LIMIT 1") if policy == "most_diverse" else None
    go_on(opened, config, most=2, simulate=False)
    queue = from_details(Staged, opened(config).read(2).details).queue
    assert len(queue) == 2
    assert not {gone, done} & set(queue)


@pytest.mark.parametrize("opened_first", [True, False])
def test_pictures_of_a_training_that_are_all_away_may_come_back(
    config: EngineConfig, opened: Opened, monkeypatch: pytest.MonkeyPatch, opened_first: bool
) -> None:
    """As where a disk is not mounted: no round is without a model for ever, whether it goes before or within."""
    go_on(opened, config, most=3)  # stage, annotate, snapshot
    pool, open_sources = Path(config.images), here.open_sources
    away = pool.with_name("away")

    def goes(*sources: Any, **how: Any) -> Any:
        found = open_sources(*sources, **how)
        pool.rename(away)
        return found

    with monkeypatch.context() as patch:
        if opened_first:
            patch.setattr(here, "open_sources", goes)
        else:
            pool.rename(away)
        complaint = "no such file; if the images moved" if opened_first else "is not there any more; if the images"
        with pytest.raises((OSError, MachineError), match=complaint):
            go_on(opened, config, most=1)
    assert opened(config).read(1).state == "snapshot"
    away.rename(pool)
    go_on(opened, config, most=3)
    assert opened(config).read(1).promoted


@pytest.mark.parametrize("drawn", [True, False])
def test_pictures_of_a_prefill_that_are_all_away_may_come_back(
    config: EngineConfig, opened: Opened, drawn: bool
) -> None:
    """Those that were annotated, or those that are to be, where the embeddings of the others are stored. Else people
    would have to draw all of the round."""
    go_on(opened, config, most=len(STEPS["assisted_manual"]) + 1)
    queue = from_details(Staged, opened(config).read(2).details).queue
    for path in Path(config.dataset, "embeddings").rglob("*.safetensors"):
        if (path.stem in queue) != drawn:
            path.unlink()
    pool = Path(config.images)
    away = pool.rename(pool.with_name("away"))
    what = "annotated images" if drawn else "images to annotate"
    with pytest.raises(OSError, match=f"none of the 2 {what} can be read: .*no such file"):
        go_on(opened, config, most=1)
    away.rename(pool)
    go_on(opened, config, most=1)
    assert from_details(Prefilled, opened(config).read(2).details).images == 2


@pytest.mark.parametrize(
    ("name", "data", "complaint"),
    [
        ("images/11.png", b"x", r"11\.png: not an image"),
        ("labels/11.png", b"x", r"11\.png"),
        ("images/11.png", None, r"labels/11\.png has no picture"),
    ],
)
def test_held_out_images_are_read_before_anybody_works(
    document: Document, opened: Opened, tmp_path: Path, name: str, data: bytes | None, complaint: str
) -> None:
    document["stages"] = [{"stage": "automatic", "recipe": "draft"}]
    path = tmp_path / "held_out" / name
    path.unlink() if data is None else path.write_bytes(data)
    with pytest.raises(ValueError, match=complaint):
        go_on(opened, parse_engine(document, where="e"))
    assert not list((tmp_path / "data" / "rounds").glob("1/*"))


def test_held_out_images_without_masks_measure_nothing(document: Document, opened: Opened, tmp_path: Path) -> None:
    for path in (tmp_path / "held_out" / "labels").iterdir():
        Image.new("I;16", Image.open(path).size).save(path)
    with pytest.raises(ValueError, match="held_out: none of the first 2 held-out images has a mask"):
        go_on(opened, parse_engine(document, where="e"))
