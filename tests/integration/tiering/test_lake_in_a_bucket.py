"""The lake in an S3 bucket: all that works in a folder, and what only a store can do to it."""

from __future__ import annotations

import hashlib
import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import duckdb
import pytest
from botocore.retries.standard import ExponentialBackoff
from werkzeug.wrappers import Request, Response

from lakebed.cli import main as cli
from lakebed.errors import TieringError
from lakebed.ingest.load import load_table
from lakebed.models.model import ModelError
from lakebed.models.runner import build, build_model, models_of
from lakebed.resources import object_store
from lakebed.resources.lake_files import LakeFileError
from lakebed.resources.read_errors import FileMissingError
from lakebed.store.platform import Platform, open_platform
from lakebed.tiering.catalog_file import write_catalog
from lakebed.tiering.housekeep import housekeep
from lakebed.tiering.lake_copies import write_due_copies
from lakebed.tiering.verify import verify
from tests.conftest import settings_for
from tests.integration.recovery.test_backup import back_up, put_back
from tests.integration.tiering.test_move import move_while_another_sleeps
from tests.support import modes, processes
from tests.support.processes import all_rows, move_key
from tests.support.stores import (
    BUCKET,
    SECRET,
    Answer,
    Store,
    answer_lost,
    damages,
    overwrites,
    refused,
    running_store,
    slow,
)
from tests.support.tiers import EACH, MONTHS, ask, do, fill, named, seen, settle

STEPS = ("locked", "counted", "copied", "verified", "renamed", "recorded", "deleted", "committed")
FIRST = "deep/lake/readings/year=2024/month=02/readings_2024_02_g0001.parquet"
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def server_of_objects() -> Iterator[Store]:
    with running_store() as store:
        yield store


@pytest.fixture
def store(server_of_objects: Store) -> Store:
    """An S3 server with one empty bucket."""
    server_of_objects.empty()
    return server_of_objects


@pytest.fixture
def bucket(
    tmp_path: Path, database: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> Platform:
    """The platform over the tables of tests/tables, its lake in that bucket; it waits little."""
    monkeypatch.setattr(object_store, "ATTEMPTS", 3)
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda self, context: 0.01)
    models = tmp_path / "models"
    (models / "marts").mkdir(parents=True)
    (models / "marts" / "by_sensor.sql").write_text(
        "-- How many readings each sensor has.\n{{ config(materialized='table') }}\n"
        "select sensor, count(*) as n from {{ source('lakebed', 'readings') }} group by sensor\n"
    )
    settings = settings_for(tmp_path, database, LAKEBED_MODELS=str(models), **store.environment())
    settings.data.mkdir()
    return open_platform(settings)


def spooled(platform: Platform) -> list[Path]:
    folder = platform.settings.home / "spool"
    return sorted(folder.iterdir()) if folder.exists() else []


def hot(platform: Platform, name: str = "readings") -> int:
    return int(ask(platform, f"select count(*) from {name}")[0][0])  # noqa: S608


def test_a_partition_is_moved_folded_and_read_from_the_bucket(
    bucket: Platform, store: Store
) -> None:
    fill(bucket, "accounts")
    before = all_rows(bucket, "accounts")
    paths = settle(bucket, "accounts")
    assert (hot(bucket, "accounts"), all_rows(bucket, "accounts")) == (0, before)
    assert [f"deep/lake/{path}" for path in paths] == list(store.objects())
    do(
        bucket,
        "insert into accounts values ('2024-02-01 05:00Z', 300, 'late', -1, '2024-06-01Z'),"
        " ('2024-02-11Z', 9999, 'new', 1, '2024-06-01Z')",
    )
    query = "select count(*), count(*) filter (where owner = 'late') from accounts"
    assert seen(bucket, query) == [(3 * EACH + 1, 1)]
    folded = move_key(bucket, "accounts", MONTHS[1])
    assert (folded.generation, folded.overridden, folded.rows) == (2, 1, EACH + 1)
    assert seen(bucket, query) == [(3 * EACH + 1, 1)]
    assert {f"deep/lake/{path}" for path in named(bucket)} == set(store.objects())
    assert [file.problem for file in verify(bucket, bucket.table("accounts"), deep=True)] == [
        None
    ] * 3
    assert spooled(bucket) == []


