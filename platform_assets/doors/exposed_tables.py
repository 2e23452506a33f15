"""What a DuckLake client sees of each table, as entries of the client catalog and views of rows.

    never tiered       one table: PostgreSQL's rows
    tiered, no key     one table: the manifest's files and PostgreSQL's rows
    tiered, a key      a view:  <t>__cold anti join <t>__masked using (key)
                                union all  <t>__hot

`<t>__masked` has the keys of hot rows and of tombstones in times that have cold files. The parts
of a view are in the schema `tiers`, what people query in `main`. A table whose decimals may be NaN
is a view, too: hot decimals are text in `<t>__hot`, and the view casts them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, LiteralString

from psycopg import sql

from lakebed.doors.column_forms import ColumnForm, column_form, may_be_misread
from lakebed.resources.hot_columns import Hot
from lakebed.resources.postgres import Connection
from lakebed.spec.table import SourceTable

MAIN, TIERS = 0, 1
"""The DuckLake schemas: what people query, and the parts that views are made of."""


@dataclass(frozen=True)
class InlinedRows:
    """Rows of PostgreSQL that belong to a table of the catalog. query: gives them."""

    table_id: int
    query: sql.Composable


@dataclass
class ClientTables:
    """What clients will see, before it has a version.

    Attributes:
        entries: The client catalog's document, without versions.
        rows: The rows of PostgreSQL by table, each with the Lakebed table that it belongs to.
        left_out: Tables that clients do not see, and why.
    """

    entries: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {"tables": [], "columns": [], "cold": [], "views": []}
    )
    rows: list[tuple[str, InlinedRows]] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    _next: int = 1

    def add(self, connection: Connection, table: SourceTable, hot: Hot) -> None:
        """Add a table that PostgreSQL has, or note why clients cannot read it."""
        # A column that PostgreSQL does not have yet is seen once `lakebed apply` has added it.
        forms = [
            column_form(c.name, c.duckdb, c.description, hot[c.name])
            for c in table.columns
            if c.name in hot
        ]
        columns = {form.name: form for form in forms if isinstance(form, ColumnForm)}
        problems = [form for form in forms if isinstance(form, str)]
        for column, condition in _unproven(connection, table, hot):
            decimal = next(c.duckdb for c in table.columns if c.name == column)
            if decimal.startswith("DECIMAL(") and not decimal.endswith("[]"):
                columns[column] = columns[column].as_text(decimal)
            else:
                problems.append(_how_to_prove(table, column, condition))
        if problems:
            self.left_out[table.name] = "; ".join(problems)
            return
        cold = table.tiering is not None or _has_cold_files(connection, table.name)
        self._expose(table, columns, cold)

    def _expose(self, table: SourceTable, columns: Mapping[str, ColumnForm], cold: bool) -> None:
        forms = list(columns.values())
        hot = _hot_rows(table, forms)
        key = [columns[name] for name in table.primary_key] if cold else []
        if not key and not any(form.checked for form in forms):
            self._table(table, table.name, MAIN, forms, hot, cold=cold)
            return
        queries = []
        if cold:
            self._table(table, f"{table.name}__cold", TIERS, forms, None, cold=True)
            queries.append(_select(table, "cold", [sql.Identifier(form.name) for form in forms]))
        if key:
            self._table(table, f"{table.name}__masked", TIERS, key, _masked_keys(table, key))
            queries[0] += sql.SQL(" anti join ({}) using ({})").format(
                _select(table, "masked", [_cast("try_cast", form) for form in key]),
                sql.SQL(", ").join(sql.Identifier(form.name) for form in key),
            )
        self._table(table, f"{table.name}__hot", TIERS, forms, hot)
        queries.append(_select(table, "hot", [_cast("cast", form) for form in forms]))
        query = sql.SQL(" union all ").join(queries).as_string()
        self.entries["views"].append(
            {"of": table.name, "id": self._id(), "name": table.name, "sql": query}
        )

    def _table(
        self,
        table: SourceTable,
        name: str,
        schema: int,
        columns: Sequence[ColumnForm],
        rows: sql.Composable | None,
        *,
        cold: bool = False,
    ) -> None:
        number = self._id()
        of = {"of": table.name}
        self.entries["tables"].append(of | {"id": number, "schema": schema, "name": name})
        ids: dict[str, int] = {}
        elements = len(columns)
        for order, column in enumerate(columns, 1):
            ids[column.name] = order
            entry = of | {"table": number, "order": order}
            self.entries["columns"].append(
                entry
                | {"id": order, "name": column.name}
                | {"type": "varchar" if column.checked and not cold else column.type}
                | ({"comment": column.comment} if column.comment else {})
            )
            if column.element is not None:
                elements += 1
                self.entries["columns"].append(
                    entry
                    | {"id": elements, "name": "element", "type": column.element, "parent": order}
                )
        if cold:
            time = ids[table.partitioning.column] if table.partitioning else None
            self.entries["cold"].append(of | {"table": number, "time": time})
        if rows is not None:
            self.rows.append((table.name, InlinedRows(number, rows)))

    def _id(self) -> int:
        self._next += 1
        return self._next - 1


def _select(table: SourceTable, part: str, selected: Sequence[sql.Composable]) -> sql.Composed:
    return sql.SQL("select {} from tiers.{}").format(
        sql.SQL(", ").join(selected), sql.Identifier(f"{table.name}__{part}")
    )


def _cast(cast: LiteralString, form: ColumnForm) -> sql.Composable:
    """Return DuckDB's expression for a column of hot rows; cast: what is done to a text."""
    name = sql.Identifier(form.name)
    if form.checked is None:
        return name
    return sql.SQL("{}({name} as {}) as {name}").format(
        sql.SQL(cast), sql.SQL(form.checked), name=name
    )


