"""What a write mode, deletes and lookups ask of a table, checked when it is constructed. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakebed.spec.columns import VALID_FROM, VALID_TO

if TYPE_CHECKING:
    from lakebed.spec.policies import Deletes, Lookup
    from lakebed.spec.table import SourceTable

Problem = tuple[str, str]
"""The field, and what is wrong with it and the way out."""

MAX_IDENTIFIER_BYTES = 63


def problem(table: SourceTable) -> Problem | None:
    """Say what makes no sense about how the table is written, or None."""
    return (
        _of_mode(table)
        or _of_deletes(table, table.deleting)
        or _of_lookups(table)
        or _of_changed_files(table)
    )


def _of_mode(table: SourceTable) -> Problem | None:
    mode = table.write_mode
    contract = {column.name for column in table.contract}
    if mode in ("merge", "history") and not table.key:
        return "write_mode", f"{mode} needs a key; declare key=(...), or use append"
    if mode == "history":
        for name in (VALID_FROM, VALID_TO):
            if name in contract:
                return "model", f"column {name!r} is the one that history makes; rename it"
            if name in (table.cursor, *table.key):
                return "key", f"{name!r} is made by the load; take it out of key and cursor"
        if table.tiering is not None:
            return "tiering", "a version is closed long after it was written; history stays hot"
    if table.load_by == "window" and (mode not in ("append", "merge") or table.loads_whole):
        return "load_by", f"a window is replaced as a whole; take {mode} or deletes away"
    if mode == "replace" and table.tiering is not None:
        return "tiering", "a replaced table holds what its source holds; all of it stays hot"
    return None


def _of_deletes(table: SourceTable, deletes: Deletes | None) -> Problem | None:
    if deletes is None:
        return None
    if (deletes.marker is None) == (not deletes.full_extract):
        return "deletes", "give it a marker column or full_extract=True, one of the two"
    if table.write_mode == "replace":
        return "deletes", "replace leaves out what the source left out; take deletes away"
    if table.write_mode == "append":
        return "deletes", "an appended table finds no row to delete; use merge or history"
    if deletes.marker is not None and not deletes.values:
        return "deletes.values", "no value says that a row is gone; name one"
    if deletes.marker in table.ignored:
        return "ignored", f"{deletes.marker!r} is the marker of deletes; take it out"
    if not 0 < deletes.at_most <= 1:
        return "deletes.at_most", f"{deletes.at_most} is no share above 0 and up to 1"
    return None


def _of_changed_files(table: SourceTable) -> Problem | None:
    if table.loads_whole and table.changed_files != "reload":
        return "changed_files", "all of the source is read when any of it changed; leave it out"
    return None


def _of_lookups(table: SourceTable) -> Problem | None:
    contract = [column.name for column in table.contract]
    for lookup in table.lookups:
        what = f"lookups[{lookup.column!r}]"
        found = _of_lookup(table, lookup, contract)
        if found is not None:
            return what, found
    columns = [lookup.column for lookup in table.lookups]
    if len(set(columns)) != len(columns):
        return "lookups", "two of them make one column; rename one"
    return None


def _of_lookup(table: SourceTable, lookup: Lookup, contract: list[str]) -> str | None:
    if lookup.column in contract:
        return "it is a column of the model; the load makes it, so rename one"
    if not lookup.natural:
        return "natural is empty; name the columns that stand for the parent"
    for name in lookup.natural:
        if name not in contract:
            return f"{name!r} is no column of the model ({', '.join(contract)})"
    if len(lookup.natural_key) != len(lookup.natural):
        return "natural and natural_key are pairs; give both as many columns"
    if lookup.column in table.key and table.write_mode == "merge" and table.tiering is not None:
        return (
            f"{lookup.column!r} is in the key, by which a merge looks for rows that have settled "
            "before parents are looked up; take the natural columns into the key, with keep=True"
        )
    if lookup.table == table.name:
        return "a table cannot look up itself; put the parents into a table of their own"
    if lookup.key_kind not in ("uuid", "identity"):
        return f"key_kind {lookup.key_kind!r} is neither 'uuid' nor 'identity'"
    for name in (lookup.table, lookup.key, *lookup.natural_key):
        if not name or len(name.encode()) > MAX_IDENTIFIER_BYTES or "\0" in name:
            return f"{name!r} cannot be a name in PostgreSQL, which takes 1 to 63 bytes"
    if lookup.key in lookup.natural_key:
        return f"{lookup.key!r} is the parent's surrogate and cannot be in its natural_key"
    if not lookup.keep:
        for other in table.lookups:
            if other is not lookup and set(other.natural) & set(lookup.natural) and other.keep:
                return "another lookup keeps one of its natural columns; let both keep it"
    return None
