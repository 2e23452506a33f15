"""Check what a write mode, deletes and lookups require of a table. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakebed.spec.columns import VALID_FROM, VALID_TO

if TYPE_CHECKING:
    from lakebed.spec.policies import Deletes, Lookup
    from lakebed.spec.table import SourceTable

Problem = tuple[str, str]
"""The field, and what is wrong with it and how to fix it."""

MAX_IDENTIFIER_BYTES = 63


def problem(table: SourceTable) -> Problem | None:
    """Return the first contradiction in how loads write the table, or None."""
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
                return "model", f"a history adds column {name!r} itself; rename the model's"
            if name in (table.cursor, *table.key):
                return "key", f"a load sets {name!r} itself; remove it from key and cursor"
        if table.tiering is not None:
            return "tiering", "a history stays hot, as loads close old versions; remove tiering"
    if table.load_by == "window" and (mode not in ("append", "merge") or table.loads_whole):
        return "load_by", f"a load replaces a whole window; remove {mode} or deletes"
    if mode == "replace" and table.tiering is not None:
        return "tiering", "a replaced table stays hot, as each load may replace it; remove tiering"
    return None


def _of_deletes(table: SourceTable, deletes: Deletes | None) -> Problem | None:
    if deletes is None:
        return None
    if (deletes.marker is None) == (not deletes.full_extract):
        return "deletes", "expected either a marker column or full_extract=True; give one of them"
    if table.write_mode == "replace":
        return "deletes", "replace deletes missing rows anyway; remove deletes"
    if table.write_mode == "append":
        return "deletes", "an append deletes nothing; use write_mode='merge' or 'history'"
    if deletes.marker is not None and not deletes.values:
        return "deletes.values", "it is empty; name at least one value that marks a deleted row"
    if deletes.marker in table.ignored:
        return "ignored", f"{deletes.marker!r} is the marker of deletes; remove it from ignored"
    if not 0 < deletes.at_most <= 1:
        return "deletes.at_most", f"it is {deletes.at_most}. Expected a share above 0 and up to 1"
    return None


def _of_changed_files(table: SourceTable) -> Problem | None:
    if table.loads_whole and table.changed_files != "reload":
        return "changed_files", "each load of this table reads the whole source; remove it"
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
        return "lookups", "two lookups make the same column; rename one"
    return None


def _of_lookup(table: SourceTable, lookup: Lookup, contract: list[str]) -> str | None:
    if lookup.column in contract:
        return "the model has a column of that name; rename one of the two"
    if not lookup.natural:
        return "natural is empty; name the columns that identify the parent"
    for name in lookup.natural:
        if name not in contract:
            return f"the model has no column {name!r}. Expected one of {', '.join(contract)}"
    if len(lookup.natural_key) != len(lookup.natural):
        return (
            f"natural has {len(lookup.natural)} columns and natural_key {len(lookup.natural_key)}; "
            "give both the same number"
        )
    if lookup.column in table.key and table.write_mode == "merge" and table.tiering is not None:
        return (
            f"{lookup.column!r} is in the key, but a merge finds cold rows by key before it looks "
            "up parents; put the natural columns into the key instead, with keep=True"
        )
    if lookup.table == table.name:
        return "a table cannot look up itself; put the parents into their own table"
    if lookup.key_kind not in ("uuid", "identity"):
        return f"key_kind is {lookup.key_kind!r}. Expected 'uuid' or 'identity'"
    for name in (lookup.table, lookup.key, *lookup.natural_key):
        if not name or len(name.encode()) > MAX_IDENTIFIER_BYTES or "\0" in name:
            return f"{name!r} is not a name of PostgreSQL. Expected 1 to 63 bytes"
    if lookup.key in lookup.natural_key:
        return f"{lookup.key!r} is the parent's surrogate; remove it from natural_key"
    if not lookup.keep:
        for other in table.lookups:
            if other is not lookup and set(other.natural) & set(lookup.natural) and other.keep:
                return "another lookup keeps one of its natural columns; set keep=True in both"
    return None
