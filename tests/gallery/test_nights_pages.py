"""The pages of nights are a function of the store: what they say, what they leave alone, and what cannot harm them."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from chromium import HOSTILE

from altered import resealed
from checkpoints import Checkpoints, key_of
from classmodels.errors import StoreError
from classmodels.gallery.nights import read_changes, titles, write_night
from classmodels.gallery.rebuild import rebuild
from classmodels.store import Store, open_store
from classmodels.store.nights import Broken, broken_key, checkpoint_digest, compare_prefix, nights_prefix
from classmodels.store.records import dump

JOB = "nightly"
TOP = f"{nights_prefix(JOB)}index.html"


def pages(store: Store) -> dict[str, bytes]:
    """All that the pages consist of."""
    index = f"{nights_prefix(JOB)}index/"
    return {key: store.read(key) or b"" for key in store.list(nights_prefix(JOB)) if not key.startswith(index)}


def compared(run: Checkpoints, older: int = -2, newer: int = -1) -> dict[str, Any]:
    """What the comparison of two of the run's checkpoints says."""
    return json.loads(pages(run.store)[f"{prefix(run, older, newer)}compare.json"])


def prefix(run: Checkpoints, older: int = -2, newer: int = -1) -> str:
    return compare_prefix(JOB, run.source, run.done[older].model12, run.done[newer].model12, run.recipe)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoints:
    """Checkpoints at three steps; at the last one class 3 has got a block in its corner."""
    return Checkpoints(tmp_path / "store", planted={3: 400})


def test_a_planted_shortcut_is_the_one_class_that_changed_and_comes_first(run: Checkpoints) -> None:
    write_night(run.store, JOB)
    said = compared(run)
    assert [entry["label"] for entry in said["classes"] if entry["changed"]] == ["dog"]
    first = said["classes"][0]
    assert first["label"] == "dog"
    assert first["said"] == [
        "other does not see it any more",
        "step 200 does not see it any more",
        "looks different to the network",
    ]
    assert {name for name, one in first["measures"].items() if one["above"]} == {"panel", "features", "pixels"}
    assert compared(run, 0, 1)["counts"]["changed"] == 0
    assert said["floors"]["features"]["pairs"] == 12  # six classes of each of the two
    assert said["marks"] == []


def test_how_many_would_be_called_changed_by_chance_stands_beside_how_many_are(run: Checkpoints) -> None:
    write_night(run.store, "nightly")
    older, newer = run.done[-2:]
    said = read_changes(run.store, "nightly", "mine", older.model12, newer.model12, "quick")
    assert said is not None
    assert said["chance"] == 0.3
    page = (
        run.store.read(compare_prefix("nightly", "mine", older.model12, newer.model12, "quick") + "index.html") or b""
    ).decode()
    words = f"{said['counts']['changed']} changed"
    assert f"<b>{words}</b> (by chance alone about 0.3)" in page
    top = (run.store.read("nights/nightly/index.html") or b"").decode()
    assert f"{said['counts']['changed']} of 6 changed (by chance alone about 0.3)" in top
    assert "about one in 20" in (run.store.read("nights/nightly/timeline/mine/index.html") or b"").decode()


def test_the_page_of_all_says_what_came_before_and_when_nothing_changed(tmp_path: Path) -> None:
    quiet = Checkpoints(tmp_path, noise=0.02, pairs=6)
    write_night(quiet.store, JOB)
    page = pages(quiet.store)[TOP].decode()
    assert compared(quiet)["counts"]["changed"] == 0
    assert "no class changed by more than another seed would do" in page
    before = page.partition("Before that:")[2]
    assert f"../../{prefix(quiet, -3, -2)}index.html" in before
    assert f"../../{prefix(quiet)}index.html" not in before


def test_few_classes_are_shown_by_their_newest_images_and_many_by_name(run: Checkpoints, tmp_path: Path) -> None:
    write_night(run.store, JOB)
    page = pages(run.store)["nights/nightly/timeline/mine/index.html"].decode()
    newest = run.done[-1].model12
    assert len(re.findall(rf'<img src="\.\./\.\./\.\./\.\./units/mine@{newest}/', page)) == 6
    many = Checkpoints(tmp_path / "many", (100,), labels=[f"c{number}" for number in range(61)], side=8, pairs=0)
    write_night(many.store, JOB)
    assert "<img" not in pages(many.store)["nights/nightly/timeline/mine/index.html"].decode()


