"""Training steps compiled and not run, with CPU devices for chips."""

import dataclasses

import jax
import pytest
from tiny import tiny_config, tiny_renderer, tiny_workdir

import fiancee_jax as fj
from fiancee_jax.accelerators import CHIPS, Topology
from fiancee_jax.config import BackbonePhase, BranchesPhase, Exit
from fiancee_jax.exits import MultiExit
from fiancee_jax.training import compile_only
from fiancee_jax.training.arguments import parse


@pytest.fixture(scope="module")
def two():
    mesh = jax.make_mesh(
        (2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2]
    )
    return Topology("cpu", CHIPS["v5e"], mesh)


def config(**phase):
    fused = {"batch_size": 4, "step": "fused", "own_latent": 0.0, **phase}
    return tiny_config(
        exits=((1, 0.5),),
        backbone=BackbonePhase(**fused),
        branches=BranchesPhase(batch_size=4, lpips_net="alex"),
    )


def test_a_backbone_step_and_its_collectives(two):
    (found,) = compile_only.steps(config(), ["guides", "backbone"], two)
    assert (found.name, found.pictures, found.refused) == ("backbone step, float32", 2, "")
    assert found.flops is not None
    assert found.aliased > 0  # the state is donated
    # gradients of all weights of G and D are summed over the chips
    state = compile_only._backbone_state(MultiExit.of(config()), config())
    gradients = sum(x.size * 4 for k in ("params", "d_params") for x in jax.tree.leaves(state[k]))
    assert found.collectives["all-reduce"].bytes >= gradients


def test_a_branches_step(two):
    (found,) = compile_only.steps(config(), ["branches"], two)
    assert found.name == "branches step, float32"
    assert found.collectives["all-reduce"].count > 0
    assert found.flops is not None


def test_branches_are_updated_one_after_the_other(two):
    # else a compiler may hold the activations of all of them at once
    several = dataclasses.replace(config(), exits=(Exit(1, 0.5), Exit(2, 0.5), Exit(1, 0.25)))
    step, args = compile_only.branches_step(several, two)
    assert step.lower(*args).as_text().count("optimization_barrier") == 3


def test_a_router_is_part_of_the_branches_step(two, tmp_path):
    tiny_workdir(tmp_path, tiny_renderer(exits=((1, 0.5),)))
    phase = dataclasses.replace(config().branches, router=str(tmp_path), steps=9_999_999)
    step, args = compile_only.branches_step(dataclasses.replace(config(), branches=phase), two)
    assert "router" in args[1]
    assert "stablehlo.sort" in step.lower(*args).as_text()  # inputs in the order of their gain


def test_shapes_of_the_states_match_the_training_ones(two):
    changed = dataclasses.replace(
        config(own_latent=1.0), branches=BranchesPhase(batch_size=4, adversarial=0.1)
    )
    _, (state, batch, key, net) = compile_only.backbone_step(changed, two)
    assert batch.target.shape == (4, 32, 32, 3)
    assert batch.latent.shape == (4, 4)
    assert net is not None
    assert jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key)
    _, (branches, *_) = compile_only.branches_step(changed, two)
    assert jax.tree.structure(branches["d_params"]) == jax.tree.structure(state["d_params"])


def test_a_steps_name_says_its_settings():
    phase = BackbonePhase(precision="bfloat16", accumulate=2, remat=True)
    assert (
        compile_only.described("backbone", phase) == "backbone step, bfloat16, accumulate 2, remat"
    )
    assert compile_only.described("branches", BranchesPhase()) == "branches step, float32"


def test_mistakes_are_found_before_anything_compiles(two):
    with pytest.raises(
        fj.UserError, match=r"\(guides, predictor\).*Choose from backbone, branches"
    ):
        compile_only.steps(config(), ["guides", "predictor"], two)
    with pytest.raises(
        fj.UserError, match=r"cannot be split over 2 devices\. Take a multiple of 2"
    ):
        compile_only.steps(config(batch_size=3), ["backbone"], two)
    with pytest.raises(fj.UserError, match=r"cannot be split into backbone\.accumulate = 3"):
        compile_only.steps(config(accumulate=3), ["backbone"], two)


def test_compile_only_asks_for_no_workdir():
    a = parse(["quickstart", "--compile-only", "v5e:2x2", "--backbone.batch-size", "8"])
    assert (a.compile_only, a.config.backbone.batch_size) == ("v5e:2x2", 8)
    assert parse(["quickstart", "--workdir", "w"]).compile_only == ""
    with pytest.raises(fj.UserError, match="no topology 'v5e'"):
        compile_only.compile_only(a.config, a.phases, "v5e")
