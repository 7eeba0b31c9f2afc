"""The finished page, read by an HTML parser as a browser would."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from schemas.layout import masks_key, run_key
from schemas.parquet import to_parquet_bytes
from schemas.records import to_json
from schemas.tables import MASKS
from tests.workflows.report.conftest import HOSTILE, PHOTOS
from tests.workflows.report.data_sets import DataSet, boxes, done, failed, photos, run_record
from workflows.report import write_report
from workflows.sql import connect
from workflows.storage import LocalStore, open_store

VOID = {"meta", "input", "img", "br", "hr", "link"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def all(self, tag: str) -> list[Element]:
        """Elements of this tag, at any depth, in the order of the page."""
        return [found for child in self.children for found in ([child] if child.tag == tag else []) + child.all(tag)]

    def by_id(self, identifier: str) -> Element:
        (found,) = [element for element in self.everything() if element.attributes.get("id") == identifier]
        return found

    def everything(self) -> list[Element]:
        return [found for child in self.children for found in (child, *child.everything())]

    @property
    def text(self) -> str:
        return " ".join(" ".join([*self.texts, *(child.text for child in self.children)]).split())


class Reader(HTMLParser):
    """Builds the tree and refuses tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("page", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].texts.append(data)


def read(path: Path) -> Element:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert len(reader.open) == 1
    return reader.open[0]


def report(root: Path, tmp_path: Path, run: str | None = None) -> Element:
    out = tmp_path / "report.html"
    write_report(str(root), out, run=run)
    return read(out)


