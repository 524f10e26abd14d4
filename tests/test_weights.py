"""The safe reader: what it reads, and that nothing it refuses is executed."""

import collections
import json
import os
import pickle
import zipfile

import numpy as np
import pytest

from fiancee_jax import weights
from fiancee_jax.errors import UserError

# Pickles written opcode by opcode, as torch.save (protocol 2) would, without torch.

Global = collections.namedtuple("Global", "module name")
Call = collections.namedtuple("Call", "function args")
Storage = collections.namedtuple("Storage", "id")


def opcodes(x):
    def many(items):
        return pickle.MARK + b"".join(opcodes(item) for item in items)

    if isinstance(x, Global):
        return pickle.GLOBAL + f"{x.module}\n{x.name}\n".encode()
    if isinstance(x, Call):
        return opcodes(x.function) + opcodes(x.args) + pickle.REDUCE
    if isinstance(x, Storage):
        return opcodes(x.id) + pickle.BINPERSID
    if isinstance(x, dict):
        pairs = [item for pair in x.items() for item in pair]
        return pickle.EMPTY_DICT + many(pairs) + pickle.SETITEMS
    if isinstance(x, tuple):
        return many(x) + pickle.TUPLE
    return pickle.dumps(x, 2)[2:-1]  # without the header and the full stop


def dumps(tree):
    return pickle.PROTO + b"\x02" + opcodes(tree) + pickle.STOP


def storage(kind, key, count):
    return Storage(("storage", Global("torch", kind), key, "cpu", count))


def torch_file(path, tree, storages, byteorder="little"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", dumps(tree))
        archive.writestr("model/byteorder", byteorder)
        archive.writestr("model/version", "3")
        for key, data in storages.items():
            archive.writestr(f"model/data/{key}", data)
    return path


def tensor(kind, key, count, offset, size, stride):
    hooks = Call(Global("collections", "OrderedDict"), ())
    rebuild = Global("torch._utils", "_rebuild_tensor_v2")
    return Call(rebuild, (storage(kind, key, count), offset, size, stride, False, hooks))


def test_torch_strides_offsets_and_shared_storage(tmp_path):
    base = np.arange(24, dtype=np.float32)
    tree = {
        "plain.weight": tensor("FloatStorage", "0", 24, 0, (2, 3, 4), (12, 4, 1)),
        "turned": tensor("FloatStorage", "0", 24, 4, (4, 3), (1, 4)),
        "scalar": tensor("FloatStorage", "0", 24, 7, (), ()),
        "none": tensor("FloatStorage", "0", 24, 0, (0, 3), (3, 1)),
        "spread": tensor("FloatStorage", "0", 24, 5, (3, 2), (0, 1)),
    }
    read = weights.read_weights(torch_file(tmp_path / "m.pth", tree, {"0": base.tobytes()}))
    assert list(read) == list(tree)
    np.testing.assert_array_equal(read["plain.weight"], base.reshape(2, 3, 4))
    np.testing.assert_array_equal(read["turned"], base[4:16].reshape(3, 4).T)
    np.testing.assert_array_equal(read["spread"], [[5, 6]] * 3)
    assert read["scalar"] == 7
    assert read["none"].shape == (0, 3)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("HalfStorage", "f2"), ("DoubleStorage", "f8"), ("LongStorage", "i8"), ("ByteStorage", "u1")],
)
@pytest.mark.parametrize("order", ["little", "big"])
def test_torch_storages(tmp_path, kind, dtype, order):
    values = np.array([1, 2, 100], np.dtype(dtype).newbyteorder("<" if order == "little" else ">"))
    tree = {"x": tensor(kind, "k", 3, 0, (3,), (1,))}
    file = torch_file(tmp_path / "m.pth", tree, {"k": values.tobytes()}, order)
    read = weights.read_torch(file)["x"]
    assert read.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read, values)


def test_bfloat16_is_widened(tmp_path):
    bits = (np.array([1.0, -2.5, 0.0], np.float32).view(np.uint32) >> 16).astype("<u2")
    tree = {"x": tensor("BFloat16Storage", "0", 3, 0, (3,), (1,))}
    read = weights.read_torch(torch_file(tmp_path / "m.pth", tree, {"0": bits.tobytes()}))["x"]
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, [1.0, -2.5, 0.0])


