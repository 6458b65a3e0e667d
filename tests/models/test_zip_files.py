"""Zip archives that two readers could read differently are refused: what was inspected is what torch will load."""

import io
import struct
import subprocess
import sys
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from classmodels.models import torch_file
from classmodels.models.rebuild import CorruptError
from classmodels.models.weights import read_checkpoint, select_state
from classmodels.models.zip_file import records_of

SMALL = b"\x80\x02}."
DEEP = b"\x80\x02})" + b"\x85" * 3_000_000 + b"K\x01s."
READ = """
import sys
from pathlib import Path
from classmodels.models.rebuild import CorruptError
from classmodels.models.weights import read_checkpoint
try:
    read_checkpoint(Path(sys.argv[1]))
except CorruptError as error:
    print(error)
    sys.exit(7)
"""


def zipped(pickled: bytes, names=("archive/data.pkl", "archive/version"), compression=zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name in names:
            archive.writestr(name, pickled if name.endswith("data.pkl") else b"3\n")
    return stream.getvalue()


def saved(value=None) -> bytearray:
    stream = io.BytesIO()
    torch.save({"w": torch.arange(6.0)} if value is None else value, stream)
    return bytearray(stream.getvalue())


def directory(archive: bytes) -> tuple[int, int]:
    """Where the directory of an archive of Python's begins, and its size."""
    size, begin = struct.unpack("<2I", archive[-10:-2])
    return begin, size


def two_directories(for_torch: bytes, for_python: bytes) -> bytes:
    """One file with two archives: one at the offset that it states, one where the directory's size says."""
    begin, size = directory(for_torch)
    other, other_size = directory(for_python)
    assert size == other_size
    entries, at = bytearray(for_python[other : other + size]), 0
    while at < size:
        offset = struct.unpack_from("<I", entries, at + 42)[0]
        struct.pack_into("<I", entries, at + 42, begin + offset - other)  # Python adds what it thinks was prepended
        at += 46 + sum(struct.unpack_from("<3H", entries, at + 28))
    end = for_python[-22:-6] + struct.pack("<IH", begin, 0)
    return for_torch[: begin + size] + for_python[:other] + bytes(entries) + end


def test_the_difference_between_readers_is_real(tmp_path):
    path = tmp_path / "two.pth"
    path.write_bytes(two_directories(zipped(b"seen by torch"), zipped(SMALL)))
    with zipfile.ZipFile(path) as archive:
        assert archive.read("archive/data.pkl") == SMALL
    assert torch._C.PyTorchFileReader(str(path)).get_record("data.pkl") == b"seen by torch"


def test_a_second_directory_does_not_bring_torch_a_pickle_that_was_not_inspected(tmp_path):
    # torch.load(weights_only=True) would overflow C's stack on it: hence a process of its own.
    path = tmp_path / "two.pth"
    path.write_bytes(two_directories(zipped(DEEP), zipped(SMALL)))
    done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, "readers differ" in done.stdout) == (7, True)


def test_a_second_directory_does_not_hide_a_bomb(tmp_path):
    big = zipped(bytes(50_000_000), compression=zipfile.ZIP_DEFLATED)
    path = tmp_path / "two.pth"
    path.write_bytes(two_directories(big, zipped(SMALL)))
    assert path.stat().st_size < 100_000
    with pytest.raises(CorruptError, match="readers differ"):
        read_checkpoint(path)


def edited(archive: bytes, at: int, content: bytes) -> bytes:
    at %= len(archive)
    return archive[:at] + content + archive[at + len(content) :]


def shifted(archive: bytes, by: bytes) -> bytes:
    """The archive behind other data, with every offset put right."""
    begin, size = directory(archive)
    entries, at = bytearray(archive[begin : begin + size]), 0
    while at < size:
        struct.pack_into("<I", entries, at + 42, struct.unpack_from("<I", entries, at + 42)[0] + len(by))
        at += 46 + sum(struct.unpack_from("<3H", entries, at + 28))
    return by + archive[:begin] + bytes(entries) + archive[-22:-6] + struct.pack("<IH", begin + len(by), 0)