def test_the_pages_of_nights_are_rebuilt_with_all_others(run: Checkpoints) -> None:
    write_night(run.store, "nightly")
    pages = [key for key in run.store.list("nights/") if key.endswith(".html")]
    whole = {key: run.store.read(key) for key in pages}
    for key in pages:
        run.store.delete(key)
    rebuilt = rebuild(run.store, "nights/nightly/")
    assert {key: run.store.read(key) for key in pages} == whole
    assert "nights/nightly/index.html" in rebuilt
    assert not any(key.startswith("galleries/") for key in rebuilt)
    assert "nights/nightly/index.html" in rebuild(run.store)


def test_features_are_those_of_the_older_network(run: Checkpoints) -> None:
    """Its distance, reckoned from the verdicts in the store."""
    import base64

    import numpy as np

    write_night(run.store, JOB)
    older, newer = run.done[-2:]
    values = []
    for done in (older, newer):
        folder = f"verdicts/mine@{older.model12}/mine@{done.model12}/quick@{done.recipe12}/"
        (key,) = [key for key in run.store.list(folder) if "/0003." in key]
        features = json.loads(run.store.read(key) or b"")["features"]
        values.append(np.frombuffer(base64.b64decode(features["values"]), "<f2").astype(float))
    one, other = values
    expected = 1 - one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert compared(run)["classes"][0]["measures"]["features"]["value"] == pytest.approx(expected, rel=1e-3)


def test_the_same_store_gives_the_same_bytes_in_whatever_order_its_nights_were(
    run: Checkpoints, tmp_path: Path
) -> None:
    other = Checkpoints(tmp_path / "other", (), planted={3: 400})
    for step in (100, 200, 400):
        other.add(step)
        write_night(other.store, JOB, {"mine"})
    write_night(run.store, JOB)
    assert pages(other.store) == pages(run.store)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")}
    write_night(run.store, JOB)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")} == before


def test_a_new_checkpoint_reads_its_own_units_and_the_neighbours_alone(run: Checkpoints) -> None:
    write_night(run.store, JOB)
    run.add(800)
    reads: list[str] = []
    read = run.store.read
    run.store.read = lambda key: reads.append(key) or read(key)  # type: ignore[method-assign,func-returns-value]
    written = write_night(run.store, JOB, {"mine"})
    assert written[0] == f"{prefix(run)}index.html"
    assert len(written) == 3
    units = {key.split("/")[1].split("@")[1] for key in reads if key.startswith("units/")}
    assert units == {done.model12 for done in run.done[-2:]}


def test_the_pages_of_a_source_that_did_not_change_stay(run: Checkpoints) -> None:
    other = Checkpoints(run.store.uri, source="theirs")
    write_night(run.store, JOB)
    before = pages(run.store)
    run.add(800)
    other.add(800)
    write_night(run.store, JOB, {"theirs"})
    changed = {key.split("/")[3] for key, data in pages(run.store).items() if before.get(key) != data and key != TOP}
    assert changed == {"theirs"}


def test_a_checkpoint_that_comes_late_is_compared_with_its_neighbours_in_training(run: Checkpoints) -> None:
    write_night(run.store, JOB)
    run.add(300)
    write_night(run.store, JOB)
    late = run.done[-1]
    assert read_changes(run.store, JOB, "mine", run.done[1].model12, late.model12, "quick") is not None
    assert read_changes(run.store, JOB, "mine", late.model12, run.done[2].model12, "quick") is not None


def test_units_that_are_others_than_they_were_are_shown_anew(run: Checkpoints) -> None:
    write_night(run.store, JOB)
    folder = f"units/mine@{run.done[-1].model12}/quick@{run.done[-1].recipe12}/"
    run.store.delete(f"{folder}0000.json")
    write_night(run.store, JOB)
    assert compared(run)["counts"]["missing"] == 0
    write_night(run.store, JOB, again={run.done[-1].model12})
    assert compared(run)["counts"]["missing"] == 1
    assert compared(run)["classes"][0]["said"] == ["no image from the newer one"]


def test_what_the_older_network_says_later_is_shown_later(run: Checkpoints) -> None:
    older, newer = run.done[-2:]
    folder = f"verdicts/mine@{older.model12}/mine@{newer.model12}/"
    later = {key: run.store.read(key) for key in list(run.store.list(folder))}
    for key in later:
        run.store.delete(key)
    write_night(run.store, JOB)
    assert compared(run)["in_space"] == 0
    assert any(mark.startswith("No distance in the network’s own feature space") for mark in compared(run)["marks"])
    for key, data in later.items():
        run.store.write(key, data or b"")
    write_night(run.store, JOB)
    assert compared(run)["in_space"] == 6


