"""Checkpoints are data: whatever a pickle names is neither imported nor called, and no file is a bomb.

Each attack would, under Python's own unpickler, write a canary file, import a module, or exhaust memory.
"""

import contextlib
import copyreg
import io
import os
import pickle
import pickletools
import struct
import sys
import zipfile
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from classmodels.models import torch_file
from classmodels.models.rebuild import CorruptError, Pending, Placeholder
from classmodels.models.unpickle import Machine
from classmodels.models.weights import read_checkpoint, select_state


def loads(data: bytes):
    return torch_file.read_bytes(data)[0]


class Calls:
    """Pickles as a call of `function(*arguments)`."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def torch_zip(path: Path, pickled: bytes, storages: dict[str, bytes] | None = None, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
        for key, content in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", content)
    return path


def tensor_pickle(count: int, offset: int, size: tuple, stride: tuple, key: str = "0") -> bytes:
    """A torch pickle of one tensor with every number as told."""
    stream = io.BytesIO()

    class Writer(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", torch.FloatStorage, key, "cpu", count) if value == "the storage" else None

    Writer(stream, 2).dump(
        {"w": Calls(torch._utils._rebuild_tensor_v2, "the storage", offset, size, stride, False, OrderedDict())}
    )
    return stream.getvalue()


@pytest.fixture
def canary(tmp_path):
    return tmp_path / "canary"


def attacks(canary: Path) -> dict[str, bytes]:
    command = f"touch {canary}"
    text = repr(command).encode()
    return {
        "reduce": pickle.dumps({"w": Calls(os.system, command)}),
        "protocol 0": pickle.dumps({"w": Calls(os.system, command)}, 0),
        "inst": b"(S" + text + b"\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nS" + text + b"\no.",
        "newobj": b"\x80\x02cos\nsystem\nS" + text + b"\n\x85\x81.",
        "eval": pickle.dumps(Calls(eval, f"open({str(canary)!r}, 'w')")),
        "nested getattr": pickle.dumps(Calls(getattr, Calls(__import__, "os"), "system")),
        "through a rule": pickle.dumps(Calls(OrderedDict, [("a", Calls(os.system, command))])),
        "as a default factory": pickle.dumps(Calls(defaultdict, Calls(os.system, command))),
    }


@pytest.mark.parametrize("container", ["bare", "zip"])
@pytest.mark.parametrize("name", attacks(Path("x")))
def test_a_payload_never_runs(tmp_path, canary, name, container):
    pickled = attacks(canary)[name]
    path = tmp_path / "hostile.pth"
    if container == "zip":
        torch_zip(path, pickled)
    else:
        path.write_bytes(pickled)
    with pytest.raises(CorruptError):
        select_state(read_checkpoint(path), None)
    assert not canary.exists()


def test_the_attacks_are_real(canary):
    pickle.loads(attacks(canary)["reduce"])
    assert canary.exists()


def test_no_module_is_imported_by_a_name_in_the_file(tmp_path, monkeypatch):
    (tmp_path / "imported_by_a_pickle.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    loaded = loads(b"\x80\x02cimported_by_a_pickle\nThing\n)\x81.")
    assert isinstance(loaded, Placeholder)
    assert loaded.what == "imported_by_a_pickle.Thing"
    assert "imported_by_a_pickle" not in sys.modules


def test_state_aimed_at_a_global_changes_nothing_in_this_process():
    # BUILD with slot state is setattr on whatever lies on the stack, under Python's own unpickler.
    before = dict(vars(Placeholder))
    for target in (b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n"):
        loads(b"\x80\x02" + target + b"N}X\x04\x00\x00\x00evilK\x01s\x86b.")
    assert dict(vars(Placeholder)) == before
    assert not hasattr(OrderedDict, "evil")
    assert not hasattr(torch._utils._rebuild_tensor_v2, "evil")


def test_the_extension_registry_of_this_process_is_out_of_reach(canary):
    copyreg.add_extension("os", "system", 240)
    try:
        with pytest.raises(CorruptError, match="EXT1"):
            loads(b"\x80\x02\x82\xf0S" + repr(f"touch {canary}").encode() + b"\n\x85R.")
    finally:
        copyreg.remove_extension("os", "system", 240)
    assert not canary.exists()


@pytest.mark.parametrize("tail", [b"(K\x01K\x02e.", b"(K\x01K\x02u.", b"(K\x01K\x02\x90.", b"K\x01a.", b"}b."])
def test_what_is_added_to_a_placeholder_is_dropped(tail):
    assert isinstance(loads(b"\x80\x04cx\nY\n)\x81" + tail), Placeholder)


@pytest.mark.parametrize("target", [b"K\x01", b"]", b"}", b"\x8f"])
@pytest.mark.parametrize("tail", [b"(K\x01K\x02e.", b"(K\x01K\x02u.", b"(K\x01K\x02\x90.", b"}b.", b")R.", b"Q."])
def test_operations_reach_only_the_containers_they_are_for(target, tail):
    fits = {(b"]", b"(K\x01K\x02e."), (b"}", b"(K\x01K\x02u."), (b"\x8f", b"(K\x01K\x02\x90.")}
    if (target, tail) in fits:
        assert loads(b"\x80\x04" + target + tail) in ([1, 2], {1: 2}, {1, 2})
    else:
        with pytest.raises(CorruptError):
            loads(b"\x80\x04" + target + tail)


@pytest.mark.parametrize("container", ["bare", "zip", "legacy"])
def test_a_tuple_nested_without_bound_is_refused_before_anything_hashes_it(tmp_path, container):
    # As a dictionary's key it would overflow C's stack and end the process, in torch.load too.
    path, pickled = tmp_path / "deep.pth", b"\x80\x02})" + b"\x85" * 1_000_000 + b"K\x01s."
    if container == "zip":
        torch_zip(path, pickled)
    else:
        head = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {})]
        path.write_bytes((b"".join(head) if container == "legacy" else b"") + pickled)
    with pytest.raises(CorruptError, match="more than 100 deep"):
        read_checkpoint(path)


def test_a_nested_tuple_is_no_key():
    (key,) = loads(pickle.dumps({(1, (2, 3)): 4}))
    assert isinstance(key, Placeholder)


def test_deeply_nested_lists_do_not_exhaust_the_stack():
    assert loads(b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".")


def test_a_pickle_of_too_many_operations_is_refused(monkeypatch):
    monkeypatch.setattr("classmodels.models.unpickle.MAX_OPERATIONS", 1_000)
    with pytest.raises(CorruptError, match="more than 1,000 operations"):
        loads(b"\x80\x02(" + b"}" * 2_000 + b"t.")


def test_copying_the_same_data_over_and_over_is_refused():
    long = pickle.dumps([0] * 100_000, 2)[2:-1]
    copies = b"cbuiltins\ntuple\nq\x01" + long + b"q\x02\x85q\x03" + b"h\x01h\x03R" * 1_000
    with pytest.raises(CorruptError, match="over and over"):
        loads(b"\x80\x02(" + copies + b"t.")


def test_a_number_of_many_digits_is_refused_and_not_computed():
    with pytest.raises(CorruptError):
        loads(b"L" + b"9" * 1_000_000 + b"L\n.")


@pytest.mark.parametrize(
    "data",
    [b"", b".", b"hello", b"\x80\x02", b"\x80\x02}", b"\x80\x02\x86.", b"\x80\x02h\x05.", b"\x80\x02t.", b"\x80\x02(.",
     b"\x80\x02K\x01K\x02\x93.", b"Pxyz\n.", b"\x80\x05\x97."],
)  # fmt: skip
def test_a_malformed_pickle_is_refused(data):
    with pytest.raises(CorruptError):
        loads(data)


def test_plain_values_come_back_as_they_were():
    value = {
        "numbers": [1, -2, 2**70, 1.5, True, None, 3 + 0j if False else 4.0],
        "text": ("a", b"b", bytearray(b"c"), ""),
        "sets": [{1, 2}, frozenset({3})],
        "maps": OrderedDict(a=1, b=OrderedDict()),
        "counted": Counter("aab"),
        "default": defaultdict(list, a=[1]),
    }
    value["again"] = value["numbers"]
    for protocol in range(6):
        loaded = loads(pickle.dumps(value, protocol))
        assert loaded == value
        assert loaded["again"] is loaded["numbers"]
        assert isinstance(loaded["maps"], OrderedDict)


def test_cycles_are_rebuilt():
    ring: list = []
    ring.append(ring)
    loaded = loads(pickle.dumps(ring))
    assert loaded[0] is loaded


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
        max_leaves=20,
    ),
    st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_any_plain_value_comes_back_from_any_protocol(value, protocol):
    assert loads(pickle.dumps(value, protocol)) == value
    assert loads(pickletools.optimize(pickle.dumps(value, protocol))) == value


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_arbitrary_bytes_are_read_or_refused_and_never_crash(data):
    with contextlib.suppress(CorruptError):
        loads(b"\x80\x04" + data)


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_a_damaged_checkpoint_is_read_or_refused_and_never_crashes(data):
    stream = io.BytesIO()
    torch.save({"w": torch.arange(4.0), "n": np.float64(3), "o": Calls(Counter, {})}, stream)
    content = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(1, len(content)))
    with contextlib.suppress(CorruptError):
        loads(bytes(content[:end]))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i4", "u2", "?", "c8", ">f4"])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_numpy_values_are_decoded_without_numpy_being_looked_up(dtype, protocol):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    loaded = loads(
        pickle.dumps({"a": array, "again": array, "f": np.asfortranarray(array), "s": array[1, 2]}, protocol)
    )
    for key in ("a", "again", "f"):
        np.testing.assert_array_equal(loaded[key], array)
        assert loaded[key].dtype.isnative
    assert loaded["s"] == array[1, 2].item()
    assert type(loaded["s"]) in (int, float, bool, complex)


def test_numpy_arrays_of_objects_and_text_are_placeholders():
    loaded = loads(pickle.dumps({"o": np.array([{}, []], dtype=object), "t": np.array(["a"]), "s": np.str_("a")}))
    assert not any(isinstance(value, np.ndarray | Pending) for value in loaded.values())


def test_a_numpy_array_whose_shape_does_not_fit_its_bytes_is_refused():
    honest = pickle.dumps(np.zeros(3, np.float32), 2)
    with pytest.raises(CorruptError):
        loads(honest.replace(b"K\x03\x85", b"K\x04\x85"))


@pytest.mark.parametrize(
    ("count", "offset", "size", "stride", "said"),
    [
        (4, 0, (5,), (1,), "beyond its storage"),
        (4, 3, (2,), (1,), "beyond its storage"),
        (4, 0, (2, 2), (3, 1), "beyond its storage"),
        (4, 0, (2**62, 2**62), (1, 1), "beyond its storage"),
        (4, 0, (10**6,), (0,), "expanded to a huge tensor"),
        (4, -1, (1,), (1,), "no whole numbers"),
        (4, 0, (2,), (-1,), "no whole numbers"),
        (4, 0, (True,), (1,), "no whole numbers"),
        (4, 0, (2,), (1, 1), "no whole numbers"),
        (4, 0, (0, 2**63), (1, 1), "impossible size"),
        (8, 0, (4,), (1,), "larger than its record"),
        (2**60, 0, (4,), (1,), "larger than its record"),
    ],
)
def test_a_tensor_that_reads_outside_its_storage_is_refused(tmp_path, count, offset, size, stride, said):
    path = torch_zip(tmp_path / "t.pth", tensor_pickle(count, offset, size, stride), {"0": bytes(16)})
    with pytest.raises(CorruptError, match=said):
        torch_file.read(path)


def test_a_storage_that_is_not_in_the_archive_is_refused(tmp_path):
    path = torch_zip(tmp_path / "t.pth", tensor_pickle(4, 0, (4,), (1,), key="../../etc/passwd"), {"0": bytes(16)})
    with pytest.raises(CorruptError, match="is missing"):
        torch_file.read(path)


def test_views_and_empty_tensors_are_rebuilt(tmp_path):
    numbers = struct.pack("<4f", 1, 2, 3, 4)
    path = torch_zip(tmp_path / "t.pth", tensor_pickle(4, 1, (2, 2), (1, 1)), {"0": numbers})
    assert torch.equal(torch_file.read(path)[0]["w"], torch.tensor([[2.0, 3], [3, 4]]))
    path = torch_zip(tmp_path / "e.pth", tensor_pickle(4, 0, (0, 3), (1, 1)), {"0": numbers})
    assert torch_file.read(path)[0]["w"].shape == (0, 3)


def test_a_compressed_bomb_is_refused_before_anything_is_unpacked(tmp_path):
    path = torch_zip(
        tmp_path / "bomb.pth", tensor_pickle(4, 0, (4,), (1,)), {"0": bytes(50_000_000)}, zipfile.ZIP_DEFLATED
    )
    assert path.stat().st_size < 100_000
    with pytest.raises(CorruptError, match="more than four times its size"):
        read_checkpoint(path)
    with pytest.raises(CorruptError, match="more than four times its size"):
        torch_file.read(path)


def test_a_zip_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CorruptError, match="no checkpoint"):
        read_checkpoint(tmp_path / "x.zip")


def test_torch_files_inside_torch_files_stop_at_the_first():
    def inside(content: bytes) -> bytes:
        return pickle.dumps(Calls(torch.storage._load_from_bytes, content))

    with pytest.raises(CorruptError, match="inside torch files"):
        loads(inside(inside(inside(b"x"))))


def test_names_from_a_file_cannot_draw_on_a_terminal():
    machine = Machine(io.BytesIO(b"\x80\x04\x8c\x07os\x1b[31m\x8c\x04na\nm\x93)\x81."), lambda value: None)
    machine.load()
    assert list(machine.ignored) == ["os??31m.na?m"]