PLAIN = zipped(SMALL)
TORCH = bytes(saved())  # it ends in a zip64 record of 56 bytes, its locator of 20, and the usual end of 22
FIRST = directory(PLAIN)[0]


@pytest.mark.parametrize(
    ("name", "archive"),
    [
        ("data after the end", PLAIN + b"x"),
        ("an archive after the end", PLAIN + PLAIN),
        ("a comment", PLAIN[:-2] + b"\x05\0hello"),
        ("data before the beginning", shifted(PLAIN, b"PK\x03\x04 and more")),
        ("an unadjusted archive behind data", b"PK\x03\x04" + PLAIN),
        ("another offset of the directory", edited(PLAIN, -6, struct.pack("<I", FIRST - 1))),
        ("another size of the directory", edited(PLAIN, -10, struct.pack("<I", 7))),
        ("fewer entries than there are", edited(PLAIN, -14, struct.pack("<2H", 1, 1))),
        ("a number of entries on this disk", edited(PLAIN, -14, struct.pack("<H", 1))),
        ("an end on another disk", edited(PLAIN, -18, struct.pack("<H", 1))),
        ("a name of the record itself", PLAIN.replace(b"archive/data.pkl", b"archive/data.pkx", 1)),
        ("a size of the record itself", edited(PLAIN, 22, struct.pack("<I", 3))),
        ("a packed size of the record itself", edited(PLAIN, 18, struct.pack("<I", 3))),
        ("a checksum of the record itself", edited(PLAIN, 14, struct.pack("<I", 3))),
        ("a method of the record itself", edited(PLAIN, 8, struct.pack("<H", 8))),
        ("a directory's own zip64 fields", edited(TORCH, -42 + 8, struct.pack("<Q", len(TORCH) - 99))),
        ("a zip64 offset", edited(TORCH, -98 + 48, struct.pack("<Q", 0))),
        ("a zip64 size", edited(TORCH, -98 + 40, struct.pack("<Q", 3))),
        ("a zip64 count", edited(TORCH, -98 + 24, struct.pack("<2Q", 1, 1))),
        ("a zip64 count beside the plain one", edited(TORCH, -98 + 32, struct.pack("<Q", 1))),
        ("a longer zip64 record", edited(TORCH, -98 + 4, struct.pack("<Q", 60))),
        ("a plain offset beside the zip64 one", edited(TORCH, -6, struct.pack("<I", 5))),
        ("two records of one name", zipped(SMALL, ("a/data.pkl", "a/data.pkl"))),
        ("two records of one name in another case", zipped(SMALL, ("a/data.pkl", "a/DATA.PKL"))),
        ("a pickle outside the first root", zipped(SMALL, ("b/version", "a/data.pkl"))),
        ("a pickle of another name", zipped(SMALL, ("a/xdata.pkl",))),
        ("a pickle without a root", zipped(SMALL, ("data.pkl",))),
        ("a pickle that says it is a folder", edited(PLAIN, FIRST + 38, struct.pack("<I", 0x10))),
        ("compressed records", zipped(SMALL * 50, compression=zipfile.ZIP_DEFLATED)),
        ("a control character in a name", zipped(SMALL, ("a/data.pkl", "a/\x1b[2J"))),
        ("no entries", b"PK\x03\x04" + bytes(26) + b"PK\x05\x06" + bytes(12) + struct.pack("<IH", 30, 0)),
        ("a changed byte of the pickle", PLAIN.replace(SMALL, b"\x80\x02].", 1)),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_that_readers_could_read_differently_is_refused(tmp_path, name, archive):
    path = tmp_path / "a.pth"
    path.write_bytes(archive)
    for read in (torch_file.inspect, torch_file.read, read_checkpoint):
        with pytest.raises(CorruptError, match=r"zip archive"):
            read(path)


def test_folders_among_the_records_do_no_harm(tmp_path):
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.mkdir("a")
        archive.writestr("a/data.pkl", SMALL)
    assert read_checkpoint(path).content == {}


def test_compressed_numbers_are_not_taken_for_numbers(tmp_path):
    # torch.load maps the file and reads the compressed bytes as if they were the tensor's.
    source, path = tmp_path / "w.pth", tmp_path / "packed.pth"
    torch.save({"w": torch.zeros(1000)}, source)
    with zipfile.ZipFile(source) as plain, zipfile.ZipFile(path, "w") as packed:
        for info in plain.infolist():
            kind = zipfile.ZIP_DEFLATED if "/data/" in info.filename else zipfile.ZIP_STORED
            packed.writestr(info.filename, plain.read(info), kind)
    with pytest.raises(CorruptError, match="compressed"):
        read_checkpoint(path)


def test_what_torch_and_python_write_is_read(tmp_path):
    for value in ({"w": torch.arange(6.0)}, {"a": torch.zeros(0), "b": [1, (2, "x")]}, {}):
        stream = tmp_path / "w.pth"
        stream.write_bytes(saved(value))
        assert torch_file.inspect(stream)
        assert torch_file.read(stream)[0].keys() == value.keys()
    again = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved())) as plain, zipfile.ZipFile(again, "w") as rezipped:
        for info in plain.infolist():
            with rezipped.open(info.filename, "w", force_zip64=True) as record:
                record.write(plain.read(info))
    assert torch.equal(torch_file.read_bytes(again.getvalue())[0]["w"], torch.arange(6.0))


