"""The files of `cluster/` against Ray's own schema and packaging, KubeRay's fields, and the command they call."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray._private.runtime_env.packaging import GCS_STORAGE_MAX_SIZE, create_package
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.cluster.reduce_crd import ROOT, SCHEMA, definition, manifests
from workflows.cli import parse
from workflows.commands import GenerateConfig

CLUSTER = ROOT / "cluster"


def shell_lines(page: Path) -> list[str]:
    """The commands of a page: its indented lines, continued ones joined."""
    text = page.read_text().replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.startswith("    ")]


@pytest.mark.parametrize("kind", ["RayJob", "RayCluster"])
def test_manifests_have_the_fields_of_kuberay(kind: str) -> None:
    jsonschema.Draft7Validator(json.loads(SCHEMA.read_text())[kind]).validate(manifests()[kind])


@pytest.mark.parametrize("kind", ["RayJob", "RayCluster"])
def test_manifests_fit_the_definitions_themselves(kind: str) -> None:
    folder = os.environ.get("SAM_ENGINE_KUBERAY_CRDS")
    if not folder:
        pytest.skip("needs KubeRay's definitions; set SAM_ENGINE_KUBERAY_CRDS to the folder that holds them")
    crd = yaml.safe_load((Path(folder) / f"ray.io_{kind.lower()}s.yaml").read_text())
    jsonschema.Draft7Validator(definition(crd)).validate(manifests()[kind])


def test_a_field_with_a_wrong_name_or_type_is_found() -> None:
    schema = jsonschema.Draft7Validator(json.loads(SCHEMA.read_text())["RayJob"])
    for change in ({"backofLimit": 3}, {"backoffLimit": "3"}, {"rayClusterSpec": {"rayVersion": "2.60.0"}}):
        manifest = manifests()["RayJob"]
        manifest["spec"] |= change
        assert list(schema.iter_errors(manifest)), change


def test_a_lost_driver_starts_again_by_itself() -> None:
    spec = manifests()["RayJob"]["spec"]
    assert spec["backoffLimit"] >= 3
    words = shlex.split(spec["entrypoint"])
    assert words[:2] == ["bash", "/home/ray/sam-data-engine/cluster/job.sh"]
    config = parse(words[2:])
    assert isinstance(config, GenerateConfig)
    assert (config.model, config.recipe) == ("vit_h", "sa1b")
    (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    assert (config.device, config.workers) == ("cuda", group["maxReplicas"])  # nobody can know while no node is there


def test_a_pod_has_time_to_drain_before_its_node_goes() -> None:
    for spec in (manifests()["RayJob"]["spec"]["rayClusterSpec"], manifests()["RayCluster"]["spec"]):
        assert spec["rayVersion"] == constraint("ray")
        (group,) = spec["workerGroupSpecs"]
        pod = group["template"]["spec"]
        (drain,) = pod["containers"][0]["env"]
        assert drain["name"] == "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
        assert float(drain["value"]) + 10 <= pod["terminationGracePeriodSeconds"] < 120


def constraint(package: str) -> str:
    (line,) = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith(f"{package}==")]
    return line.partition("==")[2]


def test_ray_up_takes_the_aws_file() -> None:
    config = yaml.safe_load((CLUSTER / "aws.yaml").read_text())
    filled = prepare_config(config)
    validate_config(filled)
    gpu = filled["available_node_types"]["gpu"]
    assert gpu["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert (gpu["min_workers"], gpu["max_workers"]) == (0, 16)
    with pytest.raises(jsonschema.ValidationError):
        validate_config(filled | {"max_wokers": 3})


@pytest.mark.parametrize("path", sorted(path.name for path in CLUSTER.iterdir()))
def test_no_file_holds_credentials(path: str) -> None:
    text = (CLUSTER / path).read_text().lower()
    assert not re.search(
        r"aws_(secret_)?access_key|aws_session_token|\bakia|password\s*[:=]|secretkeyref|token\s*=\s*\w{20}", text
    )


def test_the_working_directory_is_far_below_ray_s_limit(tmp_path: Path) -> None:
    environment = yaml.safe_load((CLUSTER / "runtime-env.yaml").read_text())
    assert environment["working_dir"] == "."
    package = tmp_path / "package.zip"
    create_package(str(ROOT), package, include_gitignore=True, excludes=environment["excludes"])
    names = zipfile.ZipFile(package).namelist()
    assert package.stat().st_size < GCS_STORAGE_MAX_SIZE / 4
    assert package.stat().st_size < 25 << 20
    assert {"workflows/cli.py", "sam_core/weights/vit_n.safetensors", "cluster/job.sh"} <= set(names)
    assert not [name for name in names if name.startswith((".git/", ".venv", "tests/", "docs/"))]


def test_the_image_is_built_as_the_readme_says() -> None:
    dockerfile, readme = (CLUSTER / "Dockerfile").read_text(), (ROOT / "README.md").read_text()
    (build,) = re.findall(r"^# +(docker build .*)$", dockerfile, re.MULTILINE)
    assert build in shell_lines(ROOT / "README.md")
    steps = re.findall(r"^RUN (make .*)$", dockerfile, re.MULTILINE)
    assert steps == ["make setup"]
    (packages,) = re.findall(r"apt-get install (.*?) &&", dockerfile)
    assert "g++" in packages.split()  # Triton builds what launches its kernels
    assert {"rsync", "openssh-client"} <= set(packages.split())  # without them `ray up` ends, and starts no worker
    assert all(step in readme for step in steps)
    assert "make setup" in readme
    (python,) = re.findall(r"^FROM python:(\S+)-slim$", dockerfile, re.MULTILINE)
    assert f"Python {python} or newer" in readme


def test_commands_of_the_submit_page_are_commands() -> None:
    lines = shell_lines(CLUSTER / "README.md")
    engine = [line.partition(" -- ")[2] for line in lines if line.startswith("ray job submit")]
    assert len(engine) >= 2
    for words in map(shlex.split, engine):
        assert words[:2] in (["bash", "cluster/job.sh"], ["sam-engine", "generate"])
        parse([word for word in words if word not in ("bash", "cluster/job.sh", "sam-engine")])
    for name in re.findall(r"(?<!tests/)cluster/[\w.-]+", (CLUSTER / "README.md").read_text()):
        assert (ROOT / name).exists(), name


def fake(folder: Path, name: str, body: str) -> dict[str, str]:
    """An environment in which a command is the given shell script."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
    (folder / name).chmod(0o755)
    return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "LOG": str(folder / "log")}


