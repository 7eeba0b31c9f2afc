"""engine.yaml, held-out images and their masks are edited between two commands: what goes on, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from schemas.catalog import connect
from tests.workflows.rounds.conftest import Document, Opened, finish, save_pictures
from tests.workflows.rounds.state import state_of
from tests.workflows.train.conftest import picture
from workflows.models import find_model
from workflows.rounds import steps
from workflows.rounds.config import parse_engine
from workflows.rounds.engine import Engine, WaitingError, run_rounds
from workflows.rounds.evaluate import measure
from workflows.rounds.outcomes import Evaluated, Figures, Queued, Staged, from_details
from workflows.rounds.steps import STEPS


def test_changes_in_the_middle_of_a_round_are_refused(document: Document, opened: Opened) -> None:
    run_rounds(opened(parse_engine(document, where="e")), STEPS, most=1, tell=lambda _: None)
    document["training"]["iterations"] = 3
    changed = parse_engine(document, where="e")
    with pytest.raises(
        ValueError, match=r"round 1 was begun with other .* now: training\.iterations was 2 and is 3; put"
    ):
        finish(opened(changed))


def test_a_first_model_that_was_replaced_is_named(document: Document, opened: Opened, tmp_path: Path) -> None:
    """Its own weights are needed still, and lie nowhere else."""
    path = tmp_path / "first.safetensors"
    path.write_bytes(Path(document["model"]).read_bytes())
    document["model"] = str(path)
    run_rounds(opened(parse_engine(document, where="e")), STEPS, most=1, tell=lambda _: None)
    begun = find_model(str(path)).model_id
    path.write_bytes(path.read_bytes()[:-4] + bytes(4))
    now = find_model(str(path)).model_id
    gone = rf"the weights of {begun}, .*, are gone: .* nor in {path}, which is {now}; put that file back"
    with pytest.raises(FileNotFoundError, match=gone):
        finish(opened(parse_engine(document, where="e")))


def test_rounds_go_on_with_the_model_that_came_with_an_older_version(
    document: Document, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer one brings other weights under the same name."""
    older, newer = tmp_path / "older", tmp_path / "newer"
    for box, last in ((older, b"\1\0\0\0"), (newer, bytes(4))):
        box.mkdir()
        (box / "vit_test.safetensors").write_bytes(Path(document["model"]).read_bytes()[:-4] + last)
    document["model"] = "vit_test"
    document["stages"] = [{"stage": "assisted_manual", "images": 2}]
    _come_with(older, monkeypatch)
    run_rounds(opened(parse_engine(document, where="e")), STEPS, most=1, tell=lambda _: None)
    begun = find_model("vit_test").model_id
    _come_with(newer, monkeypatch)
    assert find_model("vit_test").model_id != begun
    engine = opened(parse_engine(document, where="e"))
    finish(engine)
    assert engine.read(1).model_before == begun
    [(parent,)] = engine.connect().execute("SELECT parent FROM models WHERE parent IS NOT NULL").fetchall()
    assert parent == begun


