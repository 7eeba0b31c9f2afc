from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from sam_core.recipes import reference, sa1b
from schemas.layout import DATASET_KEY, run_key
from schemas.records import RunRecord, from_json
from workflows.models import GeneratorSpec, Model
from workflows.runs import new_run, open_dataset, settle_run
from workflows.storage import LocalStore, open_store

MODEL = Model("vit_test", "ab" * 32, "/models/x.safetensors")


def proposal(recipe: object = None, *, name: str | None = None, device: str = "cpu") -> RunRecord:
    spec = GeneratorSpec(MODEL, recipe or reference(), device)  # type: ignore[arg-type]
    return new_run(spec, name=name, recipe_name="reference", config={"source": "photos"})


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "data")


def test_the_run_id_follows_from_model_recipe_and_name() -> None:
    assert proposal().run_id == proposal().run_id
    others = {
        proposal(sa1b()).run_id,
        proposal(replace(reference(), nms_iou=0.5)).run_id,
        proposal(name="again").run_id,
        proposal().run_id,
    }
    assert len(others) == 4
    assert proposal(name="again").run_id.startswith("again-")


def test_the_record_holds_everything_resolved(store: LocalStore) -> None:
    record = settle_run(store, proposal())
    held = from_json(RunRecord, store.get(run_key(record.run_id)), where="here")
    assert held == record
    assert held.recipe["points_per_side"] == 32
    assert held.config == {"source": "photos"}
    assert (held.dtype, held.device, held.model_sha256) == ("float32", "cpu", MODEL.sha256)
    assert {"python", "torch", "ray", "sam-data-engine"} <= held.versions.keys()


def test_the_first_driver_decides(store: LocalStore) -> None:
    first = settle_run(store, proposal())
    assert settle_run(store, proposal()).created_at == first.created_at


@pytest.mark.parametrize(
    ("field", "before", "now"),
    [
        ("device", "cpu", "cuda"),
        ("dtype", "float32", "bfloat16"),
        ("kernels", "fast", "exact-reference"),
        ("stage", "automatic", "audit"),
        ("round", None, 2),
        ("model_sha256", "ab" * 32, "cd" * 32),
        ("recipe", {"points_per_side": 32}, {"points_per_side": 16}),
    ],
)
def test_a_run_is_not_continued_with_other_arithmetic(
    store: LocalStore, field: str, before: object, now: object
) -> None:
    settle_run(store, replace(proposal(), **{field: before}))
    told = re.escape(f"begun with {field} {before!r}, this command has {now!r}: ")
    with pytest.raises(ValueError, match=rf"{told}.* --run NAME"):
        settle_run(store, replace(proposal(), **{field: now}))


def test_a_damaged_record_is_named(store: LocalStore) -> None:
    run_id = settle_run(store, proposal()).run_id
    store.put(run_key(run_id), b"{")
    with pytest.raises(ValueError, match=rf"runs/{run_id}.json is not JSON"):
        settle_run(store, proposal())


def test_an_address_with_an_empty_part_is_refused(bucket: str) -> None:
    assert open_dataset(open_store(f"s3://{bucket}//data/")).name == "data"
    with pytest.raises(ValueError, match="some//data: the address of a data set has no empty part"):
        open_dataset(open_store(f"s3://{bucket}/some//data"))


def test_a_new_data_set_has_no_at_sign_in_its_name(tmp_path: Path) -> None:
    """DATASET@RUN means a run of it; folders above may have one."""
    with pytest.raises(ValueError, match="d@ta: what follows an @ is a table or run of a data set"):
        open_dataset(open_store(str(tmp_path / "d@ta")))
    assert not (tmp_path / "d@ta").exists()
    assert open_dataset(open_store(str(tmp_path / "ann@home" / "data"))).name == "data"


def test_a_data_set_is_opened_once_and_refused_when_newer(store: LocalStore) -> None:
    first = open_dataset(store)
    assert first.name == "data"
    assert open_dataset(store) == first
    newer = store.get(DATASET_KEY).replace(b'"format_version": 1', b'"format_version": 99')
    store.put(DATASET_KEY, newer)
    with pytest.raises(ValueError, match="format version 99"):
        open_dataset(store)
