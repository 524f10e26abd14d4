"""A folder of label maps, rendered: files, manifest, page, and what a picture depends on."""

import dataclasses
import json
import os
import pathlib
import urllib.parse

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tiny import tiny_renderer

from fiancee_jax import inference, rendering
from fiancee_jax.data import Landscapes
from fiancee_jax.errors import UserError
from fiancee_jax.inference import Renderer, file_latent
from fiancee_jax.pictures import to_uint8
from fiancee_jax.render_folder import Request, render_folder
from fiancee_jax.routing.calibration import Calibration, budget_setting, chosen

SIZE, BATCH = (32, 32), 4
HOSTILE = "<img src=x onerror=alert(1)> \"q\" & 'a' #1?50%"
SCENES = Landscapes(report=16)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return tiny_renderer()


@pytest.fixture(scope="module")
def labels(tmp_path_factory) -> pathlib.Path:
    """Eleven maps of the model's size: three batches, the last one ragged."""
    folder = tmp_path_factory.mktemp("labels")
    for i in range(11):
        save(folder / (f"{HOSTILE}.png" if i == 6 else f"scene_{i:02d}.png"), i)
    return folder


@pytest.fixture(scope="module")
def middle(renderer, labels) -> float:
    """A threshold that parts these maps: some leave early, some do not."""
    predicted = renderer.predict(*inputs(renderer, labels))[:, :-1]
    return float(np.quantile(np.asarray(predicted), 0.3))


@pytest.fixture(scope="module")
def routed(renderer, labels, middle, tmp_path_factory):
    """The folder rendered once, and how often the routed renderer was compiled for it."""
    compiled = rendering.render_routed._cache_size  # pyright: ignore[reportAttributeAccessIssue]
    before = compiled()
    out = tmp_path_factory.mktemp("out")
    summary = render_folder(renderer, request(labels, out, max_lpips=middle))
    return summary, compiled() - before


def save(path: pathlib.Path, index: int, size=SIZE) -> None:
    Image.fromarray(SCENES.open("report", size)[index]["labels"]).save(path)


def request(labels, out, **options) -> Request:
    options = {"batch_size": BATCH, **options}
    return Request("runs/demo", labels, out, **options)


def inputs(renderer, folder):
    """All label maps and latents of a folder, by name."""
    paths = sorted(folder.glob("*.png"), key=lambda p: p.stem)
    maps = np.stack([np.array(Image.open(p)) for p in paths])
    length = renderer.model.family.latent_dim
    return maps, np.stack([file_latent(0, p.stem, length) for p in paths])