def test_numbers_too_large_for_their_fields_stand_in_a_zip64_field():
    begin, size = directory(PLAIN)
    first = 46 + len("archive/data.pkl")
    entry = bytearray(PLAIN[begin : begin + first])
    held = struct.pack("<2HQ", 1, 8, struct.unpack_from("<I", entry, 24)[0])
    struct.pack_into("<I", entry, 24, 0xFFFFFFFF)
    struct.pack_into("<H", entry, 30, len(held))
    end = PLAIN[-22:-10] + struct.pack("<2IH", size + len(held), begin, 0)
    rest = PLAIN[begin + first : begin + size]
    assert records_of(PLAIN[:begin] + entry + held + rest + end) == records_of(PLAIN)
    struct.pack_into("<H", entry, 30, 2 * len(held))
    end = PLAIN[-22:-10] + struct.pack("<2IH", size + 2 * len(held), begin, 0)
    with pytest.raises(CorruptError, match="readers differ"):
        records_of(PLAIN[:begin] + entry + 2 * held + rest + end)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_whatever_is_accepted_torch_reads_as_the_same_pickle(tmp_path_factory, data):
    archive = bytearray(data.draw(st.sampled_from([TORCH, PLAIN, two_directories(zipped(SMALL * 9), PLAIN)])))
    for _ in range(data.draw(st.integers(1, 3))):
        # Mostly where the directory is.
        at = data.draw(st.integers(0, len(archive) - 1) | st.integers(max(0, len(archive) - 300), len(archive) - 1))
        new = data.draw(st.binary(min_size=1, max_size=4) | st.just(b"PK\x05\x06") | st.just(b"PK\x06\x07"))
        archive[at : at + len(new)] = new
    path = tmp_path_factory.getbasetemp() / "fuzzed.pth"
    path.write_bytes(archive)
    try:
        records = records_of(bytes(archive))
        mine = records["data.pkl"].read(archive)
    except (CorruptError, KeyError):
        return
    try:
        theirs = torch._C.PyTorchFileReader(str(path)).get_record("data.pkl")
    except (RuntimeError, UnicodeDecodeError):  # it refuses; the latter where its message quotes a strange name
        return
    assert mine == theirs


def test_a_key_that_is_an_endless_number_is_named_by_its_type(tmp_path):
    path = tmp_path / "k.pth"
    torch.save({10**5000: {"w": "x"}}, path)
    with pytest.raises(CorruptError, match="it holds int"):
        select_state(read_checkpoint(path), None)
