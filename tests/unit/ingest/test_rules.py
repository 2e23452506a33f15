"""Every row of a batch is judged, whatever the environment, pandera or the model's settings say."""

from __future__ import annotations

from typing import Any

import pandera.config
import pandera.polars as pa
import polars as pl
import pytest

from lakebed.ingest.contract import check
from lakebed.ingest.rules import broken_rules
from lakebed.ingest.sources.reader import Batch, SourceError, SourceItem
from lakebed.spec.table import SourceTable, TableError

FILE = SourceItem("f.csv", "1-1", 1, "f.csv")


class Positive(pa.DataFrameModel):
    n: pl.Int64 = pa.Field(ge=0, n_failure_cases=1)


def table(model: type[pa.DataFrameModel]) -> SourceTable:
    return SourceTable(name="t", model=model)


def bad_rows(model: type[pa.DataFrameModel], **columns: list[Any]) -> list[int]:
    """Return the numbers of the rows that the check rejects, and see that all are accounted for."""
    frame = pl.DataFrame(columns)
    numbers = pl.int_range(1, frame.height + 1, eager=True)
    checked = check(table(model), FILE, Batch(frame, numbers))
    rejected = sorted({reject.row_number for reject in checked.rejects})
    assert sorted([*rejected, *checked.numbers]) == list(numbers)
    assert checked.good.height == len(checked.numbers)
    return rejected


def test_the_number_of_failure_cases_that_pandera_keeps_does_not_matter() -> None:
    assert bad_rows(Positive, n=[-1, 5, -2, -3]) == [1, 3, 4]


@pytest.mark.parametrize(
    "settings",
    [
        {"validation_enabled": False},
        {"validation_depth": pandera.config.ValidationDepth.SCHEMA_ONLY},
        {"use_narwhals_backend": True},
    ],
    ids=str,
)
def test_no_setting_of_pandera_switches_a_rule_off(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What PANDERA_VALIDATION_ENABLED and the others set when pandera is imported.
    for config in (pandera.config.CONFIG, pandera.config._CONTEXT_CONFIG.get()):
        for name, value in settings.items():
            monkeypatch.setattr(config, name, value)
    assert bad_rows(Positive, n=[1, -1, 2]) == [2]


class Hides(pa.DataFrameModel):
    n: pl.Int64 = pa.Field(ge=0)

    class Config:
        drop_invalid_rows = True


class Default(pa.DataFrameModel):
    n: pl.Int64 = pa.Field(ge=0, default=0)


class Warns(pa.DataFrameModel):
    n: pl.Int64 = pa.Field(ge=0, raise_warning=True)


class WarnsOfSeveral(pa.DataFrameModel):
    n: pl.Int64

    @pa.dataframe_check(raise_warning=True)
    def small(cls, data: pa.PolarsData) -> pl.LazyFrame:  # noqa: N805
        return data.lazyframe.select(pl.col("n") < 3)


class Pattern(pa.DataFrameModel):
    n: pl.Int64 = pa.Field(ge=0, regex=True, alias="n_.*")


class UniqueOfNothing(pa.DataFrameModel):
    n: pl.Int64

    class Config:
        unique = ("m",)


SHARED: Any = pa.Field(ge=0)


class First(pa.DataFrameModel):
    n: pl.Int64 = SHARED


class Second(First):
    m: pl.Int64 = SHARED


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (Hides, "drop_invalid_rows"),
        (Default, "'n'"),
        (Warns, "'n'"),
        (WarnsOfSeveral, "small"),
        (Pattern, "n_.*"),
        (UniqueOfNothing, "'m'"),
        (First, "'n'"),
        (Second, "'n'"),
    ],
)
def test_a_model_that_hides_bad_rows_is_refused_by_name(
    model: type[pa.DataFrameModel], named: str
) -> None:
    with pytest.raises(TableError) as refused:
        table(model)
    assert named in str(refused.value)


class TwoKeys(pa.DataFrameModel):
    a: pl.Int64
    b: pl.Int64
    c: pl.Int64

    class Config:
        unique = (["a"], ["b", "c"])


def test_each_of_several_unique_sets_is_judged() -> None:
    assert bad_rows(TwoKeys, a=[1, 1, 2, 3, 4], b=[1, 2, 7, 7, 7], c=[1, 1, 1, 1, 2]) == [
        1,
        2,
        3,
        4,
    ]


class OfTheWhole(pa.DataFrameModel):
    n: pl.Int64

    @pa.check("n")
    def small_sum(cls, data: pa.PolarsData) -> pl.LazyFrame:  # noqa: N805
        return data.lazyframe.select(pl.col(data.key).sum() < 10)


def test_a_rule_on_the_whole_batch_rejects_the_batch_not_its_first_row() -> None:
    assert bad_rows(OfTheWhole, n=[1, 2]) == []
    with pytest.raises(SourceError, match="small_sum"):
        bad_rows(OfTheWhole, n=[1, 20])


class Raises(pa.DataFrameModel):
    n: pl.Int64

    @pa.check("n")
    def strange(cls, data: pa.PolarsData) -> pl.LazyFrame:  # noqa: N805
        raise RuntimeError("what now?")


def test_a_rule_that_raises_refuses_the_batch_and_says_what_it_raised() -> None:
    with pytest.raises(SourceError, match=r"strange.*what now\?"):
        bad_rows(Raises, n=[1])


class Coerced(pa.DataFrameModel):
    n: pl.Int64 = pa.Field(ge=0, coerce=True)

    class Config:
        coerce = True


def test_coercion_of_pandera_hides_nothing_since_values_are_cast_before() -> None:
    assert bad_rows(Coerced, n=["1", "x", "-1", "1.5", None]) == [2, 3, 4, 5]


class Surprising(pa.DataFrameModel):
    animal: str = pa.Field(str_matches="cat|dog", nullable=True)
    whole: str = pa.Field(str_matches="^(cat|dog)$", nullable=True)
    code: str = pa.Field(unique=True, nullable=True)
    share: pl.Float64 = pa.Field(ge=0, nullable=True)
    sure: pl.Float64 = pa.Field(ge=0)


@pytest.mark.parametrize(
    ("column", "values", "broken"),
    [
        ("animal", ["hotdog", "cats", "bird"], [2]),
        ("whole", ["hotdog", "cats", "dog"], [0, 1]),
        ("code", [None, None, "a"], [0, 1]),
        ("share", [float("nan"), -1.0, 1.0], [1]),
        ("sure", [float("nan"), -1.0, 1.0], [0, 1]),
    ],
)
def test_what_docs_say_of_surprising_rules_is_so(
    column: str, values: list[Any], broken: list[int]
) -> None:
    good = {"animal": "cat", "whole": "cat", "share": 1.0, "sure": 1.0}
    columns = {name: [value] * 3 for name, value in good.items()} | {"code": ["x", "y", "z"]}
    schema = {"animal": pl.String, "whole": pl.String, "code": pl.String}
    rows = pl.DataFrame(columns | {column: values}, schema_overrides=schema)
    found = broken_rules(table(Surprising), rows.select(table(Surprising).contract_names))
    assert sorted({index for rule in found for index in rule.bad.arg_true()}) == broken