_INLINED = "0::bigint as row_id, 1::bigint as begin_snapshot, null::bigint as end_snapshot"


def _hot_rows(table: SourceTable, columns: Sequence[ColumnForm]) -> sql.Composable:
    selected = sql.SQL(", ").join(
        sql.SQL("{} as {}").format(column.hot, sql.Identifier(column.name)) for column in columns
    )
    return sql.SQL("select {}, {} from {}").format(sql.SQL(_INLINED), selected, table.relation)


def _masked_keys(table: SourceTable, key: Sequence[ColumnForm]) -> sql.Composable:
    """Return the query of the keys whose cold rows do not count: overridden, or deleted."""
    inner = sql.SQL(", ").join(sql.Identifier("r", column.name) for column in key)
    outer = sql.SQL(", ").join(
        sql.SQL("{} as {}").format(column.hot, sql.Identifier(column.name)) for column in key
    )
    return sql.SQL(
        "select {inlined}, {outer} from ("
        "select {inner} from (select unnest(range_agg(tstzrange(lower_bound, upper_bound))) as w"
        " from lakebed.cold_file where table_name = {name} and superseded_at is null) cold,"
        " lateral (select * from {table} where {time} >= lower(w) and {time} < upper(w)) r"
        " union all select {inner} from lakebed.cold_delete d"
        " cross join lateral jsonb_populate_record(null::{table}, d.key) r"
        " where d.table_name = {name}) keys"
    ).format(
        inlined=sql.SQL(_INLINED),
        inner=inner,
        outer=outer,
        name=sql.Literal(table.name),
        table=table.relation,
        time=sql.Identifier(table.require_partitioning.column),
    )


def _has_cold_files(connection: Connection, name: str) -> bool:
    query = (
        "select exists (select from lakebed.cold_file where table_name = %s"
        " and superseded_at is null)"
    )
    return bool(connection.execute(query, [name]).fetchall()[0][0])


def _unproven(
    connection: Connection, table: SourceTable, hot: Hot
) -> Iterator[tuple[str, sql.Composable]]:
    """Yield each column that may hold a value that DuckDB would misread, and the condition for it.

    PostgreSQL's planner says whether a CHECK of the table forbids it: it then reads no row.
    """
    for column in table.columns:
        found = hot.get(column.name)
        if found is None or not may_be_misread(found, column.duckdb):
            continue
        condition = found.misread()
        assert condition is not None
        query = sql.SQL("explain (format json, costs off) select from {} where {}").format(
            table.relation, condition
        )
        plan = connection.execute(query).fetchall()[0][0][0]["Plan"]
        if plan["Node Type"] == "Result" and plan.get("One-Time Filter") == "false":
            continue
        yield column.name, condition


def _how_to_prove(table: SourceTable, column: str, condition: sql.Composable) -> str:
    text = condition.as_string()
    if "exists" in text:
        return f"{column}: an element of the array may be a value that DuckDB has not ({text})"
    if text.startswith("not "):
        text = text.removeprefix("not ")
    else:
        text = f"{text.removesuffix(' > 1')} = 1"
    return (
        f"{column}: a hot row may hold a value that DuckDB has not. Let PostgreSQL forbid it: "
        f"ALTER TABLE {table.relation.as_string()} ADD CHECK ({text})"
    )
