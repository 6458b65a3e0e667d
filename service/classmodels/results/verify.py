"""`verify`: is everything in a place what its record says it is, and does everything lead where it should.

Every object is read. What is missing because it was never made (units of a run that goes on, verdicts to come) is no
difference; what a record, a verdict or a page names and is not there is one.
"""

import hashlib
import io
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from html.parser import HTMLParser
from posixpath import normpath
from typing import Any
from urllib.parse import unquote, urlsplit

from PIL import Image

from classmodels.errors import DamagedError
from classmodels.gallery.page import DATA, PAGE, SHEET, pointer
from classmodels.gallery.small import is_small, is_whole
from classmodels.results.names import files_of
from classmodels.results.place import Place
from classmodels.results.progress import Meter
from classmodels.results.survey import Gallery, Survey, latest_run, record_of_verdict, survey
from classmodels.store import Entry, FileEntry, Verdict
from classmodels.store.base import Read
from classmodels.store.believed import FILE_BYTES, OBJECT_BYTES, PIXELS, record_of
from classmodels.store.records import Tombstone, gallery_prefix, latest_key, parse, tombstone_key, verdict_key
from classmodels.store.seal import has_seal, is_sealed

THREADS = 32
REDO = "delete this record and run the job again to have it made anew; in a pulled folder, pull again"
REBUILD = "run the job again, or only rebuild the page with `classmodels gallery`"
REMAKE = "rebuild the page with `classmodels gallery`"
REPOINT = "delete it, and run the job again to have it made anew; in a pulled folder, pull again"
JUDGE_AGAIN = "delete this verdict and run the job again to have it given anew; in a pulled folder, pull again"


@dataclass(frozen=True)
class Difference:
    """Something that is not what it should be: `found` says what is there instead, `advice` what to do about it."""

    key: str
    found: str
    advice: str


@dataclass
class Verified:
    """What was looked at, and the differences. unfinished: units that a plan names and that have no record."""

    objects: int = 0
    bytes: int = 0
    unfinished: int = 0
    differences: list[Difference] = field(default_factory=list)
    seconds: float = 0.0


def verify(place: Place, meter: Meter) -> Verified:
    """Recheck every object of `place`. Raises StoreError where it cannot be read at all."""
    began = time.monotonic()
    found = survey(place)
    report = Verified()
    for key, wrong in found.strange.items():
        report.differences.append(Difference(key, wrong, "run the job again, which writes its plan anew"))
    objects = found.records | found.files | found.verdicts
    for gallery in found.galleries:
        objects |= gallery.objects
        report.unfinished += sum(key not in found.records for key in gallery.plan.records)
    meter.begin(f"verify {place}", sum(entry.size for entry in objects.values()))

    def add(looked: "_Look") -> None:
        report.objects += looked.objects
        report.bytes += looked.bytes
        report.differences += looked.differences
        meter.step(looked.bytes)

    with place.store.reading() as read, ThreadPoolExecutor(THREADS, "verify") as threads:
        units = {threads.submit(_unit, found, key, _Look(read)): key for key in found.records}
        images: dict[str, str] = {}
        try:
            for future in as_completed(units):
                looked = future.result()
                images[units[future]] = looked.image
                add(looked)
            others = [
                threads.submit(_verdict, key, entry, _Look(read), images) for key, entry in found.verdicts.items()
            ]
            others += [threads.submit(_gallery, one, found, _Look(read), images) for one in found.galleries]
            for future in as_completed(others):
                add(future.result())
        finally:  # where one fails for all, or at Ctrl-C, the others need not begin
            threads.shutdown(wait=False, cancel_futures=True)
    report.differences += _pointers(found)
    report.differences.sort(key=lambda one: one.key)
    report.seconds = time.monotonic() - began
    return report