def test_a_query_asks_the_store_for_the_files_that_it_needs_and_no_other(
    bucket: Platform, store: Store
) -> None:
    fill(bucket)
    settle(bucket)
    with bucket.lake.session() as session:
        store.asked.clear()
        query = "select min(number) from readings where \"at\" >= '2024-03-01'"
        assert session.sql(query).fetchall() == [(2 * EACH,)]
        assert {asked for asked in store.asked if "month=03" not in asked} == set()
        assert "secret=redacted" in str(session.sql("from duckdb_secrets()").fetchall())
        assert SECRET not in str(session.sql("from duckdb_secrets()").fetchall())


def test_a_model_and_the_catalog_file_are_objects_that_any_duckdb_reads(
    bucket: Platform, store: Store
) -> None:
    fill(bucket)
    settle(bucket, "readings", *MONTHS[:2])
    assert [result.error for result in build(bucket)] == [None]
    assert seen(bucket, "select sum(n) from by_sensor") == [(3 * EACH,)]
    assert write_catalog(bucket) == f"s3://{BUCKET}/deep/lake/catalog.duckdb"
    move_key(bucket, "readings", MONTHS[2])
    assert [result.error for result in build(bucket)] == [None]
    write_catalog(bucket)
    assert "deep/lake/marts/by_sensor/by_sensor_g0002.parquet" in store.objects()
    with duckdb.connect() as foreign:
        bucket.lake.files.make_readable(foreign)
        foreign.execute(f"attach 's3://{BUCKET}/deep/lake/catalog.duckdb' as lake (read_only)")
        assert foreign.sql("select count(*) from lake.readings").fetchall() == [(3 * EACH,)]
        assert foreign.sql("select sum(n) from lake.by_sensor").fetchall() == [(3 * EACH,)]
    assert spooled(bucket) == []


def test_a_load_looks_at_the_cold_rows_in_the_bucket(bucket: Platform, store: Store) -> None:
    fill(bucket, "accounts")
    settle(bucket, "accounts", MONTHS[1])
    folder = bucket.settings.data / "accounts"
    folder.mkdir()
    head = "opened,id,owner,balance,changed\n"
    (folder / "1.csv").write_text(
        head
        + "2024-02-01T05:00:00Z,300,stale,1,2023-01-01T00:00:00Z\n"
        + "2024-02-01T00:01:00Z,301,newer,1,2024-06-01T00:00:00Z\n"
    )
    store.fail("GET", 99, refused("AccessDenied", 403), ".parquet")
    arguments = (bucket.settings, bucket.postgres, bucket.clock, bucket.table("accounts"))
    with pytest.raises(LakeFileError, match=r"accounts: a cold file cannot be read: .*403"):
        load_table(*arguments)
    store.fault = None
    assert load_table(*arguments).rows_read == 2
    assert hot(bucket, "accounts") == 2 * EACH + 1


