"""What every test may use."""

import os
import secrets
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sam_core.clip import clip_metadata
from sam_core.lanes import keep_freed_memory
from sam_core.model.checkpoint import save_model
from sam_core.model.sam import Sam
from sam_core.presets import vit_test, with_text
from tests.fake_clip import FakeClip

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it when it is imported; its own functions need it, too

REPOSITORY = Path(__file__).parent.parent
FOLDERS = pytest.StashKey[dict[Path, pytest.Collector | None]]()


def pytest_configure() -> None:
    """Memory is kept as in the program's own processes: clearing it anew takes a fifteenth of the time of models."""
    keep_freed_memory()


@pytest.hookimpl(wrapper=True)
def pytest_collect_directory(
    path: Path, parent: pytest.Collector
) -> Generator[None, pytest.Collector | None, pytest.Collector | None]:
    """A folder to which the command line comes back is the one that it was.

    pytest 9.1 makes another of it, for which the fixtures of the folder's conftest.py are not there (its issue 14635).
    """
    found = yield
    return parent.session.stash.setdefault(FOLDERS, {}).setdefault(path, found)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that use Ray go to one process of pytest-xdist, which starts one cluster; any other file goes anywhere.

    Ray's come first, then those with slow tests, so that no process is left with a long one in the end.
    """
    with_ray = {item.path for item in items if "ray_head" in getattr(item, "fixturenames", ())}
    with_slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in with_ray, item.path not in with_slow))
    for item in items:
        item.add_marker(pytest.mark.xdist_group("ray" if item.path in with_ray else str(item.path)))


@pytest.fixture(autouse=True)
def _alike() -> None:
    """Every test begins with the same seed and one thread: models are small, tests run side by side."""
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def sample_data() -> Callable[[str], Path]:
    """Finds a folder of the sample data, such as "coco128", or skips the test.

    Looked for in SAM_ENGINE_TEST_DATA, else in ../shared/data beside the repository.
    """
    root = Path(os.environ.get("SAM_ENGINE_TEST_DATA", REPOSITORY.parent / "shared" / "data"))

    def find(name: str) -> Path:
        if not (root / name).is_dir():
            pytest.skip(f"needs the sample data {name}; set SAM_ENGINE_TEST_DATA to the folder that holds it")
        return root / name

    return find


@pytest.fixture(scope="session")
def kernel_device() -> torch.device:
    """Where kernels in Triton run: on a GPU if there is one, else in its interpreter; without Triton the test skips."""
    pytest.importorskip("triton")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of `vit_test` with random weights, which runs in milliseconds."""
    path = tmp_path_factory.mktemp("checkpoint") / "vit_test.safetensors"
    torch.manual_seed(0)
    save_model(Sam(vit_test()), path)
    return path


@pytest.fixture(scope="session")
def text_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with text prompts that belong to FakeClip."""
    path = tmp_path_factory.mktemp("checkpoint") / "vit_test_text.safetensors"
    torch.manual_seed(0)
    save_model(Sam(with_text(vit_test(), FakeClip().width)), path, clip_metadata(FakeClip().name, FakeClip().sha256))
    return path


@pytest.fixture
def fake_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever folder is named, a FakeClip is loaded from it."""
    monkeypatch.setattr("workflows.text.clips.load_clip", lambda folder, device="cpu": FakeClip())


@pytest.fixture(scope="session")
def photo() -> NDArray[np.uint8]:
    """A colour photograph, uint8 RGB [300, 451, 3]."""
    from skimage.data import chelsea

    return np.asarray(chelsea())


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """An S3 server that speaks HTTP; its address is in AWS_ENDPOINT_URL for every process started from here.

    One for all tests: of two the later one would be in the environment of those that use the other.
    """
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.delenv("AWS_PROFILE", raising=False)
        yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str) -> str:
    """The name of a new bucket."""
    import boto3

    name = f"test-{secrets.token_hex(6)}"
    boto3.client("s3").create_bucket(Bucket=name)
    return name