class _Look:
    """A look at some objects: counts what it reads, and gathers the differences. image: digest of the unit's image."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self.objects = self.bytes = 0
        self.differences: list[Difference] = []
        self.image = ""

    def read(self, key: str, entry: Entry | None, most: int = FILE_BYTES) -> tuple[bytes | None, str]:
        """The object's bytes; or None, and why there are none. entry: as it is listed."""
        if entry is not None and entry.size > most:
            return None, "it is larger than any such object is"
        try:
            data = self._read(key)
        except DamagedError:
            return None, "its bytes are not those that were written"
        if data is None:
            return None, "it is not there"
        self.objects, self.bytes = self.objects + 1, self.bytes + len(data)
        return data, ""

    def differs(self, key: str, found: str, advice: str) -> None:
        self.differences.append(Difference(key, found, advice))


def _unit(found: Survey, key: str, look: _Look) -> _Look:
    """Check a record and its files."""
    data, wrong = look.read(key, found.records[key], OBJECT_BYTES)
    record = record_of(key, data) if data is not None else None
    if record is None:
        look.differs(key, wrong or "it is no record of this unit, or damaged", REDO)
        return look
    look.image = record.image.sha256
    for file in files_of(record):
        at = f"{key.rpartition('/')[0]}/{file.name}"
        content, wrong = look.read(at, found.files.get(at))
        if content is not None:
            wrong = _unlike(file, content)
        if wrong:
            look.differs(at, wrong, f"delete {key} and run the job again; in a pulled folder, pull again")
    return look


def _unlike(file: FileEntry, data: bytes) -> str:
    """How `data` differs from what its record says; empty where it does not."""
    if len(data) != file.bytes:
        return f"it has {len(data)} bytes, expected {file.bytes}"
    if (sha256 := hashlib.sha256(data).hexdigest()) != file.sha256:
        return f"its sha256 is {sha256[:12]}…, expected {file.sha256[:12]}…"
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "WEBP", "GIF")) as image:
            if image.size != (file.width, file.height):
                return f"it shows {image.width} x {image.height} pixels, expected {file.width} x {file.height}"
            if image.width * image.height > PIXELS:
                return f"it is larger than the {PIXELS >> 20} million pixels that any image has"
            for frame in range(getattr(image, "n_frames", 1)):
                image.seek(frame)
                image.load()
    except Exception as error:  # what Pillow raises on bytes made to mislead it is of many kinds
        return f"it cannot be decoded: {type(error).__name__}"
    return ""


def _verdict(key: str, entry: Entry, look: _Look, images: dict[str, str]) -> _Look:
    """Check that a verdict is one, lies where it should, and is on an image that exists."""
    data, wrong = look.read(key, entry, OBJECT_BYTES)
    verdict = parse(Verdict, data) if data is not None else None
    on = record_of_verdict(key)
    if verdict is None:
        look.differs(key, wrong or "it is no verdict, or damaged", JUDGE_AGAIN)
        return look
    judge, _, model12 = key.split("/")[1].rpartition("@")
    if verdict_key(judge, model12, verdict.judge12, verdict.record, verdict.image_sha256) != key:
        look.differs(key, "it is a verdict of another judge, or on another image", JUDGE_AGAIN)
    elif on not in images:
        look.differs(key, f"it is on an image that does not exist: there is no {on}", "delete this verdict")
    elif images[on] and images[on] != verdict.image_sha256:
        look.differs(key, "it is on an image that has been replaced by another", "delete this verdict")
    return look


