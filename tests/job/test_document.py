"""What a job file says: YAML 1.2 as plain data, every value with its place, and nothing that harms."""

import contextlib
import math
import time
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from classmodels.errors import InputError
from classmodels.job import document
from classmodels.job.document import MAX_DEPTH, MAX_VALUES, Document, JobFileError, parse, read


def data_of(text: str) -> Any:
    return parse(text.encode(), "job.yaml").data


def refusal(data: bytes | str) -> str:
    with pytest.raises(JobFileError) as caught:
        parse(data.encode() if isinstance(data, str) else data, "job.yaml")
    return str(caught.value)


# Places


def test_every_value_and_key_has_its_line_and_column() -> None:
    parsed = parse(b"name: a\nmodels:\n  - name: b\n    input: {size: [8, 9]}\n", "job.yaml")
    assert parsed.places == {
        (): (1, 1),
        ("name",): (1, 7),
        ("models",): (3, 3),
        ("models", 0): (3, 5),
        ("models", 0, "name"): (3, 11),
        ("models", 0, "input"): (4, 12),
        ("models", 0, "input", "size"): (4, 19),
        ("models", 0, "input", "size", 0): (4, 20),
        ("models", 0, "input", "size", 1): (4, 23),
    }
    assert parsed.keys == {
        ("name",): (1, 1),
        ("models",): (2, 1),
        ("models", 0, "name"): (3, 5),
        ("models", 0, "input"): (4, 5),
        ("models", 0, "input", "size"): (4, 13),
    }


def test_columns_count_characters_not_bytes() -> None:
    assert parse("{é: ü, b: 1}".encode(), "j").places[("b",)] == (1, 11)


def test_windows_line_ends_and_a_byte_order_mark_move_nothing() -> None:
    parsed = parse(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n", "j")
    assert parsed.data == {"a": 1, "b": 2}
    assert parsed.keys == {("a",): (1, 1), ("b",): (2, 1)}


def test_a_problem_stands_at_the_value_or_at_the_key_or_at_what_should_hold_it() -> None:
    parsed = parse(b"a:\n  b: 1\n", "job.yaml")
    assert str(parsed.problem(("a", "b"), "wrong")) == "job.yaml:2:6: wrong"
    assert str(parsed.problem(("a", "b"), "wrong", key=True)) == "job.yaml:2:3: wrong"
    assert str(parsed.problem(("a", "c", "d"), "missing")) == "job.yaml:2:3: missing"
    assert str(Document("job.yaml", None).problem(("a",), "nothing")) == "job.yaml:1:1: nothing"


# Types


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # text, where YAML 1.1 sees something else
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("tRUE", "tRUE"),
        ("12:30", "12:30"),
        ("190:20:30", "190:20:30"),
        ("2020-01-01", "2020-01-01"),
        ("2001-12-14t21:59:43.10-05:00", "2001-12-14t21:59:43.10-05:00"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("10-19", "10-19"),
        ("1.2.3", "1.2.3"),
        ("0o9", "0o9"),
        ("0x", "0x"),
        ("=", "="),
        ("'1'", "1"),
        ('"true"', "true"),
        # true and false
        ("true", True),
        ("FALSE", False),
        # nothing
        ("~", None),
        ("null", None),
        ("", None),
        # numbers
        ("012", 12),
        ("+5", 5),
        ("-5", -5),
        ("0o17", 15),
        ("0x1F", 31),
        ("1e-3", 0.001),
        ("1e3", 1000.0),
        ("1E+3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-0.0", -0.0),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("1e999", math.inf),
    ],
)
def test_plain_values_have_the_types_of_yaml_1_2(text: str, value: Any) -> None:
    found = data_of(f"a: {text}\n")["a"]
    assert found == value
    assert type(found) is type(value)


def test_nan_is_a_number_that_is_none() -> None:
    assert math.isnan(data_of("a: .nan")["a"])


def test_a_version_directive_of_yaml_1_1_changes_no_type() -> None:
    assert data_of("%YAML 1.1\n---\na: no") == {"a": "no"}


