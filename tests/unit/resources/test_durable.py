"""Files that take another's place at once, and what they hold."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from lakebed.resources.durable import replacing, sha256, sha256_digest


def test_a_file_is_replaced_at_once_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "settings.env"
    file.write_text("old")
    with replacing(file) as written:
        written.write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    with pytest.raises(OSError, match="full"), replacing(file) as written:
        written.write_text("half")
        raise OSError("full")
    assert [path.name for path in tmp_path.iterdir()] == ["settings.env"]
    assert file.read_text() == "new"


def test_the_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    expected = hashlib.sha256(b"abc" * 100_000)
    assert (sha256(tmp_path / "a"), sha256_digest(tmp_path / "a")) == (
        expected.hexdigest(),
        expected.digest(),
    )
