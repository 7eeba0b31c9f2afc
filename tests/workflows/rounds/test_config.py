"""engine.yaml: what it says, and how each mistake in it is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from workflows.rounds.config import as_document, parse_engine, read_engine

LEAST = {"dataset": "d", "images": "i", "held_out": "h", "stages": [{"stage": "assisted_manual", "rounds": 2}]}


def test_a_file_becomes_a_plan(tmp_path: Path) -> None:
    stages = [*LEAST["stages"], {"stage": "semi_automatic", "policy": "least_covered"}, {"stage": "automatic"}]
    (tmp_path / "engine.yaml").write_text(yaml.safe_dump(LEAST | {"stages": stages, "training": {"iterations": 7}}))
    config = read_engine(tmp_path / "engine.yaml")
    assert [settings.stage for settings in config.plan] == [
        *("assisted_manual", "assisted_manual", "semi_automatic", "automatic")
    ]
    assert config.training.iterations == 7
    assert config.plan[3].recipe == "sa1b"
    assert parse_engine(as_document(config), where="again") == config


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"stages": []}, "e.yaml: stages: is an empty list"),
        ({"stages": {"stage": "automatic"}}, "e.yaml: stages: must be a list, not {'stage': 'automatic'}"),
        ({"stages": ["automatic"]}, "e.yaml: stages[0]: must be a mapping of settings, not 'automatic'"),
        ({"training": {"also": "scenes"}}, "e.yaml: training.also: must be a list, not 'scenes'"),
        ({"dataset": None}, "e.yaml: dataset: has no value"),
        ({"gate": None}, "e.yaml: gate: has no value"),
        ({"stage": 1}, "e.yaml: stage: is not a setting; did you mean 'stages'?"),
        (
            {"stages": [{"stage": "automatic", "polcy": "random"}]},
            "stages[0].polcy: is not a setting; did you mean 'policy'",
        ),
        ({"gate": {"xyz": 1}}, "e.yaml: gate.xyz: is not a setting; known are least_gain, distrust_loss"),
        ({"dataset": 3}, "e.yaml: dataset: input should be a valid string, not 3"),
        ({"stages": [{"stage": "x"}]}, "e.yaml: stages[0].stage: input should be 'assisted_manual'"),
        (
            {"stages": [{"stage": "automatic"}, {"stage": "assisted_manual"}]},
            "stages come in the order assisted_manual",
        ),
        ({"stages": [{"stage": "automatic", "rounds": 2}]}, "the automatic stage is one round"),
        ({"stages": [{"stage": "automatic", "recipe": "sa1bb"}]}, "did you mean 'sa1b'"),
        ({"training": {"chosen": 2}}, "e.yaml: training.chosen: input should be less than or equal to 1, not 2"),
        ({"stages": [{"stage": "assisted_manual", "policy": "best"}]}, "stages[0].policy: input should be 'random'"),
        ({"simulation": {}}, "e.yaml: simulation.truth: is missing"),
        (
            {"simulation": {"truth": "x", "costs": {"fnd": 1}}},
            "simulation.costs.fnd: is not a setting; did you mean 'find'",
        ),
        ({"simulation": {"truth": "x", "costs": {"find": -1}}}, "working times are 0 or more"),
        ({"training": {"preset": "fine"}}, "e.yaml: training: no training preset is called 'fine'"),
        ({"evaluation": {"images": 0}}, "evaluation.images: input should be greater than or equal to 1, not 0"),
        ({"detector": {"fit": {"width": 12}}}, "multiple of 8"),
        ({"stages": [{"stage": "assisted_manual", "rounds": 10**12}]}, "stages[0].rounds: input should be less than"),
        ({"seed": -1}, "e.yaml: seed: input should be greater than or equal to 0, not -1"),
        ({"seed": 2**63}, "e.yaml: seed: input should be less than or equal to 9223372036854775807"),
        ({"training": {"seed": -1}}, "e.yaml: training.seed: input should be greater than or equal to 0"),
        ({"detector": {"fit": {"seed": -1}}}, "seed is -1; it must be 0 or more"),
        ({"gate": {"least_gain": float("nan")}}, "gate.least_gain: input should be a finite number"),
    ],
)
def test_mistakes_are_one_line(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_engine(LEAST | change, where="e.yaml")
    assert str(refused.value).startswith("e.yaml: ")
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_is_no_mapping_or_no_yaml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "engine.yaml"
    for text, complaint in (
        ("- a", "must be a mapping"),
        ("a: [", "is not YAML"),
        ("a: !!python/name:os.system", "not YAML"),
        ("a: 1\nb: {c: 1, c: 2}", r"engine\.yaml is not YAML: 'c' is given twice .*line 2"),
        ("a: \xe9", r"engine\.yaml is not YAML: 'utf-8' codec"),
        ("[" * 5000, r"engine\.yaml is not YAML: maximum recursion"),
    ):
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(ValueError, match=complaint):
            read_engine(path)
    with pytest.raises(FileNotFoundError):
        read_engine(tmp_path / "none.yaml")
