"""What the settings say of a lake in object storage: checked once, and told to nobody."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lakebed.resources.bucket import Bucket, bucket_of
from lakebed.resources.lake_bucket import LakeBucket
from lakebed.resources.lake_files import LakeFolder, lake_files
from lakebed.resources.settings import SettingsError, read_settings
from lakebed.resources.spool import Spool
from tests.support.checkout import ROOT

KEYS = {"AWS_ACCESS_KEY_ID": "AKIAME", "AWS_SECRET_ACCESS_KEY": "s3cret"}
ENVIRON = {"LAKEBED_LAKE": "s3://bucket/a/b/"}


def test_a_bucket_is_read_from_the_environment_and_dot_env(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "AWS_ACCESS_KEY_ID=AKIAME\nAWS_SECRET_ACCESS_KEY=s3cret\nAWS_REGION=eu-west-1\n"
    )
    settings = read_settings(ENVIRON | {"AWS_REGION": "eu-central-1"}, tmp_path)
    assert settings.lake == Bucket(
        name="bucket",
        prefix="a/b",
        region="eu-central-1",
        access_key="AKIAME",
        secret_key="s3cret",  # noqa: S106
    )
    assert str(settings.lake) == "s3://bucket/a/b"
    files = lake_files(settings)
    assert (str(files), files.uri) == ("s3://bucket/a/b", "s3://bucket/a/b")
    assert files.address("t/x.parquet") == "s3://bucket/a/b/t/x.parquet"
    assert isinstance(lake_files(read_settings({}, tmp_path)), LakeFolder)


def test_a_child_process_reads_the_same_bucket(tmp_path: Path) -> None:
    more = {"AWS_SESSION_TOKEN": "t0ken", "AWS_ENDPOINT_URL": "http://h:9000"}
    for name in ("tables", "models"):
        (tmp_path / name).mkdir()
    settings = read_settings(ENVIRON | KEYS | more, tmp_path)
    assert read_settings(settings.environment(), tmp_path / "elsewhere") == settings


def test_the_keys_are_in_no_text(tmp_path: Path) -> None:
    settings = read_settings(ENVIRON | KEYS | {"AWS_SESSION_TOKEN": "t0ken"}, tmp_path)
    text = repr(settings) + str(settings) + repr(lake_files(settings))
    assert not [secret for secret in ("AKIAME", "s3cret", "t0ken") if secret in text]
    assert lake_files(settings).redact("AKIAME s3cret t0ken") == "*** *** ***"


@pytest.mark.parametrize(
    ("more", "hint"),
    [
        ({"AWS_ACCESS_KEY_ID": "AKIAME"}, "AWS_SECRET_ACCESS_KEY is not set"),
        ({"AWS_SECRET_ACCESS_KEY": "s3cret"}, "AWS_ACCESS_KEY_ID is not set"),
        ({"AWS_ENDPOINT_URL": "minio:9000"}, "AWS_ENDPOINT_URL must be like"),
        ({"AWS_ENDPOINT_URL_S3": "http://me:s3cret@minio:9000"}, "AWS_ENDPOINT_URL must be like"),
        ({"AWS_ENDPOINT_URL": "http://minio:9000/path"}, "without a path"),
        ({"LAKEBED_LAKE": "s3://"}, "is not a bucket name"),
        ({"LAKEBED_LAKE": "s3://Bucket"}, "is not a bucket name"),
        ({"LAKEBED_LAKE": "s3://bucket/a b"}, "the prefix"),
        ({"LAKEBED_LAKE": "s3://bucket/a/../b"}, "the prefix"),
        ({"LAKEBED_LAKE": "s3://bucket/a?secret=s3cret"}, "a bucket and a prefix alone"),
        ({"LAKEBED_LAKE": "https://bucket.s3.amazonaws.com/"}, "cannot be a lake"),
    ],
)
def test_what_makes_no_sense_is_refused_without_a_secret(
    tmp_path: Path, more: dict[str, str], hint: str
) -> None:
    with pytest.raises(SettingsError, match=f"LAKEBED_LAKE: .*{hint}") as caught:
        read_settings(ENVIRON | more, tmp_path)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "endpoint", "path_style"),
    [
        ("s3://bucket", None, False),
        ("s3://bucket.with.dots", None, True),
        ("s3://bucket", "https://s3.eu-central-1.amazonaws.com", False),
        ("s3://bucket", "http://minio:9000", True),
    ],
)
def test_only_aws_itself_has_the_bucket_in_its_host(
    url: str, endpoint: str | None, path_style: bool
) -> None:
    values = {"AWS_ENDPOINT_URL": endpoint} if endpoint else {}
    assert bucket_of(url, values).path_style is path_style


def test_a_key_lies_below_the_prefix_or_at_the_top() -> None:
    home = Path("nowhere")
    assert LakeBucket(bucket_of("s3://bucket", {}), home).key("t/x") == "t/x"
    assert LakeBucket(bucket_of("s3://bucket/a/b/", {}), home).key("t/x") == "a/b/t/x"


DYING = """
import os, pathlib, signal, sys
from lakebed.resources.spool import Spool
Spool(pathlib.Path(sys.argv[1])).take(".parquet").path.write_text("half")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_dead_process_spooled_goes_and_what_a_living_one_spools_stays(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path)
    ours = spool.take(".parquet")
    ours.path.write_text("ours")
    died = subprocess.run(
        [sys.executable, "-c", DYING, str(tmp_path)], cwd=ROOT, timeout=60, check=False
    )
    assert died.returncode == -9
    assert len(list(tmp_path.iterdir())) == 4
    other = Spool(tmp_path).take(".parquet")
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".lock", ".lock", ".parquet"]
    assert ours.path.read_text() == "ours"
    for file in (ours, other, ours):
        file.release()
    assert list(tmp_path.iterdir()) == []
