"""Programs compiled for chips that are not there: memory, communication, bounds on time.

Nothing is run, so nothing here is a measurement. All figures are those of one chip.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
from jax.sharding import PartitionSpec as P

from fiancee_jax import cli
from fiancee_jax import cost as costs
from fiancee_jax.accelerators import Chip, Topology
from fiancee_jax.collectives import Traffic, traffic
from fiancee_jax.config import Exit
from fiancee_jax.exits import MultiExit, Variables
from fiancee_jax.phases import Precision
from fiancee_jax.report import figures
from fiancee_jax.routing.dealing import AXIS, on_each

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Program:
    """What a compiled program asks of one chip.

    Attributes:
        name: what it computes.
        pictures: in one call, on this chip.
        flops: our own count (1 MAC = 2), exact for convolutions and products; None where the
            program chooses between work of different cost.
        arguments, outputs, aliased, temporaries, code: bytes of its memory (HBM); outputs in the
            place of arguments are aliased.
        compiler_flops: the compiler's count; None where the program chooses.
        accessed: bytes of all operands and results of all instructions, as the compiler counts.
        loops: while loops, whose bodies `compiler_flops`, `accessed` and `collectives` hold once.
        collectives: by kind.
        refused: what the compiler said where the program does not fit; all else is 0 then.
    """

    name: str
    pictures: int
    flops: float | None
    arguments: int = 0
    outputs: int = 0
    aliased: int = 0
    temporaries: int = 0
    code: int = 0
    compiler_flops: float | None = None
    accessed: float = 0.0
    loops: int = 0
    collectives: Mapping[str, Traffic] = dataclasses.field(default_factory=dict)
    refused: str = ""

    @property
    def hbm(self) -> int:
        """Bytes that it needs in all."""
        return self.arguments + self.outputs - self.aliased + self.temporaries + self.code

    def least_seconds(self, chip: Chip) -> float:
        """About the least: its FLOPs at peak rate; arguments and outputs through memory once."""
        return chip.seconds(self._flops, self.arguments + self.outputs)[0]

    def seconds(self, chip: Chip) -> tuple[float, str]:
        """The roofline of FLOPs and bytes accessed, and what binds it.

        No lower bound: the compiler counts accesses to what it keeps on the chip as well.
        """
        return chip.seconds(self._flops, self.accessed)

    @property
    def _flops(self) -> float:
        return self.flops or self.compiler_flops or 0.0


# --- compiling ----------------------------------------------------------------------------------
def exits(
    model: MultiExit, topology: Topology, per_chip: int, precision: Precision
) -> Iterator[Program]:
    """The programs of exits 1..n, one after the other: pictures from inputs and variables.

    Args:
        model: networks; their weights are not needed. If they are `sparse` there are no FLOPs to
            tell: those depend on the label maps.
        topology: what to compile for. Variables lie on every chip, the batch is split.
        per_chip: pictures of each chip.
        precision: of the computation.
    """
    model = dataclasses.replace(model, dtype=precision)
    inputs = topology.split(model.family.abstract_inputs(per_chip * topology.chips))
    for number, exit in enumerate((*model.exits, None), start=1):
        picture = functools.partial(model.picture, number=number)
        picture = jax.jit(on_each(picture, topology.mesh, (P(), P(AXIS))))
        name = exit.name if exit else "backbone"
        variables = topology.replicated(exit_shapes(model, exit))
        flops = None if model.sparse else 2e9 * model.gmacs[number - 1] * per_chip
        yield program(name, per_chip, flops, picture, variables, inputs)


def exit_shapes(model: MultiExit, exit: Exit | None) -> Variables:
    """Shapes of the variables that one exit uses; None is the backbone."""
    variables, _ = model._abstract
    if exit is None:
        return {"backbone": variables["backbone"]}
    return {**variables, "branches": {exit.name: model.branch_shapes(exit)}}


def counted(step: Callable[..., Any], topology: Topology, *args: Any) -> float | None:
    """FLOPs of one chip in one call of a step that the chips share; None where it chooses."""
    try:
        return 2e9 * costs.gmacs(step, *args) / topology.chips
    except ValueError:
        return None


def program(name: str, pictures: int, flops: float | None, jitted: Any, *args: Any) -> Program:
    """Compiles a jitted function for the devices that its arguments' shapes name.

    Args:
        name, pictures, flops: see `Program`.
        jitted: what `jax.jit` returned.
        *args: pytrees of `jax.ShapeDtypeStruct` with shardings.
    """
    try:
        compiled = jitted.lower(*args).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return Program(name, pictures, flops, refused=_overflow(str(error)))
    return Program(name, pictures, flops, **_memory(compiled), **_work(compiled))


def _memory(compiled: Any) -> dict[str, int]:
    found = compiled.memory_analysis()
    return {
        "arguments": found.argument_size_in_bytes,
        "outputs": found.output_size_in_bytes,
        "aliased": found.alias_size_in_bytes,
        "temporaries": found.temp_size_in_bytes,
        "code": found.generated_code_size_in_bytes,
    }


def _work(compiled: Any) -> dict[str, Any]:
    text, found = compiled.as_text(), compiled.cost_analysis()
    chooses = " conditional(" in text
    return {
        "compiler_flops": None if chooses else found.get("flops"),
        "accessed": found.get("bytes accessed", 0.0),
        "loops": text.count(" while("),
        "collectives": traffic(text),
    }


def _overflow(message: str) -> str:
    """The compiler's own sentence about memory, without its pages of buffers."""
    used = re.search(r"Used [\d.]+\w* of [\d.]+\w* hbm", message)
    return used[0] if used else message.splitlines()[0]


