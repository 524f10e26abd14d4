"""Unpicklers that admit arrays and tensors only, and execute nothing that a file asks for.

A pickle is a program: it names functions and calls them. The few names that rebuild arrays are
answered here with plain stand-ins that call nothing of the file's choosing; every other name is
refused before it is imported. `weights` is the public side of this.
"""

import io
import math
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

# Storage class in the file -> dtype of its bytes; bfloat16 is widened to float32 on reading.
_STORAGES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "BFloat16Storage": "bf16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "b1",
}


# Stand-ins: what the admitted names become. None of them calls anything the file chooses.


class Refused(Exception):  # noqa: N818 (never reaches the user)
    """What was found in the file that is not an array; `weights` adds the path and the advice."""


class _Dict(dict):
    """Stands for OrderedDict; torch hangs `_metadata` on it, which is dropped."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Call:
    """A function the file may call but not alter: pickles can set attributes of what they name."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]):
        self.function = function

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def __setstate__(self, state: Any) -> None:
        raise Refused("a change to one of the reader's own functions")


class _Dtype:
    """Stands for numpy.dtype: numbers of a fixed size, of either byte order."""

    def __init__(self, code: str, align: bool = False, copy: bool = False):
        if not (isinstance(code, str) and re.fullmatch(r"[biufc]\d{1,2}", code)):
            raise Refused(f"an array of dtype {code!r}, which is no plain number")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for an ndarray while its pickle is read; `plain` puts the array in its place."""

    array = np.zeros(0, np.float32)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        self.array = _array(data, dtype, shape, "F" if fortran else "C")


def _array(data: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    """Array of `shape` over `data`, in the machine's byte order."""
    if not isinstance(data, bytes | bytearray) or order not in ("C", "F"):
        raise Refused(f"an array whose values are a {type(data).__name__} in order {order!r}")
    flat = np.frombuffer(data, dtype.dtype)
    native = flat.astype(flat.dtype.newbyteorder("="), copy=False)
    return native.reshape(shape, order="F" if order == "F" else "C")


def _reconstruct(subtype: Any, shape: tuple, code: bytes) -> _Array:
    return _Array()  # its content follows through __setstate__


def _frombuffer(data: bytes, dtype: _Dtype, shape: tuple, order: str, *axes: Any) -> np.ndarray:
    return _array(data, dtype, shape, order)


def _scalar(dtype: _Dtype, data: bytes) -> np.ndarray:
    return _array(data, dtype, (), "C")


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise Refused(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""  # how protocol 2 writes the data of an array without elements


_CORES = ("numpy.core", "numpy._core")  # written by NumPy 1 and NumPy 2
_ADMITTED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Dict,
    ("_codecs", "encode"): _Call(_encode),
    ("__builtin__", "bytes"): _Call(_no_bytes),
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): "ndarray",  # only ever an argument, so it need not be callable
    **{(f"{core}.multiarray", "_reconstruct"): _Call(_reconstruct) for core in _CORES},
    **{(f"{core}.multiarray", "scalar"): _Call(_scalar) for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): _Call(_frombuffer) for core in _CORES},
}


class Unpickler(pickle._Unpickler):
    """Admits the names above; refuses every other, before it is imported.

    The one in Python: the one in C makes room for any memo index that a file names, gigabytes.
    """

    admitted: Mapping[tuple[str, str], Any] = _ADMITTED

    def __init__(self, file: io.BytesIO):
        super().__init__(file, encoding="latin1")

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """The stand-in for a global the file names."""
        if (module_name, global_name) not in self.admitted:
            raise Refused(f"the global {module_name}.{global_name}, which rebuilds no array")
        return self.admitted[module_name, global_name]

    def persistent_load(self, pid: Any) -> Any:
        """Only torch files refer to storages outside the pickle."""
        raise Refused("a reference to a storage outside the pickle")


# The torch part: tensors are views (offset, size, strides) of storages, kept outside the pickle.


class _Storage:
    """A whole storage [n]; only `persistent_load` makes one, so its bounds can be trusted."""

    __slots__ = ("array",)

    def __init__(self, array: np.ndarray):
        self.array = array

    def __setstate__(self, state: Any) -> None:
        raise Refused("a change to a storage")


def _rebuild_tensor(
    whole: _Storage, offset: int, size: tuple, stride: tuple, *unused: Any
) -> np.ndarray:
    """View of a storage; offset and strides count elements and must stay inside it."""
    if not isinstance(whole, _Storage):
        raise Refused(f"a tensor over a {type(whole).__name__} in place of a storage")
    storage, ints = whole.array, (offset, *size, *stride)
    if len(size) != len(stride) or not all(isinstance(i, int) and i >= 0 for i in ints):
        raise Refused(f"a tensor of size {size}, strides {stride} and offset {offset}")
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if math.prod(size) and last >= storage.size:
        raise Refused(f"a tensor that ends at element {last + 1} of a storage of {storage.size}")
    if not math.prod(size):
        return np.zeros(size, storage.dtype)
    steps = tuple(s * storage.itemsize for s in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)