def test_parameters_and_wrapped_state_dict(tmp_path):
    inner = tensor("FloatStorage", "0", 2, 0, (2,), (1,))
    parameter = Call(Global("torch._utils", "_rebuild_parameter"), (inner, True, {}))
    data = {"0": np.ones(2, np.float32).tobytes()}
    wrapped = {"epoch": 3, "state_dict": {"a.b": parameter}}
    assert list(weights.read_torch(torch_file(tmp_path / "w.pth", wrapped, data))) == ["a.b"]
    nested = {"ema": {"a.b": parameter}, "options": ["x", 1, None]}
    assert list(weights.read_torch(torch_file(tmp_path / "n.pth", nested, data))) == ["ema.a.b"]


@pytest.mark.parametrize(
    "view", [(0, (3,), (1,)), (1, (2,), (1,)), (0, (2,), (5,)), (-1, (1,), (1,)), (0, (2,), (1, 1))]
)
def test_tensors_outside_their_storage_are_refused(tmp_path, view):
    tree = {"x": tensor("FloatStorage", "0", 2, *view)}
    file = torch_file(tmp_path / "m.pth", tree, {"0": bytes(8)})
    with pytest.raises(UserError, match=r"m\.pth: found a tensor"):
        weights.read_torch(file)


def test_short_storage_is_refused(tmp_path):
    tree = {"x": tensor("FloatStorage", "0", 3, 0, (3,), (1,))}
    with pytest.raises(UserError, match="storage of 8 bytes for 3 elements"):
        weights.read_torch(torch_file(tmp_path / "m.pth", tree, {"0": bytes(8)}))


def test_only_storages_can_be_viewed(tmp_path):
    rebuild = Global("torch._utils", "_rebuild_tensor_v2")
    spread = tensor("FloatStorage", "0", 2, 0, (1000,), (0,))  # 1000 values over 8 bytes
    tree = {"x": Call(rebuild, (spread, 0, (1000,), (1,), False, {}))}
    with pytest.raises(UserError, match="a tensor over a ndarray in place of a storage"):
        weights.read_torch(torch_file(tmp_path / "m.pth", tree, {"0": bytes(8)}))


def test_flipped_bits_are_found(tmp_path):
    tree = {"name": tensor("FloatStorage", "0", 2, 0, (2,), (1,))}
    file = torch_file(tmp_path / "m.pth", tree, {"0": b"\1" * 8})
    whole = file.read_bytes()
    for old, new in ((b"X\x04\x00\x00\x00name", b"X\x04\x00\x00\x00nama"), (b"\1" * 8, b"\2" * 8)):
        file.write_bytes(whole.replace(old, new))
        with pytest.raises(UserError, match=r"damaged.*CRC"):
            weights.read_torch(file)


def test_names_of_a_published_generator(fixtures_dir):
    read = weights.read_weights(fixtures_dir / "oasis" / "square_EMA.pth")
    expected = {
        "conv_img.weight": (3, 4, 3, 3),
        "fc.weight": (64, 20, 3, 3),
        "body.0.conv_0.weight_orig": (64, 64, 3, 3),
        "body.0.conv_0.weight_u": (64,),
        "body.0.conv_0.weight_v": (64 * 9,),
        "body.2.conv_s.weight_orig": (32, 64, 1, 1),
        "body.2.norm_s.first_norm.running_var": (64,),
        "body.5.norm_1.mlp_shared.0.weight": (128, 20, 3, 3),
        "body.5.norm_1.mlp_gamma.bias": (4,),
    }
    assert {name: read[name].shape for name in expected} == expected
    assert not any("module" in name for name in read)
    assert np.all(read["body.2.norm_s.first_norm.running_var"] > 0)
    assert np.abs(read["conv_img.weight"]).max() < 10


TREE = {
    "net": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "half": np.ones(2, np.float16)},
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "big": np.array([1, 2], ">i4"),
    "scalar": np.float64(0.5),
    "list": [np.zeros((0, 3)), (1, "x", None, True)],
    "ordered": collections.OrderedDict(a=np.ones(1)),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("old_numpy", [False, True])