def _gallery(gallery: Gallery, found: Survey, look: _Look, images: dict[str, str]) -> _Look:
    """Check that the links of a gallery lead to objects, and that it shows the images that the records name."""
    if not gallery.objects:  # its run has not come to an end yet
        return look
    tombstone = tombstone_key(gallery.plan.job, gallery.plan.run12)
    stone, _ = look.read(tombstone, gallery.objects.get(tombstone), OBJECT_BYTES)
    if tombstone in gallery.objects and parse(Tombstone, stone or b"") is None:
        look.differs(tombstone, "it is no tombstone, or damaged", "delete it")
    there = found.records.keys() | found.files.keys() | gallery.objects.keys()
    digests: dict[str, str] = {}
    for name in (DATA, SHEET, PAGE):
        key = gallery.prefix + name
        if name == SHEET and key not in gallery.objects:
            continue  # the page's link to it leads nowhere
        data, wrong = look.read(key, gallery.objects.get(key))
        if data is not None:
            try:
                if name == DATA:
                    wrong, digests = _unlike_data(data, gallery, images)
                elif (sha256 := hashlib.sha256(data).hexdigest()) != digests.get(name, sha256):
                    wrong = f"its sha256 is {sha256[:12]}…, expected {digests[name][:12]}…"
                links = set(_json_links(data) if name == DATA else _html_links(data) if name == PAGE else ())
                lost = sorted(link for link in links if normpath(gallery.prefix + unquote(link)) not in there)
                if lost and not wrong:
                    others = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
                    wrong = f"it links to {unquote(lost[0])}{others}, which is not there"
            except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
                wrong = "it cannot be read"
        if wrong:
            look.differs(key, wrong, REBUILD)
    for key, entry in gallery.objects.items():
        name = key.removeprefix(gallery.prefix)
        if is_small(name):
            data, wrong = look.read(key, entry)
            if data is None or not is_whole(name, data):
                look.differs(key, wrong or "its bytes are not those that were written", REMAKE)
    return look


def _unlike_data(data: bytes, gallery: Gallery, images: dict[str, str]) -> tuple[str, dict[str, str]]:
    """How the data of a gallery differs from what was written or is so now; and the digests that it names of files."""
    said = json.loads(data)
    digests: dict[str, str] = said.get("files", {})  # one of an older version names none
    if (digests or has_seal(data)) and not is_sealed(data):
        return "its bytes are not those that were written", {}
    unit = _outdated(said, gallery, images)
    return f"it shows another image than {unit} names" if unit is not None else "", digests


def _json_links(data: bytes) -> Iterator[str]:
    for unit in json.loads(data)["units"]:
        if unit.get("state") == "done":
            yield unit["record"]
            yield unit["image"]["href"]
            if unit.get("animation"):
                yield unit["animation"]["href"]


def _html_links(data: bytes) -> list[str]:
    """The relative links of a page, without those to places in itself."""

    class Links(HTMLParser):
        found: list[str] = []

        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            self.found += [value for name, value in attributes if name in ("href", "src") and value]

    parser = Links()
    parser.found = []
    parser.feed(data.decode())
    parts = [urlsplit(link) for link in parser.found]
    return [part.path for part in parts if part.path and not part.scheme and not part.netloc]


def _outdated(said: dict[str, Any], gallery: Gallery, images: dict[str, str]) -> str | None:
    """The record of a unit of which the page shows another image than the record names; None where there is none."""
    records = list(dict.fromkeys(gallery.plan.records))
    for key, unit in zip(records, said["units"], strict=False):
        image = images.get(key)
        if image and unit["state"] == "done" and unit["image"]["sha256"] != image:
            return key
    return None


def _pointers(found: Survey) -> Iterator[Difference]:
    """Whether the pointers to the latest galleries are such, and lead to one."""
    store = found.place.store
    for job in sorted({one.plan.job for one in found.galleries}):
        key, run12 = latest_key(job), latest_run(store, job)
        try:
            data = store.read(key)
        except DamagedError:
            data = b""
        page = f"{gallery_prefix(job, run12 or '')}{PAGE}"
        if data is not None and (run12 is None or data != pointer(run12)):
            yield Difference(key, "it is no pointer to a gallery, or damaged", REPOINT)
        elif data is not None and next(store.list(page), None) is None:
            yield Difference(key, f"it points to {page}, which is not there", REPOINT)
