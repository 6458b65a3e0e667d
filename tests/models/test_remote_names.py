"""Addresses: what can be named elsewhere, told without any network; and what is shown of one."""

import pytest

from classmodels.errors import InputError
from classmodels.models.remote.uri import is_remote, parse

SHA = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("name", "text", "pin"),
    [
        ("s3://models/best.pt", "s3://models/best.pt", None),
        ("s3://models/a b/c?d#e", "s3://models/a b/c?d#e", None),
        (f"s3://models/best.pt#sha256={SHA}", "s3://models/best.pt", SHA),
        ("https://host/w.pth?download=1", "https://host/w.pth?download=1", None),
        (f"https://host:8443/w.pth#sha256={SHA.upper()}", "https://host:8443/w.pth", SHA),
        ("http://localhost:8000/w.pth", "http://localhost:8000/w.pth", None),
        ("http://127.0.0.1/w.pth", "http://127.0.0.1/w.pth", None),
        ("http://[::1]:80/w.pth", "http://[::1]:80/w.pth", None),
    ],
)
def test_an_address_may_be_pinned_to_a_digest(name, text, pin):
    assert is_remote(name)
    assert (parse(name).text, parse(name).pin) == (text, pin)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("s3://models", "names no object"),
        ("s3://models/nightly/", "names no object"),
        ("s3:/models/w.pt", "expected s3://bucket/key or https://host/path"),
        ("S3://models/w.pt", "expected s3://bucket/key"),
        ("gs://models/w.pt", "found gs:, expected s3://bucket/key or https://host/path"),
        ("ftp://host/w.pt", "found ftp:"),
        ("https:///w.pt", "no host"),
        ("https://host:x/w.pt", "no host, or one that is none"),
        ("https://host/w.pt#part", "only #sha256="),
        ("https://host/w.pt#sha256=abc", "found #sha256=abc, expected the 64 hex digits"),
        ("https://host/a b.pt", "write them as %20"),
        ("https://host/a\nb.pt", "control characters"),
        ("http://host/w.pt", "plain http is used on this machine only"),
        ("http://127.0.0.1.evil.example/w.pt", "plain http is used on this machine only"),
        ("http://10.0.0.1/w.pt", "plain http is used on this machine only"),
        ("s3://models/model.safetensors.index.json", "an index of several files"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_asking_anybody(name, said):
    assert is_remote(name)
    with pytest.raises(InputError, match=said):
        parse(name)


@pytest.mark.parametrize(
    "name", ["./w.pt", "w.pt", "/a/w.pt", "package:torch/w.pt", "IMAGENET1K_V1", "C:/w.pt", "a/b:c"]
)
def test_paths_and_packages_are_not_elsewhere(name):
    assert not is_remote(name)


def test_what_may_be_a_secret_is_never_shown():
    assert parse("https://host/w.pt?signature=hush").shown == "https://host/w.pt?..."
    for name in ("https://user:hush@host/w.pt", "https://hush@host/w.pt"):
        with pytest.raises(InputError, match="user name or password") as refused:
            parse(name)
        assert "hush" not in str(refused.value)


def test_the_cache_files_an_address_under_a_digest_of_it_all_but_its_pin():
    keys = {parse(f"https://host/../../w.pt{rest}").key for rest in ("", "?a=1", "?a=2", f"#sha256={SHA}")}
    assert len(keys) == 3
    assert all(len(key) == 64 and int(key, 16) >= 0 for key in keys)
