from dataclasses import replace
from pathlib import Path

import pytest

from sam_core.recipes import Recipe
from tests.workflows.report.data_sets import DataSet, run_record
from workflows.report.scope import differing_settings, read_runs
from workflows.sql import connect


def test_runs_come_newest_last_with_the_figures_of_the_summary(two_runs: Path) -> None:
    first, second = read_runs(connect(str(two_runs)))

    assert (first.name, second.name) == (None, "strict")
    assert first.images == second.images == 8
    assert first.not_done == second.not_done == 3
    assert first.masks > 0
    assert second.threshold("min_predicted_iou") == 0.9


@pytest.mark.parametrize("name", ["strict", run_record("strict", recipe=Recipe(min_predicted_iou=0.9)).run_id])
def test_one_run_is_found_by_its_name_or_identifier(two_runs: Path, name: str) -> None:
    assert [run.name for run in read_runs(connect(str(two_runs)), run=name)] == ["strict"]


def test_an_unknown_run_is_refused_with_the_nearest_name(two_runs: Path) -> None:
    with pytest.raises(ValueError, match=r"no run 'stict': did you mean 'strict'\?"):
        read_runs(connect(str(two_runs)), run="stict")


def test_a_run_of_an_empty_set_is_refused(empty_set: DataSet) -> None:
    with pytest.raises(ValueError, match="no run 'x': the data set has no runs yet"):
        read_runs(connect(str(empty_set.root)), run="x")


def test_labels_tell_the_runs_apart(empty_set: DataSet) -> None:
    strict = Recipe(min_predicted_iou=0.95)
    for run in (run_record(), run_record("again"), run_record("again", recipe=strict), run_record("other")):
        empty_set.add_run([], run)

    labels = {run.run_id: run.label for run in read_runs(connect(str(empty_set.root)))}

    assert len(set(labels.values())) == 4
    assert labels[run_record("other").run_id] == "other"
    assert labels[run_record("again").run_id] == run_record("again").run_id


def test_settings_that_differ(two_runs: Path) -> None:
    runs = read_runs(connect(str(two_runs)))

    assert differing_settings(runs) == {"min_predicted_iou": ["0.88", "0.9"]}
    assert differing_settings(runs[:1])["dtype"] == ["float32"]
    assert differing_settings([]) == {}
    bare = replace(runs[0], settings={"min_predicted_iou": "0.88", "threshold": "0.5"})  # made otherwise
    assert differing_settings([*runs, bare]) == {"min_predicted_iou": ["0.88", "0.9", "0.88"]}
    assert differing_settings([runs[0], bare]) == {}


def test_a_rule_that_is_off_is_no_threshold(empty_set: DataSet) -> None:
    empty_set.add_run([], run_record(recipe=Recipe(min_stability_score=0.0)))

    (run,) = read_runs(connect(str(empty_set.root)))

    assert run.threshold("min_stability_score") is None
    assert run.threshold("not_a_setting") is None