@pytest.fixture(scope="module")
def page(two_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Element:
    return report(two_runs, tmp_path_factory.mktemp("report"))


def test_sections_are_there_and_linked(page: Element) -> None:
    targets = [link.attributes["href"].removeprefix("#") for link in page.all("nav")[0].all("a")]

    assert targets == ["runs", "gallery", "masks", "candidates", "time", "errors"]
    assert all(page.by_id(target) for target in targets)
    assert [heading.text for heading in page.all("h1")] == ["pets & <things>"]


def test_identifiers_are_unique(page: Element) -> None:
    identifiers = [element.attributes["id"] for element in page.everything() if "id" in element.attributes]

    assert len(set(identifiers)) == len(identifiers)


def test_nothing_is_loaded_and_nothing_runs(page: Element) -> None:
    assert not page.all("script")
    for element in page.everything():
        assert not [name for name in element.attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert element.attributes.get(name, "#").startswith(("#", "data:image/webp;base64,"))
    (policy,) = [meta for meta in page.all("meta") if "http-equiv" in meta.attributes]
    assert policy.attributes["content"].startswith("default-src 'none'; img-src data:;")
    assert "url(" not in page.all("style")[0].text
    assert "@import" not in page.all("style")[0].text


def test_text_from_outside_stays_text(page: Element) -> None:
    assert not page.all("b")
    errors = page.by_id("errors").text
    assert HOSTILE in errors
    assert "<b>bold<b>.jpg" in errors


def test_figures_at_the_top(page: Element, two_runs: Path) -> None:
    tiles = {tile.all("dt")[0].text: tile.all("dd")[0].text for tile in page.all("dl")[0].children}

    masks = connect(str(two_runs)).execute("SELECT count(*) FROM masks").fetchone()[0]
    assert tiles["images"] == str(PHOTOS + 3)
    assert tiles["masks"] == f"{masks:,}"
    assert float(tiles["masks per image"]) == pytest.approx(masks / (2 * PHOTOS), rel=0.01)
    assert tiles["not done"] == "6"


def test_runs_stand_side_by_side(page: Element) -> None:
    runs, settings = page.by_id("runs").all("tbody")

    assert [row.text.split()[0] for row in runs.all("tr")] == ["strict", run_record().run_id]
    assert settings.text == "min_predicted_iou 0.88 0.9"
    assert len(page.by_id("masks").all("ul")[0].all("li")) == 2


def test_every_chart_has_axes_hover_texts_numbers_and_sql(page: Element) -> None:
    figures = page.by_id("masks").all("figure")

    assert len(figures) == 6
    for figure in figures:
        plot = figure.all("svg")[0]
        assert plot.attributes["role"] == "img"
        assert plot.attributes["aria-label"]
        assert len(plot.all("title")) == len(plot.all("rect"))
        assert len([line for line in plot.all("line") if line.attributes["class"] == "grid"]) > 1
        assert len(figure.all("tbody")[0].all("tr")) >= 3
        assert figure.all("code")[0].text.startswith("SELECT run_id")


def test_the_sql_on_the_page_gives_the_numbers_on_the_page(page: Element, two_runs: Path) -> None:
    figure = page.by_id("masks").all("figure")[3]

    found = connect(str(two_runs)).execute("\n".join(figure.all("code")[0].texts)).fetchall()

    shown = [int(cell.text.replace(",", "")) for cell in figure.all("tbody")[0].all("td")]
    assert sum(shown) == sum(times for _, _, times in found) > 0


def test_candidates_balance_on_the_page(page: Element) -> None:
    rows = {row.all("th")[0].text: [cell.text for cell in row.all("td")] for row in page.by_id("candidates").all("tr")}

    assert rows["kept and rejected"] == rows["candidates"]
    assert len(rows["candidates"]) == 2


def test_gallery_has_a_switch_and_texts_for_every_image(page: Element) -> None:
    gallery = page.by_id("gallery")
    radios = [box for box in gallery.all("input") if box.attributes["type"] == "radio"]

    assert [radio.attributes["id"] for radio in radios] == ["layer-1", "layer-0", "layer-none"]
    assert ["checked" in radio.attributes for radio in radios] == [True, False, False]
    assert len(gallery.all("figure")) == PHOTOS
    for figure in gallery.all("figure"):
        photo, *layers = figure.all("img")
        assert "36 by 24 pixels" in photo.attributes["alt"]
        assert all("over photo-" in layer.attributes["alt"] for layer in layers)
        assert all(box.attributes["aria-label"].startswith("Hide the masks of photo-") for box in figure.all("input"))


def test_one_run_alone(two_runs: Path, tmp_path: Path) -> None:
    page = report(two_runs, tmp_path, run="strict")

    assert len(page.by_id("runs").all("tbody")[0].all("tr")) == 1
    assert page.by_id("masks").all("ul") == []
    assert run_record().run_id not in page.text


def test_a_data_set_on_s3(two_runs: Path, bucket: str, tmp_path: Path) -> None:
    local, remote = LocalStore(two_runs), open_store(f"s3://{bucket}/set")
    for entry in local.list():
        remote.put(entry.key, local.get(entry.key))
    out = tmp_path / "report.html"

    write_report(f"s3://{bucket}/set", out, images=1)

    assert len(read(out).by_id("gallery").all("figure")) == 1


def test_an_unknown_run_writes_nothing(two_runs: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run 'nope'"):
        report(two_runs, tmp_path, run="nope")
    assert not list(tmp_path.iterdir())


def test_empty_data_set(empty_set: DataSet, tmp_path: Path) -> None:
    page = report(empty_set.root, tmp_path)

    assert "sam-engine generate" in page.all("main")[0].text
    assert page.all("svg")[1:] == []


def test_commands_of_a_data_set_with_a_space_in_its_name_can_be_pasted(tmp_path: Path) -> None:
    page = report(DataSet(tmp_path / "Ann's masks").root, tmp_path)
    asked = page.all("footer")[0].all("code")[0].text
    assert shlex.split(asked) == ["sam-engine", "sql", str(tmp_path / "Ann's masks"), "SELECT * FROM summary"]
    (begun,) = [code.text for code in page.all("code") if "generate" in code.text]
    assert shlex.split(begun)[-1] == str(tmp_path / "Ann's masks")


def test_images_without_runs(empty_set: DataSet, tmp_path: Path) -> None:
    empty_set.add_images(photos(tmp_path / "photos", 2, rng=np.random.default_rng(0)))

    page = report(empty_set.root, tmp_path)

    assert len(page.by_id("gallery").all("img")) == 2
    assert "No masks yet" in page.text


def test_errors_only(empty_set: DataSet, tmp_path: Path) -> None:
    paths = photos(tmp_path / "photos", 2, rng=np.random.default_rng(0))
    identifiers = empty_set.add_images(paths)
    empty_set.add_run([failed(image, "Damaged", "cut off") for image in identifiers], run_record())

    page = report(empty_set.root, tmp_path)

    assert page.by_id("errors").text.count("cut off") == 2
    assert not [element for element in page.everything() if element.attributes.get("id") in ("masks", "candidates")]


def test_a_run_that_found_nothing(empty_set: DataSet, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    identifiers = empty_set.add_images(photos(tmp_path / "photos", 2, rng=rng))
    empty_set.add_run([done(image, [], rng=rng) for image in identifiers], run_record())

    page = report(empty_set.root, tmp_path)

    assert len(page.by_id("gallery").all("figure")) == 2
    assert "None. Every image that was worked on is done." in page.by_id("errors").text


def test_a_run_just_begun(empty_set: DataSet, tmp_path: Path) -> None:
    empty_set.store.put(run_key(run_record().run_id), to_json(run_record()).encode())

    runs = report(empty_set.root, tmp_path).by_id("runs").text

    assert run_record().run_id in runs
    assert "that finished images" not in runs


def test_a_damaged_data_set_says_so(empty_set: DataSet, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    identifiers = empty_set.add_images(photos(tmp_path / "photos", 1, rng=rng))
    empty_set.add_run([done(identifiers[0], boxes((24, 36), 3, rng=rng), rng=rng)], run_record())
    empty_set.store.put(masks_key(run_record().run_id, 0), to_parquet_bytes(MASKS.empty_table()))

    assert "masks other than its outcome says: 1" in report(empty_set.root, tmp_path).text


def test_missing_data_set_and_wrong_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a data set"):
        write_report(str(tmp_path / "nowhere"), tmp_path / "report.html")
    with pytest.raises(ValueError, match="images is -1; it must be 0 or more"):
        write_report(str(tmp_path), tmp_path / "report.html", images=-1)


def test_a_place_that_cannot_be_written_is_an_os_error(two_runs: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_report(str(two_runs), tmp_path / "taken", images=0)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
