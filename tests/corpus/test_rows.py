"""Tests of codet5p_jax.corpus.rows."""

import contextlib
import gzip
import http.server
import io
import json
import random
import threading
import zipfile

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from codet5p_jax.corpus import rows as module
from codet5p_jax.corpus.rows import columns_of, fingerprint_of, is_row_file, read_rows, row_files
from codet5p_jax.corpus.unpacking import ArchiveError, BombError

ROWS = [{"repo": "o/a", "code": "x = 1\n"}, {"repo": "o/b", "code": None}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def _read(place, columns=("repo", "code")):
    return list(read_rows(str(place), columns))


@pytest.fixture
def memory():
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


@pytest.mark.parametrize(
    ("name", "pack"),
    [("a.jsonl", bytes), ("a.jsonl.gz", gzip.compress), ("a.jsonl.zst", zstandard.compress)],
)
def test_json_lines_are_read(tmp_path, name, pack):
    (tmp_path / name).write_bytes(pack(LINES))
    assert _read(tmp_path / name) == ROWS
    assert columns_of(str(tmp_path / name)) == ["repo", "code"]


def test_parquet_is_read(tmp_path):
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert _read(tmp_path / "a.parquet") == ROWS
    assert _read(tmp_path / "a.parquet", ["repo"]) == [{"repo": "o/a"}, {"repo": "o/b"}]
    assert columns_of(str(tmp_path / "a.parquet")) == ["repo", "code"]


def test_parquet_of_other_types_of_text_is_read(tmp_path):
    table = pa.table(
        {
            "repo": pa.array(["a", "b", "a"]).dictionary_encode(),
            "code": pa.array(["x", None, "y"], pa.large_string()),
            "licenses": pa.array([["MIT"], [], None], pa.list_(pa.string())),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert _read(tmp_path / "a.parquet", ["repo", "code", "licenses"]) == table.to_pylist()


def test_text_of_parquet_that_is_no_utf8_comes_as_bytes(tmp_path):
    text = pa.array([b"caf\xe9"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"code": text}), tmp_path / "a.parquet")
    assert _read(tmp_path / "a.parquet", ["code"]) == [{"code": b"caf\xe9"}]


def test_a_parquet_file_is_read_in_parts(tmp_path, monkeypatch):
    """Rows come when their part was read: damage behind them is not seen yet."""
    rows = [{"repo": f"o/{i}", "code": f"{i}" * 10_000} for i in range(1_000)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=100)
    size = (tmp_path / "a.parquet").stat().st_size
    read = []

    class Watched:
        def __init__(self, stream):
            self._stream = stream

        def read(self, size=-1):
            content = self._stream.read(size)
            read.append(len(content))
            return content

        def __getattr__(self, name):
            return getattr(self._stream, name)

    @contextlib.contextmanager
    def opened(place):
        with open(place, "rb") as stream:
            yield Watched(stream), size

    monkeypatch.setattr(module, "_opened", opened)
    found = read_rows(str(tmp_path / "a.parquet"), ["repo", "code"])
    assert next(found) == rows[0]
    assert 0 < sum(read) < size / 2
    assert len(list(found)) == 999


def test_lines_that_are_no_objects_are_no_rows(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"repo": 1}\n[]\n\nnonsense\n\xff\n{"repo": 2}')
    assert _read(tmp_path / "a.jsonl", ["repo"]) == [{"repo": 1}, None, None, None, {"repo": 2}]
    (tmp_path / "a.jsonl").write_text("\n".join(["[" * 10_000, '{"a":' * 10_000, "1" * 5_000]))
    assert _read(tmp_path / "a.jsonl", ["repo"]) == [None, None, None]


def test_the_columns_of_json_lines_are_those_of_its_first_rows(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'nonsense\n{"a": 1}\n{"b": 2, "a": 1}\n')
    assert columns_of(str(tmp_path / "a.jsonl")) == ["a", "b"]
    (tmp_path / "b.jsonl").touch()
    assert columns_of(str(tmp_path / "b.jsonl")) == []


def test_a_line_beyond_all_measure_is_skipped_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MAX_LINE", 16)
    (tmp_path / "a.jsonl").write_bytes(b'"' + b"x" * 100 + b'"\n{"repo": 2}\n')
    assert _read(tmp_path / "a.jsonl", ["repo"]) == [None, {"repo": 2}]


def test_a_bomb_of_json_lines_is_refused(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress((b" " * 999 + b"\n") * 2**14))
    with pytest.raises(BombError, match=r"a\.jsonl\.gz unpacks to over"):
        _read(tmp_path / "a.jsonl.gz")


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl.gz"])
def test_a_damaged_file_is_named(tmp_path, name):
    whole = gzip.compress(LINES) if name.endswith("gz") else b"PAR1 not parquet"
    (tmp_path / name).write_bytes(whole[:-9])
    with pytest.raises(ArchiveError, match=rf"{name} cannot be read"):
        _read(tmp_path / name)


def test_files_of_rows_are_known_by_their_endings():
    assert is_row_file("a/B.PARQUET") and is_row_file("a.jsonl.gz")
    assert not is_row_file("a.json") and not is_row_file("a.py")


def test_the_files_of_a_folder_are_found_in_order(tmp_path):
    for name in ("data/b.parquet", "a.jsonl", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert row_files(str(tmp_path)) == [str(tmp_path / n) for n in ("a.jsonl", "data/b.parquet")]


def test_a_zip_of_json_lines_is_read_member_by_member(tmp_path):
    """CodeSearchNet is distributed so."""
    with zipfile.ZipFile(tmp_path / "python.zip", "w") as archive:
        for name in ("train/python_train_1.jsonl.gz", "train/python_train_0.jsonl.gz", "a.pkl"):
            archive.writestr(f"python/final/jsonl/{name}", gzip.compress(LINES))
    found = row_files(str(tmp_path / "python.zip"))
    assert [place.partition("::")[0][-8:] for place in found] == ["jsonl.gz", "jsonl.gz"]
    assert found == sorted(found)
    assert _read(found[0]) == ROWS
    assert columns_of(found[0]) == ["repo", "code"]
    before = fingerprint_of(found[0])
    assert before == fingerprint_of(found[0]) != fingerprint_of(found[1])


def test_files_behind_fsspec_are_found_and_read(memory):
    memory.pipe("/set/data/a.jsonl.gz", gzip.compress(LINES))
    table = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(ROWS), table)
    memory.pipe("/set/data/b.parquet", table.getvalue().to_pybytes())
    memory.pipe("/set/README.md", b"")
    found = row_files("memory://set")
    assert found == ["memory:///set/data/a.jsonl.gz", "memory:///set/data/b.parquet"]
    assert [_read(place) for place in found] == [ROWS, ROWS]
    assert row_files("memory://set/data/b.parquet") == found[1:]


@pytest.fixture
def hub():
    """A stand-in of the Hugging Face Hub with one data set; yields the ranges that were read."""
    stream = io.BytesIO()
    rows = [{"repo": f"o/{i}", "code": random.Random(i).randbytes(9_000).hex()} for i in range(999)]
    pq.write_table(pa.Table.from_pylist(rows), stream, row_group_size=99, use_dictionary=False)
    content, ranges = stream.getvalue(), []
    tree = [
        {"type": "directory", "path": "data", "oid": "0d"},
        {"type": "file", "path": "data/train.parquet", "size": len(content), "oid": "0f"},
        {"type": "file", "path": "README.md", "size": 1, "oid": "0e"},
    ]

    class Hub(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            body, status = json.dumps({"id": "octo/code", "sha": "0" * 40}).encode(), 200
            if "/tree/main" in self.path:
                body = json.dumps(tree).encode()
            if "/resolve/main/data/train.parquet" in self.path:
                first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
                body, status = content[first : last + 1], 206
                ranges.append(len(body))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        fsspec.config.conf["hf"] = {"endpoint": address, "token": False}
        yield rows, ranges
        del fsspec.config.conf["hf"]
        server.shutdown()


def test_a_data_set_of_the_hub_is_streamed_by_its_name(hub):
    rows, ranges = hub
    (place,) = row_files("hf://datasets/octo/code")
    assert place == "hf://datasets/octo/code/data/train.parquet"
    assert columns_of(place) == ["repo", "code"]
    assert fingerprint_of(place) == fingerprint_of(place)
    ranges.clear()
    found = read_rows(place, ["repo", "code"])
    assert next(found) == rows[0]
    assert 0 < sum(ranges) < 13 * 2**20  # of 18 MB; fsspec reads 5 MiB ahead
    assert [rows[0], *found] == rows


def test_a_remote_file_has_another_fingerprint_when_it_changes(memory):
    memory.pipe("/a.jsonl", b"{}")
    before = fingerprint_of("memory://a.jsonl")
    assert before == fingerprint_of("memory://a.jsonl")
    memory.pipe("/a.jsonl", b"{}\n")
    assert fingerprint_of("memory://a.jsonl") != before


def test_what_cannot_be_reached_and_what_holds_no_rows_are_told(memory, monkeypatch):
    with pytest.raises(
        FileNotFoundError, match=r"nosuch://x cannot be listed: ValueError.*network"
    ):
        row_files("nosuch://x")
    memory.pipe("/set/README.md", b"")
    with pytest.raises(FileNotFoundError, match=r"memory://set holds no file that ends in \.parq"):
        row_files("memory://set")
    system = (memory, "/set")
    monkeypatch.setattr(module.fsspec.core, "url_to_fs", lambda _: system)
    with pytest.raises(
        FileNotFoundError, match="try hf://datasets/owner/name@refs/convert/parquet"
    ):
        row_files("hf://datasets/owner/name")


def test_a_network_that_fails_is_no_damage(memory, monkeypatch):
    memory.pipe("/a.jsonl", LINES)

    def fail(*_):
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(module, "_json_row", fail)
    with pytest.raises(ConnectionError, match="reset by peer"):
        _read("memory://a.jsonl")
