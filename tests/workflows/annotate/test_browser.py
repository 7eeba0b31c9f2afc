"""The app in real Chromium: every tool, reload, restart, two people, and pixels read back by SQL."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco

from sam_core.answers import answer
from sam_core.model.checkpoint import load_model
from sam_core.predict import Prompts, encode
from tests.fake_clip import FakeClip

pytest.importorskip("playwright", reason="needs playwright, which the extra `dev` brings")

from playwright.sync_api import Browser, expect

from tests.workflows.annotate.browser import NEEDS_CHROMIUM, Person, sit_down
from tests.workflows.annotate.conftest import Running, save_photo
from workflows.annotate.assets import Runtime
from workflows.annotate.commands import AnnotateConfig
from workflows.cli import main
from workflows.sql import connect

pytestmark = NEEDS_CHROMIUM
AXE = "axe-core@4.14.1"
HOSTILE = "<img src=x onerror=alert(1)> & 'x'.png"
RING = ((0.2, 0.2), (0.4, 0.2), (0.4, 0.4), (0.2, 0.4), (0.2, 0.2))
Start = Callable[..., Running]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two real photographs, one of them under a name that is markup."""
    from skimage.data import chelsea, coffee

    folder = tmp_path_factory.mktemp("browser")
    (folder / "photos").mkdir()
    save_photo(folder / "photos" / HOSTILE, chelsea())
    save_photo(folder / "photos" / "coffee.png", coffee()[::2, ::2])
    assert main(["ingest", str(folder / "photos"), str(folder / "data")]) == 0
    return folder / "data"


@pytest.fixture
def config(data: Path, tmp_path: Path) -> AnnotateConfig:
    shutil.copytree(data, tmp_path / "data")
    cat = "SELECT image_id FROM images ORDER BY width DESC"
    return AnnotateConfig(dataset=str(tmp_path / "data"), images=cat, threads=1, reminder_seconds=600)


def standing(config: AnnotateConfig, columns: str = "*") -> list[dict[str, Any]]:
    query = f"SELECT {columns} FROM annotations ORDER BY created_at"
    return connect(config.dataset).sql(query).to_arrow_table().to_pylist()


def pixels(row: dict[str, Any]) -> NDArray[np.bool_]:
    return coco.decode({"size": [row["height"], row["width"]], "counts": row["rle"]}).astype(bool)


@dataclass(slots=True)
class Drawing:
    """A person at work, and every mask as it looked when it was saved."""

    person: Person
    drawn: list[NDArray[np.bool_]] = field(default_factory=list)

    def keep(self) -> None:
        """Save the mask in work."""
        self.drawn.append(self.person.seen())
        self.person.press("Enter")
        expect(self.person.page.locator("#masks li")).to_have_count(len(self.drawn))


@pytest.mark.slow
def test_twenty_objects_with_every_tool_are_read_back_pixel_for_pixel(
    browser: Browser, running: Start, config: AnnotateConfig, runtime: Runtime | None
) -> None:
    ada = sit_down(browser, running(config, runtime=runtime).address, "Ada")
    work = Drawing(ada)
    for draw in (_points, _candidates, _boxes, _strokes, _clicks_under_strokes, _undone, _mended, _by_keyboard):
        draw(work)
    assert len(work.drawn) == 20
    edited = _edit_first(ada)
    ada.page.get_by_label("Delete mask").nth(3).click()
    ada.saved()

    found = standing(config)
    assert len(found) == 19
    wanted = [edited, *(mask for number, mask in enumerate(work.drawn) if number not in (0, 4))]
    assert sorted(pixels(row).tobytes() for row in found) == sorted(mask.tobytes() for mask in wanted)
    assert {row["revision"] for row in found} == {1, 2}
    assert sum(row["brushed"] > 0 for row in found) >= 6
    by_hand = [row for row in found if row["model_id"] is None]
    assert by_hand
    assert all(row["clicks"] == 0 for row in by_hand)
    actions = connect(config.dataset).sql("SELECT DISTINCT action FROM events").fetchall()
    known = {"open", "click", "background_click", "box", "brush", "erase", "undo", "redo", "choose_candidate"}
    known |= {"save_mask", "edit_mask", "delete_mask", "fill_holes", "keep_largest"}
    assert known <= {action for (action,) in actions}


def _points(work: Drawing) -> None:
    """Four masks by clicks, two of them with a background point."""
    for step in range(4):
        work.person.press("p")
        work.person.click(0.3 + 0.12 * step, 0.45)
        if step % 2:
            work.person.click(0.9, 0.9 - 0.1 * step, button="right")
        work.keep()


def _candidates(work: Drawing) -> None:
    """Three by another candidate, by number and by key."""
    for step in range(3):
        work.person.click(0.4 + 0.1 * step, 0.6)
        work.person.press("2", "c", *["c"] * step)
        work.keep()


def _boxes(work: Drawing) -> None:
    for step in range(3):
        work.person.press("r")
        work.person.drag((0.2 + 0.1 * step, 0.2), (0.6 + 0.1 * step, 0.8))
        work.person.answered()
        work.keep()


