"""Malformed files: read, or refused in one clear message. The long form: benchmarks/hostile.py."""

import pathlib
import random

import pytest
from tiny import tiny_renderer, tiny_workdir

from benchmarks.hostile import KINDS, attempt, box_kind, checkpoint_kind
from benchmarks.mutants import mutated

pytestmark = pytest.mark.filterwarnings("default")  # Pillow warns of what it then refuses

# Seeds that found bugs: JSON nested too deep, twice; a zip archive of another version; a width
# that is no number, twice; a pickle that asks for a memo of 3 GB.
FOUND = [("class list", 25), ("class list", 182), ("config", 192), ("weights", 353)]
FOUND += [("config", 5442), ("config", 5614), ("weights", 7227)]


@pytest.mark.parametrize("name", KINDS)
def test_mutants_are_read_or_refused(name, tmp_path):
    outcomes = {attempt(name, KINDS[name], seed, tmp_path) for seed in range(1000, 1025)}
    assert "refused" in outcomes


@pytest.mark.parametrize(("name", "seed"), FOUND)
def test_seeds_that_found_bugs(name, seed, tmp_path):
    assert attempt(name, KINDS[name], seed, tmp_path) == "refused"


@pytest.mark.slow
def test_mutated_checkpoints(tmp_path):
    (tmp_path / "model").mkdir()
    tiny_workdir(tmp_path / "model", tiny_renderer())
    kind = checkpoint_kind(tmp_path / "model")
    (tmp_path / "mutants").mkdir()
    for seed in range(20):
        attempt("checkpoint", kind, seed, tmp_path / "mutants")


def test_mutated_boxes(tmp_path):
    (tmp_path / "model").mkdir()
    tiny_workdir(tmp_path / "model", tiny_renderer())
    kind = box_kind(tmp_path / "model")
    (tmp_path / "mutants").mkdir()
    outcomes = {attempt("box", kind, seed, tmp_path / "mutants") for seed in range(12)}
    assert "refused" in outcomes
    attempt("box", kind, 444, tmp_path / "mutants")  # a tap that is no whole number


def test_the_harness_sees_what_readers_let_through(tmp_path):
    def writes(path: pathlib.Path) -> None:
        (path.parent / "more").touch()

    def fails(path: pathlib.Path) -> None:
        raise KeyError(path)

    kind = KINDS["picture"]
    with pytest.raises(AssertionError, match="wrote"):
        attempt("picture", type(kind)(kind.place, writes), 0, tmp_path)
    with pytest.raises(KeyError):
        attempt("picture", type(kind)(kind.place, fails), 0, tmp_path)


def test_a_seed_always_makes_the_same_mutant():
    data = bytes(range(200))
    found = [[mutated(data, random.Random(seed)) for seed in range(50)] for _ in range(2)]
    assert found[0] == found[1]
    assert sum(mutant != data for mutant in found[0]) > 40