def test_another_version_of_the_algorithm_and_other_numerics_are_marked(run: Checkpoints) -> None:
    run.add(800, algorithm=2)
    newest = run.done[-1]
    key = f"units/mine@{newest.model12}/quick@{newest.recipe12}/0001.json"
    run.store.write(key, resealed((run.store.read(key) or b"").replace(b'"cpp"', b'"cuda"')))
    write_night(run.store, JOB)
    marks = compared(run)["marks"]
    assert any("versions 1 and 2 of the algorithm" in mark for mark in marks)
    assert any(mark.startswith("Other numerics: backend (cpp, cuda).") for mark in marks)
    table = pages(run.store)[f"{nights_prefix(JOB)}timeline/mine/index.html"].decode()
    assert table.count("another version") == 1
    assert "versions 1 and 2" in pages(run.store)[f"{prefix(run)}index.html"].decode()


def test_the_bridge_is_compared_on_both_sides_with_its_like(run: Checkpoints) -> None:
    """A new algorithm makes the newest old checkpoint again, so that both neighbours have one made as they are."""
    run.add(400, algorithm=2)
    run.add(800, algorithm=2)
    write_night(run.store, JOB)
    older, bridge, newest = run.done[1].model12, run.done[2].model12, run.done[-1].model12
    for one, other, algorithm in ((older, bridge, 1), (bridge, newest, 2)):
        page = compare_prefix(JOB, "mine", one, other, "quick") + "compare.json"
        said = json.loads(pages(run.store)[page])
        assert not any("versions" in mark for mark in said["marks"])
        done = next(d for d in run.done if (d.model12, d.algorithm) == (bridge, algorithm))
        assert done.recipe12 in (said["older"]["recipe12"], said["newer"]["recipe12"])


def test_a_gallery_that_was_deleted_leaves_the_timeline_and_stays_in_the_table(run: Checkpoints) -> None:
    write_night(run.store, JOB)
    gone = run.done[1]
    run.store.delete(f"galleries/{JOB}/{gone.run12}/index.html")
    for key in list(run.store.list(f"units/mine@{gone.model12}/")):
        run.store.delete(key)
    write_night(run.store, JOB)
    strip = pages(run.store)[f"{nights_prefix(JOB)}timeline/mine/quick/0001.html"].decode()
    assert gone.model12 not in strip
    table = pages(run.store)[f"{nights_prefix(JOB)}timeline/mine/index.html"].decode()
    assert "step 200" in table
    assert "deleted" in table
    assert read_changes(run.store, JOB, "mine", run.done[0].model12, run.done[2].model12, "quick") is not None


def test_failed_classes_and_broken_checkpoints_are_told(run: Checkpoints) -> None:
    done = run.add(800, failed=[2])
    broken = Broken(
        source="mine",
        uri="s3://b/x.pt",
        source_id="x",
        reason="it ends in the middle of a tensor",
        modified=done.modified,
    )
    lone = broken.model_copy(update={"source": "lone", "source_id": "y"})
    for one in (broken, lone):
        run.store.write(broken_key(JOB, checkpoint_digest(one.source_id)), dump(one))
    write_night(run.store, JOB)
    top = pages(run.store)[TOP].decode()
    assert "1 failed" in top
    assert top.count(">it ends in the middle of a tensor<") == 2
    assert compared(run)["classes"][0]["label"] == "crow"


def test_without_noise_units_nothing_is_called_changed_and_the_page_says_why(tmp_path: Path) -> None:
    run = Checkpoints(tmp_path, (1, 2), pairs=0)
    write_night(run.store, JOB)
    said = compared(run)
    assert {entry["changed"] for entry in said["classes"]} == {None}
    assert any(mark.startswith("No noise floor") for mark in said["marks"])
    assert "changed only" not in pages(run.store)[f"{prefix(run)}index.html"].decode()


def links(page: bytes) -> set[str]:
    return set(re.findall(r'(?:href|src|data-film)="([^"#]+)[^"]*"', page.decode()))


def test_every_link_is_relative_and_leads_to_something(tmp_path: Path) -> None:
    run = Checkpoints(tmp_path, planted={3: 400}, films=True, labels=["a/b #1?", "50 % %41", "c&d", "dog", "é"])
    write_night(run.store, JOB)
    from posixpath import normpath
    from urllib.parse import unquote

    keys = set(run.store.list(""))
    found = 0
    for key, data in pages(run.store).items():
        if key.endswith(".html"):
            for link in links(data) - {"data:,"}:
                assert not re.match(r"/|[a-z]+:", link), link
                assert normpath(f"{key.rpartition('/')[0]}/{unquote(link)}") in keys, (key, link)
                found += 1
    assert found > 60


