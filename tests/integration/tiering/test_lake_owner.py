"""A lake belongs to one database: no other one, and no copy of that one, changes anything in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from lakebed.cli.main import group
from lakebed.errors import TieringError
from lakebed.monitoring.doctor import examine
from lakebed.recovery.backup import take_backup
from lakebed.recovery.restore_backup import restore as restore_backup
from lakebed.resources.clock import SystemClock
from lakebed.resources.lake_files import LakeFiles
from lakebed.resources.lake_owner import ForeignLakeError, LakeOwner
from lakebed.spec.partitions import Window, window_for_key
from lakebed.store.platform import Platform, open_platform
from lakebed.tiering.catalog_file import write_catalog
from lakebed.tiering.erase import erase
from lakebed.tiering.housekeep import housekeep
from lakebed.tiering.restore import restore
from lakebed.tiering.verify import verify
from tests.conftest import Server, settings_for
from tests.support.stores import Store, running_store
from tests.support.tiers import ask, do, files, fill, seen, settle

ALL = "select count(*), sum(number)::int from readings"


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with running_store() as store:
        yield store


@pytest.fixture(params=["folder", "bucket"])
def lake_settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """What the settings say of the lake."""
    if request.param == "folder":
        return {"LAKEBED_LAKE": str(tmp_path / "the-lake")}
    store = request.getfixturevalue("store")
    store.empty()
    found: dict[str, str] = store.environment()
    return found


@pytest.fixture
def owner(tmp_path: Path, database: str, lake_settings: dict[str, str]) -> Platform:
    """The platform whose lake it is, with a settled month."""
    platform = opened(tmp_path / "a", database, lake_settings)
    fill(platform)
    settle(platform, "readings", "2024-01")
    return platform


@pytest.fixture
def stranger(
    tmp_path: Path, server: Server, migrated: str, lake_settings: dict[str, str]
) -> Iterator[Platform]:
    """A platform of another database with the same lake, and rows of its own."""
    name = server.create(migrated)
    platform = opened(tmp_path / "b", server.url_of(name), lake_settings)
    # The tests' databases are copies of one that was migrated; this one was migrated itself.
    do(platform, "update lakebed.lake set database_id = gen_random_uuid()")
    fill(platform)
    yield platform
    server.drop(name)


def opened(home: Path, url: str, lake: dict[str, str]) -> Platform:
    home.mkdir()
    settings = replace(settings_for(home, url, **lake), file_grace=timedelta(0))
    platform = open_platform(settings)
    return open_platform(settings, (platform.table("readings"),))


def copied(server: Server, owner: Platform, home: Path) -> tuple[str, Platform]:
    """Copy a database as pg_dump and pg_restore would; return its name and its platform."""
    original = urlsplit(owner.postgres.url).path.lstrip("/")
    name = server.create(original)
    settings = replace(owner.settings, home=home, postgres_url=server.url_of(name))
    home.mkdir(exist_ok=True)
    return name, open_platform(settings, owner.tables)


def window(platform: Platform) -> Window:
    return window_for_key(platform.table("readings").require_partitioning.grain, "2024-01")


DOINGS: dict[str, Callable[[Platform], Any]] = {
    "move": lambda p: settle(p, "readings", "2024-02"),
    "housekeep": housekeep,
    "dry run": lambda p: housekeep(p, dry_run=True),
    "erase": lambda p: erase(p, p.table("readings"), "number = 1"),
    "catalog": write_catalog,
    "restore": lambda p: restore(
        *(p.postgres, p.lake, p.table("readings"), window(p)),
        SystemClock().now(),
    ),
    "backup": lambda p: restore_backup(
        p.settings.home, p.postgres, p.lake.files, p.table("readings"), "none"
    ),
}


@pytest.mark.parametrize("doing", DOINGS)
def test_another_database_changes_nothing_in_the_lake(
    owner: Platform, stranger: Platform, doing: str
) -> None:
    before = files(owner)
    with pytest.raises((ForeignLakeError, TieringError), match="lakebed lake claim") as caught:
        DOINGS[doing](stranger)
    for named in (owner.postgres.name, stranger.postgres.name):
        assert named in str(caught.value)
    assert files(owner) == before
    assert ask(stranger, "select count(*) from lakebed.cold_file") == [(0,)]
    assert seen(owner, ALL) == [(900, 404550)]


def test_the_doctor_names_a_foreign_lake_once(owner: Platform, stranger: Platform) -> None:
    assert [f.where for f in examine(owner).findings if f.where == "lake"] == []
    found = [finding for finding in examine(stranger).findings if finding.where == "lake"]
    assert [(finding.code, finding.level) for finding in found] == [("lake_foreign", "wrong")]
    assert owner.postgres.name in found[0].what


def test_a_copied_database_reads_the_lake_and_may_not_write_to_it(
    owner: Platform, server: Server, tmp_path: Path
) -> None:
    name, copy = copied(server, owner, tmp_path / "copy")
    try:
        assert seen(copy, ALL) == [(900, 404550)]
        assert [file.problem for file in verify(copy, copy.table("readings"))] == [None]
        for doing in ("move", "housekeep", "restore"):
            with pytest.raises((ForeignLakeError, TieringError), match="lakebed lake claim"):
                DOINGS[doing](copy)
        copy.lake.owner.claim()
        settle(copy, "readings", "2024-02")
        with pytest.raises(ForeignLakeError):
            housekeep(owner)
    finally:
        server.drop(name)


def test_a_database_with_the_wrong_lake_says_so(
    owner: Platform, stranger: Platform, tmp_path: Path
) -> None:
    elsewhere = replace(stranger.settings, lake=tmp_path / "theirs")
    settle(open_platform(elsewhere, stranger.tables), "readings", "2024-01")
    for wrong in (stranger.settings, replace(elsewhere, lake=tmp_path / "empty")):
        platform = open_platform(wrong, stranger.tables)
        with pytest.raises(ForeignLakeError, match="LAKEBED_LAKE") as caught:
            verify(platform, platform.table("readings"))
        assert str(tmp_path / "theirs") in str(caught.value)
    # Both name a file so: it must not be taken for the other one.
    with pytest.raises(ForeignLakeError):
        seen(open_platform(stranger.settings, stranger.tables), ALL)


def test_a_lake_with_files_is_not_taken_by_a_database_that_names_none(
    owner: Platform, stranger: Platform
) -> None:
    forget_owner(owner)
    with pytest.raises(ForeignLakeError, match="names no file of it"):
        housekeep(stranger)
    settle(owner, "readings", "2024-02")  # which names its files, and takes the lake again
    assert owner.lake.owner.owner() is not None


def forget_owner(platform: Platform) -> None:
    """Make the lake one of before there were owners."""
    lake = platform.lake.files
    lake.remove(LakeFiles.OWNER)
    do(platform, "update lakebed.lake set token = null, next_token = null, address = null")


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("step", ["intent", "lake"])
def test_a_writer_that_was_killed_at_any_step_stands_in_nobodys_way(
    owner: Platform, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    kind = type(owner.lake.files)
    write = kind.write_owner

    def killed(self: Any, *args: Any) -> bool:
        if step == "lake":
            assert write(self, *args)
        raise Killed

    for _ in range(3):
        monkeypatch.setattr(kind, "write_owner", killed)
        with pytest.raises(Killed):
            owner.lake.owner.advance()
        monkeypatch.setattr(kind, "write_owner", write)
        assert owner.lake.owner.problem() is None
    settle(owner, "readings", "2024-02")
    assert seen(owner, ALL) == [(900, 404550)]


def test_of_two_copies_of_a_server_the_first_that_writes_has_the_lake(owner: Platform) -> None:
    """A copy of the whole server has its identity: what the original says then, it says too."""
    said = ask(owner, "select token, next_token from lakebed.lake")
    settle(owner, "readings", "2024-02")
    theirs = ask(owner, "select token, next_token from lakebed.lake")
    be(owner, said)
    for doing in ("housekeep", "restore", "erase"):
        with pytest.raises((ForeignLakeError, TieringError), match="another copy"):
            DOINGS[doing](owner)
    be(owner, theirs)
    housekeep(owner)


def test_two_copies_of_a_server_that_write_at_once(owner: Platform) -> None:
    said = ask(owner, "select token, next_token from lakebed.lake")
    kind = type(owner.lake.files)
    write = kind.write_owner

    def overtaken(self: Any, *args: Any) -> bool:
        """Let the copy write between this one's look and its writing."""
        kind.write_owner = write  # type: ignore[method-assign]
        now = ask(owner, "select token, next_token from lakebed.lake")
        be(owner, said)
        LakeOwnerWithoutLock(owner.lake.files, owner.postgres).advance()
        be(owner, now)
        return write(self, *args)

    kind.write_owner = overtaken  # type: ignore[method-assign]
    try:
        with pytest.raises(TieringError, match="at this moment"):
            settle(owner, "readings", "2024-02")
    finally:
        kind.write_owner = write  # type: ignore[method-assign]
    assert ask(owner, "select partition_key from lakebed.cold_file") == [("2024-01",)]
    assert seen(owner, ALL) == [(900, 404550)]


