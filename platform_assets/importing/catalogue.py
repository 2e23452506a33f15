"""Look up in PostgreSQL's catalogue which structure a table has already."""

from __future__ import annotations

from dataclasses import dataclass

from lakebed.resources.postgres import Connection
from lakebed.spec.table import SourceTable

_COLUMNS = """\
select a.attname::text, format_type(a.atttypid, a.atttypmod), a.attidentity <> '',
       a.atthasdef
from pg_attribute a
where a.attrelid = to_regclass(%s) and a.attnum > 0 and not a.attisdropped"""

_INDEXES = """\
select c.relname::text, i.indisprimary, i.indisunique, i.indpred is not null,
       i.indexprs is not null, i.indisvalid,
       array(select a.attname::text
             from unnest(i.indkey::int2[]) with ordinality k (number, place)
             join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number
             where k.place <= i.indnkeyatts order by k.place)
from pg_index i join pg_class c on c.oid = i.indexrelid
where i.indrelid = to_regclass(%s)"""

_CONSTRAINTS = """\
select f.conname::text, f.contype::text, f.confrelid::int8, f.convalidated,
       array(select a.attname::text from unnest(f.conkey) with ordinality k (number, place)
             join pg_attribute a on a.attrelid = f.conrelid and a.attnum = k.number order by place)
from pg_constraint f where f.conrelid = to_regclass(%s) and f.contype in ('f', 'c')"""


@dataclass(frozen=True)
class PresentIndex:
    """An index of a table."""

    name: str
    primary: bool
    unique: bool
    plain: bool
    """Whether it has neither a condition nor an expression."""
    valid: bool
    columns: tuple[str, ...]


@dataclass(frozen=True)
class PresentConstraint:
    """A foreign key or CHECK of a table. parent: the oid of the table referred to."""

    name: str
    kind: str
    parent: int
    validated: bool
    columns: tuple[str, ...]


@dataclass(frozen=True)
class PresentTable:
    """What the catalogue has of a table."""

    oid: int
    partitioned: bool
    types: dict[str, str]
    identities: frozenset[str]
    defaults: frozenset[str]
    indexes: tuple[PresentIndex, ...]
    constraints: tuple[PresentConstraint, ...]

    @property
    def primary_key(self) -> tuple[str, ...]:
        """The columns of the primary key, none where there is no primary key."""
        return next((index.columns for index in self.indexes if index.primary), ())


def look_up(connection: Connection, table: SourceTable) -> PresentTable | None:
    """Return what the catalogue has of a table, None where the table does not exist."""
    place = table.relation.as_string()
    rows = connection.execute(
        "select oid::int8, relkind = 'p' from pg_class where oid = to_regclass(%s)", [place]
    ).fetchall()
    if not rows:
        return None
    columns = connection.execute(_COLUMNS, [place]).fetchall()
    return PresentTable(
        oid=rows[0][0],
        partitioned=rows[0][1],
        types={name: kind for name, kind, _, _ in columns},
        identities=frozenset(name for name, _, identity, _ in columns if identity),
        defaults=frozenset(name for name, _, _, default in columns if default),
        indexes=tuple(
            PresentIndex(name, primary, unique, not (partial or expression), valid, tuple(names))
            for name, primary, unique, partial, expression, valid, names in connection.execute(
                _INDEXES, [place]
            ).fetchall()
        ),
        constraints=tuple(
            PresentConstraint(name, kind, parent, validated, tuple(names))
            for name, kind, parent, validated, names in connection.execute(
                _CONSTRAINTS, [place]
            ).fetchall()
        ),
    )


def relation_names(connection: Connection, schema: str) -> frozenset[str]:
    """Return the names of all tables, indexes and sequences of a schema."""
    rows = connection.execute(
        "select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = %s",
        [schema],
    ).fetchall()
    return frozenset(name for (name,) in rows)
