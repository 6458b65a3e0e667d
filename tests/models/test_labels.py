"""Labels: what a file may look like, and how people's spellings find a class."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmodels.errors import InputError
from classmodels.models.labels import find_class, load_labels
from classmodels.models.torchvision_compat import import_torchvision


def written(folder: Path, content: str | bytes, name: str = "labels.txt") -> str:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


def test_the_bundled_imagenet_labels_are_torchvisions_in_their_order():
    models = import_torchvision().models
    labels = load_labels("imagenet-1k", Path("/nowhere"))
    assert labels == models.get_model_weights("resnet18").DEFAULT.meta["categories"]
    assert (labels[248], labels[897]) == ("Eskimo dog", "washer")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("lines.txt", "tench\ngoldfish\n"),
        ("windows.txt", b"\xef\xbb\xbftench\r\ngoldfish\r\n\r\n"),
        ("synsets.txt", "n01440764 tench\nn01443537 goldfish\n"),
        ("list.json", '["tench", "goldfish"]'),
        ("mapping.json", '{"1": "goldfish", "0": "tench"}'),
        ("inverse.json", '{"goldfish": 1, "tench": 0}'),
        ("imagenet.json", '{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}'),
        ("json.txt", '["tench", "goldfish"]'),
    ],
)
def test_every_usual_file_gives_the_same_labels(tmp_path, name, content):
    assert load_labels(written(tmp_path, content, name), tmp_path) == ["tench", "goldfish"]


def test_a_text_line_that_begins_with_a_bracket_is_a_label(tmp_path):
    assert load_labels(written(tmp_path, "[other]\ncat\n"), tmp_path) == ["[other]", "cat"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.txt", "", "is empty"),
        ("latin.txt", b"caf\xe9\n", "no UTF-8 text"),
        ("blank.txt", "a\n\nb\n", "label 1 is empty"),
        ("long.txt", "x" * 2000, "2,000 characters"),
        ("broken.json", '["a", ', "no valid JSON"),
        ("deep.json", "[" * 100_000, "no valid JSON"),
        ("hole.json", '{"0": "a", "2": "b"}', 'no entry "1"'),
        ("number.json", "[1, 2]", "label 0 is a JSON int"),
        ("scalar.json", "3", "expected a list or a mapping"),
        ("twice.json", '{"a": 0, "b": 0}', "each once"),
        ("colour.json", r'["a", "\u001b[31mb"]', "label 1 holds the character #x001b"),
        ("half.json", r'["a", "b\ud800"]', "label 1 holds the character #xd800"),
        ("half.txt", r'{"0": "\udfff"}', "label 0 holds the character #xdfff"),
        ("inverse.json", r'{"a": 0, "b\u0000": 1}', "label 1 holds the character #x0000"),
        ("imagenet.json", r'{"0": ["n01440764", "ten\u007fch"]}', "label 0 holds the character #x007f"),
        ("two.json", r'["a\nb"]', "label 0 holds the character #x000a"),
        ("colour.txt", "a\n\x1b[31mb\n", "line 2 holds the character #x001b"),
        ("old.txt", "a\rb\n", "line 1 holds the character #x000d"),
        ("big.txt", "x\n" * 6_000_000, "larger than"),
        ("many.txt", "x\n" * 1_000_001, "1,000,001 labels"),
    ],
)
def test_a_wrong_file_is_refused_with_a_sentence(tmp_path, name, content, said):
    with pytest.raises(InputError, match=said):
        load_labels(written(tmp_path, content, name), tmp_path)


@pytest.mark.parametrize(
    ("spec", "said"),
    [("missing.txt", "does not exist"), (".", "is a folder"), ("gs://b/k", "expected s3://bucket/key")],
)
def test_a_file_that_cannot_be_had_is_named(tmp_path, spec, said):
    with pytest.raises(InputError, match=said):
        load_labels(spec, tmp_path)


def test_an_exact_name_wins_over_another_case():
    assert find_class("crane", ["Crane", "crane"]) == 1


def test_a_name_is_found_in_any_case_and_as_a_synonym():
    labels = ["tench, Tinca tinca", "ostrich, Struthio camelus"]
    assert find_class("TINCA TINCA", labels) == 0
    assert find_class(" ostrich, struthio camelus ", labels) == 1
    assert find_class("Struthio camelus", labels) == 1


def test_an_ambiguous_name_names_both_indices():
    with pytest.raises(InputError, match=r"1 \(crane\) and 3 \(crane\)"):
        find_class("crane", ["a", "crane", "b", "crane"])


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(InputError, match='did you mean "ostrich"'):
        find_class("ostritch", load_labels("imagenet-1k", Path()))


def test_nothing_is_suggested_where_nothing_is_near():
    with pytest.raises(InputError) as caught:
        find_class("qqqqqq", ["tench"])
    assert "did you mean" not in str(caught.value)


@given(st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8), min_size=1, unique=True))
def test_a_json_list_comes_back_and_each_label_finds_itself(labels):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "l.json").write_text(json.dumps(labels), encoding="utf-8")
        assert load_labels("l.json", Path(folder)) == labels
    assert [find_class(label, labels) for label in labels] == list(range(len(labels)))