class LakeOwnerWithoutLock(LakeOwner):
    """That of another server, whose locks are its own."""

    def _locked(self, *, shared: bool) -> Any:
        return self._postgres.connect(autocommit=True)


def be(platform: Platform, said: list[Any]) -> None:
    """Let the database be the copy that says this."""
    with platform.postgres.connect() as connection:
        connection.execute("update lakebed.lake set token = %s, next_token = %s", said[0])


def test_a_lake_and_a_home_that_moved_together_go_on(tmp_path: Path, database: str) -> None:
    platform = opened(tmp_path / "a", database, {})
    fill(platform)
    settle(platform, "readings", "2024-01")
    assert isinstance(platform.settings.lake, Path)
    moved = tmp_path / "moved"
    shutil.move(platform.settings.lake, moved)
    there = open_platform(replace(platform.settings, lake=moved), platform.tables)
    assert there.lake.owner.problem() is None
    settle(there, "readings", "2024-02")
    assert ask(there, "select address from lakebed.lake") == [(str(moved),)]


def test_the_owners_file_says_who_it_is(owner: Platform) -> None:
    file = owner.lake.files.read_owner()
    assert file is not None
    said = json.loads(file.text)
    ((id_, token),) = ask(owner, "select database_id::text, token from lakebed.lake")
    assert (said["database"]["id"], said["token"]) == (id_, token)
    assert said["database"]["name"] == owner.postgres.name