def test_numbers_and_booleans_as_keys_are_the_words_they_were_written_as() -> None:
    assert data_of("0: tench\n007: bond\ntrue: yes") == {"0": "tench", "007": "bond", "true": "yes"}


def test_the_merge_key_is_an_ordinary_key() -> None:
    assert data_of("a: &a {x: 1}\nb: {<<: *a, y: 2}") == {"a": {"x": 1}, "b": {"<<": {"x": 1}, "y": 2}}


def test_an_alias_stands_for_a_copy_of_its_own() -> None:
    data = data_of("a: &a [1]\nb: *a")
    assert data == {"a": [1], "b": [1]}
    assert data["a"] is not data["b"]


# Refusals


def test_a_duplicate_key_is_refused_with_both_lines() -> None:
    assert refusal("a: 1\nb: 2\na: 3\n") == "job.yaml:3:1: found 'a' a second time, it already stands in line 1"
    assert "line 1" in refusal('a: 1\n"a": 2')
    assert "job.yaml:2:1" in refusal("1: a\n'1': b")


def test_all_duplicates_are_told_at_once_in_the_order_of_the_file() -> None:
    lines = refusal("x: {b: 1, b: 2}\na: 1\nx: 3\na: 4").split("\n")
    assert [line.partition(": ")[0] for line in lines] == ["job.yaml:1:11", "job.yaml:3:1", "job.yaml:4:1"]


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system [touch /tmp/pwned]",
        "a: !!python/object:os.system x",
        "a: !!python/name:os.system",
        "a: !!python/tuple [1]",
        "a: !own [1]",
        "a: !own {b: 1}",
        "a: !own x",
        "a: !!set {x}",
        "a: !!omap [x: 1]",
        "a: !!binary aGk=",
        "a: !!timestamp 2001-01-01",
        "a: !!int abc",
        "a: !!int ''",
        "a: !!int 1_0",
        "a: !!int 0x",
        "a: !<tag:yaml.org,2002:int> 0o",
        "a: !!float abc",
        "a: !!bool yes",
        "a: !!null x",
        "!!int x: 1",
        "%TAG ! tag:elsewhere:\n---\na: !int 5",
        "%TAG ! tag:elsewhere,2002:\n---\na: !map {b: 1}",
    ],
)
def test_tags_are_refused(text: str) -> None:
    assert "expected plain YAML without tags" in refusal(text)


def test_tags_that_say_what_the_value_is_anyway_are_harmless() -> None:
    assert data_of("a: !!str 5\nb: !!int 5\nc: !!map {}\nd: !!seq []") == {"a": "5", "b": 5, "c": {}, "d": []}


@pytest.mark.parametrize("text", ["? [1]\n: 2", "? {a: 1}\n: 2", "~: 1", "null: 1"])
def test_a_key_that_is_no_word_is_refused(text: str) -> None:
    assert "found a key that is no word" in refusal(text)


def test_an_alias_bomb_is_refused_quickly() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    for above, name in zip("abcdefghi", "bcdefghij", strict=True):
        bomb += f"{name}: &{name} [{','.join(['*' + above] * 10)}]\n"
    began = time.monotonic()
    assert f"more than {MAX_VALUES} values" in refusal(bomb)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("text", ["a: &x [*x]", "a: &x {b: *x}"])
def test_an_alias_to_what_holds_it_is_refused(text: str) -> None:
    assert f"nested deeper than {MAX_DEPTH}" in refusal(text)


@pytest.mark.parametrize("text", ["[" * 100_000, "{" * 5000, "- " * 5000, "? " * 5000, "a: " + "[" * 40 + "]" * 40])
def test_deep_nesting_is_refused_before_anything_recurses(text: str) -> None:
    assert f"nested deeper than {MAX_DEPTH}" in refusal(text)


def test_the_deepest_nesting_allowed_is_read() -> None:
    assert data_of("[" * MAX_DEPTH + "]" * MAX_DEPTH)