def _come_with(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the models in a folder be those of the package."""
    for module in ("sam_core.model.checkpoint", "workflows.models"):
        monkeypatch.setattr(f"{module}.PACKAGED_WEIGHTS", box)


def test_how_the_work_is_done_may_change_in_the_middle_of_a_round(document: Document, opened: Opened) -> None:
    """Or a round that was begun with more workers than the cluster holds could never end."""
    document["stages"] = [{"stage": "assisted_manual", "images": 2, "training": document["training"] | {"workers": 2}}]
    run_rounds(opened(parse_engine(document, where="e")), STEPS, most=1, tell=lambda _: None)
    document["stages"][0]["training"] |= {"workers": 1, "threads": 2, "save_every": 7}
    finish(opened(parse_engine(document, where="e")))


def test_a_finished_engine_goes_on_with_another_round(document: Document, opened: Opened) -> None:
    document["stages"] = [{"stage": "assisted_manual", "images": 2}]
    finish(opened(parse_engine(document, where="e")))
    document["stages"][0]["rounds"] = 2
    engine = opened(parse_engine(document, where="e"))
    finish(engine)
    queues = [from_details(Staged, engine.read(number).details).queue for number in (1, 2)]
    assert [len(queue) for queue in queues] == [2, 2]
    assert not set(queues[0]) & set(queues[1])


def test_images_that_were_added_are_annotated_too(document: Document, opened: Opened, tmp_path: Path) -> None:
    """In the folder, or in another one that engine.yaml names since: also where none was left without them."""
    document["stages"] = [{"stage": "assisted_manual", "images": 4, "rounds": 4}]
    config = parse_engine(document, where="e")
    run_rounds(opened(config), STEPS, most=14, tell=lambda _: None)  # 6 images in two rounds
    with pytest.raises(ValueError, match=r"round 3: no image is left to annotate: .*; add images to .*/pool/images, "):
        finish(opened(config, simulate=False))
    for added in save_pictures(tmp_path / "added", (20, 21)).glob("*/*"):
        added.rename(tmp_path / "pool" / added.parent.name / added.name)
    assert _names_of_round(opened(config, simulate=False), 3) == {"20.png", "21.png"}
    run_rounds(opened(config), STEPS, most=6, tell=lambda _: None)
    document |= {"images": str(tmp_path / "second" / "images")}
    document["simulation"]["truth"] = str(save_pictures(tmp_path / "second", (22,)))
    assert _names_of_round(opened(parse_engine(document, where="e"), simulate=False), 4) == {"22.png"}


def _names_of_round(engine: Engine, number: int) -> set[str]:
    """File names of the images that a round gets, which is about to begin."""
    run_rounds(engine, STEPS, most=1, tell=lambda _: None)
    queue = from_details(Staged, engine.read(number).details).queue
    names = dict(engine.connect().execute("SELECT image_id, uris[1] FROM images").fetchall())
    return {Path(names[image]).name for image in queue}


@pytest.mark.parametrize("change", ["images", "held_out"])
def test_a_round_gets_the_images_that_the_file_asks_for_when_it_begins(
    document: Document, opened: Opened, tmp_path: Path, change: str
) -> None:
    """And not those that were chosen before the file was edited, which may be held out since."""
    document["stages"] = [{"stage": "assisted_manual", "images": 2}, {"stage": "semi_automatic", "images": 2}]
    run_rounds(opened(parse_engine(document, where="e")), STEPS, most=7, tell=lambda _: None)
    chosen = from_details(Queued, opened(parse_engine(document, where="e")).read(1).details).queue
    if change == "images":
        document["stages"][1]["images"] = 3
    else:
        names = dict(connect(document["dataset"]).execute("SELECT image_id, uris[1] FROM images").fetchall())
        document["held_out"] = str(tmp_path / "other")
        save_pictures(tmp_path / "other", [int(Path(names[image]).stem) for image in chosen])
    engine = opened(parse_engine(document, where="e"), simulate=False)
    run_rounds(engine, STEPS, most=1, tell=lambda _: None)
    queue = from_details(Staged, engine.read(2).details).queue
    assert len(queue) == (3 if change == "images" else 2)
    assert change == "images" or not set(queue) & set(chosen)


def test_rounds_that_are_done_stay_what_they_were(document: Document, opened: Opened) -> None:
    document["stages"] = [{"stage": "assisted_manual", "images": 2, "rounds": 2}]
    finish(opened(parse_engine(document, where="e")))
    before = state_of(Path(document["dataset"]))
    document["stages"] = [{"stage": "assisted_manual", "images": 2}, {"stage": "semi_automatic", "images": 2}]
    with pytest.raises(ValueError, match=r"round 2 is one of assisted_manual, engine\.yaml has semi_automatic in its"):
        finish(opened(parse_engine(document, where="e")))
    assert state_of(Path(document["dataset"])) == before


def test_figures_are_compared_with_those_of_the_same_images(
    document: Document, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = _measured(monkeypatch)
    finish(opened(parse_engine(document, where="e")))
    assert measured == [2, 2, 2]  # before and after the first round, after the second
    document["stages"].append({"stage": "semi_automatic", "images": 2})
    document["evaluation"]["images"] = 3
    engine = opened(parse_engine(document, where="e"))
    finish(engine)
    assert measured[3:] == [3, 3]
    evaluated = from_details(Evaluated, engine.read(3).details)
    assert [evaluated.before.images, evaluated.after.images] == [3, 3]


def _measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each measurement from now on was made on."""
    measured: list[int] = []

    def counted(*arguments: Any, **named: Any) -> Figures:
        found = measure(*arguments, **named)
        measured.append(found.images)
        return found

    monkeypatch.setattr(steps, "measure", counted)
    return measured


def test_figures_are_compared_with_those_of_the_same_true_masks(
    document: Document, opened: Opened, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Held-out labels that were corrected between two rounds: the old model is measured again, not only the new one."""
    document["stages"] = [{"stage": "assisted_manual", "images": 2, "rounds": 2}]
    measured = _measured(monkeypatch)
    run_rounds(opened(parse_engine(document, where="e")), STEPS, most=7, tell=lambda _: None)
    assert measured == [2, 2]
    Image.fromarray(picture(20)[1]).save(tmp_path / "held_out" / "labels" / "10.png")
    finish(opened(parse_engine(document, where="e")))
    assert measured == [2, 2, 2, 2]


@pytest.mark.parametrize("wrong", ["nowhere", "held_out"])
def test_wrong_true_masks_can_be_mended(document: Document, opened: Opened, tmp_path: Path, wrong: str) -> None:
    """They are missed before the round begins with them: afterwards they could not be changed, and it never end."""
    document["stages"] = [{"stage": "assisted_manual", "images": 2}]
    right = document["simulation"]["truth"]
    document["simulation"]["truth"] = str(tmp_path / wrong)
    with pytest.raises((ValueError, OSError), match=rf"{wrong}(: no such data set|.* has no true masks of image)"):
        finish(opened(parse_engine(document, where="e")))
    document["simulation"]["truth"] = right
    run_rounds(opened(parse_engine(document, where="e")), STEPS, most=2, tell=lambda _: None)
    annotated = "SELECT count(DISTINCT image_id) FROM annotations"
    assert connect(document["dataset"]).execute(annotated).fetchall() == [(2,)]


@pytest.mark.parametrize("wrong", ["nowhere", None])
def test_simulated_annotators_take_over_from_people_once_their_truth_is_mended(
    document: Document, opened: Opened, tmp_path: Path, wrong: str | None
) -> None:
    document["stages"] = [{"stage": "assisted_manual", "images": 2}]
    right = document.pop("simulation")
    if wrong:
        document["simulation"] = right | {"truth": str(tmp_path / wrong)}
    for_people = opened(parse_engine(document, where="e"), simulate=False)
    with pytest.raises(WaitingError):
        run_rounds(for_people, STEPS, tell=lambda _: None)
    document["simulation"] = {"truth": right["truth"]} if wrong is None else right
    finish(opened(parse_engine(document, where="e")))


def test_no_image_left(document: Document, opened: Opened) -> None:
    document["stages"] = [{"stage": "assisted_manual", "images": 6, "rounds": 2}]
    document["stages"].append({"stage": "automatic", "recipe": "draft"})
    with pytest.raises(ValueError, match="round 2: no image is left to annotate"):
        finish(opened(parse_engine(document, where="e")))
    document["stages"][0]["rounds"] = 1  # as the message says; that round 2 was to be another one is forgotten
    engine = opened(parse_engine(document, where="e"))
    assert not run_rounds(engine, STEPS, most=1, tell=lambda _: None)
    assert (engine.read(2).stage, engine.read(2).state) == ("automatic", "stage")
    document["stages"][0]["rounds"] = 2
    with pytest.raises(ValueError, match=r"round 2 is one of automatic, engine\.yaml has assisted_manual"):
        finish(opened(parse_engine(document, where="e")))
