"""What is asked for becomes what runs, by name; batches follow from memory."""

import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sam_core import device_settings
from sam_core.device_settings import GIB, BatchSizes, DeviceSettings, batch_sizes
from sam_core.presets import vit_b, vit_h, vit_n


def test_nothing_is_left_to_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_settings, "has_triton", lambda: True)
    monkeypatch.setenv("CC", "cc")
    assert DeviceSettings().resolve("cuda").kernels == "device attention=triton compile=on decoder=triton masks=triton"
    assert DeviceSettings().resolve("cpu").kernels == "device attention=sdpa compile=off decoder=torch masks=torch"
    monkeypatch.setattr(device_settings, "has_triton", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert DeviceSettings().resolve("cuda").kernels == "device attention=sdpa compile=off decoder=torch masks=torch"
    with pytest.raises(ValueError, match="there is no package triton"):
        DeviceSettings(masks="triton").resolve("cuda")
    with pytest.raises(ValueError, match="there is no package triton"):
        DeviceSettings(attention="triton").resolve("cuda")
    with pytest.raises(ValueError, match="there is no package triton"):
        DeviceSettings(decoder="triton").resolve("cuda")


def test_a_driver_without_a_gpu_asks_for_what_the_workers_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch for CPUs brings no Triton: its driver had GPUs work with torch's own kernels, and nobody heard of it."""
    monkeypatch.setattr(device_settings, "has_triton", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    asked = DeviceSettings().resolve("cuda")
    assert asked.kernels == "device attention=triton compile=on decoder=triton masks=triton"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ValueError, match="there is no package triton"):
        asked.resolve("cuda")
    with pytest.raises(ValueError, match="there is no package triton"):
        DeviceSettings(masks="triton").resolve("cpu")


def test_without_a_compiler_no_kernel_is_launched_on_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A PATH without programs; every image would become an error row as the first kernel is launched."""
    monkeypatch.setattr(device_settings, "has_triton", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    plain = DeviceSettings(attention="sdpa", compile="off", decoder="torch", masks="torch")
    for settings in (DeviceSettings(), replace(plain, compile="on"), replace(plain, masks="triton")):
        with pytest.raises(ValueError, match="need a C compiler: install gcc"):
            settings.resolve("cuda")
    assert plain.resolve("cuda") == plain
    assert DeviceSettings().resolve("cpu").compile == "off"
    with monkeypatch.context() as driver:
        driver.setattr(torch.cuda, "is_available", lambda: False)
        assert DeviceSettings().resolve("cuda").masks == "triton"
    (tmp_path / "clang").touch(mode=0o755)
    monkeypatch.setattr(sysconfig, "get_path", lambda *_: str(tmp_path))
    with pytest.raises(ValueError, match="C headers of this Python: install python3-dev"):
        DeviceSettings().resolve("cuda")
    (tmp_path / "Python.h").touch()
    assert DeviceSettings().resolve("cuda").masks == "triton"


def test_refuses_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match=r"0\.10 GiB; it must be at least 0\.25"):
        DeviceSettings(memory_bytes=GIB // 10)


def test_batches_fit_the_memory() -> None:
    """ViT-H in 12 GiB: a batch of crops and one of prompts; more memory gives more, little memory still a little."""
    parameters = 641_000_000
    usual = batch_sizes(vit_h(), DeviceSettings(), parameters=parameters)
    assert 4 <= usual.crops <= 16
    assert 64 <= usual.prompts <= 512
    kernels = batch_sizes(vit_h(), DeviceSettings(decoder="triton"), parameters=parameters)
    assert kernels.prompts > 2 * usual.prompts
    large = batch_sizes(vit_h(), DeviceSettings(memory_bytes=96 * GIB), parameters=parameters)
    assert large == BatchSizes(crops=16, prompts=1024)
    assert batch_sizes(vit_h(), DeviceSettings(memory_bytes=3 * GIB), parameters=parameters).crops >= 1
    assert batch_sizes(vit_b(), DeviceSettings(dtype="float32"), parameters=94_000_000).prompts < usual.prompts
    assert batch_sizes(vit_n(), DeviceSettings(), parameters=6_000_000) == BatchSizes(16, 1024)


def test_halving_ends() -> None:
    sizes, halvings = BatchSizes(crops=16, prompts=512), 0
    while not sizes.smallest:
        sizes, halvings = sizes.halved(), halvings + 1
    assert sizes == BatchSizes(crops=1, prompts=16)
    assert halvings <= 5
