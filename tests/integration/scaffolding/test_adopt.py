"""Tables that others made are adopted as they are: any schema, any leaves or none, other roles."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from psycopg import sql

from lakebed.cli import main as cli
from lakebed.errors import TieringError
from lakebed.monitoring.status import read_status
from lakebed.resources.postgres import MigrationError
from lakebed.resources.settings import Settings
from lakebed.scaffolding.adoption import AdoptionError, adopt
from lakebed.schema.apply import read_plan
from lakebed.spec.partitions import window_for_key
from lakebed.spec.table import SourceTable
from lakebed.store.platform import Platform, open_platform
from lakebed.tiering.erase import erase
from lakebed.tiering.housekeep import housekeep
from lakebed.tiering.literals import PredicateError
from lakebed.tiering.restore import restore
from tests.conftest import Server, open_folder, settings_for
from tests.support.application import Wrote, write
from tests.support.debian import debian_server, is_installed
from tests.support.processes import CONTEXT, move_key
from tests.support.tiers import ask, do, seen

MONTHS = ("2024-01", "2024-02", "2024-03")
FILLED = (
    "insert into {} (id, at, n) select i, '2024-01-01'::timestamptz + i * interval '4 hours', i"
    " from generate_series(0, 539) i"
)
"""Rows of January to March, six a day."""

PLAIN = (
    "create schema shop",
    "create type shop.mood as enum ('sad', 'it''s fine')",
    "create table shop.orders (id bigint generated always as identity primary key,"
    " at timestamptz(3) not null, n int default 7, twice int generated always as (n * 2) stored,"
    " mood shop.mood default 'sad', name varchar(20) default 'Ann', tags text[] default '{a,b}',"
    ' "Class" numeric(12, 2) default 1.50, doc jsonb default \'{"a": 1}\')',
    "comment on table shop.orders is 'What people \"ordered\".'",
    "comment on column shop.orders.n is 'how many'",
    "create index on shop.orders (at)",
    FILLED.format("shop.orders").replace(") select", ") overriding system value select"),
)

CUT = (
    "create schema shop",
    "create table shop.events (id bigint, at timestamptz not null, n int, region text not null"
    " default 'eu', primary key (id, at, region)) partition by range (at)",
    # Leaves that are no months, a gap, one that is cut again, and a DEFAULT partition.
    "create table shop.events_a partition of shop.events"
    " for values from ('2024-01-01') to ('2024-01-11')",
    "create table shop.events_b partition of shop.events"
    " for values from ('2024-01-11') to ('2024-02-20') partition by list (region)",
    "create table shop.events_b_eu partition of shop.events_b for values in ('eu')",
    "create table shop.events_default partition of shop.events default",
    FILLED.format("shop.events"),
)

PARTMAN = (
    "create table public.events (id bigint, at timestamptz not null, n int)"
    " partition by range (at)",
    *(
        f"create table events_p{month.replace('-', '_')} partition of events"
        f" for values from ('{month}-01') to ('{after}-01')"
        for month, after in zip(MONTHS, (*MONTHS[1:], "2024-04"), strict=True)
    ),
    "create table events_default partition of events default",
    FILLED.format("events"),
)
"""As pg_partman leaves a table: its names, its DEFAULT partition, no key."""

SHAPE = (
    "select c.oid::regclass::text, c.relkind::text, c.relfilenode,"
    " pg_get_expr(relpartbound, c.oid), obj_description(c.oid),"
    " (select array_agg(a order by a.attnum)::text from pg_attribute a"
    " where attrelid = c.oid) from pg_class c where relnamespace in"
    " (select oid from pg_namespace where nspname in ('shop', 'public')) order by c.oid"
)
"""All that a table is but its rows."""


@pytest.fixture
def adopted(settings: Settings, tmp_path: Path) -> Callable[..., Platform]:
    """Run statements and adopt the table; return a platform that has it."""

    def make(statements: tuple[str, ...], place: str) -> Platform:
        do(open_platform(settings, ()), *statements)
        return open_platform(settings, (declared(settings, place),))

    return make


def declared(settings: Settings, place: str) -> SourceTable:
    platform = open_platform(settings, ())
    with platform.postgres.connect(autocommit=True) as connection:
        return adopt(connection, place, platform.clock.now(), hot_for=timedelta(days=30)).table


def table_of(platform: Platform) -> SourceTable:
    return platform.tables[0]


def plan_of(platform: Platform) -> list[str]:
    with platform.postgres.connect(autocommit=True) as connection:
        plan = read_plan(connection, table_of(platform), platform.clock.now())
    return [f"{change.what}: {change.why}" for change in plan.changes]


def bring_back(platform: Platform, key: str) -> int:
    table = table_of(platform)
    window = window_for_key(table.require_partitioning.grain, key)
    done = restore(platform.postgres, platform.lake, table, window, platform.clock.now())
    return done.rows


@pytest.mark.parametrize(
    ("statements", "place", "key"),
    [
        (PLAIN, "shop.orders", ("id", "at")),
        (CUT, "shop.events", ("id", "at", "region")),
        (PARTMAN, "events", ()),
    ],
    ids=["plain", "odd leaves", "pg_partman"],
)
def test_a_table_settles_as_it_is_and_nothing_else_about_it_changes(
    adopted: Callable[..., Platform], statements: tuple[str, ...], place: str, key: tuple[str, ...]
) -> None:
    platform = adopted(statements, place)
    table, name = table_of(platform), place.rpartition(".")[2]
    assert (table.key, table.require_partitioning.grain) == (key, "month")
    transforms = ask(platform, SHAPE)
    assert plan_of(platform) == (["the index by at is missing: "] if not key else [])
    whole = f"select * from {name} order by id"  # noqa: S608
    before = seen(platform, whole)
    assert len(before) == 540
    for month in MONTHS:
        moved = move_key(platform, name, month)
        assert moved.moved == moved.rows > 100
    assert ask(platform, f"select count(*) from {place}") == [(0,)]  # noqa: S608
    assert seen(platform, whole) == before

    some = f"select * from {place} where false"  # noqa: S608
    assert bring_back(platform, "2024-02") == 29 * 6
    assert ask(platform, f"select count(*) from {place}") == [(29 * 6,)]  # noqa: S608
    assert seen(platform, whole) == before
    (status,) = read_status(platform).tables
    assert {p.key: p.state for p in status.partitions if p.state != "empty"} == {
        "2024-01": "cold", "2024-02": "held", "2024-03": "cold",
    }  # fmt: skip
    assert move_key(platform, name, "2024-02").moved == 29 * 6

    late = "overriding system value" if name == "orders" else ""
    do(platform, f"insert into {place} (id, at, n) {late} values (0, '2024-01-01', 5)")  # noqa: S608
    expected = 540 if key else 541
    assert seen(platform, f"select count(*), sum(n) from {name}") == [(expected, 539 * 270 + 5)]  # noqa: S608
    assert move_key(platform, name, "2024-01").rows == 31 * 6 + expected - 540
    assert seen(platform, f"select count(*), sum(n) from {name}") == [(expected, 539 * 270 + 5)]  # noqa: S608

    kept = housekeep(platform)
    assert (kept.made, kept.partition_tables, kept.gaps, kept.failed) == (0, [], [], [])
    assert ask(platform, SHAPE) == transforms
    assert ask(platform, some) == []
    states = ask(
        platform,
        "select partition_key, state from lakebed.tier_status where cold_rows > 0 order by 1",
    )
    assert states == [(month, "cold") for month in MONTHS]


def test_a_settled_row_is_deleted_by_its_key_in_any_schema(
    adopted: Callable[..., Platform],
) -> None:
    platform = adopted(CUT, "shop.events")
    move_key(platform, "events", "2024-01")
    row = '\'events\', \'{"id": %s, "at": "%s", "region": "eu"}\''
    cold, hot = row % (6, "2024-01-02"), row % (192, "2024-02-02")
    assert ask(platform, f"select lakebed.delete_row({cold})") == [(False,)]
    assert seen(platform, "select count(*) from events where id = 6") == [(0,)]
    do(platform, f"select lakebed.delete_row({hot})")
    assert ask(platform, "select count(*) from shop.events where id = 192") == [(0,)]
    assert move_key(platform, "events", "2024-01").rows == 31 * 6 - 1
    assert seen(platform, "select count(*) from events") == [(538,)]


REFUSED = {
    "view": (["create view t as select 1"], "it is a view"),
    "name": (['create table "T" (at timestamptz not null)'], "this role sees no table public.t"),
    "foreign": (
        ["create foreign data wrapper w", "create server s foreign data wrapper w",
         "create foreign table t (at timestamptz not null) server s"],
        "it is a foreign table",
    ),
    "unlogged": (["create unlogged table t (at timestamptz not null)"], "SET LOGGED"),
    "leaf": (
        ["create table p (at timestamptz not null) partition by range (at)",
         "create table t partition of p default"],
        "it is a partition of p; adopt p",
    ),
    "inherited": (
        ["create table t (at timestamptz not null)", "create table c () inherits (t)"],
        "inheritance children",
    ),
    "child": (
        ["create table p (at timestamptz not null)", "create table t () inherits (p)"],
        "it inherits from p",
    ),
    "referenced": (
        ["create table t (id int primary key, at timestamptz not null)",
         "create table c (t int references t on delete cascade)"],
        "the foreign key c_t_fkey of c refers to it",
    ),
    "rule": (
        ["create table t (at timestamptz not null)",
         "create rule keep as on delete to t do instead nothing"],
        "the rule keep rewrites",
    ),
    "types": (
        ["create domain d as text", "create table t (at timestamptz not null, a d, b money,"
         " c numeric, e char(3), f numeric(3, 5), g numeric(5, -2))"],
        r"(?s)column a is d: .*column b is money.*column c is numeric: .*column e is character"
        r".*column f is numeric\(3,5\): .* ALTER it to numeric\(5,5\).*column g is numeric\(5,-2\)",
    ),
    "no time": (["create table t (at timestamp not null)"], "no column of type timestamptz"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_settle_is_refused_with_the_way_out(settings: Settings, case: str) -> None:
    statements, why = REFUSED[case]
    do(open_platform(settings, ()), *statements)
    with pytest.raises(AdoptionError, match=why):
        declared(settings, "t")


def test_what_comes_in_the_way_later_is_in_the_plan_and_stops_the_move(
    adopted: Callable[..., Platform],
) -> None:
    platform = adopted(PLAIN, "shop.orders")
    do(platform, "create table shop.lines (o bigint references shop.orders on delete cascade)")
    do(platform, "insert into shop.lines values (1)")
    (planned,) = plan_of(platform)
    assert planned.startswith(
        "its rows cannot be moved: the foreign key lines_o_fkey of shop.lines"
    )
    with pytest.raises(TieringError, match=r"lines_o_fkey .* drop the constraint"):
        move_key(platform, "orders", "2024-01")
    assert ask(platform, "select count(*) from shop.orders, shop.lines") == [(540,)]
    do(platform, "drop table shop.lines", "alter table shop.orders add more int")
    with pytest.raises(TieringError, match="column more is not in the contract"):
        move_key(platform, "orders", "2024-01")
    do(platform, "drop table shop.orders")
    assert plan_of(platform)[0].startswith("the table shop.orders to adopt does not exist")


def test_a_role_needs_select_and_delete_and_no_more(
    settings: Settings, adopted: Callable[..., Platform]
) -> None:
    owner = adopted(CUT, "shop.events")
    (database,) = ask(owner, "select current_database()")[0]
    role = f"r_{database}"
    do(owner, f"create role {role} login", f"grant usage on schema shop to {role}")
    try:
        do(
            owner,
            f"grant usage on schema lakebed to {role}",
            f"grant all on all tables in schema lakebed to {role}",
            f"grant select on shop.events to {role}",
        )
        parts = urlsplit(str(settings.postgres_url))
        url = urlunsplit(parts._replace(netloc=f"{role}@"))
        theirs = open_platform(replace(settings, postgres_url=url), owner.tables)
        with pytest.raises(TieringError, match=f"GRANT delete on shop.events to {role}"):
            move_key(theirs, "events", "2024-01")
        do(owner, f"grant delete on shop.events to {role}")
        assert move_key(theirs, "events", "2024-01").moved == 31 * 6
        assert seen(theirs, "select count(*) from events") == [(540,)]
        assert read_status(theirs).tables[0].hot_rows == 540 - 31 * 6
        assert housekeep(theirs).failed == []
        assert ask(theirs, "select count(*) from lakebed.tier_status")[0][0] > 1
        with pytest.raises(TieringError, match="permission denied for table events"):
            bring_back(theirs, "2024-01")
        do(owner, f"grant insert on shop.events to {role}")
        assert bring_back(theirs, "2024-01") == 31 * 6

        do(owner, "alter table shop.events enable row level security")
        with pytest.raises(TieringError, match=f"row level security applies to the role {role}"):
            move_key(theirs, "events", "2024-01")
        with pytest.raises(PredicateError, match="not all rows could be erased: row level sec"):
            erase(theirs, theirs.table("events"), "id > 0")
        assert move_key(owner, "events", "2024-01").moved == 31 * 6
    finally:
        do(owner, f"drop owned by {role}", f"drop role {role}")


def test_a_role_that_may_make_schemas_makes_those_of_lakebed(
    server: Server, tmp_path: Path
) -> None:
    name = server.create()
    role = f"r_{name}"
    parts = urlsplit(server.url_of(name))
    settings = settings_for(tmp_path, urlunsplit(parts._replace(netloc=f"{role}@")))
    server.execute(sql.SQL("create role {} login").format(sql.Identifier(role)))
    try:
        with pytest.raises(MigrationError, match=f"GRANT CREATE ON DATABASE {name} TO {role}"):
            open_platform(settings, ()).postgres.connect()
        grant = sql.SQL("grant create on database {} to {}")
        server.execute(grant.format(sql.Identifier(name), sql.Identifier(role)))
        assert ask(open_platform(settings, ()), "select count(*) from lakebed.cold_file") == [(0,)]
    finally:
        server.drop(name)
        server.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


def test_the_command_writes_a_file_that_is_read_as_it_is(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    do(
        open_platform(settings, ()),
        *PLAIN,
        "drop index shop.orders_at_idx",
        "create function shop.note() returns trigger language plpgsql as 'begin return old; end'",
        "create trigger audit after delete on shop.orders for each row"
        " execute function shop.note()",
    )
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, value in (
        ("HOME", tmp_path),
        ("POSTGRES_URL", settings.postgres_url),
        ("TABLES", folder),
    ):
        monkeypatch.setenv(f"LAKEBED_{name}", str(value))
    arguments = ["add", "adopt:shop.orders", "--hot-for", "4w", "--grain", "week"]
    cli.main(arguments)
    out, err = capsys.readouterr()
    assert out.strip() == str(folder / "orders.py")
    assert "its key (id) did not include at, which was added" in err
    assert "no index begins with at" in err
    assert "the trigger audit acts on every row that moves" in err
    platform = open_platform(replace(settings, tables=folder))
    table = platform.table("orders")
    assert (table.description, table.column("n").description) == (
        'What people "ordered".',
        "how many",
    )
    assert (table.require_tiering.hot_for, table.require_partitioning.grain) == (
        timedelta(days=28),
        "week",
    )
    assert plan_of(platform) == []
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert (ended.value.code, "nothing was written" in capsys.readouterr().err) == (
        2,
        True,
    )


@contextmanager
def application(platform: Platform, unique: str) -> Iterator[Callable[[], Wrote]]:
    """Run an application that writes to the table; yield what stops it and tells what it wrote."""
    ours, theirs = CONTEXT.Pipe()
    table = table_of(platform)
    process = CONTEXT.Process(
        target=write, args=(platform.postgres.url, table.schema, table.name, unique, theirs)
    )
    process.start()

    def stop() -> Wrote:
        ours.send("stop")
        assert ours.poll(60)
        wrote = ours.recv()
        assert isinstance(wrote, Wrote)
        return wrote

    try:
        yield stop
    finally:
        process.join(10)
        process.kill()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("filter", "unique"),
    [
        pytest.param("", "id", id="plain"),
        pytest.param(" partition by range (at)", "id, at", id="cut"),
    ],
)
def test_an_application_notices_nothing_while_its_rows_settle(
    adopted: Callable[..., Platform], filter: str, unique: str
) -> None:
    partition_table = "create table shop.work_default partition of shop.work default"
    platform = adopted(
        (
            "create schema shop",
            f"create table shop.work (id bigint, at timestamptz not null, n int not null,"
            f" primary key ({unique})){filter}",
            *([partition_table] if filter else []),
            "insert into shop.work values (-1, '2024-01-01', 0)",
        ),
        "shop.work",
    )
    move_key(platform, "work", "2024-01")  # from here on lakebed.delete_row knows the table
    keys = [f"2024-0{month}" for month in range(1, 4)]
    moved, batches, given_up = 0, 0, 0
    deadline = time.monotonic() + 60
    with application(platform, unique) as stop:
        while (batches < 3 or moved < 200) and time.monotonic() < deadline:
            for key in keys:
                try:
                    moved += move_key(platform, "work", key).moved
                except TieringError as error:
                    assert "changed or locked" in str(error)
                    given_up += 1
            batches += 1
        wrote = stop()
    assert wrote.error is None
    assert wrote.missed > 0
    assert moved >= 200
    query = 'select id, "at", n from work where id > 0'

    def found() -> dict[int, tuple[object, int]]:
        rows = seen(platform, query)
        assert len({number for number, *_ in rows}) == len(rows)
        return {number: (at, n) for number, at, n in rows}

    print(
        f"{wrote.statements} statements, the longest {wrote.longest:.2f} s, {wrote.missed} missed"
    )
    print(f"{moved} rows moved in {batches} rounds, {given_up} moves given up")
    assert found() == wrote.rows
    for key in keys:
        move_key(platform, "work", key)
    assert ask(platform, "select count(*) from shop.work") == [(0,)]
    assert found() == wrote.rows


@pytest.mark.slow
@pytest.mark.skipif(
    not is_installed("pg_partman"), reason="Debian's postgresql-15-partman is not installed"
)
def test_pg_partman_goes_on_with_a_table_that_settles(tmp_path: Path) -> None:
    with open_folder() as folder, debian_server(folder) as url:
        settings = settings_for(tmp_path, url, LAKEBED_CLOCK="")
        do(
            open_platform(settings, ()),
            "create extension pg_partman",
            "create table events (id bigint, at timestamptz not null, n int)"
            " partition by range (at)",
            "select create_parent('public.events', 'at', 'native', 'monthly',"
            " p_start_partition := '2024-01-01')",
            FILLED.format("events"),
        )
        platform = open_platform(settings, (declared(settings, "events"),))
        assert table_of(platform).require_partitioning.grain == "month"
        for month in MONTHS:
            assert move_key(platform, "events", month).moved > 100
        do(platform, "call run_maintenance_proc()")
        assert housekeep(platform).failed == []
        assert seen(platform, "select count(*), sum(n) from events") == [(540, 539 * 270)]
        assert bring_back(platform, "2024-02") == 29 * 6
        assert seen(platform, "select count(*), sum(n) from events") == [(540, 539 * 270)]
