"""What several tests of mask operations need."""

from types import ModuleType

import pytest

from tests.released import install_torchvision_stand_in


@pytest.fixture(scope="session")
def amg() -> ModuleType:
    """The mask operations of the released code, `segment_anything.utils.amg`."""
    install_torchvision_stand_in()
    from segment_anything.utils import amg

    return amg
