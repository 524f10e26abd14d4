"""Batches: right values, every element once per epoch, resumable, disjoint between hosts."""

import itertools
import json

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiancee_jax.data import Augment, Cached, Landscapes, batches, collate, epoch
from fiancee_jax.errors import UserError


class Numbers:
    """Element i is a 2x2 map of the number i; counts its reads."""

    def __init__(self, count):
        self.count, self.reads = count, 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.reads += 1
        return {"name": f"n{index}", "labels": np.full((2, 2), index, np.uint8)}


def ids(batch):
    return batch.inputs["labels"][:, 0, 0].tolist()


def stream(count, batch_size=1, **options):
    options = {"seed": 0, "threads": 0, "keys": ["labels"], **options}
    return batches(Numbers(count), size=(2, 2), batch_size=batch_size, **options)


def test_collate_turns_bytes_into_network_inputs():
    image = np.array([[[0, 51, 255], [102, 0, 0]]], np.uint8)
    element = {
        "name": "a",
        "labels": np.array([[3, 4]], np.uint8),
        "image": image,
        "latent": np.arange(2, dtype=np.float32),
    }
    batch = collate([element, element], ["labels"])
    assert batch.inputs["labels"].dtype == np.int32
    assert batch.inputs["labels"].shape == (2, 1, 2)
    assert batch.target is not None
    assert batch.target.dtype == np.float32
    np.testing.assert_allclose(batch.target[0, 0, 0], [-1, -0.6, 1], atol=1e-6)
    assert batch.latent is not None
    np.testing.assert_array_equal(batch.latent, [[0, 1], [0, 1]])


def test_collate_takes_other_inputs_too():
    source = np.full((2, 2, 3), 255, np.uint8)
    batch = collate([{"source": source, "pose": np.zeros(3)}], keys=("source", "pose"))
    assert batch.target is None
    assert batch.latent is None
    np.testing.assert_array_equal(batch.inputs["source"], np.ones((1, 2, 2, 3)))
    assert batch.inputs["pose"].dtype == np.float32


def test_collate_takes_several_pictures_and_numbers():
    frames = np.array([[[[0, 51, 255]]], [[[255, 0, 102]]]], np.uint8)  # [k, h, w, 3]
    element = {"name": "a", "own": frames, "pose": np.arange(3, dtype=np.float32)}
    inputs = collate([element, element], ["own", "pose"]).inputs
    assert inputs["own"].shape == (2, 2, 1, 1, 3)
    np.testing.assert_allclose(inputs["own"][1, 1, 0, 0], [1, -1, -0.2], atol=1e-6)
    np.testing.assert_array_equal(inputs["pose"], [[0, 1, 2], [0, 1, 2]])


def test_training_batches_of_landscapes():
    source = Landscapes(train=8).open("train", (32, 48))
    options = {"keys": ["labels"], "augment": Augment()}
    batch = next(batches(source, size=(16, 16), batch_size=3, seed=1, **options))
    assert batch.inputs["labels"].shape == (3, 16, 16)
    assert batch.target is not None
    assert batch.target.shape == (3, 16, 16, 3)
    assert -1 <= batch.target.min() < batch.target.max() <= 1
    assert batch.latent is not None
    assert batch.latent.shape == (3, 8)


