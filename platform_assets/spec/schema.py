"""Turn a pandera model into columns, with their type in every engine, rules and description.

id: str = pa.Field(metadata={"postgres": "uuid"})
mood: pl.Enum(["sad", "glad"]) = pa.Field(metadata={"postgres": "mood"})
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
import pyarrow as pa
from pandera.api.dataframe.model_components import FieldInfo
from pandera.errors import SchemaInitError
from pandera.polars import DataFrameModel, DataFrameSchema

from lakebed.spec.types import SchemaError, TypeMap, named_type


@dataclass(frozen=True)
class Column:
    """A column of the contract: its name, its type in every engine, its rules and description."""

    name: str
    polars: pl.DataType
    types: TypeMap
    nullable: bool
    unique: bool
    description: str
    checks: tuple[str, ...]
    """The pandera rules as text, for people."""
    evolved: bool = False
    """Whether a load added the column because the source has it and the model does not."""

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type that goes over the wire to PostgreSQL."""
        return self.types.arrow

    @property
    def postgres(self) -> str:
        """The PostgreSQL type, as format_type() spells it."""
        return self.types.postgres

    @property
    def duckdb(self) -> str:
        """The DuckDB type, as DESCRIBE spells it."""
        return self.types.duckdb

    @property
    def in_file(self) -> str:
        """The DuckDB type of the column in the cold file, which has some types as text."""
        return self.duckdb if self.types.stored == "{0}" else "VARCHAR"

    @property
    def orderable(self) -> bool:
        """Whether the column can be a cursor."""
        return self.types.orderable


def columns_of(model: type[DataFrameModel], table: str = "") -> tuple[Column, ...]:
    """Return the columns of a pandera model, in its order.

    Args:
        model: The model.
        table: The name of its table, the prefix of an enum's name unless the field has one.

    Raises:
        SchemaError: Lakebed cannot carry a column, or a setting would let bad rows pass.
    """
    try:
        schema = model.to_schema()
    except (TypeError, SchemaInitError) as error:
        raise SchemaError(f"pandera cannot read {model.__name__}: {error}") from error
    fields = schema.columns
    declared = _declared(model)
    for name, owner in declared.items():
        info = vars(owner).get(name)
        if isinstance(info, FieldInfo) and info.original_name != name:
            raise SchemaError(
                f"{model.__name__}: the fields {name!r} and {info.original_name!r} share one "
                "pa.Field(...), and pandera keeps only one of them; give each its own pa.Field(...)"
            )
    if len(fields) < len(declared):
        raise SchemaError(
            f"{model.__name__} declares {len(declared)} fields but has {len(fields)} columns: some "
            "share an alias or a pa.Field(...); give each field its own"
        )
    problem = _unjudged(schema)
    if problem is not None:
        raise SchemaError(f"{model.__name__}: {problem}")
    table = table or model.__name__.lower()
    return tuple(
        Column(
            name=name,
            polars=_instance(field.dtype.type),
            types=named_type(table, name, field.dtype.type, field.metadata or {}),
            nullable=bool(field.nullable),
            unique=bool(field.unique),
            description=field.description or "",
            checks=tuple(str(check.error or check.name) for check in field.checks),
        )
        for name, field in fields.items()
    )


def _declared(model: type[DataFrameModel]) -> dict[str, type[DataFrameModel]]:
    """Return the fields that a model declares or inherits, each with its class."""
    found: dict[str, type[DataFrameModel]] = {}
    for kind in model.__mro__:
        if issubclass(kind, DataFrameModel) and kind is not DataFrameModel:
            for name, annotation in vars(kind).get("__annotations__", {}).items():
                if not name.startswith("_") and "ClassVar" not in str(annotation):
                    found.setdefault(name, kind)
    return found


def _unjudged(schema: DataFrameSchema) -> str | None:
    """Describe a setting that would let bad rows pass the rules of a schema, or return None."""
    if schema.drop_invalid_rows:
        return (
            "Config: drop_invalid_rows=True drops bad rows silently; remove it, as bad rows go to "
            "the quarantine"
        )
    for names in schema.unique or []:
        for name in [names] if isinstance(names, str) else names:
            if name not in schema.columns:
                return f"Config: unique names the unknown field {name!r}; name a field of the model"
    for name, field in schema.columns.items():
        if field.default is not None:
            return (
                f"field {name!r}: default={field.default!r} would hide a null from the rules, and "
                f"the null would be loaded; remove it and write transforms={{{name!r}: "
                f"Mapped(values={{None: {field.default!r}}})}} in the SourceTable"
            )
        if field.drop_invalid_rows:
            return f"field {name!r}: drop_invalid_rows=True drops bad rows; remove it"
        if field.regex:
            return f"field {name!r}: regex=True names no column; declare a field for each column"
    checks = [
        (f"field {name!r}", check) for name, f in schema.columns.items() for check in f.checks
    ]
    checks += [("a dataframe_check", check) for check in schema.checks]
    for where, check in checks:
        if check.raise_warning:
            rule = check.error or check.name
            return (
                f"{where}: the rule {rule} with raise_warning=True would let bad rows pass; remove "
                "raise_warning or the rule"
            )
    return None


def arrow_schema(columns: tuple[Column, ...]) -> pa.Schema:
    """Return the Arrow schema of the batches that Lakebed encodes for PostgreSQL."""
    return pa.schema(
        [pa.field(column.name, column.arrow, nullable=column.nullable) for column in columns]
    )


def _instance(dtype: pl.DataType | type[pl.DataType]) -> pl.DataType:
    return dtype() if isinstance(dtype, type) else dtype