# --- printing -----------------------------------------------------------------------------------
def show(what: str, topology: Topology, programs: Iterable[Program]) -> list[Program]:
    """Prints a line as each program is compiled (which takes minutes), then a table of all."""
    chip = topology.chip
    title = (
        f"{what}: one of {topology.chips} chips, {topology.name} ({chip.hbm} HBM at "
        f"{chip.bandwidth / 1e9:g} GB/s, {chip.flops / 1e12:g} TFLOP/s). Compiled, not run."
    )
    done, started = [], time.monotonic()
    for found in programs:
        seconds, started = time.monotonic() - started, time.monotonic()
        print(f"compiled {found.name}, {found.pictures} a chip, in {seconds:.0f} s", flush=True)
        done.append(found)
    headers = ("program", "pictures", "arguments", "outputs", "temporaries", "HBM GiB")
    headers += ("GFLOPs", "compiler's", "GB accessed")
    headers += ("ms at least", "ms by accesses", "bound by", "collectives")
    cli.print_table(headers, [_row(found, chip) for found in done], f"\n{title}")
    if any(found.loops for found in done):
        print("*: a loop's body is counted once by the compiler; bytes and accesses are more")
    return done


def _row(found: Program, chip: Chip) -> tuple[str, ...]:
    flops = _giga(found.flops)
    if found.refused:
        return (found.name, str(found.pictures), *"----", flops, *"-----", found.refused)
    seconds, binding = found.seconds(chip)
    star = "*" * bool(found.loops)
    memory = (found.arguments, found.outputs - found.aliased, found.temporaries, found.hbm)
    return (
        found.name,
        str(found.pictures),
        *(f"{size / GIB:.3f}" for size in memory),
        flops,
        _giga(found.compiler_flops) + star,
        _giga(found.accessed) + star,
        figures(1e3 * found.least_seconds(chip)),
        figures(1e3 * seconds) + star,
        binding,
        communicated(found.collectives),
    )


def communicated(collectives: Mapping[str, Traffic]) -> str:
    """``12 all-reduce 0.301 GB``, or "none"."""
    parts = (f"{found.count} {kind} {_giga(found.bytes)} GB" for kind, found in collectives.items())
    return ", ".join(parts) or "none"


def _giga(value: float | None) -> str:
    return "-" if value is None else figures(value / 1e9)