def manifest(out: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def picture(out: pathlib.Path, name: str) -> np.ndarray:
    return np.array(Image.open(out / f"{name}.png"))


def test_every_map_gets_a_picture_of_its_exit(renderer, labels, routed):
    summary, _ = routed
    maps, z = inputs(renderer, labels)
    records = manifest(summary.out)
    assert [r["name"] for r in records] == sorted(p.stem for p in labels.glob("*.png"))
    exits = np.array([r["exit"] for r in records])
    assert len(set(exits)) > 1
    for number in set(exits.tolist()):
        rendered = renderer(maps, z=z, exit=number)
        for record, image in zip(records, to_uint8(rendered.images), strict=True):
            if record["exit"] == number:
                ours = picture(summary.out, record["name"])
                assert np.abs(ours.astype(int) - image).max() <= 1  # another batch size


def test_manifest_says_what_was_predicted_and_spent(renderer, labels, middle, routed):
    summary, _ = routed
    predicted = np.asarray(renderer.predict(*inputs(renderer, labels)))
    table = np.asarray(renderer.table())
    for record, expected in zip(manifest(summary.out), predicted, strict=True):
        np.testing.assert_allclose(record["predicted"], expected, atol=2e-6)
        number = record["exit"]
        assert number == 1 + next(i for i, p in enumerate(record["predicted"]) if p <= middle)
        assert record["predicted_lpips"] == record["predicted"][number - 1]
        assert record["gmacs"] == pytest.approx(table[number - 1], rel=1e-5)


def test_ragged_batches_do_not_compile_again(routed):
    summary, compiled = routed
    assert compiled == 1
    assert summary.per_second > 0


def test_the_page_shows_all_and_escapes_names(routed):
    summary, _ = routed
    text = (summary.out / "index.html").read_text()
    assert "<img src=x" not in text
    assert text.count('<figure class="card">') == 11
    for record in manifest(summary.out):
        address = urllib.parse.quote(f"{record['name']}.png")
        assert f'src="./{address}"' in text
        assert f'src="./_labels/{address}"' in text
        assert (summary.out / "_labels" / f"{record['name']}.png").is_file()
    for name in SCENES.classes():
        assert f"</i>{name}</li>" in text


def test_label_maps_on_the_page_have_the_class_colours(renderer, labels, routed):
    summary, _ = routed
    maps, _ = inputs(renderer, labels)
    expected = renderer.model.family.picture_of_inputs({"labels": maps})
    name = manifest(summary.out)[0]["name"]
    assert np.array_equal(
        np.array(Image.open(summary.out / "_labels" / f"{name}.png")), expected[0]
    )


def test_a_picture_does_not_depend_on_the_other_files(renderer, labels, middle, routed, tmp_path):
    summary, _ = routed
    together = {r["name"]: r for r in manifest(summary.out)}
    for name in (HOSTILE, "scene_10"):
        alone, out = tmp_path / f"labels-{len(name)}", tmp_path / f"out-{len(name)}"
        alone.mkdir()
        (alone / f"{name}.png").write_bytes((labels / f"{name}.png").read_bytes())
        render_folder(renderer, request(alone, out, max_lpips=middle))
        assert manifest(out) == [together[name]]
        assert (out / f"{name}.png").read_bytes() == (summary.out / f"{name}.png").read_bytes()


def test_it_can_be_run_again_with_another_seed(renderer, labels, middle, tmp_path):
    render_folder(renderer, request(labels, tmp_path, max_lpips=middle))
    first = picture(tmp_path, "scene_00")
    render_folder(renderer, request(labels, tmp_path, max_lpips=middle, seed=1))
    assert not np.array_equal(first, picture(tmp_path, "scene_00"))
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_budget_is_kept_on_average(renderer, labels, tmp_path, share):
    table = np.asarray(renderer.table())
    budget = float(table[0] + share * (table[-1] - table[0]))
    summary = render_folder(renderer, request(labels, tmp_path, budget_gmacs=budget))
    spent = np.mean([p.gmacs for p in summary.pictures])
    assert spent <= budget * (1 + 1e-6)
    assert spent > budget - (table[-1] - table[0]) / 2  # and is used
    assert sum(e.count for e in summary.exits) == 11


def test_a_budget_over_the_population_takes_each_file_by_itself(renderer, labels, tmp_path):
    rng, table = np.random.default_rng(0), np.asarray(renderer.table())
    predicted = np.asarray(renderer.predict(*inputs(renderer, labels)))[:, :-1]
    rows = predicted[rng.integers(0, 11, 160)] * rng.uniform(0.9, 1.1, (160, 1))
    found = Calibration.from_measured(rows, rows, np.repeat(np.arange(10), 16))
    calibrated = Renderer(renderer.config, renderer.model, renderer.variables, [], found)
    options = {"budget_gmacs": float(table[:2].mean()), "budget_over": "population"}
    summary = render_folder(calibrated, request(labels, tmp_path, **options))
    tau = budget_setting(found, table, options["budget_gmacs"])
    assert [p.exit for p in summary.pictures] == chosen(predicted, tau).tolist()
    assert len({p.exit for p in summary.pictures}) > 1


def test_an_impossible_budget_is_refused_first(renderer, labels, tmp_path, no_compilation):
    budget = float(renderer.table()[0]) * 0.99
    with pytest.raises(UserError, match=r"the cheapest exit costs .* Give more"):
        render_folder(renderer, request(labels, tmp_path, budget_gmacs=budget))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def no_compilation(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("compiled before everything was checked")

    for name in ("predict", "render_exit", "render_routed"):
        monkeypatch.setattr(inference, name, refuse)


def test_a_fixed_exit_needs_no_predictor(renderer, labels, tmp_path):
    bare = {k: v for k, v in renderer.variables.items() if k != "predictor"}
    without = Renderer(renderer.config, renderer.model, bare, [])
    summary = render_folder(without, request(labels, tmp_path, exit="1"))
    record = manifest(tmp_path)[0]
    assert record["exit"] == 1
    assert record["predicted_lpips"] is None
    assert record["gmacs"] == pytest.approx(renderer.model.gmacs[0], rel=1e-5)
    assert [e.count for e in summary.exits] == [11, 0, 0]


@pytest.mark.parametrize(
    ("phase", "options", "message"),
    [
        ("predictor", {}, "no predictor yet"),
        ("branches", {"exit": "2"}, "only --exit full"),
        (None, {"confidence": 0.9}, "needs a calibrated model"),
        (None, {"max_lpips": 0.1, "exit": "full"}, "exactly one"),
        (None, {"seed": -1}, "seed is -1"),
        (None, {"batch_size": 0}, "batch-size is 0"),
        (None, {"size": "big"}, "size is 'big'"),
    ],
)
def test_impossible_requests(renderer, labels, tmp_path, no_compilation, phase, options, message):
    variables = {k: v for k, v in renderer.variables.items() if k != phase}
    with pytest.raises(UserError, match=message):
        render_folder(
            Renderer(renderer.config, renderer.model, variables, []),
            request(labels, tmp_path, **options),
        )


def test_maps_of_another_size_are_fitted_and_it_is_said_once(renderer, tmp_path, capsys):
    labels, out = tmp_path / "labels", tmp_path / "out"
    labels.mkdir()
    for i, size in enumerate([SIZE, (48, 64), (40, 33)]):
        save(labels / f"{i}.png", i, size)
    render_folder(renderer, request(labels, out, exit="1"))
    assert all(picture(out, str(i)).shape == (*SIZE, 3) for i in range(3))
    output = capsys.readouterr().out
    assert output.count("resized by nearest") == 1
    assert "2 of 3 label maps are not 32x32" in output
    assert output.count("compiling") == 1


def test_native_size_renders_maps_as_they_are(renderer, tmp_path, capsys):
    labels, out = tmp_path / "labels", tmp_path / "out"
    labels.mkdir()
    sizes = [SIZE, (32, 48), SIZE]
    for i, size in enumerate(sizes):
        save(labels / f"{i}.png", i, size)
    # A budget goes to all sizes as the same share of full.
    costs = np.array([renderer.gmacs(size) for size in sizes])
    mean = costs.mean(0) + renderer.model.predictor_gmacs() * 1.5
    budget = float(mean[1])
    summary = render_folder(renderer, request(labels, out, budget_gmacs=budget, size="native"))
    assert "resized" not in capsys.readouterr().out
    for i, (p, size) in enumerate(zip(summary.pictures, sizes, strict=True)):
        assert picture(out, str(i)).shape == (*size, 3)
        assert p.full_gmacs == pytest.approx(costs[i, -1])
        assert costs[i, p.exit - 1] < p.gmacs < 1.05 * costs[i, p.exit - 1]
    assert np.mean([p.gmacs for p in summary.pictures]) <= budget
    assert summary.exits[-1].gmacs == pytest.approx(costs[:, -1].mean(), rel=0.05)


def test_native_sizes_that_cannot_be_rendered_are_all_named(renderer, tmp_path, no_compilation):
    for name, size in {"good": SIZE, "odd": (33, 40), "wide": (32, 36)}.items():
        save(tmp_path / f"{name}.png", 0, size)
    asked = request(tmp_path, tmp_path / "out", size="native", strict=True)
    with pytest.raises(UserError, match=r"divisible by 8") as error:
        render_folder(renderer, asked)
    assert "odd.png: is 33x40" in str(error.value)
    assert "wide.png: is 32x36" in str(error.value)
    assert "good.png" not in str(error.value)


def test_label_maps_are_never_overwritten(renderer, labels, tmp_path, no_compilation):
    with pytest.raises(UserError, match="would be overwritten"):
        render_folder(renderer, request(labels, labels / ".." / labels.name))
    (tmp_path / "_labels").mkdir()
    save(tmp_path / "_labels" / "a.png", 0)
    with pytest.raises(UserError, match="would be overwritten"):
        render_folder(renderer, request(tmp_path / "_labels", tmp_path))


def test_two_files_for_one_picture(renderer, tmp_path, no_compilation):
    save(tmp_path / "a.png", 0)
    save(tmp_path / "a.PNG", 1)
    with pytest.raises(UserError, match=r"same name but for the ending: a\."):
        render_folder(renderer, request(tmp_path, tmp_path / "out"))


def test_padding_is_idle_and_changes_nothing(renderer, labels):
    """The renderer gives padding the exit after the last; dispatch runs nothing for it."""
    maps, z = inputs(renderer, labels)
    checked = {**renderer.model.family.check_inputs(maps[:BATCH]), "z": jnp.asarray(z[:BATCH])}
    for mix in ([1, 3, 2, 1], [3, 3, 3, 3], [2, 1, 1, 2]):
        exits = jnp.asarray(mix, jnp.int32)
        whole, _ = rendering.render_routed(
            renderer.model, renderer.variables, checked, exits, exact=True
        )
        for count in (1, 2, 3):
            padded = exits.at[count:].set(renderer.model.num_exits + 1)
            images, ran = rendering.render_routed(
                renderer.model, renderer.variables, checked, padded, exact=True
            )
            assert np.array_equal(images[:count], whole[:count])
            assert ran[:count].tolist() == mix[:count]


def test_the_default_policy_is_said():
    plain = Request("m", pathlib.Path("l"), pathlib.Path("o"))
    assert plain.policy == "max_lpips 0.1"
    assert dataclasses.replace(plain, exit="full").policy == "exit full"
    budget = dataclasses.replace(plain, budget_gmacs=20.0)
    assert budget.policy == "budget 20 GMACs"
    budget = dataclasses.replace(budget, budget_over="population")
    assert budget.policy == "budget 20 GMACs over the population"
    promise = dataclasses.replace(plain, confidence=0.9)
    assert promise.policy == "max_lpips 0.1 at confidence 0.9"
    assert dataclasses.replace(plain, exit="2").choice.exit == 2
