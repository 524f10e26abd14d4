"""What every ablation of guides and branches varies: named changes of one config."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from fiancee_jax.config import Config, Exit

ONE_EXIT = (Exit(1, 0.25),)
WIDTHS = (1 / 8, 1 / 4, 1 / 3, 1 / 2)
PATCHES = 2048  # cells in a bank of patches, of as many pictures as a bank of palettes has
POPULATED = 64  # entries of the banks whose population is compared: in large ones all see all
SIZES = (10, 32, 100, 320, 1000, 3200, 10_000)

Change = Callable[[Config], Config]


class Variant(NamedTuple):
    """One row of an ablation.

    Attributes:
        name: of the row and of its workdir.
        change: from the ablation's config to the variant's.
        bank_of: the variant whose bank it takes over, if it has the same one.
    """

    name: str
    change: Change
    bank_of: str = ""


def common(base: Config, steps: int, seed: int) -> Config:
    """What all variants share: one exit, 512 unseen inputs to measure it on."""
    branches = dataclasses.replace(base.branches, steps=steps, exits_per_step=0, measure=512)
    logging = dataclasses.replace(
        base.logging, every=50, preview_every=100_000, checkpoint_every=100_000, keep=1
    )
    return dataclasses.replace(base, exits=ONE_EXIT, seed=seed, branches=branches, logging=logging)


def guides(**fields: Any) -> Change:
    """A change of `config.guides`."""
    return lambda c: dataclasses.replace(c, guides=dataclasses.replace(c.guides, **fields))


def model(**fields: Any) -> Change:
    """A change of `config.model`."""
    return lambda c: dataclasses.replace(c, model=dataclasses.replace(c.model, **fields))


def own(frames: int) -> Change:
    """Guides that are further frames of each source: of the model and of its data."""

    def change(config: Config) -> Config:
        config = model(own=frames)(guides(form="own")(config))
        return dataclasses.replace(config, data=dataclasses.replace(config.data, own=frames))

    return change


def branches(**fields: Any) -> Change:
    """A change of `config.branches`."""
    return lambda c: dataclasses.replace(c, branches=dataclasses.replace(c.branches, **fields))


def exits(*pairs: Exit) -> Change:
    """Other exits, trained together."""
    return lambda c: dataclasses.replace(c, exits=pairs)


GUIDES = [
    Variant("none", guides(form="none")),
    Variant("zeros", guides(form="zeros")),
    Variant("palette", guides(form="palette")),
    Variant("random", guides(form="random"), "palette"),
    Variant("learnt", guides(form="learnt")),
    Variant("palette-concat", guides(form="palette", join="concat"), "palette"),
    Variant(
        "palette-concat-every", guides(form="palette", join="concat", inject="every"), "palette"
    ),
    Variant("zeros-every", guides(form="zeros", inject="every")),
    Variant("palette-both", guides(form="palette", join="both"), "palette"),
    Variant("palette-both-every", guides(form="palette", join="both", inject="every"), "palette"),
    Variant("patch-trunk", guides(form="patch", size=PATCHES)),
    Variant("patch-vector", guides(form="patch", size=PATCHES, key="vector")),
    Variant("patch-colours", guides(form="patch", size=PATCHES, key="colours")),
    Variant("image", guides(form="image")),
    Variant("palette-bands", lambda c: model(palette_bands=4)(guides(form="palette")(c))),
    Variant("learnt-bands", lambda c: model(palette_bands=4)(guides(form="learnt")(c))),
]
SOURCES = [  # guides of families with sources
    Variant("none", guides(form="none")),
    Variant("zeros", guides(form="zeros")),
    Variant("learnt", guides(form="learnt")),
    Variant("palette", guides(form="palette")),
    Variant("image", guides(form="image")),
    Variant("own", own(4)),
]
BANK_SIZE = [
    Variant(f"size-{n}", guides(form="palette", size=n, neighbours=min(8, n))) for n in SIZES
]
POPULATION = [
    Variant(name, guides(form="palette", size=POPULATED, population=name))
    for name in ("random", "kmeans", "kcenter", "balanced")
]
EXITS = [Variant(f"tap-{tap}", exits(*(Exit(tap, w) for w in WIDTHS))) for tap in (1, 2, 3, 4)]
LOSSES = [
    Variant("perceptual", branches(l1=0.0, lpips=1.0)),
    Variant("perceptual+adversarial", branches(l1=0.0, lpips=1.0, adversarial=0.02)),
    Variant("perceptual+pixel", branches(l1=2.0, lpips=1.0)),
    Variant("perceptual+adversarial+pixel", branches(l1=2.0, lpips=1.0, adversarial=0.02)),
    Variant("pixel", branches(l1=2.0, lpips=0.0)),
]
BLOCKS = [Variant(name, model(light_block=name)) for name in ("spade", "inception", "transformer")]

ABLATIONS = {
    "guides": GUIDES,
    "sources": SOURCES,
    "exits": EXITS,
    "population": POPULATION,
    "losses": LOSSES,
    "blocks": BLOCKS,
    "bank_size": BANK_SIZE,
}
