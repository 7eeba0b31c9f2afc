"""The page of an audit: what it shows, and the one HTML document that carries everything it needs."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from workflows.audit import figures
from workflows.audit.commands import AuditConfig
from workflows.audit.examine import Examined, comparable_strata, stratified_concavity
from workflows.audit.examples import Group
from workflows.audit.figures import Findings
from workflows.audit.intervals import Share
from workflows.audit.licences import Licence
from workflows.audit.pictures import Looked
from workflows.audit.places import Geography
from workflows.audit.plots import Plot
from workflows.audit.quality import PAPER, PAPER_PEOPLE, Quality
from workflows.report import text
from workflows.report.bins import Bins
from workflows.report.templates import templates


@dataclass(frozen=True, slots=True)
class Audit:
    """Everything that was found. `found` are the data set and its references, in this order."""

    config: AuditConfig
    made_at: datetime
    found: Sequence[Findings]
    per_image: Bins
    licences: Sequence[Licence]
    geography: Geography
    looked: Looked
    examples: Sequence[Group]
    quality: Quality | None
    protocol: str


@dataclass(frozen=True, slots=True)
class Page:
    """What the template shows; plots are numbered as they come."""

    audit: Audit
    version: str
    tiles: Sequence[tuple[str, str]]
    comparison: Sequence[tuple[str, Sequence[str]]]
    masks: Sequence[Plot]
    centres: Sequence[Plot]
    country: Plot | None
    quality: Sequence[Plot]
    curves: Sequence[Plot]

    @property
    def plots(self) -> list[Plot]:
        """All plots in the order of the page."""
        country = [self.country] if self.country else []
        return [*self.masks, *self.centres, *country, *self.quality, *self.curves]


def make_page(audit: Audit) -> Page:
    """Figures and tables of an audit."""
    asked = {"target": audit.config.target, "target_iou": audit.config.target_iou}
    return Page(
        audit=audit,
        version=importlib.metadata.version("sam-data-engine"),
        tiles=_tiles(audit),
        comparison=_comparison(audit.found),
        masks=figures.mask_plots(audit.found, audit.per_image),
        centres=figures.centre_plots(audit.found),
        country=figures.country_plot(audit.geography.countries) if audit.geography.known else None,
        quality=figures.quality_plots(audit.quality) if audit.quality else (),
        curves=[figures.curve_plot(one, **asked) for one in audit.quality.curves] if audit.quality else (),
    )


def render(audit: Audit) -> str:
    """The page as one HTML document that loads nothing from elsewhere. Every value in it is escaped, and no script but
    its own may run."""
    environment = templates()
    environment.filters |= {"percent": percent, "interval": interval}
    environment.globals |= {"share": text.share, "paper": PAPER, "people": PAPER_PEOPLE}
    page = make_page(audit)
    script = files("workflows").joinpath("templates", "audit.js").read_text(encoding="utf-8")
    return environment.get_template("audit.html").render(
        page=page,
        audit=audit,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        plots=_for_script([plot.spec() for plot in page.plots]),
    )


def percent(value: float | None) -> str:
    """0.1234 -> 12.3 %; a dash for none."""
    return "–" if value is None else f"{100 * value:.1f} %"


def interval(share: Share) -> str:
    """The interval of a share, in percent."""
    return f"{100 * share.low:.1f} to {100 * share.high:.1f} %"


def _tiles(audit: Audit) -> list[tuple[str, str]]:
    """The figures at the top, of the audited data set alone."""
    mine = audit.found[0]
    tiles = [
        ("images", text.count(mine.totals.images)),
        ("masks", text.count(mine.totals.masks)),
        ("masks per image", text.figures(mine.totals.masks_per_image)),
        ("of pixels covered", percent(mine.examined.mean_coverage)),
        ("near-duplicate masks", percent(mine.examined.duplicate_share)),
    ]
    if audit.quality:
        tiles.append((f"above {100 * PAPER[0][0]:g} % IoU", percent(audit.quality.shares[0].value)))
    return tiles


def _comparison(found: Sequence[Findings]) -> list[tuple[str, list[str]]]:
    """Rows of the table that puts data sets beside one another."""
    strata = comparable_strata([one.examined for one in found])
    rows = [
        ("images", [text.count(one.totals.images) for one in found]),
        ("masks", [text.count(one.totals.masks) for one in found]),
        ("masks per image, mean", [text.figures(one.totals.masks_per_image) for one in found]),
        ("masks per image, median", [text.figures(one.totals.median_masks_per_image) for one in found]),
        ("relative size, median", [text.figures(one.totals.median_relative_size) for one in found]),
        ("small masks, below 32² px", [text.share(one.totals.small, one.totals.masks) for one in found]),
        ("medium masks", [text.share(one.totals.medium, one.totals.masks) for one in found]),
        ("large masks, from 96² px", [text.share(one.totals.large, one.totals.masks) for one in found]),
        ("concavity, mean over strata of size", [_concavity(one.examined, strata) for one in found]),
        ("pixels in a mask, mean of images", [percent(one.examined.mean_coverage) for one in found]),
        ("masks that repeat another", [percent(one.examined.duplicate_share) for one in found]),
        ("mean place from middle (0) to border (1)", [text.figures(one.totals.border) for one in found]),
    ]
    return rows


def _concavity(examined: Examined, strata: NDArray[np.bool_]) -> str:
    return text.figures(stratified_concavity(examined, strata)[1])


def _for_script(value: object) -> str:
    """JSON that cannot end the element it stands in."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c").replace("&", "\\u0026")