def _strokes(work: Drawing) -> None:
    """Three by brushes of several sizes and the eraser: a ring with a hole, and two parts."""
    for step in range(3):
        work.person.press("b", *["]"] * (2 * step))
        work.person.drag(*RING)
        work.person.drag((0.7, 0.7), (0.8, 0.8))
        work.person.press("e")
        work.person.drag((0.3, 0.1), (0.3, 0.3))
        work.keep()


def _clicks_under_strokes(work: Drawing) -> None:
    """Two by a click, then the brush on top; another click keeps the strokes."""
    for _ in range(2):
        work.person.press("p")
        work.person.click(0.45, 0.5)
        work.person.press("b")
        work.person.drag((0.05, 0.05), (0.15, 0.05))
        work.person.press("p")
        work.person.click(0.55, 0.55)
        assert work.person.seen()[round(0.05 * 300), round(0.1 * 451)]
        work.keep()


def _undone(work: Drawing) -> None:
    """One of which everything was undone and done again."""
    work.person.press("p")
    work.person.click(0.5, 0.4)
    work.person.press("b")
    work.person.drag((0.1, 0.9), (0.3, 0.9))
    before = work.person.seen()
    work.person.press("z", "z")
    assert not work.person.seen().any()
    work.person.press("Control+y", "y")
    work.keep()
    assert (work.drawn[-1] == before).all()


def _mended(work: Drawing) -> None:
    """One whose hole is filled, and of which the largest part is kept."""
    work.person.press("b", *["["] * 8)
    work.person.drag(*RING)
    work.person.drag((0.8, 0.8), (0.82, 0.82))
    work.person.press("g", "l")
    work.keep()
    assert work.drawn[-1].sum() > 0.2 * 0.2 * 300 * 451


def _by_keyboard(work: Drawing) -> None:
    """Three without a mouse."""
    for tool in "pbr":
        work.person.page.locator("#viewport").focus()
        work.person.press(tool, *["Shift+ArrowRight"] * 3, *["ArrowDown"] * 4, "Space")
        if tool == "r":
            work.person.press(*["Shift+ArrowLeft"] * 6, *["Shift+ArrowDown"] * 5, "Space")
        work.person.answered()
        work.keep()


def _edit_first(person: Person) -> NDArray[np.bool_]:
    """Brush on the first mask and save it again; what it looks like now."""
    person.press("v")
    person.page.locator("#masks .edit").first.click()
    person.press("b")
    person.drag((0.9, 0.1), (0.95, 0.1))
    edited = person.seen()
    person.page.locator("#save-mask").click()
    return edited


def test_words_find_a_mask_and_clicks_go_on_from_it(
    browser: Browser, running: Start, config: AnnotateConfig, text_checkpoint: Path, fake_clip: None
) -> None:
    from skimage.data import chelsea

    ada = sit_down(browser, running(config, model=str(text_checkpoint), clip="clip").address, "Ada")
    ada.press("t")
    ada.page.keyboard.type("a red wheel")
    with ada.page.expect_request("**/api/decode") as asked:
        ada.press("Enter")
    ada.answered()
    assert (asked.value.post_data_json["text"], asked.value.post_data_json["mask"]) == ("a red wheel", None)
    expect(ada.page.locator("#candidates button")).to_have_count(3)
    expect(ada.page.locator("#work-facts")).to_have_text("“a red wheel”")
    sam = load_model(text_checkpoint).sam
    vector = FakeClip().embed_texts(["a red wheel"]).vectors
    wanted = answer(sam, encode(sam, [chelsea()]), Prompts(text=vector)).best().masks()[0, 0].numpy()
    assert np.mean(ada.seen() == wanted) > 0.98  # embeddings are stored as float16
    with ada.page.expect_request("**/api/decode") as asked:
        ada.click(0.5, 0.5)
    sent = asked.value.post_data_json
    assert (sent["text"], len(sent["points"]), sent["mask"] is not None) == ("a red wheel", 1, True)
    ada.kept()
    ada.page.reload()
    ada.ready()
    expect(ada.page.locator("#work-facts")).to_contain_text("“a red wheel”")
    ada.press("t")
    ada.page.keyboard.type("a blue wheel")
    ada.press("Enter")
    ada.answered()
    ada.brush((0.1, 0.1), (0.3, 0.15))
    ada.saved()
    actions = (
        connect(config.dataset).sql("SELECT action, details ->> 'text' FROM events WHERE action = 'text'").fetchall()
    )
    assert actions == [("text", "a blue wheel")]