def test_a_backup_and_the_commands_know_the_bucket(
    bucket: Platform, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    fill(bucket)
    settle(bucket, "readings", MONTHS[0])
    before = all_rows(bucket, "readings")
    backup = back_up(bucket, "readings")
    settle(bucket, "readings", MONTHS[1])
    put_back(bucket, "readings", backup.backup_id)
    assert (all_rows(bucket, "readings"), hot(bucket)) == (before, 2 * EACH)
    for name, value in bucket.settings.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(bucket.settings.home)

    def said(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main(list(arguments))
            raise SystemExit(0)
        out, err = capsys.readouterr()
        assert SECRET not in out + err
        return int(ended.value.code or 0), out + err

    assert said("move", "readings", "--partition", MONTHS[1])[0] == 0
    code, out = said("status", "--json")
    assert (code, json.loads(out)["lake"]) == (0, f"s3://{BUCKET}/deep/lake")
    assert said("sql", "select count(*) as n from readings", "--format", "json")[1].count("900")
    assert "deep/lake/catalog.duckdb" in store.objects()
    for key in store.objects():
        store.client.delete_object(Bucket=BUCKET, Key=key)
    code, out = said("verify", "readings")
    assert code == 1
    assert "it is not there" in out


@pytest.mark.thorough
def test_a_mover_killed_after_any_step_loses_and_doubles_nothing_for_readers_of_the_bucket(
    bucket: Platform, store: Store
) -> None:
    fill(bucket)
    truth = all_rows(bucket, "readings")
    query = "select count(*), sum(number)::bigint from readings"
    expected = tuple(seen(bucket, query)[0])
    move = (bucket.settings, "readings", [MONTHS[1]])
    with processes.readers(bucket.settings, query, [(0.2, 0.2)]) as answers:
        for step in STEPS:
            assert processes.run(processes.move_many, *move, step, None) == -9
            assert all_rows(bucket, "readings") == truth
            assert len(named(bucket)) == (1 if step == "committed" else 0)
        assert processes.run(processes.move_many, *move, None, None) == 0
    assert {answer for found in answers for answer in found} == {expected}
    assert all(len(found) >= 3 for found in answers)
    assert all_rows(bucket, "readings") == truth
    # Of the steps before the commit three had an object, which nobody names.
    assert [key[-13:] for key in store.objects()] == [f"g000{n}.parquet" for n in range(1, 5)]
    move_key(bucket, "readings", MONTHS[0])
    assert spooled(bucket) == []


@pytest.mark.thorough
def test_a_mover_that_wakes_up_after_another_finished_changes_no_object(
    bucket: Platform, store: Store
) -> None:
    before = move_while_another_sleeps(bucket, "verified")
    assert all_rows(bucket, "readings") == before
    ((path, digest),) = ask(bucket, "select path, sha256 from lakebed.cold_file")
    assert {key: hashlib.sha256(data).hexdigest() for key, data in store.objects().items()} == {
        f"deep/lake/{path}": digest
    }
    assert path == FIRST.removeprefix("deep/lake/")


def test_rows_are_lost_where_the_store_takes_a_second_file_of_one_name(
    bucket: Platform, store: Store
) -> None:
    def careless(request: Request, answer: Callable[[], Response]) -> Response:
        if request.method == "PUT" and not request.path.endswith(".lakebed"):
            return overwrites(request, answer)
        return answer()

    store.fault = careless
    move_while_another_sleeps(bucket, "verified")
    with pytest.raises(FileMissingError):
        all_rows(bucket, "readings")


def test_a_store_that_overwrites_against_the_condition_is_refused(
    bucket: Platform, store: Store
) -> None:
    fill(bucket)
    store.fault = overwrites
    with pytest.raises(TieringError, match="overwrites objects in spite of"):
        move_key(bucket, "readings", MONTHS[1])
    assert (store.objects(), hot(bucket)) == ({}, 3 * EACH)


def test_an_answer_that_was_lost_is_asked_for_again_and_nothing_is_written_twice(
    bucket: Platform, store: Store
) -> None:
    fill(bucket)
    assert store.fail("PUT", 1, answer_lost, ".parquet") == []
    assert move_key(bucket, "readings", MONTHS[1]).generation == 1
    assert list(store.objects()) == [FIRST]


@pytest.mark.parametrize(
    ("method", "what", "times", "said"),
    [
        ("PUT", refused("SlowDown", 503), 2, None),
        ("PUT", refused("InternalError", 500), 99, r"the store failed \(InternalError\)"),
        ("PUT", refused("AccessDenied", 403), 99, "access is denied"),
        ("PUT", slow(0.4), 1, None),
        ("PUT", slow(0.4), 99, r"the store did not answer \(ReadTimeoutError\)"),
        ("GET", refused("SlowDown", 503), 2, None),
        ("GET", refused("InternalError", 500), 99, "500"),
        ("HEAD", refused("", 403), 99, "access is denied"),
    ],
    ids=["slow down", "failing", "denied", "late", "silent", "hiccup", "unreadable", "forbidden"],
)
def test_a_store_in_trouble_is_asked_again_or_named_and_nothing_is_half_done(
    bucket: Platform,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    what: Answer,
    times: int,
    said: str | None,
) -> None:
    monkeypatch.setattr(object_store, "READ_SECONDS", 0.2)
    monkeypatch.setattr("lakebed.resources.lake_bucket.HTTP_SETTINGS", {"http_retry_wait_ms": 10})
    fill(bucket)
    truth = all_rows(bucket, "readings")
    hit = store.fail(method, times, what, ".parquet")
    if said is None:
        assert move_key(bucket, "readings", MONTHS[1]).moved == EACH
        assert len(hit) == times
    else:
        with pytest.raises(TieringError, match=f"(?s)readings 2024-02: .*{said}") as caught:
            move_key(bucket, "readings", MONTHS[1])
        assert "/readings_2024_02_g0001.parquet" in str(caught.value)
        assert SECRET not in str(caught.value)
        store.fault = None
        assert (store.objects(), spooled(bucket), named(bucket)) == ({}, [], set())
        assert all_rows(bucket, "readings") == truth
        assert move_key(bucket, "readings", MONTHS[1]).generation == 1
    assert all_rows(bucket, "readings") == truth


def test_what_the_store_has_is_verified_before_anything_is_deleted(
    bucket: Platform, store: Store
) -> None:
    fill(bucket)
    assert store.fail("PUT", 1, damages, ".parquet") == []
    with pytest.raises(TieringError):
        move_key(bucket, "readings", MONTHS[1])
    assert (store.objects(), named(bucket), hot(bucket)) == ({}, set(), 3 * EACH)


@pytest.mark.thorough
def test_a_snapshot_is_verified_in_the_bucket_too(bucket: Platform, store: Store) -> None:
    platform = open_platform(replace(bucket.settings, tables=modes.TABLES))
    prices = platform.table("prices")
    rows = [{'the "item"': "a", "Price %s": 1}, {'the "item"': "a", "Price %s": 2}]
    modes.deliver(platform, "prices/1.parquet", rows)
    modes.load(platform, "prices")
    assert store.fail("PUT", 1, damages, ".parquet") == []
    with pytest.raises(TieringError, match="prices: "):
        write_due_copies(platform, prices)
    assert (store.objects(), named(platform)) == ({}, set())
    assert processes.run(processes.keep_snapshot, platform.settings, "prices", "renamed") == -9
    (taken,) = write_due_copies(platform, prices)
    assert (taken.rows, taken.path) == (2, "prices/prices_g0002.parquet")
    assert verify(platform, prices, deep=True)[0].problem is None
    housekeep(open_platform(replace(platform.settings, file_grace=timedelta(0))))
    assert list(store.objects()) == [
        "deep/lake/catalog.duckdb",
        "deep/lake/prices/prices_g0002.parquet",
    ]


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "SINGLE_PUT_BYTES", MEGABYTE)
    monkeypatch.setattr(object_store, "PART_BYTES", 5 * MEGABYTE)


def new_object(platform: Platform, name: str = "big") -> Any:
    """Reserve a file of 12 MB, for three parts."""
    file = platform.lake.files.reserve(lambda n: PurePosixPath(f"{name}_g{n:04d}.parquet"), 1)
    file.writing.write_bytes(bytes(range(256)) * (12 * MEGABYTE // 256))
    return file


def test_a_large_file_goes_up_in_parts_and_never_over_another(
    bucket: Platform, store: Store, in_parts: None
) -> None:
    file, other = new_object(bucket), new_object(bucket)
    digest = file.sha256()
    file.publish()
    assert sum("PUT" in asked for asked in store.asked) >= 3
    assert bucket.lake.files.sha256(file.path) == digest
    other.publish()
    assert (file.generation, other.generation) == (1, 2)
    assert store.pending_uploads() == []
    other.discard()
    assert list(store.objects()) == ["deep/lake/big_g0001.parquet"]


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_an_upload_that_fails_midway_leaves_no_part(
    bucket: Platform, store: Store, in_parts: None, method: str
) -> None:
    file = new_object(bucket)

    def fails(request: Request, answer: Callable[[], Response]) -> Response:
        last = request.args.get("partNumber") == "3"
        if request.method == method and (last or (method == "POST" and "uploadId" in request.args)):
            return refused("InternalError", 500)(request, answer)
        return answer()

    store.fault = fails
    with pytest.raises(LakeFileError, match=r"big_g0001\.parquet: the store failed"):
        file.publish()
    file.discard()
    assert (store.objects(), store.pending_uploads(), spooled(bucket)) == ({}, [], [])


def test_what_an_upload_left_that_was_killed_is_listed_and_removed(
    bucket: Platform, store: Store
) -> None:
    key = "deep/lake/readings/x.parquet"
    store.client.create_multipart_upload(Bucket=BUCKET, Key=key)
    lake = bucket.lake.files
    (stored,) = lake.listing("readings")
    assert str(stored.path) == "readings/x.parquet.tmp"
    lake.remove(stored.path)
    assert (list(lake.listing()), store.pending_uploads()) == ([], [])


def test_housekeeping_removes_from_the_bucket_what_no_manifest_row_names(
    bucket: Platform, store: Store
) -> None:
    impatient = open_platform(replace(bucket.settings, file_grace=timedelta(0)))
    fill(bucket)
    (path,) = settle(bucket, "readings", MONTHS[1])
    do(bucket, "insert into readings values ('2024-02-09Z', 's1', 1, 999)")
    folded = move_key(bucket, "readings", MONTHS[1])
    orphan = path.replace("g0001", "g0007")
    store.client.put_object(Bucket=BUCKET, Key=f"deep/lake/{orphan}", Body=b"no Parquet")
    store.client.create_multipart_upload(Bucket=BUCKET, Key=f"deep/lake/{orphan}")
    store.fail("PUT", 99, refused("InternalError", 500), "catalog.duckdb")
    assert "no file was removed: s3://a-lake/deep/lake/catalog.duckdb: the store failed" in str(
        housekeep(impatient).failed
    )
    store.fault = None
    swept = {file.path: file.why for file in housekeep(impatient).swept}
    assert swept == {path: "superseded", orphan: "orphan", f"{orphan}.tmp": "unfinished"}
    assert set(store.objects()) == {f"deep/lake/{folded.path}", "deep/lake/catalog.duckdb"}
    assert store.pending_uploads() == []


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_spool_without_room_moves_nothing_and_is_left_clean(
    bucket: Platform, store: Store
) -> None:
    fill(bucket)
    with disk_of(512), pytest.raises(TieringError, match=r"readings 2024-02: .*spool"):
        move_key(bucket, "readings", MONTHS[1])
    assert (store.objects(), spooled(bucket), hot(bucket)) == ({}, [], 3 * EACH)
    assert move_key(bucket, "readings", MONTHS[1]).moved == EACH


def test_a_model_that_cannot_be_published_leaves_the_old_one(
    bucket: Platform, store: Store
) -> None:
    fill(bucket)
    models = models_of(bucket)
    build_model(bucket, models, models.get("by_sensor"))
    store.fail("PUT", 99, refused("InternalError", 500), ".parquet")
    with pytest.raises(ModelError, match=r"was not published: s3://.*by_sensor_g0002\.parquet"):
        build_model(bucket, models, models.get("by_sensor"))
    assert seen(bucket, "select sum(n) from by_sensor") == [(3 * EACH,)]
    assert len(store.objects()) == 1