def test_every_epoch_has_every_element_in_another_order():
    seen = list(itertools.chain(*(ids(b) for b in itertools.islice(stream(12, 4), 9))))
    epochs = [seen[:12], seen[12:24], seen[24:]]
    assert all(sorted(order) == list(range(12)) for order in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert epochs[0] != list(range(12))


def test_the_seed_decides_the_order():
    first, again, other = (
        [ids(b) for b in itertools.islice(stream(12, 4, seed=seed), 6)] for seed in (5, 5, 6)
    )
    assert first == again != other


def test_batches_run_across_the_end_of_an_epoch():
    seen = [ids(b) for b in itertools.islice(stream(3, 5), 3)]
    assert [len(b) for b in seen] == [5, 5, 5]
    flat = list(itertools.chain(*seen))
    assert all(sorted(flat[i : i + 3]) == [0, 1, 2] for i in range(0, 15, 3))


def test_one_epoch_in_order_with_or_without_the_rest():
    plain = {"shuffle": False, "repeat": False}
    assert [ids(b) for b in stream(5, 2, **plain)] == [[0, 1], [2, 3]]
    rest = [ids(b) for b in stream(5, 2, drop_remainder=False, **plain)]
    assert rest == [[0, 1], [2, 3], [4]]


def test_an_epoch_has_names():
    got = list(epoch(Numbers(5), (2, 2), 2, keys=["labels"]))
    assert [names for names, _ in got] == [["n0", "n1"], ["n2", "n3"], ["n4"]]
    assert [ids(batch) for _, batch in got] == [[0, 1], [2, 3], [4]]


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 20), st.integers(1, 4), st.integers(0, 99))
def test_hosts_cover_each_epoch_without_overlap(count, hosts, seed):
    streams = [stream(count, seed=seed, shard=(k, hosts)) for k in range(hosts)]
    seen = [ids(next(streams[i % hosts]))[0] for i in range(2 * count)]
    assert sorted(seen[:count]) == sorted(seen[count:]) == list(range(count))


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_side_by_side_have_the_batches_of_one(hosts):
    source = Landscapes(train=7).open("train", (16, 24))
    options = {"size": (16, 16), "seed": 3, "keys": ["labels"], "augment": Augment(min_scale=0.5)}
    one = batches(source, batch_size=4, **options)
    parts = [
        batches(source, batch_size=4 // hosts, shard=(k, hosts), **options) for k in range(hosts)
    ]
    for _ in range(3):
        together = jax.tree.map(lambda *x: np.concatenate(x), *map(next, parts))
        jax.tree.map(np.testing.assert_array_equal, together, next(one))
    for part in parts:
        part.set_state(one.get_state())  # as saved by another number of hosts
    together = jax.tree.map(lambda *x: np.concatenate(x), *map(next, parts))
    jax.tree.map(np.testing.assert_array_equal, together, next(one))


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 11), st.integers(1, 4))
def test_hosts_cover_an_evaluation_without_overlap(count, hosts):
    hosts = min(hosts, count)
    seen = [
        name
        for k in range(hosts)
        for names, _ in epoch(
            Numbers(count), (2, 2), 2, keys=["labels"], shard=(k, hosts), threads=0
        )
        for name in names
    ]
    assert sorted(seen) == sorted(f"n{i}" for i in range(count))


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("steps", [0, 1, 7])
def test_resuming_continues_identically(threads, steps):
    source = Landscapes(train=6).open("train", (16, 24))

    def start():
        return batches(
            source,
            size=(16, 16),
            batch_size=4,
            seed=3,
            keys=["labels"],
            augment=Augment(min_scale=0.5),
            shard=(1, 2),
            threads=threads,
        )

    whole = start()
    for _ in range(steps):
        next(whole)
    state = json.loads(json.dumps(whole.get_state()))
    expected = [next(whole) for _ in range(3)]
    resumed = start()
    resumed.set_state(state)
    for want in expected:
        got = next(resumed)
        np.testing.assert_array_equal(got.target, want.target)
        np.testing.assert_array_equal(got.inputs["labels"], want.inputs["labels"])
        np.testing.assert_array_equal(got.latent, want.latent)


def test_augmentation_differs_between_epochs():
    source = Landscapes(train=1).open("train", (16, 24))
    options = Augment(min_scale=0.5)
    stream = batches(
        source, size=(16, 16), batch_size=1, seed=0, keys=[], augment=options, threads=0
    )
    pictures = [np.asarray(next(stream).target) for _ in range(4)]
    assert all(not np.array_equal(a, b) for a, b in itertools.combinations(pictures, 2))


def test_threads_change_nothing():
    alone, threaded = (stream(9, 2, threads=t) for t in (0, 3))
    for _ in range(10):
        assert ids(next(alone)) == ids(next(threaded))


def test_a_cache_reads_once_and_keeps_to_its_cap():
    numbers = Numbers(10)
    cached = Cached(numbers, max_bytes=4 * 7)  # room for seven maps of four bytes
    for _ in range(3):
        assert [int(cached[i]["labels"][0, 0]) for i in range(10)] == list(range(10))
    assert len(cached) == 10
    assert numbers.reads == 7 + 3 * 3
    with pytest.raises(ValueError, match="read-only"):
        cached[0]["labels"][0, 0] = 9


def test_a_cache_gives_the_same_batches():
    source = Landscapes(train=5).open("train", (16, 16))
    options = {"size": (8, 8), "batch_size": 4, "seed": 0, "keys": []}
    options["augment"] = Augment(min_scale=0.6)
    plain, cached = batches(source, **options), batches(Cached(source), **options)
    for _ in range(4):
        np.testing.assert_array_equal(next(plain).target, next(cached).target)


def test_a_mistake_in_an_element_reaches_the_caller():
    class Broken(Numbers):
        def __getitem__(self, index):
            raise UserError(f"element {index} is broken")

    with pytest.raises(UserError, match="element 0 is broken"):
        list(epoch(Broken(3), (2, 2), 1, keys=["labels"]))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"batch_size": 0}, "batch_size 0.*at least 1"),
        ({"seed": -1}, "seed -1.*from 0 to 4294967295"),
        ({"shard": (2, 2)}, "shard 2 of 2.*below the count"),
        ({"batch_size": 4, "repeat": False}, "Found 3 elements.*at least 4.*smaller batch"),
        ({"repeat": False, "shard": (3, 4)}, r"Found 0 elements for this host \(3 in all"),
    ],
)
def test_numbers_that_make_no_sense_are_named(options, expected):
    with pytest.raises(UserError, match=expected):
        stream(3, **options)


def test_an_empty_source_is_named():
    with pytest.raises(UserError, match="Found 0 elements"):
        stream(0)
