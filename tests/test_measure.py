"""Which splits measured inputs come from."""

import itertools
from typing import Any

import pytest

from fiancee_jax.training import measure


class Drawing:
    """A workspace whose batches say where they come from, and that counts what was asked for."""

    def __init__(self):
        self.asked = {}

    def draw(self, split, count, batch_size, phase):
        assert phase == "predictor"
        self.asked[split] = count
        return ((split, i) for i in range(count // batch_size))


@pytest.mark.parametrize(
    ("of_train", "splits"),
    [(0.0, "pppppp"), (1.0, "tttttt"), (0.5, "ptptpt"), (0.75, "ptttpt"), (1 / 3, "pptppt")],
)
def test_splits_take_turns_by_their_shares(of_train, splits):
    work: Any = Drawing()
    found: Any = list(measure._drawn(work, "predictor", 6, 8, of_train))
    assert "".join(split[0] for split, _ in found) == splits
    for split, group in itertools.groupby(sorted(found), lambda x: x[0]):
        numbers = [i for _, i in group]
        assert numbers == list(range(len(numbers))), split
    assert work.asked == {"predictor": 8 * splits.count("p"), "train": 8 * splits.count("t")}
