"""A rule on licences leaves images out of runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workflows.conftest import QUICK, Engine
from workflows import generate
from workflows.ingest import ingest
from workflows.licences import require_licences
from workflows.plans import read_plan
from workflows.runs import open_dataset
from workflows.sql import connect
from workflows.storage import LocalStore
from workflows.uris import ImageRef


def test_patterns() -> None:
    stated = ["CC BY 4.0", "CC BY-NC 4.0", "CC0 1.0", None, "", "All rights reserved"]
    assert require_licences(stated, ["cc0*", "CC BY 4.0"]) == ["CC BY 4.0", "CC0 1.0"]
    assert require_licences(stated, ["cc by*"]) == ["CC BY 4.0", "CC BY-NC 4.0"]
    assert require_licences(stated, ["*"]) == ["All rights reserved", "CC BY 4.0", "CC BY-NC 4.0", "CC0 1.0"]
    with pytest.raises(ValueError, match=r"no image has a licence like \?; stated are: All rights reserved, CC BY"):
        require_licences(stated, ["?"])


def test_an_image_needs_all_its_licences_allowed_and_the_newest_word_counts(photos: Path, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "data")
    open_dataset(store)
    paths = sorted(photos.iterdir())
    (photos / "copy.png").write_bytes(paths[0].read_bytes())

    def take_in(**licences: str) -> list[str]:
        references = [
            ImageRef(str(path), "1", licence=licences.get(path.stem.replace("-", "_"), ""))
            for path in [*paths, photos / "copy.png"]
        ]
        with ingest(references, store, max_pixels=10**6) as listing:
            found = listing.allowed_images(["CC0"]).read_all()
            return sorted({Path(uri).stem for uri in found["uri"].to_pylist()})

    assert take_in(photo_000="CC0", photo_001="CC0", photo_002="other") == ["copy", "photo-000", "photo-001"]
    assert take_in(copy="other") == ["photo-001"]
    assert take_in(copy="CC0", photo_002="CC0") == ["copy", "photo-000", "photo-001", "photo-002"]
    assert take_in() == ["copy", "photo-000", "photo-001", "photo-002"]


def test_a_run_plans_allowed_images_alone(
    engine: Engine, photos: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    licences = tmp_path / "licences.csv"
    rows = [f"photo-00{number}.png,{name}" for number, name in enumerate(["CC0 1.0", "CC BY 4.0", "secret"])]
    licences.write_text("file_name,licence\n" + "\n".join(rows) + "\n")
    data = tmp_path / "data"
    assert engine("ingest", photos, data, "--metadata", licences).status == 0
    monkeypatch.setattr(generate, "_work", lambda *_: None)
    common = ("generate", photos, data, "--model", tiny_checkpoint, "--device", "cpu", *QUICK)
    refused = engine(*common, "--licences", "MIT")
    assert refused.status == 2
    assert "no image has a licence like MIT; stated are: CC BY 4.0, CC0 1.0, secret" in refused.err
    assert not list(data.glob("runs/*"))

    def planned() -> list[str]:
        (run,) = connect(str(data)).sql("SELECT run_id FROM runs").fetchall()
        parts = read_plan(LocalStore(data), run[0])
        return sorted(Path(uri).stem for part in parts for uri in part.table["uri"].to_pylist())

    assert engine(*common, "--licences", "cc0*", "cc by *").status == 0
    assert planned() == ["photo-000", "photo-001"]
    assert engine(*common).status == 0
    assert len(planned()) == 6
