"""Pictures of reenactment: which pairs are shown, and the bars."""

import io

import numpy as np
from made_heads import COSTS, made_found, made_who
from PIL import Image

from fiancee_jax.evaluation import reenactment_pictures as drawn
from fiancee_jax.evaluation.reenactment_hardness import hardness


def test_shown_pairs_are_of_different_identities_over_all_exits():
    who = np.array([0, 0, 1, 2, 3, 4, 5, 6, 6])
    exits = np.array([2, 0, 1, 0, 2, 1, 0, 1, 0])
    shown = drawn.spread(who, exits)
    assert len(set(who[shown])) == len(shown) == drawn.SHOWN
    assert exits[shown].tolist() == sorted(exits[shown])
    assert set(exits[shown]) == {0, 1, 2}
    assert drawn.spread(np.zeros(3, int), np.arange(3)) == [0]


def test_bars_are_a_png_of_both_kinds():
    found, who = made_found(), made_who()[1]
    by_kind = {kind: hardness(found, kind, who, COSTS, (0.05, 0.1)) for kind in ("self", "cross")}
    with Image.open(io.BytesIO(drawn.hardness_chart(by_kind, COSTS))) as image:
        assert image.format == "PNG"
        assert image.size == (1300, 660)
        shades = np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)
    assert len(shades) > 10
