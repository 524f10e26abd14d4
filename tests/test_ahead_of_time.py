"""Programs compiled and not run: CPU devices stand in for the chips; one test asks libtpu."""

import dataclasses
import importlib.util
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from tiny import tiny_config

from fiancee_jax import ahead_of_time
from fiancee_jax.accelerators import CHIPS, Topology
from fiancee_jax.ahead_of_time import Program
from fiancee_jax.collectives import Traffic
from fiancee_jax.exits import MultiExit


@pytest.fixture(scope="module")
def four():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    return Topology("cpu", CHIPS["v5e"], mesh)


@pytest.fixture(scope="module")
def tiny():
    return MultiExit.of(tiny_config())


def sizes(tree):
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def test_exits_of_a_label_map_model(four, tiny):
    found = list(ahead_of_time.exits(tiny, four, 2, "bfloat16"))
    assert [p.name for p in found] == [*(e.name for e in tiny.exits), "backbone"]
    height, width = tiny.family.size
    for program, gmacs in zip(found, tiny.gmacs, strict=True):
        assert (program.pictures, program.refused, program.loops) == (2, "", 0)
        assert program.flops == pytest.approx(2 * 2e9 * gmacs)
        assert program.outputs == 2 * height * width * 3 * 4  # float32, of this chip alone
        assert program.hbm >= program.arguments + program.outputs + program.temporaries > 0
    assert found[-1].collectives == {}
    # a chip holds all weights of the exit and its own share of the label maps and z
    weights = sizes(ahead_of_time.exit_shapes(tiny, None))
    inputs = sizes(tiny.family.abstract_inputs(2))
    assert found[-1].arguments == pytest.approx(weights + inputs, rel=0.02)


def test_the_label_sparse_path_has_loops_and_no_count(four, tiny):
    sparse = dataclasses.replace(tiny, sparse=True, exits=())
    (found,) = ahead_of_time.exits(sparse, four, 1, "bfloat16")
    assert (found.flops, found.compiler_flops, found.refused) == (None, None, "")
    assert found.loops > 0
    assert found.collectives == {}  # every chip finds the patterns of its own label maps


def test_a_matrix_product_by_hand(four):
    x = four.split({"x": jax.ShapeDtypeStruct((8, 64), jnp.float32)})
    w = four.replicated(jax.ShapeDtypeStruct((64, 32), jnp.float32))

    def step(x, w):
        return jnp.sum(x["x"] @ w, axis=0)

    flops = ahead_of_time.counted(step, four, x, w)
    assert flops == 2 * 8 * 64 * 32 / 4
    found = ahead_of_time.program("product", 2, flops, jax.jit(step), x, w)
    assert (found.arguments, found.outputs) == (2 * 64 * 4 + 64 * 32 * 4, 32 * 4)
    assert found.collectives == {"all-reduce": Traffic(1, 32 * 4)}
    assert found.compiler_flops is not None
    assert found.compiler_flops >= 2 * 8 * 64 * 32 / 4


def test_a_donated_argument_is_counted_once(four):
    x = four.split(jax.ShapeDtypeStruct((8, 64), jnp.float32))
    found = ahead_of_time.program("add", 2, 0.0, jax.jit(lambda x: x + 1, donate_argnums=0), x)
    assert found.aliased == found.outputs == 2 * 64 * 4
    assert found.hbm == found.arguments + found.temporaries + found.code


def test_choices_and_loops_are_said(four):
    x = four.replicated(jax.ShapeDtypeStruct((16, 16), jnp.float32))

    def chooses(x):
        return jax.lax.cond(x[0, 0] > 0, lambda x: x @ x, lambda x: x + 1, x)

    def loops(x):
        return jax.lax.while_loop(lambda x: x[0, 0] > 0, lambda x: x @ x, x)

    assert ahead_of_time.counted(chooses, four, x) is None
    assert ahead_of_time.program("c", 1, None, jax.jit(chooses), x).compiler_flops is None
    assert ahead_of_time.counted(loops, four, x) is None
    assert ahead_of_time.program("l", 1, None, jax.jit(loops), x).loops >= 1


class TooLarge:
    """A jitted function that the compiler refuses."""

    def __init__(self, message):
        self.message = message

    def lower(self, *args):
        return self

    def compile(self):
        raise jax.errors.JaxRuntimeError(self.message)


def test_what_does_not_fit_is_a_row_and_other_errors_are_errors(capsys, four):
    said = (
        "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space "
        "hbm. Used 24.02G of 15.75G hbm. Exceeded hbm capacity by 8.27G.\n\nLargest: ..."
    )
    found = ahead_of_time.program("step", 8, 1e12, TooLarge(said))
    assert found.refused == "Used 24.02G of 15.75G hbm"
    ahead_of_time.show("Steps", four, [found])
    assert "Used 24.02G of 15.75G hbm" in capsys.readouterr().out.splitlines()[-1]
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        ahead_of_time.program("step", 8, 1e12, TooLarge("INTERNAL: a bug"))


def test_the_table(capsys, four):
    found = Program(
        "step",
        pictures=5,
        flops=197e9,
        arguments=2**30,
        outputs=2**29 + 2**28,
        aliased=2**29,
        temporaries=2**31,
        compiler_flops=None,
        accessed=819e7,
        loops=1,
        collectives={"all-reduce": Traffic(3, 2_500_000)},
    )
    # 1.75 GiB of arguments and outputs at 819 GB/s, or 8.19 GB; 197 GFLOPs take 1 ms
    assert found.least_seconds(four.chip) == pytest.approx(1.75 * 2**30 / 819e9)
    assert found.seconds(four.chip) == (pytest.approx(1e-2), "memory")
    ahead_of_time.show("Steps", four, [found])
    title, head, row, note = capsys.readouterr().out.splitlines()[-4:]
    assert title == (
        "Steps: one of 4 chips, cpu (16 GB HBM at 819 GB/s, 197 TFLOP/s). Compiled, not run."
    )
    assert head.split()[:3] == ["program", "pictures", "arguments"]
    cells = ["step", "5", "1.000", "0.250", "2.000", "3.250", "197", "-*", "8.19*", "2.29", "10.0*"]
    assert row.split() == [*cells, "memory", "3", "all-reduce", "0.00250", "GB"]
    assert note.startswith("*:")


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="compiling for a TPU that is not there needs libtpu (requirements-tpu.txt)",
)
def test_the_command_with_libtpu(tmp_path):
    # In a process of its own: libtpu is loaded for good, and reads its environment only once.
    code = (
        "from fiancee_jax.__main__ import main; "
        "main(['cost', 'dcgan', '--topology', 'v5e:2x2', '--per-chip', '1', '--phases', "
        "'backbone'])"
    )
    environment = {**os.environ, "XLA_FLAGS": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Exits in bfloat16: one of 4 chips, v5e:2x2" in done.stdout
    step = next(line for line in done.stdout.splitlines() if line.startswith("backbone step"))
    assert "all-reduce" in step
    assert not list(tmp_path.iterdir())
