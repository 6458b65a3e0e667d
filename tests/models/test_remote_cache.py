"""The cache: shared by processes, bounded, and never a wrong file; where it lies; what is said where it cannot be."""

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import pytest

import web as servers
from classmodels.errors import InputError, StoreError
from classmodels.models.remote import room
from classmodels.models.remote.base import Listener
from classmodels.models.remote.cache import Cache
from classmodels.models.remote.disk import telling
from classmodels.models.remote.elsewhere import Elsewhere
from classmodels.models.remote.place import PLACE, SIZE, find_limit, find_place

DATA = bytes(range(256)) * 2048  # 512 KiB

FETCH = """
import sys
from classmodels.models.remote import download
from classmodels.models.remote.elsewhere import Elsewhere
download.SYNC_SECONDS = 0
with Elsewhere().open(sys.argv[1]).held() as path:
    print(path.stat().st_size)
"""


def content(name: str) -> bytes:
    with Elsewhere().open(name).held() as path:
        return path.read_bytes()


def objects(root: Path) -> set[str]:
    return {path.name for path in (root / "objects").iterdir() if not path.suffix}


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def another_process(name: str, **how) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", FETCH, name], stdout=-1, stderr=-1, text=True, **how)


# Shared


def test_two_processes_at_once_download_once(web, cache_root):
    url = web.put("/w.pth", DATA)
    web.usual = lambda handler: servers.passed(handler) if handler.command == "HEAD" else servers.slow(handler)
    both = [another_process(url), another_process(url)]
    ended = [process.communicate(timeout=30) for process in both]
    assert ended == [(f"{len(DATA)}\n", "")] * 2
    assert sorted(web.seen) == ["GET /w.pth", "HEAD /w.pth", "HEAD /w.pth"]
    assert objects(cache_root) == {digest(DATA)}


def test_who_waits_for_another_process_says_so(web, cache_root):
    url = web.put("/w.pth", DATA)
    web.next(servers.passed, servers.slow)
    said: list[str] = []

    class Ears(Listener):
        def say(self, text: str) -> None:
            said.append(text)

    first = threading.Thread(target=content, args=(url,))
    first.start()
    while len(web.seen) < 2:
        time.sleep(0.01)
    Elsewhere(listener=Ears()).open(url)
    first.join()
    assert said == [f"{url} is being fetched by another process: waiting for it"]
    assert web.seen.count("GET /w.pth") == 1


def test_a_download_that_is_killed_goes_on_where_it_was(web, cache_root):
    url = web.put("/w.pth", DATA)
    web.next(servers.passed, servers.slow)
    process = another_process(url)
    part = cache_root / "parts"
    while not any(path.stat().st_size > len(DATA) // 4 for path in part.glob("[0-9a-f]" * 64)):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (cache_root / "objects").exists()
    assert content(url) == DATA
    *_, last = web.seen
    start = int(last.removeprefix("GET /w.pth bytes=").removesuffix("-"))
    assert len(DATA) // 8 < start < len(DATA)
    assert list(part.iterdir()) == []


@pytest.mark.parametrize("longer", [b"", b"and more"])
def test_an_object_that_was_altered_on_the_disk_is_fetched_anew(web, cache_root, longer):
    url = web.put("/w.pth", DATA)
    assert content(url) == DATA
    path = cache_root / "objects" / digest(DATA)
    path.write_bytes(b"altered" + DATA[7:] + longer)
    assert content(url) == DATA
    assert web.seen[-1] == "GET /w.pth"


def test_an_object_that_was_only_copied_is_digested_again_and_kept(web, cache_root):
    url = web.put("/w.pth", DATA)
    content(url)
    os.utime(cache_root / "objects" / digest(DATA), (1, 1))
    (cache_root / "objects" / f"{digest(DATA)}.json").unlink()
    assert content(url) == DATA
    assert web.seen == ["HEAD /w.pth", "GET /w.pth", "HEAD /w.pth"]


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"sha256": 3}', b'{"sha256": "../../etc/passwd"}', b"[" * 60000])
def test_notes_that_make_no_sense_are_as_good_as_none(web, cache_root, note):
    url = web.put("/w.pth", DATA)
    content(url)
    for path in cache_root.rglob("*.json"):
        path.write_bytes(note)
    assert content(url) == DATA