def test_a_reload_in_the_middle_of_a_mask_loses_nothing(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    ada = sit_down(browser, running(config).address, "Ada")
    ada.click(0.5, 0.5)
    ada.press("b")
    ada.drag((0.1, 0.1), (0.3, 0.15))
    ada.press("e")
    ada.drag((0.5, 0.3), (0.5, 0.7))
    before = ada.seen()
    assert before.any()
    ada.kept()
    ada.page.reload()
    ada.ready()
    assert (ada.seen() == before).all()
    ada.press("Enter")
    ada.saved()
    (row,) = standing(config)
    assert (pixels(row) == before).all()


def test_two_people_a_reviewer_and_a_name_that_is_markup(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    address = running(config).address
    ada, bob = (sit_down(browser, address, name) for name in ("Ada", "Bob"))
    for person in (ada, bob):
        person.page.on("dialog", lambda dialog: pytest.fail(f"markup ran: {dialog.message}"))
    name = ada.page.locator("#image-name")
    expect(name).to_contain_text(HOSTILE)
    expect(bob.page.locator("#image-name")).to_contain_text("coffee.png")
    ada.click(0.5, 0.5)
    ada.press("Enter", "n")
    expect(name).to_have_text("Nothing left to do")
    bob.press("q")
    bob.page.get_by_role("button", name=f"Review {HOSTILE}").click()
    bob.page.locator("#note").fill("the ears <b>too</b>")
    bob.page.locator("#send-back").click()
    expect(bob.page.locator("#image-name")).to_contain_text("coffee.png")  # his next image: the server knows
    expect(bob.page.locator("#note")).to_have_value("")
    ada.page.reload()
    ada.ready()
    expect(name).to_contain_text(HOSTILE)
    expect(ada.page.locator("#message")).to_have_text("Sent back: the ears <b>too</b>")
    ada.press("k")
    expect(name).to_have_text("Nothing left to do")
    ada.saved()


def test_a_server_that_goes_away_and_comes_back(browser: Browser, running: Start, config: AnnotateConfig) -> None:
    server = running(config)
    ada = sit_down(browser, server.address, "Ada")
    ada.saved()
    ada.page.evaluate("() => { annotate.held = 0; navigator.storage.persist = async () => Boolean(++annotate.held); }")
    server.stop()
    ada.press("b")
    ada.drag((0.2, 0.2), (0.6, 0.6))
    drawn = ada.seen()
    assert ada.page.evaluate("annotate.held") == 0
    ada.press("Enter")
    expect(ada.page.locator("#saved")).to_contain_text("kept here")
    assert ada.page.evaluate("annotate.held") == 1, "the browser was asked not to let go of what waits"
    server.start()
    ada.saved()
    (row,) = standing(config)
    assert (pixels(row) == drawn).all()


@pytest.mark.slow
@pytest.mark.parametrize(("provider", "told"), [("wasm", "decoding here"), ("webgpu", "on the GPU")])
def test_the_browser_decodes_as_the_server_does(
    browser: Browser, running: Start, config: AnnotateConfig, runtime: Runtime | None, provider: str, told: str
) -> None:
    """On WebGPU by a GPU in software, which counts because the address asks for it."""
    if runtime is None:
        pytest.skip("needs ONNX Runtime Web: npm, or SAM_ENGINE_ORT_WEB")
    address = running(config, runtime=runtime).address
    ada = sit_down(browser, f"{address}/?decoder={provider}", "Ada")
    expect(ada.page.locator("#decoder")).to_contain_text(told)
    ada.press("r")
    ada.drag((0.25, 0.25), (0.75, 0.75))
    ada.answered()
    model = ada.page.request.post(
        f"{address}/api/decode",
        data={"image_id": ada.page.evaluate("() => document.documentElement.dataset.image"), "box": _box(ada)},
    )
    counts = model.json()["candidates"][0]["rle"]
    there, here = coco.decode({"size": [300, 451], "counts": counts}).astype(bool), ada.seen()
    assert there.any()
    assert (there & here).sum() >= 0.999 * (there | here).sum()
    ada.click(0.5, 0.5)  # goes on from the mask so far
    assert ada.seen().any()


def _box(person: Person) -> list[float]:
    """The box that the person just dragged, as it was drawn."""
    return list(person.page.evaluate("() => annotate.prompt.box"))


def test_axe_finds_no_serious_fault(browser: Browser, running: Start, config: AnnotateConfig, tmp_path: Path) -> None:
    source = _axe(tmp_path)
    ada = sit_down(browser, running(config).address, "Ada")
    ada.click(0.5, 0.5)
    ada.press("Enter")
    ada.click(0.4, 0.4)
    faults = _faults(ada, source)
    for key in ("q", "?"):
        ada.press(key)
        faults += _faults(ada, source)
        ada.press("Escape")
    assert faults == []


def _faults(person: Person, source: str) -> list[str]:
    person.page.evaluate(f"() => {{ {source} }}")
    found = person.page.evaluate("() => axe.run().then(({ violations }) => violations)")
    grave = [fault for fault in found if fault["impact"] in ("serious", "critical")]
    return [f"{fault['id']}: {fault['nodes'][0]['html']}" for fault in grave]


def _axe(folder: Path) -> str:
    """The source of axe-core, from npm."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm for axe-core")
    packed = subprocess.run(["npm", "pack", AXE, "--silent"], cwd=folder, capture_output=True, check=False, timeout=240)
    if packed.returncode:
        pytest.skip("npm could not fetch axe-core")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()
