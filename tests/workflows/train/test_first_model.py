"""The model that training begins with."""

from __future__ import annotations

import pytest

from sam_core.model.checkpoint import CheckpointError
from tests.workflows.train.conftest import small_config
from workflows.models import Model
from workflows.train.first_model import first_model


def test_another_checkpoint_at_the_same_place_is_refused(replaced_model: Model) -> None:
    """The record of the run would name the one that was there."""
    with pytest.raises(CheckpointError, match="not the checkpoint that the command began with"):
        first_model(small_config(), replaced_model)
