"""What the server shows of an image: what people drew, and what a run proposes."""

from __future__ import annotations

from dataclasses import replace

from tests.workflows.annotate.conftest import add_run
from workflows.annotate.commands import AnnotateConfig
from workflows.annotate.studio import open_studio


def test_proposals_of_an_image_open_the_files_of_its_own_shard_alone(
    config: AnnotateConfig, opened_files: list[str]
) -> None:
    """Else each image that somebody comes to takes the longer the more shards the run has."""
    add_run(config, shards=4)
    studio = open_studio(replace(config, stage="semi-automatic"))
    for shard, image in enumerate(sorted(studio.images)):
        opened_files.clear()
        assert len(studio.masks(image)) == 1
        assert {path[-9] for path in opened_files if "/shard-" in path} == {str(shard)}