def test_an_owners_file_that_was_damaged_is_refused(owner: Platform) -> None:
    file = owner.lake.files.read_owner()
    assert owner.lake.files.write_owner("{", file)
    with pytest.raises(TieringError, match=r"lakebed-owner\.json"):
        settle(owner, "readings", "2024-02")


def test_claim_asks_and_takes_over(
    owner: Platform,
    stranger: Platform,
    monkeypatch: pytest.MonkeyPatch,
    lake_settings: dict[str, str],
) -> None:
    for name, value in (stranger.settings.environment() | lake_settings).items():
        monkeypatch.setenv(name, value)
    asked = CliRunner().invoke(group, ["lake", "claim"])
    assert asked.exit_code == 2
    assert "--yes" in asked.output
    assert owner.lake.owner.problem() is None
    done = CliRunner().invoke(group, ["lake", "claim", "--yes"])
    assert done.exit_code == 0, done.output
    assert owner.postgres.name in done.output
    assert stranger.lake.owner.problem() is None
    assert owner.lake.owner.problem() is not None


def test_a_backup_of_the_lake_that_came_back_is_older(owner: Platform) -> None:
    before = owner.lake.files.read_owner()
    assert before is not None
    take_backup(
        *(owner.settings.home, owner.postgres, owner.lake, owner.table("readings")),
    )
    settle(owner, "readings", "2024-02")
    assert owner.lake.files.write_owner(before.text, owner.lake.files.read_owner())
    with pytest.raises(ForeignLakeError, match="restored from a backup"):
        housekeep(owner)
    owner.lake.owner.claim()
    housekeep(owner)
