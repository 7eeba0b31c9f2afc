"""What the paper prints (Kirillov et al. 2023, arXiv 2304.02643 v1), by table and row."""

from __future__ import annotations

from typing import NamedTuple


class ClickSet(NamedTuple):
    """A set of Table 7: images, masks, and how far SAM's mIoU at one click is above RITM's, points (Fig. 9a)."""

    images: int
    masks: int
    above_ritm: float


CLICK_SETS = {
    "PPDLS": ClickSet(182, 2347, 46.9),
    "BBBC038v1": ClickSet(227, 10506, 44.7),
    "DOORS": ClickSet(10000, 10000, 41.1),
    "TimberSeg": ClickSet(220, 2487, 28.9),
    "NDD20": ClickSet(4402, 6100, 21.1),
    "LVIS": ClickSet(945, 9642, 18.5),
    "STREETS": ClickSet(819, 9854, 17.3),
    "ZeroWaste-f": ClickSet(2947, 6155, 9.1),
    "iShape": ClickSet(754, 9742, 8.8),
    "ADE20K": ClickSet(302, 10128, 7.8),
    "OVIS": ClickSet(2044, 10011, 7.0),
    "Hypersim": ClickSet(338, 9445, 6.1),
    "NDISPark": ClickSet(111, 2577, 2.7),
    "VISOR": ClickSet(1864, 10141, 1.8),
    "Plittersdorf": ClickSet(187, 546, 1.5),
    "EgoHOS": ClickSet(2940, 9961, 0.8),
    "IBD": ClickSet(467, 11953, -0.3),
    "WoodScape": ClickSet(107, 10266, -0.6),
    "Cityscapes": ClickSet(293, 9973, -2.0),
    "PIDRay": ClickSet(3733, 8892, -5.8),
    "DRAM": ClickSet(718, 1179, -6.5),
    "TrashCan": ClickSet(5936, 9540, -15.0),
    "GTEA": ClickSet(652, 1208, -21.4),
}

EDGES = {
    "SAM": {"ODS": 0.768, "OIS": 0.786, "AP": 0.794, "R50": 0.928},
    "HED": {"ODS": 0.788, "OIS": 0.808, "AP": 0.840, "R50": 0.923},
    "EDETR": {"ODS": 0.840, "OIS": 0.858, "AP": 0.896, "R50": 0.930},
    "Sobel": {"ODS": 0.539},
    "Canny": {"ODS": 0.600, "OIS": 0.640, "AP": 0.580},
    "Felz-Hutt": {"ODS": 0.610, "OIS": 0.640, "AP": 0.560},
}
"""Table 3, BSDS500 test."""
HUMAN_F = 0.80
"""Of BSDS500 test, people against each other, as its benchmark publishes it (Arbelaez et al. 2011)."""

PROPOSALS = {
    "SAM": {
        "all": 59.3,
        "small": 45.5,
        "medium": 81.6,
        "large": 86.9,
        "frequent": 59.1,
        "common": 63.9,
        "rare": 65.8,
    },
    "SAM, single output": {
        "all": 54.9,
        "small": 42.8,
        "medium": 76.7,
        "large": 74.4,
        "frequent": 54.7,
        "common": 59.8,
        "rare": 62.0,
    },
    "ViTDet-H": {
        "all": 63.0,
        "small": 51.7,
        "medium": 80.8,
        "large": 87.0,
        "frequent": 63.1,
        "common": 63.3,
        "rare": 58.3,
    },
}
"""Table 4, LVIS v1 val, AR@1000, percent."""

INSTANCES = {
    "SAM, COCO": {"AP": 46.5, "AP small": 30.8, "AP medium": 51.0, "AP large": 61.7},
    "ViTDet-H, COCO": {"AP": 51.0, "AP small": 32.0, "AP medium": 54.3, "AP large": 68.9},
    "SAM, LVIS v1": {"AP": 44.7, "AP small": 32.5, "AP medium": 57.6, "AP large": 65.5},
    "ViTDet-H, LVIS v1": {"AP": 46.6, "AP small": 35.0, "AP medium": 58.0, "AP large": 66.3},
}
"""Table 5, percent."""

FAIRNESS = {
    ("people", "feminine"): ((54.4, 1.7), (90.4, 0.6)),
    ("people", "masculine"): ((55.7, 1.7), (90.1, 0.6)),
    ("people", "older"): ((62.9, 6.7), (92.6, 1.3)),
    ("people", "middle"): ((54.5, 1.3), (90.2, 0.5)),
    ("people", "young"): ((54.2, 2.2), (91.2, 0.7)),
    ("skin tone", "1"): ((52.9, 2.2), (91.0, 0.9)),
    ("skin tone", "2"): ((51.5, 1.4), (91.1, 0.5)),
    ("skin tone", "3"): ((52.2, 1.9), (91.4, 0.7)),
    ("skin tone", "4"): ((51.5, 2.7), (91.7, 1.0)),
    ("skin tone", "5"): ((52.4, 4.2), (92.5, 1.4)),
    ("skin tone", "6"): ((56.7, 6.3), (91.2, 2.4)),
    ("clothing", "feminine"): ((76.3, 1.1), (90.7, 0.5)),
    ("clothing", "masculine"): ((81.0, 1.2), (92.3, 0.4)),
    ("clothing", "older"): ((81.9, 3.8), (92.8, 1.6)),
    ("clothing", "middle"): ((78.2, 0.8), (91.3, 0.3)),
    ("clothing", "young"): ((77.3, 2.7), (91.5, 0.9)),
}
"""mIoU at 1 and 3 random points with half of the 95 % interval, percent (§6 and its appendix)."""