@pytest.mark.parametrize(
    ("statuses", "status", "tries"), [("0", 0, 1), ("1", 0, 1), ("2 137 1", 0, 3), ("2 2 2 2", 2, 3), ("130 0", 0, 2)]
)
def test_a_job_repeats_its_command_until_it_is_done(tmp_path: Path, statuses: str, status: int, tries: int) -> None:
    assert job(tmp_path, statuses) == (status, "generate a b c\n" * tries)


def test_tries_that_worked_for_a_while_do_not_end_a_job(tmp_path: Path) -> None:
    assert job(tmp_path, "2 2 137 2 137 1", SAM_ENGINE_WORKED="0") == (0, "generate a b c\n" * 6)


def test_a_bug_ends_a_job_however_long_it_takes(tmp_path: Path) -> None:
    assert job(tmp_path, "70 70 70 70", SAM_ENGINE_WORKED="0") == (70, "generate a b c\n" * 3)


def job(folder: Path, statuses: str, **more: str) -> tuple[int, str]:
    """How the script ends where the command ends with these statuses, one after the other, and the commands it gave."""
    body = f'echo "$@" >> "$LOG"; set -- {statuses}; shift $(($(wc -l < "$LOG") - 1)); exit "$1"'
    environment = fake(folder / "bin", "sam-engine", body) | {"SAM_ENGINE_TRIES": "3", "SAM_ENGINE_PAUSE": "0"} | more
    command = ["bash", CLUSTER / "job.sh", "generate", "a b", "c"]
    done = subprocess.run(command, env=environment, check=False, capture_output=True)
    return done.returncode, (folder / "bin" / "log").read_text()


@contextlib.contextmanager
def metadata(notice_after: int) -> Iterator[str]:
    """The metadata of a spot machine, which say 404 until they were asked so often; their address."""
    asked: list[Any] = []

    class Answer(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self._say(200, b"token")

        def do_GET(self) -> None:
            assert self.headers["X-aws-ec2-metadata-token"] == "token"
            asked.append(self.path)
            self._say(200 if len(asked) > notice_after else 404, b'{"action": "terminate"}')

        def _say(self, code: int, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/latest"
    finally:
        server.shutdown()
        server.server_close()


def test_a_spot_notice_stops_ray_with_time_to_drain(tmp_path: Path) -> None:
    if subprocess.run(["which", "wget"], capture_output=True, check=False).returncode:
        pytest.skip("needs wget")
    body = """
echo "$@ $RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S" >> "$LOG"
trap 'echo told to go >> "$LOG"; exit 0' TERM
while true; do sleep 0.05; done
"""
    environment = fake(tmp_path / "bin", "ray", body)
    with metadata(notice_after=2) as address:
        environment |= {"METADATA": address, "INTERVAL": "0.1", "no_proxy": "127.0.0.1"}
        command = ["bash", CLUSTER / "spot-worker.sh", "head:6379"]
        done = subprocess.run(command, env=environment, timeout=120, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    started, told = (tmp_path / "bin" / "log").read_text().splitlines()
    assert re.fullmatch(r"start --address=head:6379 .*--block 90", started)
    assert told == "told to go"
