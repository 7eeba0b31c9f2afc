"""What one zooms to is what the model sees, in real Chromium, wherever clicks are decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco

from sam_core.answers import answer
from sam_core.geometry import frame_of, upscale_logits
from sam_core.masks import rle
from sam_core.model.checkpoint import load_model
from sam_core.predict import Prompts, encode
from sam_core.windows import Box, inside, window_around

pytest.importorskip("playwright", reason="needs playwright, which the extra `dev` brings")

from playwright.sync_api import Browser, Route, expect

from tests.workflows.annotate.browser import NEEDS_CHROMIUM, Person, held, new_page, sit_down
from tests.workflows.annotate.conftest import Running, ingest_photo, servers
from workflows.annotate.assets import Runtime, find_runtime
from workflows.annotate.commands import AnnotateConfig
from workflows.models import find_model

pytestmark = NEEDS_CHROMIUM
Start = Callable[..., Running]
WINDOWS = "**/embedding?window=*"
WHOLE, PART = "sees the whole image", "sees 300 × 300 px"
CLOSER = ["+"] * 7
"""Keys that enlarge the photograph of 600 px until less than a quarter of it is visible, and so half of it is seen."""
_SAME_SUMS = """(cases) => import("/windows.js").then(({ windowAround }) =>
  cases.map(([[height, width], [x0, y0, x1, y1], zoom]) => {
    const window = windowAround({ width, height }, { x0, y0, x1, y1 }, zoom);
    return [window.x0, window.y0, window.x1, window.y1];
  }))"""


_SAME_PIXELS = """(cases) => Promise.all(["frame", "upscale", "rle"].map((name) => import(`/${name}.js`))).then(
  ([{ frameOf }, { upscale }, { compress }]) => cases.map(([[height, width], [x0, y0, x1, y1], logits]) => {
    const frame = frameOf({ image_size: 32, low_res_size: 8 }, { width, height }, { x0, y0, x1, y1 });
    return compress(upscale(Float32Array.from(logits), frame));
  }))"""


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    """A photograph of 600 x 400 px."""
    from skimage.data import coffee

    return np.asarray(coffee())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, photo: NDArray[np.uint8]) -> Path:
    return ingest_photo(tmp_path_factory.mktemp("zoom"), "coffee", photo)


@pytest.fixture(scope="module")
def config(data: Path) -> AnnotateConfig:
    return AnnotateConfig(dataset=str(data), threads=1, reminder_seconds=600)


@pytest.fixture(scope="module", params=["browser", "server"])
def address(request: pytest.FixtureRequest, config: AnnotateConfig) -> Iterator[str]:
    """A server whose pages decode clicks, and one that decodes them itself; each for all tests."""
    with servers() as start:
        yield start(config, runtime=_runtime() if request.param == "browser" else None).address


@pytest.fixture
def ada(browser: Browser, address: str) -> Person:
    """A person with a browser of her own."""
    return sit_down(browser, address, "Ada")


def _runtime() -> Runtime:
    try:
        return find_runtime()
    except OSError:
        pytest.skip("needs ONNX Runtime Web: npm, or SAM_ENGINE_ORT_WEB")


def zoom_in(person: Person) -> Box:
    """Zoom to the middle, wait until the window is there, and say which it is."""
    with person.page.expect_request(WINDOWS) as request:
        person.press(*CLOSER)
    person.settled()
    x0, y0, x1, y1 = map(int, request.value.url.rpartition("=")[2].split(","))
    return x0, y0, x1, y1


def says(person: Person, text: str) -> None:
    expect(person.page.locator("#sight")).to_have_text(text)


def point(person: Person) -> tuple[float, float]:
    """The first click, px of the image."""
    x, y, _ = person.page.evaluate("() => annotate.prompt.points[0]")
    return x, y


def active(person: Person) -> NDArray[np.bool_]:
    """The run lengths of the mask in work, as pixels."""
    return coco.decode({"size": [400, 600], "counts": person.masks()["active"]}).astype(bool)


def by_python(config: AnnotateConfig, photo: NDArray[np.uint8], click: tuple[float, float], window: Box) -> Any:
    """The mask of a click in a window, over the whole image."""
    sam = load_model(find_model(config.model).path).sam
    prompts = Prompts(torch.tensor([[click]]), torch.ones(1, 1, dtype=torch.int64))
    mask = np.zeros(photo.shape[:2], np.bool_)
    best = answer(sam, encode(sam, [photo], crop_boxes=[window]), prompts).best()
    inside(mask, window)[:] = best.masks()[0, 0].numpy()
    return mask


def test_the_app_makes_the_sums_of_python(browser: Browser, running: Start, config: AnnotateConfig) -> None:
    random = np.random.default_rng(5)
    cases: list[tuple[tuple[int, int], Box, int]] = [((1, 1), (0, 0, 1, 1), 2), ((600, 800), (799, 599, 800, 600), 5)]
    for most in (2, 60, 700, 30_000):
        for _ in range(200):
            height, width = (int(side) for side in random.integers(1, most, 2))
            (x0, x1), (y0, y1) = (sorted(random.integers(0, side + 1, 2).tolist()) for side in (width, height))
            x0, y0 = min(x0, width - 1), min(y0, height - 1)
            box = (x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))
            small = (x0, y0, min(width, x0 + 9), min(height, y0 + 5))
            cases += [((height, width), shown, int(random.integers(2, 9))) for shown in (box, small)]
    page = new_page(browser)
    page.goto(running(config).address)
    found = page.evaluate(_SAME_SUMS, cases)
    assert [tuple(window) for window in found] == [window_around(size, box, zoom=zoom) for size, box, zoom in cases]


def test_a_window_is_pasted_at_its_place_up_to_every_border(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    random = np.random.default_rng(6)
    size, windows = (60, 90), [(0, 0, 90, 60), (0, 0, 45, 45), (45, 15, 90, 60), (22, 0, 67, 45), (22, 15, 67, 60)]
    made = [random.normal(at, 1, (8, 8)).astype(np.float32) for at in (-9, -1, 0, 1, 9)]
    cases = [(window, logits) for window in windows for logits in made]
    page = new_page(browser)
    page.goto(running(config).address)
    found = page.evaluate(_SAME_PIXELS, [(size, window, logits.ravel().tolist()) for window, logits in cases])
    for counts, (window, logits) in zip(found, cases, strict=True):
        mask = np.zeros(size, np.bool_)
        frame = frame_of(size, image_size=32, crop_box=window)
        inside(mask, window)[:] = upscale_logits(torch.from_numpy(logits)[None, None], frame)[0, 0].numpy() > 0
        assert counts == rle.encode(mask).decode()


@pytest.mark.slow
def test_a_click_after_zooming_in_is_answered_in_the_window(
    ada: Person, config: AnnotateConfig, photo: NDArray[np.uint8]
) -> None:
    says(ada, WHOLE)
    asked: list[str] = []
    ada.page.on("request", lambda request: asked.append(request.url))
    window = zoom_in(ada)
    says(ada, PART)
    assert window == (150, 0, 450, 300)
    ada.click(0.52, 0.46)
    wanted = by_python(config, photo, point(ada), window)
    assert wanted.any()
    assert (active(ada) != wanted).sum() <= 5 + 0.01 * wanted.sum()  # embeddings are stored as float16
    assert (active(ada) == ada.seen()).all()
    ada.press("Enter", "0")
    says(ada, WHOLE)
    ada.press(*CLOSER)
    says(ada, PART)
    assert len([url for url in asked if "window" in url]) == 1  # what was seen stays at hand


def test_a_click_just_after_zooming_in_does_not_wait(
    ada: Person, config: AnnotateConfig, photo: NDArray[np.uint8]
) -> None:
    with held(ada.page, WINDOWS):
        ada.press(*CLOSER)
        ada.click(0.52, 0.46)
        says(ada, WHOLE)
    wanted = by_python(config, photo, point(ada), (0, 0, 600, 400))
    assert (active(ada) != wanted).sum() <= 5 + 0.01 * wanted.sum()
    ada.press("Escape")
    says(ada, PART)


def test_a_mask_in_work_goes_on_in_the_window_and_back(ada: Person) -> None:
    """Drawn with the whole image seen, gone on with in the window, where it lies, and once more after zooming out."""
    ada.press("r")
    ada.drag((0.45, 0.4), (0.58, 0.55))
    ada.answered()
    masks = [active(ada)]
    window = zoom_in(ada)
    says(ada, PART)
    ada.press("p")
    ada.click(0.52, 0.46)
    masks.append(active(ada))
    ada.press("0")
    says(ada, WHOLE)
    ada.click(0.05, 0.9, button="right")
    masks.append(active(ada))
    assert inside(masks[1], window).sum() == masks[1].sum() > 0
    for mask in (masks[1], masks[0]):
        ada.press("z")
        assert (active(ada) == mask).all()
    ada.press("y")
    ada.press(*CLOSER)
    says(ada, PART)
    ada.click(0.5, 0.44)
    ada.press("z")
    assert (active(ada) == masks[1]).all()


def test_a_mask_in_work_that_is_larger_than_the_window_is_not_cut(ada: Person) -> None:
    ada.press("r")
    ada.drag((0.02, 0.02), (0.98, 0.98))
    ada.answered()
    window = zoom_in(ada)
    says(ada, WHOLE)
    ada.press("p")
    ada.click(0.5, 0.5)
    outside = active(ada)
    inside(outside, window)[:] = False
    assert outside.any()
    ada.press("Escape")
    says(ada, PART)


def test_a_window_that_does_not_come_is_said_and_asked_for_again(ada: Person) -> None:
    lost: list[Route] = []

    def lose_one(route: Route) -> None:
        if lost:
            route.continue_()
        else:
            lost.append(route)
            route.abort()

    ada.page.route(WINDOWS, lose_one)
    ada.press(*CLOSER)
    expect(ada.page.locator("#message")).to_contain_text("The model cannot look closer")
    says(ada, WHOLE)
    ada.click(0.52, 0.46)
    assert ada.seen().any()
    ada.press("Escape", "Control+ArrowRight")
    says(ada, PART)
