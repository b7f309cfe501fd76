import json
import os
import time
from pathlib import Path

import pytest

from portraittalk_core.errors import InputError
from portraittalk_core.media.text_files import (
    MAX_DEPTH,
    check_depth,
    parse_csv,
    parse_json,
    parse_toml,
    read_text,
    toml_reader,
)


def read(path, max_bytes=100):
    return read_text(path, "the text", "give another", max_bytes)


def test_text_is_read_without_its_mark(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfh\xc3\xa4")
    assert read(tmp_path / "a") == "hä"


def never(*args, **options):
    raise AssertionError("read all the same")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"x" * 101, "are allowed; give another"), (b"\xff\xfe\xe9", "cannot be read"), (None, "no such file")],
)
def test_what_cannot_be_read_is_told(content, said, tmp_path):
    if content is not None:
        (tmp_path / "a").write_bytes(content)
    with pytest.raises(InputError, match=said):
        read(tmp_path / "a")


@pytest.mark.skipif(os.name == "nt", reason="no such files there")
def test_devices_pipes_and_folders_are_never_opened(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    monkeypatch.setattr(Path, "open", never)  # which would wait for a writer, or read without end
    for name, said in (("fifo", "device or pipe"), ("zero", "device or pipe"), ("", "a folder")):
        with pytest.raises(InputError, match=said):
            read(tmp_path / name)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)])
def test_deep_json_is_refused_before_it_is_parsed(text, monkeypatch):
    monkeypatch.setattr(json, "loads", never)
    with pytest.raises(InputError, match="brackets deep"):
        parse_json(text, "it", "write [1]")


def test_brackets_in_text_do_not_count():
    text = '["' + "[" * 1000 + '", "\\"' + "[" * 1000 + '"]'
    assert parse_json(text, "it", "") == ["[" * 1000, '"' + "[" * 1000]
    check_depth("[" * MAX_DEPTH, "it")


@pytest.mark.parametrize(
    "text", ["a" + ".a" * 100_000 + " = 1", "x = {" + "a . " * 5000 + "a = 1}", '"a".' * 5000 + "a=1"]
)
def test_deep_keys_of_toml_are_refused_before_they_are_parsed(text, monkeypatch):
    monkeypatch.setattr(toml_reader(), "loads", never)
    with pytest.raises(InputError, match="a key of more than"):
        parse_toml(text, "it")


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = [[", 'a = "\0"', "a = '\0'", "9" * 10_000 + " ="])
def test_toml_that_is_none_is_told(text):
    with pytest.raises(InputError):
        parse_toml(text, "it")


def test_long_words_and_many_quotes_take_no_time():
    started = time.process_time()
    assert parse_toml(f'a = "{"x" * 500_000}"\nb.c.d = 1', "it")["b"] == {"c": {"d": 1}}
    with pytest.raises(InputError):
        parse_json('\\"' * 500_000, "it", "")
    assert time.process_time() - started < 20  # backtracking takes hours


def test_tables_are_read_by_column():
    table = parse_csv("A; b\n1;2\n\n ; \n3; 'x'\n", "it")
    assert (table.first, table.columns) == ("A; b", ["a", "b"])
    assert table.rows == [(2, {"a": "1", "b": "2"}), (5, {"a": "3", "b": "'x'"})]


def test_a_cell_beyond_pythons_limit_is_told():
    with pytest.raises(InputError, match="field larger than field limit"):
        parse_csv("a,b\n" + "x" * 200_000 + ",1\n", "it")