def test_numpy_pickles(tmp_path, protocol, old_numpy):
    data = pickle.dumps(TREE, protocol=protocol)
    if old_numpy and protocol < 4:  # the names NumPy 1 wrote; protocol 4 gives lengths too
        data = data.replace(b"numpy._core.", b"numpy.core.")
    (tmp_path / "w.ckpt").write_bytes(data)
    read = weights.read_weights(tmp_path / "w.ckpt")
    np.testing.assert_array_equal(read["net"]["kernel"], TREE["net"]["kernel"])
    assert read["net"]["half"].dtype == np.float16
    np.testing.assert_array_equal(read["fortran"], TREE["fortran"])
    np.testing.assert_array_equal(read["big"], [1, 2])
    assert read["big"].dtype.isnative
    assert read["scalar"] == 0.5
    assert read["list"][1] == (1, "x", None, True)
    assert type(read["ordered"]) is dict


def test_npz(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.ones(2, np.float16), b=np.ones((2, 3)))
    read = weights.read_weights(tmp_path / "w.npz")
    assert {name: (x.shape, x.dtype.str) for name, x in read.items()} == {
        "a": ((2,), "<f2"),
        "b": ((2, 3), "<f8"),
    }


class Evil:
    """Creates a file when an ordinary reader loads it."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("kind", ["pickle", "torch", "npz"])
@pytest.mark.parametrize("function", [os.mkdir, eval, open])
def test_nothing_is_executed(tmp_path, kind, function):
    target = tmp_path / "executed"
    argument = f"__import__('os').mkdir({str(target)!r})" if function is eval else str(target)
    evil = Evil(function, argument, *(("w",) if function is open else ()))
    file = tmp_path / "evil.bin"
    if kind == "torch":
        torch_file(file, {"x": evil}, {})
    elif kind == "npz":
        with open(file, "wb") as stream:
            np.savez(stream, x=np.array([evil], dtype=object))
    else:
        file.write_bytes(pickle.dumps({"x": evil}))
    message = "expected an .npz of plain arrays" if kind == "npz" else "global .*nothing"
    with pytest.raises(UserError, match=rf"evil\.bin: found .*{message}"):
        weights.read_weights(file)
    assert not target.exists()


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (Global("torch.storage", "_load_from_bytes"), r"torch\.storage\._load_from_bytes"),
        (Global("builtins", "getattr"), r"builtins\.getattr"),
        (Global("numpy", "load"), r"numpy\.load"),
        (Global("fiancee_jax.weights", "Path"), r"fiancee_jax\.weights\.Path"),
        (Global("numpy", "dtype"), "a value of type type"),
        (Call(Global("numpy", "dtype"), ("O8",)), "dtype 'O8'"),
        (Call(Global("_codecs", "encode"), ("x", "rot13")), "encoding 'rot13'"),
        (storage("FloatStorage", "0", 1), r"global torch\.FloatStorage"),
    ],
)
def test_other_globals_are_named(tmp_path, tree, message):
    (tmp_path / "w.ckpt").write_bytes(dumps({"x": tree}))
    with pytest.raises(UserError, match=rf"w\.ckpt: found .*{message}.*nothing"):
        weights.read_pickle(tmp_path / "w.ckpt")


def test_a_file_cannot_alter_the_reader(tmp_path):
    call = pickle.GLOBAL + b"_codecs\nencode\n"
    change = b"N}" + b"X\x08\x00\x00\x00function" + b"N" + b"s" + pickle.TUPLE2 + pickle.BUILD
    (tmp_path / "w.ckpt").write_bytes(pickle.PROTO + b"\x02" + call + change + pickle.STOP)
    with pytest.raises(UserError, match="the reader's own functions"):
        weights.read_pickle(tmp_path / "w.ckpt")


@pytest.mark.parametrize("kind", ["pth", "npz", "ckpt"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_truncated_files(tmp_path, kind, share):
    file = tmp_path / f"w.{kind}"
    if kind == "pth":
        tree = {"x": tensor("FloatStorage", "0", 500, 0, (500,), (1,))}
        torch_file(file, tree, {"0": bytes(2000)})
    elif kind == "npz":
        np.savez(file, x=np.zeros(500))
    else:
        file.write_bytes(pickle.dumps({"x": np.zeros(500)}))
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=rf"w\.{kind}: found a file that is truncated.*again"):
        weights.read_weights(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"\x93NUMPY\x01\x00", "a single .npy array"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        (b"hello world", "a file that starts with b'hello wo'"),
    ],
)
def test_other_kinds_are_named(tmp_path, content, message):
    file = tmp_path / "w.bin"
    file.write_bytes(content)
    for read in (weights.read_weights, weights.read_torch, weights.read_npz, weights.read_pickle):
        with pytest.raises(UserError, match=rf"w\.bin: found {message}"):
            read(file)


def test_wrong_reader_and_absent_file(tmp_path):
    np.savez(tmp_path / "w.npz", x=np.zeros(2))
    with pytest.raises(UserError, match=r"expected one data\.pkl"):
        weights.read_torch(tmp_path / "w.npz")
    with pytest.raises(UserError, match=r"a zip archive.*expected a pickle"):
        weights.read_pickle(tmp_path / "w.npz")
    with pytest.raises(UserError, match="check the path"):
        weights.read_weights(tmp_path / "absent.pth")
    with pytest.raises(UserError, match="Is a directory"):
        weights.read_weights(tmp_path)


# --- safetensors --------------------------------------------------------------------------------
def safetensors_file(path, header, data):
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<f2", "<i8", "<i4", "u1", "?"])
def test_safetensors_keep_names_dtypes_and_shapes(tmp_path, dtype):
    names = {"f": "F", "i": "I", "u": "U", "b": "BOOL"}
    values = np.arange(6).reshape(2, 3).astype(dtype)
    code = names[values.dtype.kind]
    code = code if code == "BOOL" else f"{code}{8 * values.itemsize}"
    spec = {"dtype": code, "shape": [2, 3], "data_offsets": [0, values.nbytes]}
    file = safetensors_file(tmp_path / "w.safetensors", {"a.b": spec}, values.tobytes())
    found = weights.read_weights(file)
    assert list(found) == ["a.b"]
    assert found["a.b"].dtype == values.dtype
    np.testing.assert_array_equal(found["a.b"], values)


def test_safetensors_bfloat16_is_widened(tmp_path):
    halves = np.array([0x3F80, 0xC000], "<u2")  # 1 and -2
    spec = {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}
    file = safetensors_file(tmp_path / "w.safetensors", {"x": spec}, halves.tobytes())
    found = weights.read_weights(file)["x"]
    assert found.dtype == np.float32
    assert found.tolist() == [1, -2]


@pytest.mark.parametrize(
    "spec",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 400]},  # beyond the end
        {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 8]},  # another size
        {"dtype": "F32", "shape": [2]},
    ],
)
def test_safetensors_that_lie_are_refused(tmp_path, spec):
    file = safetensors_file(tmp_path / "w.safetensors", {"x": spec}, bytes(8))
    with pytest.raises(
        UserError, match=r"w\.safetensors: found a file that is truncated or damaged"
    ):
        weights.read_weights(file)
    with pytest.raises(UserError, match=r"expected a \.safetensors file"):
        weights.read_safetensors(torch_file(tmp_path / "w.pth", {}, {}))


def test_safetensors_of_other_numbers_are_named(tmp_path):
    spec = {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}
    file = safetensors_file(tmp_path / "w.safetensors", {"x": spec}, bytes(8))
    with pytest.raises(UserError, match=r"w\.safetensors: found values of type F8_E4M3.*to F32"):
        weights.read_weights(file)


# --- legacy torch files -------------------------------------------------------------------------
MACHINE = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}


def legacy_storage(kind, key, count, part=None):
    return Storage(("storage", Global("torch", kind), key, "cpu", count, part))


def legacy_tensor(kind, key, count, size, stride, offset=0):
    rebuild = Global("torch._utils", "_rebuild_tensor_v2")
    hooks = Call(Global("collections", "OrderedDict"), ())
    return Call(rebuild, (legacy_storage(kind, key, count), offset, size, stride, False, hooks))


def legacy_file(path, tree, storages, machine=MACHINE, keys=None):
    """As torch before 1.6 wrote it: magic, version, machine, tree, keys, then counts and bytes."""
    heads = [dumps(x) for x in (0x1950A86A20F9469CFC6C, 1001, machine, tree)]
    heads.append(dumps(list(storages) if keys is None else keys))
    values = [count.to_bytes(8, "little") + data for count, data in storages.values()]
    path.write_bytes(b"".join(heads + values))
    return path


def test_legacy_strides_offsets_and_shared_storage(tmp_path):
    base = np.arange(6, dtype=np.float32)
    bits = (np.array([1.0, -2.5], np.float32).view(np.uint32) >> 16).astype("<u2")
    tree = {
        "a.weight": legacy_tensor("FloatStorage", "b", 6, (2, 3), (3, 1)),
        "a.turned": legacy_tensor("FloatStorage", "b", 6, (2, 2), (1, 2), offset=2),
        "count": legacy_tensor("LongStorage", "a", 1, (), ()),
        "half": legacy_tensor("BFloat16Storage", "c", 2, (2,), (1,)),
    }
    storages = {
        "a": (1, np.array([7], "<i8").tobytes()),
        "b": (6, base.tobytes()),
        "c": (2, bits.tobytes()),
    }
    read = weights.read_weights(legacy_file(tmp_path / "w.pth", {"state_dict": tree}, storages))
    assert list(read) == list(tree)
    np.testing.assert_array_equal(read["a.weight"], base.reshape(2, 3))
    np.testing.assert_array_equal(read["a.turned"], base[2:].reshape(2, 2).T)
    np.testing.assert_array_equal(read["half"], [1, -2.5])
    assert (read["count"], read["count"].dtype) == (7, np.int64)


FOUR = {"0": (4, bytes(16))}
WHOLE = {"x": legacy_tensor("FloatStorage", "0", 4, (4,), (1,))}


@pytest.mark.parametrize(
    ("tree", "storages", "options", "message"),
    [
        ({"x": Call(Global("os", "system"), ("touch made",))}, FOUR, {}, r"the global os\.system"),
        ({"x": legacy_tensor("FloatStorage", "0", 4, (5,), (1,))}, FOUR, {}, "ends at element 5"),
        (
            {"x": legacy_tensor("FloatStorage", "0", 10**12, (4,), (1,))},
            FOUR,
            {},
            "more than the file",
        ),
        (WHOLE, {"0": (3, bytes(12))}, {}, "3 values for a storage of 4"),
        (WHOLE, {"0": (4, bytes(12))}, {}, "12 bytes for 4 elements"),
        (WHOLE, FOUR, {"keys": []}, "values of 0 storages for 1"),
        (WHOLE, FOUR, {"machine": {**MACHINE, "little_endian": False}}, "big-endian"),
        (legacy_storage("FloatStorage", "0", 4, ("1", 0, 4)), FOUR, {}, "inside another"),
        (Storage(("module", Global("torch", "FloatStorage"), 0, 0, 0, 0)), {}, {}, "whole module"),
    ],
)
def test_legacy_files_that_are_refused(tmp_path, monkeypatch, tree, storages, options, message):
    monkeypatch.chdir(tmp_path)
    file = legacy_file(tmp_path / "w.pth", tree, storages, **options)
    with pytest.raises(UserError, match=rf"w\.pth: found .*{message}.*was executed"):
        weights.read_weights(file)
    assert not (tmp_path / "made").exists()


def test_legacy_files_that_are_cut_off(tmp_path):
    whole = legacy_file(tmp_path / "w.pth", WHOLE, FOUR).read_bytes()
    for length in (16, 40, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.pth").write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cut\.pth: found"):
            weights.read_weights(tmp_path / "cut.pth")


def test_legacy_reader_refuses_other_kinds(tmp_path):
    with pytest.raises(UserError, match=r"found a zip archive.*expected a legacy torch file"):
        weights.read_legacy_torch(torch_file(tmp_path / "w.pth", {}, {}))


def test_files_that_torch_wrote(tmp_path):
    torch = pytest.importorskip("torch", reason="torch writes these files; nothing else needs it")
    values = torch.arange(6.0).reshape(2, 3).t()  # strides that are not the default
    tree = {"state_dict": {"x": values, "half": values.bfloat16()}}
    torch.save(tree, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save(tree, tmp_path / "new.pth")
    for name in ("old.pth", "new.pth"):
        found = weights.read_weights(tmp_path / name)
        np.testing.assert_array_equal(found["x"], values.numpy())
        np.testing.assert_array_equal(found["half"], values.numpy())