# Bounded


@pytest.fixture
def small(cache_root, monkeypatch):
    """A cache with room for three files of DATA's length."""
    monkeypatch.setenv(SIZE, str(3 * len(DATA) + 100))
    return cache_root


def varied(number: int) -> bytes:
    return bytes([number]) + DATA[1:]


def test_what_was_used_longest_ago_makes_room(web, small):
    urls = [web.put(f"/{number}.pth", varied(number)) for number in range(4)]
    for url in urls[:3]:
        content(url)
    content(urls[0])
    content(urls[3])
    assert objects(small) == {digest(varied(number)) for number in (0, 2, 3)}
    assert room.size_of(small) <= 3 * len(DATA) + 100
    web.seen.clear()
    # What it was is still known: only what is needed comes again.
    assert Elsewhere().open(urls[1]).sha256 == digest(varied(1))
    assert web.seen == ["HEAD /1.pth"]
    assert content(urls[1]) == varied(1)


def test_what_a_living_process_uses_is_not_removed(web, small):
    urls = [web.put(f"/{number}.pth", varied(number)) for number in range(6)]
    with Elsewhere().open(urls[0]).held() as path:
        for url in urls[1:]:
            content(url)
        assert path.read_bytes() == varied(0)
        assert len(objects(small)) == 3
    content(urls[1])
    assert digest(varied(0)) not in objects(small)


def test_the_rest_of_a_download_that_nobody_goes_on_with_makes_room_too(web, small):
    url = web.put("/w.pth", DATA)
    process = another_process(url)
    process.communicate()
    (small / "parts").mkdir(exist_ok=True)
    left = small / "parts" / ("a" * 64)
    left.write_bytes(DATA)
    os.utime(left, (1, 1))
    for number in (1, 2):
        content(web.put(f"/{number}.pth", varied(number)))
    assert not left.exists()
    assert len(objects(small)) == 3


def test_a_file_larger_than_the_whole_cache_is_refused_before_it_comes(web, small):
    url = web.put("/w.pth", DATA * 4)
    with pytest.raises(StoreError, match=rf"has 2.1 MB and the cache {small} may hold 1.6 MB: raise {SIZE}"):
        content(url)
    assert web.seen == ["HEAD /w.pth"]
    chunked = web.put("/c.pth", DATA * 4, framing="chunked")
    with pytest.raises(InputError, match="larger than the 1,572,964 bytes"):
        content(chunked)
    assert list((small / "parts").iterdir()) == []


def test_two_that_hold_and_clean_at_once_never_lose_a_file(web, small):
    urls = [web.put(f"/{number}.pth", varied(number)) for number in range(5)]
    wrong: list[object] = []

    def reader(order: int) -> None:
        for step in range(10):
            number = (step * order) % 5
            if content(urls[number]) != varied(number):
                wrong.append(number)

    with ExitStack() as stack:
        threads = [threading.Thread(target=reader, args=(order,)) for order in (1, 2, 3)]
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
    assert wrong == []
    assert room.size_of(small) <= 3 * len(DATA) + 100


@pytest.mark.parametrize(
    ("named", "size"), [("1000", 1000), ("2kB", 2000), ("1.5 GB", 1_500_000_000), ("20GiB", 20 << 30), ("1t", 10**12)]
)
def test_the_bound_is_read_as_people_write_sizes(tmp_path, monkeypatch, named, size):
    monkeypatch.setenv(SIZE, named)
    assert find_limit(tmp_path) == size


def test_a_bound_that_is_none_is_refused_and_without_one_half_a_disk_is_the_most(tmp_path, monkeypatch):
    monkeypatch.setenv(SIZE, "plenty")
    with pytest.raises(InputError, match="found 'plenty', expected a number of bytes such as 50GB"):
        find_limit(tmp_path)
    monkeypatch.delenv(SIZE)
    assert 0 < find_limit(tmp_path / "not" / "there") <= 50_000_000_000


