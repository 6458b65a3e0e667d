"""What only a bucket has: headers, listings in pages, objects of others, a bucket that is missing."""

import hashlib
from pathlib import Path
from typing import Any

import boto3
import pytest

from classmodels.errors import InputError, StoreError
from classmodels.s3 import S3Settings
from classmodels.store import open_store, s3
from classmodels.store.s3 import S3Store
from classmodels.store.served import cache_control, content_type
from seaweed import ADMIN, BUCKET, SeaweedFS


@pytest.fixture
def client(seaweed: SeaweedFS) -> Any:
    """boto3 itself, as the administrator: another program that works in the same bucket."""
    return boto3.client(
        "s3",
        endpoint_url=seaweed.endpoint,
        region_name="us-east-1",
        aws_access_key_id=ADMIN.access_key,
        aws_secret_access_key=ADMIN.secret_key,
    )


def key_of(uri: str) -> str:
    return uri.removeprefix(f"s3://{BUCKET}/")


# What a browser is told


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.png", "image/png"),
        ("a.0123456789ab.webp", "image/webp"),
        ("a.gif", "image/gif"),
        ("a.apng", "image/apng"),
        ("index.html", "text/html; charset=utf-8"),
        ("0009.json", "application/json"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("job.yaml", "application/yaml"),
        ("x.safetensors", "application/octet-stream"),
        ("README.md", "text/markdown; charset=utf-8"),
        ("log.txt", "text/plain; charset=utf-8"),
        ("0.pod.jsonl", "application/x-ndjson"),
        ("a.html.d/x", "application/octet-stream"),
    ],
)
def test_an_object_has_the_type_that_its_name_says(name: str, expected: str) -> None:
    assert content_type(f"units/a@b/{name}") == expected


@pytest.mark.parametrize(
    ("key", "for_ever"),
    [
        ("units/a@0123456789ab/b@0123456789ab/0009-ostrich.0123456789ab.png", True),
        ("verdicts/a@0123456789ab/x/0009.0123456789ab.json", True),
        ("verdicts/a@0123456789ab/x/0009.0123456789ab.ba9876543210.json", True),
        ("units/a@0123456789ab/b@0123456789ab/0009.json", False),
        ("galleries/a/0123456789ab/index.html", False),
        ("galleries/a/0123456789ab/gallery.json", False),
        ("galleries/a/0123456789ab/contact-sheet.png", False),
        ("galleries/a.0123456789ab.d/index.html", False),
        ("galleries/a/latest.json", False),
        ("runs/0123456789ab/plan.json", False),
        ("runs/0123456789ab/logs/local/0.0123456789ab.jsonl", False),
    ],
)
def test_only_what_is_named_by_its_content_is_kept_for_ever(key: str, for_ever: bool) -> None:
    assert cache_control(key) == ("max-age=31536000, immutable" if for_ever else "no-cache")


def test_an_object_carries_its_type_its_lifetime_its_length_and_its_sha256(bucket_uri: str, client: Any) -> None:
    data = b"\x89PNG" * 1000
    open_store(bucket_uri).write("a.0123456789ab.png", data)
    head = client.head_object(Bucket=BUCKET, Key=f"{key_of(bucket_uri)}/a.0123456789ab.png")
    assert head["ContentType"] == "image/png"
    assert head["CacheControl"] == "max-age=31536000, immutable"
    assert head["ContentLength"] == len(data)
    assert head["Metadata"] == {"sha256": hashlib.sha256(data).hexdigest()}
    assert "ContentEncoding" not in head


@pytest.mark.parametrize("from_file", [True, False], ids=["a file", "bytes"])
def test_what_is_large_goes_in_parts_and_carries_the_same(
    bucket_uri: str, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, from_file: bool
) -> None:
    part = 5 << 20  # the least that S3 takes
    monkeypatch.setattr(s3, "PART", part)
    monkeypatch.setattr(s3, "WHOLE", part)
    data = bytes(range(256)) * 4096 * 12
    (tmp_path / "large").write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    store = open_store(bucket_uri)
    if from_file:
        store.write_file("runs/x/inputs/large.txt", tmp_path / "large", sha256)
    else:
        store.write("runs/x/inputs/large.txt", data)
    head = client.head_object(Bucket=BUCKET, Key=f"{key_of(bucket_uri)}/runs/x/inputs/large.txt")
    assert head["ETag"].endswith('-3"')
    assert head["ContentLength"] == len(data) > 2 * part
    assert head["Metadata"] == {"sha256": sha256}
    assert head["ContentType"].startswith("text/plain")
    assert store.read("runs/x/inputs/large.txt") == data


def test_a_large_file_that_is_refused_is_told_in_a_sentence(
    bucket_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "WHOLE", 100)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    (tmp_path / "large").write_bytes(bytes(200))
    with pytest.raises(StoreError, match=r"cannot write .* the secret key is wrong"):
        open_store(bucket_uri).write_file("large", tmp_path / "large", "0" * 64)


