"""Metrics as Ray's agent serves them, the dashboard that asks for them, and events as lines of JSON."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pytest
import ray

from sam_core.masks.batch import StepSeconds
from schemas.tables import Status
from tests.workflows import fakes
from workflows.convert import ImageResult
from workflows.metrics import COUNTERS, GAUGES, RunMetrics, log_event, log_failures
from workflows.patience import Patience

DASHBOARD = Path(__file__).parents[2] / "cluster" / "grafana.json"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
RESULTS = [
    ImageResult("a", Status.OK, NOW, NOW + timedelta(seconds=3), 0.5, 0.25, fakes.half_mask((4, 4))),
    ImageResult("b", Status.ERROR, NOW, NOW, error_class="Damaged", error_message="a JPEG without an end"),
]


@ray.remote(num_cpus=0)
class Teller:
    """A process of the cluster that tells of a shard and stays, as a command does until its last one."""

    def __init__(self) -> None:
        self.metrics = RunMetrics("told")
        self._staying = self.metrics.following()
        self._staying.__enter__()

    def tell(self) -> None:
        self.metrics.shard_done(RESULTS)
        self.metrics.queue(7)


def scrape() -> str:
    """What the metrics agent of the one node serves now."""
    (node,) = ray.nodes()
    with urllib.request.urlopen(f"http://127.0.0.1:{node['MetricsExportPort']}/metrics", timeout=60) as answer:
        return answer.read().decode()


def samples(text: str) -> dict[tuple[str, str], float]:
    """Value by name and by the one tag that tells samples of a name apart."""
    found = {}
    for name, labels, value in re.findall(r'^(ray_sam_engine_\w+)\{([^}]*run_id="told"[^}]*)\} (\S+)', text, re.M):
        tag = re.search(r'\b(?:status|error_class|step)="(\w+)"', labels)
        found[name, tag[1] if tag else ""] = float(value)
    return found


class IncompleteError(Exception):
    """A scrape that lacks metrics."""


def complete_samples() -> dict[tuple[str, str], float]:
    """What a scrape says of the run. Raises IncompleteError as long as a metric is missing."""
    found = samples(scrape())
    if missing := {f"ray_{name}" for name in (*COUNTERS, *GAUGES)} - {name for name, _ in found}:
        raise IncompleteError(f"not served yet: {', '.join(sorted(missing))}")
    return found


def test_a_scrape_holds_every_metric_with_its_value(cluster: str) -> None:
    teller = Teller.remote()
    ray.get(teller.tell.remote())
    patience = Patience(attempts=1000, longest_pause_seconds=0.4)  # processes report to the agent every three seconds
    found = patience.keep_trying(complete_samples, lambda error: isinstance(error, IncompleteError))
    ray.kill(teller)
    assert {name for name, _ in found} == {f"ray_{name}" for name in (*COUNTERS, *GAUGES)}
    assert found["ray_sam_engine_images_total", "ok"] == 1
    assert found["ray_sam_engine_images_total", "error"] == 1
    assert found["ray_sam_engine_errors_total", "Damaged"] == 1
    assert found["ray_sam_engine_masks_total", ""] == 1
    assert found["ray_sam_engine_queue_shards", ""] == 7
    assert found["ray_sam_engine_step_seconds_total", "read"] == 0.5
    assert found["ray_sam_engine_busy_seconds_total", ""] == 2.25, "from when it was loaded to its end"


def test_the_queue_is_told_again_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray serves a gauge for 20 s after it was set: while shards took longer, the queue was nowhere to be seen."""
    told: list[float] = []
    again = Event()

    class Gauge:
        def set(self, value: float, tags: dict[str, str]) -> None:
            assert tags == {"run_id": "r"}
            told.append(value)
            if len(told) > 3:
                again.set()

    monkeypatch.setattr("workflows.metrics.SECONDS_BETWEEN_SETTINGS", 0.01)
    metrics = RunMetrics("r")
    metrics._gauges = {"sam_engine_queue_shards": Gauge()}  # type: ignore[dict-item]
    metrics.queue(7)
    with metrics.following():
        assert again.wait(60)
        metrics.queue(0)
    assert (told[:4], told[-1]) == ([7, 7, 7, 7], 0)
    after = len(told)
    time.sleep(0.05)
    assert len(told) == after


def test_a_worker_is_busy_once_whatever_its_threads_do_side_by_side() -> None:
    """Images loaded ahead wait for the model; a shard's last is worked on while the next shard's first is loaded."""

    def image(name: str, begun: float, ended: float, status: Status = Status.OK) -> ImageResult:
        generation = replace(fakes.half_mask((4, 4)), seconds=StepSeconds(decode=2 * (ended - begun)))
        return ImageResult(name, status, *(NOW + timedelta(seconds=at) for at in (begun, ended)), 1, 0, generation)

    metrics = RunMetrics("r")
    assert metrics._busy([image("a", 0, 4), image("b", 0, 6)]) == 5
    assert metrics._busy([image("c", 3, 9), image("d", 11, 13)]) == 3 + 1
    assert metrics._busy([image("e", 0, 60, Status.CRASHED)]) == 0


def test_the_dashboard_asks_for_what_is_exported_and_for_all_of_it() -> None:
    asked = set(re.findall(r"ray_sam_engine_\w+", DASHBOARD.read_text()))
    assert asked == {f"ray_{name}" for name in (*COUNTERS, *GAUGES)}
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) >= 6


def test_the_dashboard_shows_the_first_error_of_a_class() -> None:
    """A counter of a class is there from its first error on, and Prometheus sees no increase in what begins so."""
    asked = [target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel["targets"]]
    (errors,) = [expr for expr in asked if "errors_total" in expr]
    assert not re.search(r"\b(increase|rate)\(", errors)


def test_rates_are_over_a_time_that_can_be_longer_than_a_shard_takes() -> None:
    """512 images that take a second each are told at once: over 5 minutes their worker was busy 1.7 times over."""
    dashboard = json.loads(DASHBOARD.read_text())
    (over,) = [each for each in dashboard["templating"]["list"] if each["name"] == "over"]
    assert over["type"] == "interval"
    assert over["current"]["value"] in over["query"].split(",")
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert {window for expr in asked for window in re.findall(r"\[(.*?)\]", expr)} == {"$over"}


def test_without_ray_metrics_go_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    metrics = RunMetrics("r")
    metrics.shard_done(RESULTS)
    metrics.queue(1)


def test_events_are_lines_of_json_with_run_and_shard(capsys: pytest.CaptureFixture[str]) -> None:
    log_event("shard_begun", run_id="r", shard=3)
    log_failures("r", 3, RESULTS)
    begun, failed = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (begun["event"], begun["run_id"], begun["shard"]) == ("shard_begun", "r", 3)
    assert (failed["event"], failed["image_id"], failed["error_class"]) == ("image_failed", "b", "Damaged")
    assert datetime.fromisoformat(begun["time"]).tzinfo is not None