# Where


def test_the_cache_lies_where_caches_lie(tmp_path, monkeypatch):
    monkeypatch.delenv(PLACE)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert find_place() == tmp_path / ".cache" / "classmodels"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert find_place() == tmp_path / "xdg" / "classmodels"
    assert find_place().stat().st_mode & 0o777 == 0o700


def test_without_a_home_that_can_be_written_to_it_lies_among_temporary_files(tmp_path, monkeypatch):
    monkeypatch.delenv(PLACE)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ours = tmp_path / f"classmodels-{os.getuid()}"
    monkeypatch.setenv("HOME", "/proc/nowhere")
    assert find_place() == ours
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert find_place() == ours
    ours.chmod(0o777)
    with pytest.raises(StoreError, match="not a folder of this user's alone"):
        find_place()
    ours.rmdir()
    ours.symlink_to(tmp_path)
    with pytest.raises(StoreError, match="not a folder of this user's alone"):
        find_place()


def test_a_place_that_is_no_folder_is_said(web, cache_root):
    cache_root.write_text("a file")
    with pytest.raises(
        StoreError, match=f"cannot use the cache {cache_root}: a file stands where a folder is expected"
    ):
        content(web.put("/w.pth", DATA))


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EACCES, "permission denied; mend its permissions, or name a folder .* with CLASSMODELS_CACHE"),
        (errno.EROFS, "read-only file system; mend its permissions"),
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EDQUOT, "the disk is full"),
        (errno.ENOLCK, "its file system knows no locks; name a folder on a local disk"),
        (errno.EIO, "input/output error"),
    ],
)
def test_what_the_file_system_refuses_is_said_in_one_sentence(tmp_path, number, said):
    with pytest.raises(StoreError, match=said), telling(tmp_path):
        raise OSError(number, "x")


@pytest.mark.parametrize("mode", [0o500, 0o000], ids=["read-only", "closed"])
def test_a_cache_that_may_not_be_written_to_is_said(web, cache_root, mode):
    cache_root.mkdir(mode=mode)
    # Root may do anything, so that it becomes nobody once all is imported.
    nobody = "import os, classmodels.models.remote.https\nos.getuid() or os.setuid(65534)\nwith Elsewhere"
    url = web.put("/w.pth", DATA)
    script = FETCH.replace("with Elsewhere", nobody)
    err = subprocess.run([sys.executable, "-c", script, url], stderr=-1, text=True, check=False).stderr
    assert f"StoreError: cannot use the cache {cache_root}: permission denied; mend its permissions" in err
    assert "GET /w.pth" not in web.seen


def test_a_disk_that_fills_up_keeps_what_came(web, cache_root):
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(DATA) // 2, resource.RLIM_INFINITY))

    url = web.put("/w.pth", DATA)
    _, err = another_process(url, preexec_fn=limited).communicate()
    assert f"StoreError: cannot use the cache {cache_root}: the disk is full; free some space" in err
    assert not (cache_root / "objects").exists()
    assert content(url) == DATA
    assert web.seen[-1] == f"GET /w.pth bytes={len(DATA) // 2}-"


def test_a_disk_that_is_too_full_is_said_before_anything_comes(web, cache_root, monkeypatch):
    monkeypatch.setattr(room, "_free", lambda root: 1000)
    with pytest.raises(StoreError, match=r"the disk is full: 524.3 kB are to come and 1.0 kB are free"):
        content(web.put("/w.pth", DATA))
    assert web.seen == ["HEAD /w.pth"]


def test_a_cache_that_can_only_be_read_serves_what_it_holds(web, cache_root, monkeypatch):
    url = web.put("/w.pth", DATA)
    content(url)
    monkeypatch.setattr(os, "utime", lambda *_: (_ for _ in ()).throw(OSError(errno.EROFS, "read-only")))
    assert content(url) == DATA
    assert Cache(cache_root, 0).hold("0" * 64) is None