# A bucket that others use too


def test_a_listing_of_several_pages_is_whole_and_in_order(
    bucket_uri: str, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = S3Store(bucket_uri, S3Settings())
    keys = [f"{folder}{number}" for folder in ("a/", "a-", "a", "b/c/") for number in range(9)]
    for key in keys:
        store.write(key, b"")
    listing = store._client()
    ask, pages = listing.list_objects_v2, []
    # SeaweedFS gives a thousand keys at once: so few are written here that pages have to be made smaller.
    small = lambda **about: (pages.append(1), ask(**about, MaxKeys=7))[1]  # noqa: E731
    monkeypatch.setattr(listing, "list_objects_v2", small)
    assert list(store.list("")) == sorted(keys)
    assert len(pages) == 6
    assert list(store.list("a/")) == sorted(key for key in keys if key.startswith("a/"))


def test_what_others_put_under_the_prefix_is_read_where_it_has_a_key_and_else_passed_over(
    bucket_uri: str, client: Any
) -> None:
    store = open_store(bucket_uri)
    for name in ("/units/a.json", "/units/", "-beside/x"):
        client.put_object(Bucket=BUCKET, Key=key_of(bucket_uri) + name, Body=b"theirs" if "a" in name else b"")
    assert list(store.list("")) == ["units/a.json"]
    assert store.read("units/a.json") == b"theirs"  # without a sha256 there is nothing to compare


def test_an_object_that_was_altered_where_it_lies_is_not_taken_for_what_was_written(
    bucket_uri: str, client: Any
) -> None:
    store = open_store(bucket_uri)
    store.write("a.json", b"mine")
    key = f"{key_of(bucket_uri)}/a.json"
    metadata = client.head_object(Bucket=BUCKET, Key=key)["Metadata"]
    client.put_object(Bucket=BUCKET, Key=key, Body=b"bite", Metadata=metadata)
    with pytest.raises(StoreError, match=r"cannot read .*/a.json .*its bytes are not those that were written"):
        store.read("a.json")


# The bucket and its URI


def test_a_bucket_that_is_missing_is_told_and_not_created(
    bucket_uri: str, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in ADMIN.environment.items():  # for whom SeaweedFS would create it at a PUT
        monkeypatch.setenv(variable, value)
    store = open_store("s3://galeries/nightly")
    acts = (
        lambda: store.write("a", b""),
        lambda: store.read("a"),
        lambda: list(store.list("")),
        lambda: store.delete("a"),
    )
    for act in acts:
        with pytest.raises(
            StoreError, match=r"cannot list s3://galeries/nightly/ at http://127.*: there is no such bucket"
        ):
            act()
    assert "galeries" not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]


def test_the_bucket_is_looked_for_once(bucket_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = S3Store(bucket_uri, S3Settings())
    client, looks = store._client(), []
    monkeypatch.setattr(client, "list_objects_v2", lambda **about: looks.append(about))
    for _ in range(3):
        store.write("a", b"")
    assert looks == []


@pytest.mark.parametrize("uri", ["s3://galleries", "s3://galleries/", "s3://galleries/a/b", "s3://galleries/a/b/"])
def test_a_slash_at_the_end_of_a_prefix_means_nothing(uri: str) -> None:
    assert open_store(uri).locate("c") == f"{uri.rstrip('/')}/c"


@pytest.mark.parametrize(
    "uri",
    ["s3://", "s3:///a", "s3:/galleries/a", "s3:galleries", "S3://galleries/a", "s3://b", "s3://-b/x", "s3://a b/x"],
)
def test_what_is_no_uri_of_a_bucket_is_refused_and_is_no_folder(uri: str) -> None:
    with pytest.raises(InputError, match=rf"found '{uri}', expected s3://bucket/prefix"):
        open_store(uri)


@pytest.mark.parametrize(
    "uri", ["s3://galleries/a//b", "s3://galleries/../b", "s3://galleries//", "s3://galleries/./a"]
)
def test_a_prefix_has_names_with_one_slash_between_them(uri: str) -> None:
    with pytest.raises(InputError, match="expected s3://bucket/prefix with one slash between names"):
        open_store(uri)


def test_credentials_in_a_uri_are_refused_and_not_repeated() -> None:
    with pytest.raises(InputError) as refused:
        open_store("s3://KEYID:topsecret@galleries/a")
    assert "expected s3://bucket/prefix" in str(refused.value)
    assert "topsecret" not in str(refused.value)


@pytest.mark.parametrize("uri", ["gs://bucket/a", "https://host/a", "ftp://host"])
def test_other_kinds_of_storage_are_refused(uri: str) -> None:
    with pytest.raises(InputError, match=rf"found '{uri}', expected a folder such as ./galleries, or s3://"):
        open_store(uri)
