"""Which device the work gets, by the names that people give it from Python."""

import pytest

from workflows.devices import choose_device, device_here


@pytest.mark.parametrize("choose", [choose_device, device_here])
@pytest.mark.parametrize("name", ["cuda:0", "gpu", ""])
def test_another_name_of_a_device_is_refused(choose, name):
    with pytest.raises(ValueError, match=f"device is '{name}'; it must be auto, cpu or cuda"):
        choose(name)


@pytest.mark.parametrize("choose", [choose_device, device_here])
def test_the_cpu_is_always_there(choose, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert choose("cpu") == "cpu"
