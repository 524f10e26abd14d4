"""The printed tables of reenactment."""

import re

from made_heads import COSTS, made_found, made_who

from fiancee_jax.evaluation.reenactment_hardness import hardness
from fiancee_jax.evaluation.reenactment_rows import anchors, rows
from fiancee_jax.evaluation.reenactment_tables import show


def made_document(limits=(0.05, 0.12)):
    found, (who, identities) = made_found(), made_who()
    kinds = {
        kind: {
            "rows": rows(found, kind, COSTS, limits, 0),
            "hardness": hardness(found, kind, identities, COSTS, limits),
        }
        for kind in ("self", "cross")
    }
    return {"max_lpips": list(limits), "anchors": anchors(found, who, 0), **kinds}


def test_every_row_group_and_feature_is_printed(capsys):
    found = made_document()
    show(found)
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    for row in found["cross"]["rows"]:
        assert sum(line.startswith(row["label"]) for line in lines) == 2
    for group in ("yaw 0-15", "yaw >45", "glasses yes"):
        assert sum(line.startswith(group) for line in lines) == 2
    for feature in found["cross"]["hardness"]["features"]:
        assert sum(re.match(rf"{feature} +[+-]", line) is not None for line in lines) == 2
    assert "not a face-recognition model" in printed


def test_cells_are_the_documents_numbers(capsys):
    found = made_document()
    show(found)
    lines = capsys.readouterr().out.splitlines()
    own, other = (line for line in lines if line.startswith("exit 1"))
    row = found["cross"]["rows"][0]
    assert f"{row['truth']['lpips_alex']['mean']:.4f}" in other
    assert f"{row['driver']['mean']:.3f}" in other
    assert "66.7%" in other
    assert " - " in own  # no driver's identity of its own
    copied = next(line for line in lines if line.startswith("copy the source"))
    assert re.match(r"copy the source +- +- ", copied)