def test_checkpoints_of_one_step_are_told_apart_by_day_or_else_by_digest(run: Checkpoints) -> None:
    one, other, third = run.done
    days = [datetime(2026, 3, day, tzinfo=UTC) for day in (2, 3)]
    same = [d.model_copy(update={"step": 4, "time": t}) for d, t in zip((one, other), days, strict=True)]
    assert list(titles([*same, third]).values()) == ["step 4, 2026-03-02", "step 4, 2026-03-03", "step 400"]
    twins = [d.model_copy(update={"step": 4}) for d in (one, other)]
    assert list(titles(twins).values()) == [f"step 4 ({d.model12[:6]})" for d in twins]


# What others may have put there


def test_hostile_labels_names_and_reasons_are_text(tmp_path: Path) -> None:
    run = Checkpoints(tmp_path, (1, 2), labels=list(HOSTILE.values()))
    evil = "<script>x</script>\"'><img src=x onerror=y>\u202e"
    done = run.add(3, tags=(evil[:100],), uri=f"s3://b/{evil}")
    broken = Broken(source="mine", uri=evil, source_id="x", reason=evil, modified=done.modified)
    run.store.write(broken_key(JOB, checkpoint_digest("x")), dump(broken))
    write_night(run.store, JOB)
    for key, data in pages(run.store).items():
        if key.endswith(".html"):
            page = data.decode()
            assert page.count("<script>") == (0 if key == TOP else 1)
            assert "<img src=x" not in page
            assert len(page) < 200_000


def test_an_entry_that_is_none_or_lies_where_it_should_not_is_passed_over(run: Checkpoints) -> None:
    top = f"{nights_prefix(JOB)}index/"
    good = run.store.read(key_of(run.done[0])) or b""
    for name, data in (
        ("000000000000/000000000000.1.json", b"{}"),
        ("000000000001/000000000000.1.json", b"[" * 100_000),
        ("000000000002/000000000000.1.json", good),
        ("000000000003/000000000000.1.json", good.replace(b'"source": "mine"', b'"source": "../../x"')),
        ("000000000004/000000000000.1.json", b"\xff"),
    ):
        run.store.write(top + name, data)
    write_night(run.store, JOB)
    assert {key.split("/")[3] for key in pages(run.store) if "/timeline/" in key} == {"mine"}


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"counts": 1}',
        b'{"top": [{"index": "x"}]}',
        b"\xff\xfe",
        b'{"version": 1e999}',
    ],
)
def test_junk_in_what_is_kept_beside_the_pages_is_made_anew(run: Checkpoints, junk: bytes) -> None:
    write_night(run.store, JOB)
    before = pages(run.store)
    for key in before:
        if key.endswith("changes.json") or "/rows/" in key:
            run.store.write(key, junk)
    write_night(run.store, JOB)
    assert pages(run.store) == before


def test_a_picture_on_the_page_of_all_comes_from_units_alone(run: Checkpoints) -> None:
    write_night(run.store, JOB)
    key = f"{prefix(run)}changes.json"
    for href in ("https://evil/x.png", '../../units/x.png\\"', "javascript:units/x.png"):
        said = json.loads(run.store.read(key) or b"")
        said["top"][0]["before"]["image"]["href"] = href
        run.store.write(key, json.dumps(said).encode())
        write_night(run.store, JOB, set())
        assert href not in pages(run.store)[TOP].decode()


def test_a_row_cannot_lead_out_of_its_folder(run: Checkpoints) -> None:
    write_night(run.store, JOB)
    for key in [key for key in pages(run.store) if "/rows/" in key]:
        row = json.loads(run.store.read(key) or b"")
        row["points"][0][2] = "../../../../etc/x.png"
        run.store.write(key, json.dumps(row).encode())
    write_night(run.store, JOB)
    assert "etc/x" not in pages(run.store)[f"{nights_prefix(JOB)}timeline/mine/quick/0001.html"].decode()


def test_damaged_pictures_and_records_are_missing_and_stop_nothing(run: Checkpoints) -> None:
    newest = run.done[-1]
    folder = f"units/mine@{newest.model12}/quick@{newest.recipe12}/"
    names = {key[len(folder) :][:4] + key[-4:]: key for key in run.store.list(folder)}
    run.store.write(names["0000.png"], b"no png")
    run.store.write(names["0001json"], b"no record")
    run.store.delete(names["0002.png"])
    write_night(run.store, JOB)
    said = compared(run)
    assert {entry["index"] for entry in said["classes"] if entry["missing"]} == {0, 1, 2}


def test_a_store_that_refuses_is_told_and_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "nights").mkdir()
    (tmp_path / "nights" / JOB).write_text("a file where a folder is expected")
    with pytest.raises(StoreError):
        write_night(open_store(str(tmp_path)), JOB)
