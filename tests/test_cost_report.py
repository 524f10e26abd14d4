"""Where cost sits: the parts are those of the networks and add up to each exit."""

import dataclasses

import pytest
from tiny import tiny_config
from tiny_heads import heads_config

from fiancee_jax import cost, cost_report
from fiancee_jax.config import Guides, load_config
from fiancee_jax.cost_report import by_kind, by_place
from fiancee_jax.errors import UserError
from fiancee_jax.exits import MultiExit
from fiancee_jax.models.oasis import Oasis
from fiancee_jax.report import figures

WORDS = Oasis.layer_words


@pytest.fixture(scope="module")
def model():
    return MultiExit.of(tiny_config())


def dcgan():
    return MultiExit.of(load_config("dcgan"))


@pytest.mark.parametrize("form", ["palette", "patch", "zeros", "learnt"])
def test_parts_add_up_to_every_exit(form):
    model = MultiExit.of(tiny_config(guides=Guides(form=form, size=16, neighbours=4)))
    for exit in (*model.exits, None):
        macs = model.exit_macs(exit)
        total = round(model.exit_gmacs(exit) * 1e9)
        assert sum(macs.values()) == total
        for parts in (by_place(macs, exit.tap if exit else 0), by_kind(macs, WORDS)):
            assert sum(parts.values()) == total
            assert "elsewhere" not in parts
            assert all(parts.values())


def test_what_all_exits_share_is_said(capsys):
    model = MultiExit.of(heads_config())
    cost_report.show(model)
    output = capsys.readouterr().out
    assert f"shared by all exits: {figures(sum(model.encoding_gmacs()))} GMACs" in output
    assert "once for each source" in output
    assert output.count("beyond that, of the backbone's:") == 1
    cost_report.show(dcgan())
    assert "shared by all exits" not in capsys.readouterr().out


def test_places_of_an_exit_are_its_trunk_and_its_branch(model):
    exit = next(e for e in model.exits if e.tap == 2)
    assert set(by_place(model.exit_macs(exit), exit.tap)) == {
        *("stem", "stage 1", "stage 2", "retrieval"),
        *("adapter", "light stage 3", "light stage 4", "head"),
    }
    full = by_place(model.exit_macs(None), 0)
    assert set(full) == {"stem", "stage 1", "stage 2", "stage 3", "stage 4", "head"}


def test_places_cost_what_their_modules_cost_alone(model):
    variables, inputs = model._abstract
    places = by_place(model.exit_macs(model.exits[0]), 1)
    trunk = cost.gmacs(lambda v, i: model.trunk(v, i, 1), variables, inputs)
    assert (places["stem"] + places["stage 1"]) / 1e9 == pytest.approx(trunk, rel=1e-9)
    assert places["retrieval"] / 1e9 == pytest.approx(model.retrieval_gmacs(), rel=1e-9)


def test_stages_of_the_trunk_cost_the_same_in_every_exit(model):
    full = by_place(model.exit_macs(None), 0)
    for exit in model.exits:
        places = by_place(model.exit_macs(exit), exit.tap)
        for part in ("stem", *(f"stage {i}" for i in range(1, exit.tap + 1))):
            assert places[part] == full[part]


def test_kinds_of_layer_by_hand():
    # one stage of OASIS by the layer facts: 16 -> 8 channels at 8x8, hidden 4, 10 classes + z 4
    config = tiny_config(exits=((1, 0.5),))
    model = MultiExit.of(config)
    macs = {k: v for k, v in model.exit_macs(None).items() if "stages_1" in k}
    before, after = (config.model.features(i) for i in (1, 2))
    pixels = 8 * 8
    middle = min(before, after)
    normed = [before, middle] + [before] * (before != after)
    assert by_kind(macs, WORDS) == {
        "SPADE label convs": pixels * 9 * (10 + 4) * 4 * len(normed),
        "gamma and beta": pixels * 9 * 4 * 2 * sum(normed),
        "block convolutions": pixels
        * (9 * before * middle + 9 * middle * after + before * after * (before != after)),
    }


def test_a_family_without_words_keeps_its_modules_names():
    model = dcgan()
    macs = model.exit_macs(model.exits[0])
    kinds = by_kind(macs, model.family.layer_words)
    # its base picture is learnt and enlarged inside the branch
    assert set(kinds) == {*("project", "conv", "adapter", "palette_hidden", "palette", "guide")}
    assert sum(kinds.values()) == sum(by_place(macs, model.exits[0].tap).values())


def test_the_predictor_is_one_part(model):
    total = round(model.predictor_gmacs() * 1e9)
    assert by_place(model.predictor_macs, 0) == by_kind(model.predictor_macs, WORDS)
    assert by_place(model.predictor_macs, 0) == {"predictor": total}


def test_another_size(model):
    larger = cost_report.resized(model, (64, 32))
    assert larger.family.size == (64, 32)
    assert larger.exits == model.exits
    assert sum(by_place(larger.exit_macs(None), 0).values()) == 2 * sum(
        by_place(model.exit_macs(None), 0).values()
    )
    with pytest.raises(UserError, match="20x32; height and width must be divisible by 8"):
        cost_report.resized(model, (20, 32))
    with pytest.raises(UserError, match=r"\[100, 100\]"):
        cost_report.resized(dcgan(), (100, 100))


def cells(output, title):
    """The table of that title: part -> its numbers."""
    lines = output.split(f"GMACs by {title}\n")[1].split("\n\n")[0].splitlines()
    count = len(lines[0].split()) - 1
    return {" ".join(line.split()[:-count]): line.split()[-count:] for line in lines}


def number(cell):
    return 0.0 if cell == "-" else float(cell.replace(",", ""))


@pytest.mark.parametrize("title", ["place", "layer"])
def test_printed_rows_add_up(capsys, model, title):
    cost_report.show(model)
    table = cells(capsys.readouterr().out, title)
    names = [exit.name for exit in model.exits] + ["backbone"]
    assert table.pop(title) == names
    ends = {part: table.pop(part) for part in ("the exit", "predictor", "routed")}
    for i, gmacs in enumerate(model.gmacs):
        printed = [number(row[i]) for row in table.values()]
        rounding = 10.0 ** -len(ends["the exit"][i].partition(".")[2])
        assert sum(printed) == pytest.approx(gmacs, abs=len(printed) * rounding / 2)
        assert number(ends["the exit"][i]) == pytest.approx(gmacs, abs=rounding)
        routed = gmacs + model.predictor_gmacs()
        assert number(ends["routed"][i]) == pytest.approx(routed, abs=rounding)
    backbone = [number(row[-1]) for row in table.values()]
    if title == "layer":
        assert backbone == sorted(backbone, reverse=True)
    else:
        assert list(table) == [
            *("stem", "stage 1", "stage 2", "stage 3", "stage 4", "retrieval", "adapter"),
            *("light stage 2", "light stage 3", "light stage 4", "head"),
        ]


def test_recomputed_stages_have_the_same_places(model):
    # training's copies of a model recompute stages in the backward pass
    copy = dataclasses.replace(model, remat=True)
    variables, inputs = model._abstract
    macs = cost.by_scope(lambda v, i: copy.full(v, i)[0], variables, inputs)
    assert by_place(macs, 0) == by_place(model.exit_macs(None), 0)