def _rebuild_parameter(data: np.ndarray, *unused: Any) -> np.ndarray:
    return data


_TORCH: Mapping[tuple[str, str], Any] = {
    **_ADMITTED,
    ("torch._utils", "_rebuild_tensor_v2"): _Call(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): _Call(_rebuild_parameter),
    **{("torch", name): name for name in _STORAGES},
}


def _values(data: bytes, code: str, elements: int, byteorder: Literal["<", ">"]) -> np.ndarray:
    """The elements of a storage, in the machine's byte order; bfloat16 as float32."""
    dtype = np.dtype("u2" if code == "bf16" else code).newbyteorder(byteorder)
    if len(data) != elements * dtype.itemsize:
        raise Refused(f"a storage of {len(data)} bytes for {elements} elements of {code}")
    flat = np.frombuffer(data, dtype)
    if code == "bf16":  # the upper half of a float32
        return (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.astype(flat.dtype.newbyteorder("="), copy=False)


class TorchUnpickler(Unpickler):
    """Reads `data.pkl` of a torch zip file; storages lie beside it in `data/KEY`."""

    admitted = _TORCH

    def __init__(self, archive: zipfile.ZipFile, name: str):
        super().__init__(io.BytesIO(archive.read(name)))
        self.archive, self.prefix = archive, name.removesuffix("data.pkl")
        self.storages: dict[str, _Storage] = {}
        big = self.prefix + "byteorder" in archive.namelist() and (
            archive.read(self.prefix + "byteorder") == b"big"
        )
        self.byteorder: Literal["<", ">"] = ">" if big else "<"

    def persistent_load(self, pid: Any) -> _Storage:
        """The storage named by ("storage", class, key, location, elements)."""
        _, storage_class, key, _, elements = pid
        if key not in self.storages:
            data = self.archive.read(f"{self.prefix}data/{key}")
            values = _values(data, _STORAGES[storage_class], elements, self.byteorder)
            self.storages[key] = _Storage(values)
        return self.storages[key]


class LegacyTorchUnpickler(Unpickler):
    """Reads the tensors of a torch file from before 1.6; their values follow behind the pickle.

    Tensors are views of storages of zeros at first; `fill` then overwrites the storages.
    """

    admitted = _TORCH

    def __init__(self, file: io.BytesIO, size: int):
        super().__init__(file)
        self.file, self.left = file, size  # an element takes a byte or more
        self.storages: dict[str, tuple[_Storage, str]] = {}

    def persistent_load(self, pid: Any) -> _Storage:
        """The storage named by ("storage", class, key, location, elements, part of another)."""
        kind, storage_class, key, _, elements, part = pid
        if kind != "storage" or part is not None:
            raise Refused("a whole module" if kind != "storage" else "a storage inside another")
        if key not in self.storages:
            if not (isinstance(elements, int) and 0 <= elements <= self.left):
                raise Refused(f"a storage of {elements} elements, more than the file has bytes")
            code, self.left = _STORAGES[storage_class], self.left - elements
            zeros = np.zeros(elements, np.float32 if code == "bf16" else code)
            self.storages[key] = _Storage(zeros), code
        return self.storages[key][0]

    def fill(self, keys: list[str]) -> None:
        """Reads the storages' values in the order of `keys`: 8 bytes of count, then elements."""
        if sorted(keys) != sorted(self.storages):
            raise Refused(f"values of {len(keys)} storages for {len(self.storages)}")
        for key in keys:
            whole, code = self.storages[key]
            count = int.from_bytes(self.file.read(8), "little")
            if count != whole.array.size:
                raise Refused(f"{count} values for a storage of {whole.array.size}")
            data = self.file.read(count * (2 if code == "bf16" else whole.array.itemsize))
            whole.array[:] = _values(data, code, count, "<")


def legacy_torch(data: bytes) -> Any:
    """The tree in a torch file from before 1.6: five pickles in a row, then the storages."""
    file = io.BytesIO(data)
    _, _, machine = (Unpickler(file).load() for _ in range(3))  # magic, version, machine
    if not machine["little_endian"]:
        raise Refused("values in big-endian order")
    reader = LegacyTorchUnpickler(file, len(data))
    tree = reader.load()
    reader.fill(Unpickler(file).load())
    return tree


def plain(tree: Any) -> Any:
    """The tree with stand-ins replaced by arrays and plain dicts."""
    if isinstance(tree, _Array):
        return tree.array
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(plain(value) for value in tree)
    if tree is None or isinstance(tree, np.ndarray | bool | int | float | complex | str | bytes):
        return tree
    raise Refused(f"a value of type {type(tree).__name__}")
