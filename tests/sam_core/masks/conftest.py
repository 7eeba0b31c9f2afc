"""What several tests of mask operations need."""

from types import ModuleType

import pytest

from tests.released import import_released


@pytest.fixture(scope="session")
def amg() -> ModuleType:
    """The mask operations of the released code, `segment_anything.utils.amg`."""
    import_released()
    from segment_anything.utils import amg

    return amg
