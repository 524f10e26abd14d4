"""Batches from a source: shuffled, augmented, sharded by host, read ahead, resumable to the bit."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import grain
import numpy as np

from fiancee_jax.data.batch import Batch, Source
from fiancee_jax.data.transforms import Augment, augment
from fiancee_jax.errors import UserError

THREADS = min(16, os.cpu_count() or 1)  # that read ahead, if not told otherwise
T = TypeVar("T")
Elements = Sequence[dict[str, Any]]


def collate(elements: Elements, keys: Sequence[str]) -> Batch:
    """Stacks elements of one size into a batch.

    Args:
        elements: of a `batch.Source`, b of them, all with the same entries.
        keys: which entries are the generator's inputs.

    Returns:
        Batch of NumPy arrays: maps [b, h, w] int32; pictures [b, h, w, 3] (and several of them
        [b, k, h, w, 3]) float32 in [-1, 1];
        the latent [b, z] float32 or None; the target (``image``) or None.
    """
    first = elements[0]
    return Batch(
        inputs={key: _stack(elements, key) for key in keys},
        target=_stack(elements, "image") if "image" in first else None,
        latent=_stack(elements, "latent") if "latent" in first else None,
    )


def _stack(elements: Elements, key: str) -> np.ndarray:
    values = np.stack([element[key] for element in elements])
    if values.dtype == np.uint8 and values.ndim >= 4:
        return values.astype(np.float32) / np.float32(127.5) - np.float32(1)
    return values.astype(np.int32 if values.dtype.kind in "iu" else np.float32)


def batches(
    source: Source,
    *,
    size: tuple[int, int],
    batch_size: int,
    seed: int,
    keys: Sequence[str],
    augment: Augment | None = None,
    shuffle: bool = True,
    repeat: bool = True,
    drop_remainder: bool = True,
    shard: tuple[int, int] = (0, 1),
    threads: int = THREADS,
) -> grain.DatasetIterator[Batch]:
    """Batches for training, the same for the same arguments on any machine.

    The order is one long stream, each epoch shuffled anew. Hosts share every batch: host k of n
    takes its k-th n-th. So their batches side by side are those of one host with n times the batch
    size, augmentation included, and a state saved by some hosts is right for any other number.

    Args:
        source: the elements; read from several threads at once.
        size: (height, width) of the pictures wanted.
        batch_size: of this host.
        seed: of order and augmentation, 0 or more.
        keys: entries that are the generator's inputs, see `collate`.
        augment: random changes, or None.
        shuffle: False keeps the source's order.
        repeat: False stops after one epoch.
        drop_remainder: False lets a last batch be smaller (only without repeat is there one).
        shard: (index, count) of this host.
        threads: that read ahead; 0 reads when asked.

    Returns:
        An iterator of `Batch`. Its `get_state()` is a small dict fit for JSON; `set_state(state)`
        on a new iterator with the same arguments continues exactly there.

    Raises:
        UserError: a number makes no sense, or there is not one batch.
    """
    _check(source, batch_size, seed, shard, repeat, drop_remainder)
    data = _elements(source, size, augment, seed, shuffle, repeat, (*shard, batch_size))
    data = data.batch(
        batch_size,
        drop_remainder=drop_remainder,
        batch_fn=functools.partial(collate, keys=tuple(keys)),
    )
    return iter(data.to_iter_dataset(_ahead(threads)))


def epoch(
    source: Source,
    size: tuple[int, int],
    batch_size: int,
    *,
    keys: Sequence[str],
    shard: tuple[int, int] = (0, 1),
    threads: int = THREADS,
) -> Iterator[tuple[list[str], Batch]]:
    """Every element once, in order, with its name; the last batch may be smaller.

    Args:
        source, size, batch_size, keys, shard, threads: see `batches`.

    Yields:
        The names (b of them) and the `Batch`.

    Raises:
        UserError: a number makes no sense.
    """
    _check(source, batch_size, 0, shard, False, False)
    data = _elements(source, size, None, 0, False, False, (*shard, batch_size))
    yield from data.batch(batch_size, batch_fn=_named(keys)).to_iter_dataset(_ahead(threads))


class Cached:
    """A source that keeps what it has read, up to a cap; after that it reads anew.

    Worth it for small data sets, which are read many times: decoding costs more than cropping.
    Threads may share it.
    """

    def __init__(self, source: Source, max_bytes: int = 2**29):
        """Wraps `source`; max_bytes counts the arrays' bytes (default 512 MiB)."""
        self._source, self._left = source, max_bytes
        self._kept: dict[int, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The element; its arrays are read-only once kept."""
        if index in self._kept:
            return self._kept[index]
        element = self._source[index]
        arrays = [value for value in element.values() if isinstance(value, np.ndarray)]
        cost = sum(value.nbytes for value in arrays)
        with self._lock:
            if index not in self._kept and cost <= self._left:
                for value in arrays:
                    value.setflags(write=False)
                self._kept[index] = element
                self._left -= cost
        return element


def _named(keys: Sequence[str]) -> Callable[[Elements], tuple[list[str], Batch]]:
    return lambda elements: ([e["name"] for e in elements], collate(elements, keys))


def _elements(
    source: Source,
    size: tuple[int, int],
    options: Augment | None,
    seed: int,
    shuffle: bool,
    repeat: bool,
    share: tuple[int, int, int],
) -> grain.MapDataset[dict[str, Any]]:
    """The stream of one host's elements, brought to size; `share` is as of `_Share`."""
    data = grain.MapDataset.source(source).seed(seed)
    data = data.shuffle() if shuffle else data
    data = data.repeat() if repeat else data
    if options is None:
        data = data.map(lambda element: augment(element, None, size))
    else:
        data = data.random_map(lambda element, rng: augment(element, rng, size, options))
    return data if share[1] == 1 else grain.MapDataset.source(_Share(data, *share))


class _Share:
    """One host's part of every batch of a stream; elements of a last, ragged one take turns."""

    def __init__(self, data: Any, host: int, hosts: int, size: int) -> None:
        """`size` is of each host's part."""
        self._data, self._host, self._hosts, self._size = data, host, hosts, size

    def __len__(self) -> int:
        whole, rest = divmod(len(self._data), self._hosts * self._size)
        return whole * self._size + len(range(self._host, rest, self._hosts))

    def __getitem__(self, index: int) -> Any:
        batch, place = divmod(index, self._size)
        first, whole = batch * self._hosts * self._size, self._hosts * self._size
        if first + whole > len(self._data):
            return self._data[first + place * self._hosts + self._host]
        return self._data[first + self._host * self._size + place]


def _ahead(threads: int) -> grain.ReadOptions:
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)


def _check(
    source: Source,
    batch_size: int,
    seed: int,
    shard: tuple[int, int],
    repeat: bool,
    drop_remainder: bool,
) -> None:
    index, count = shard
    if batch_size < 1 or not 0 <= seed < 2**32 or not 0 <= index < count:
        raise UserError(
            f"Found batch_size {batch_size}, seed {seed} and shard {index} of {count}; expected a "
            "batch of at least 1, a seed from 0 to 4294967295 and a shard below the count."
        )
    mine = len(_Share(source, index, count, batch_size))
    needed = batch_size if drop_remainder and not repeat else 1
    if mine < needed and not (repeat and len(source)):
        raise UserError(
            f"Found {mine} elements for this host ({len(source)} in all, {count} hosts); expected "
            f"at least {needed}. Take a smaller batch, fewer hosts, or drop_remainder=False."
        )