def test_a_number_of_more_than_40_digits_is_refused() -> None:
    assert data_of("a: " + "9" * 40)["a"] == 10**40 - 1
    assert refusal("a: " + "9" * 41) == f"job.yaml:1:4: found '{'9' * 41}', expected a number of at most 40 digits"
    assert len(refusal("a: -" + "9" * 5000)) < 200


@pytest.mark.parametrize(
    ("data", "place", "character"),
    [
        (b"a: 1\nb: \x00", "2:4", "#x0000"),
        (b"a: \x01", "1:4", "#x0001"),
        (b"a: \x7f", "1:4", "#x007f"),
        (b"a: \x1b[31m", "1:4", "#x001b"),
        (b'a: "\\x00"', "1:4", "#x0000"),
        (b'a: "\\e[31m"', "1:4", "#x001b"),
        (b'a: "\\ud800"', "1:4", "#xd800"),
    ],
)
def test_control_characters_are_refused_raw_and_escaped(data: bytes, place: str, character: str) -> None:
    assert refusal(data).startswith(f"job.yaml:{place}: found the character {character}")


def test_text_of_any_script_and_several_lines_is_read() -> None:
    assert data_of("a: 駝鳥 😀\nb: |\n  x\n  \ty\n") == {"a": "駝鳥 😀", "b": "x\n\ty\n"}


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"a: 1\nb: caf\xe9\n", "2:7"),  # Latin-1
        ("a: 1".encode("utf-16"), "1:1"),
        ("a: 1".encode("utf-16-le"), "1:2"),
        (b"a: \xff", "1:4"),
        (b"\x80\x04\x95", "1:1"),  # a pickle
        (b"\x1f\x8b\x08", "1:2"),  # gzip
    ],
)
def test_another_encoding_is_refused_where_it_shows(data: bytes, place: str) -> None:
    assert refusal(data).startswith(f"job.yaml:{place}: found the ")


@pytest.mark.parametrize("data", [b"", b"\n\n", b"# nothing but a comment\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_told_what_a_job_holds(data: bytes) -> None:
    assert refusal(data) == (
        "job.yaml:1:1: the file is empty, expected apiVersion, name, models, classes, recipes and output"
    )


def test_a_file_of_more_than_a_mebibyte_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(b"#" * (4 * 2**20 + 1)) == "job.yaml:1:1: the file has more than 1 MiB, expected a job file"
    monkeypatch.setattr(document, "MAX_BYTES", 4)
    assert data_of("a: 1") == {"a": 1}


@pytest.mark.parametrize("text", ["--- a\n--- b\n", "a: 1\n---\nb: 2"])
def test_a_second_document_is_refused(text: str) -> None:
    assert refusal(text).startswith("job.yaml:2:1: not YAML: expected a single document")


@pytest.mark.parametrize(
    "text", ["a: [1", "a: {b", "a: 'x", "a: b: c", "a: @x", "a: *b", "a:\n\t- b", "%YAML 3.0\n---\n"]
)
def test_what_is_no_yaml_is_refused_with_its_place(text: str) -> None:
    message = refusal(text)
    assert "not YAML: " in message
    assert message.startswith("job.yaml:")
    assert "\n" not in message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Any) -> None:
    with pytest.raises(InputError, match=r"missing\.yaml: no such file or directory; expected a job file in YAML"):
        read(tmp_path / "missing.yaml")
    with pytest.raises(InputError, match="is a directory"):
        read(tmp_path)


# Anything at all

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cc", "Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abcdef \"'#:-é", min_size=1), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(PLAIN.filter(lambda value: value is not None))
def test_plain_data_reads_back_as_it_was_written(value: Any) -> None:
    assert parse(yaml.safe_dump(value, allow_unicode=True).encode(), "j").data == value


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80) | st.text("ab01:-[]{},&*!?|>'\"%@#~ \n\t<.", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused_in_a_sentence(data: bytes) -> None:
    with contextlib.suppress(InputError):
        parse(data, "j")
