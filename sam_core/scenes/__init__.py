"""Procedural scenes with exact masks: what the model in the box learns from."""

from sam_core.scenes.config import SCENE_KINDS, SceneConfig
from sam_core.scenes.cutouts import CutOut, CutOuts, cut_out
from sam_core.scenes.masks import MaskKind, SceneMasks, scene_masks
from sam_core.scenes.scene import Scene, render_scene

__all__ = [
    "SCENE_KINDS",
    "CutOut",
    "CutOuts",
    "MaskKind",
    "Scene",
    "SceneConfig",
    "SceneMasks",
    "cut_out",
    "render_scene",
    "scene_masks",
]
