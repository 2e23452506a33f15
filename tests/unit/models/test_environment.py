"""env_var() gives what the project allows, and no secret: not in SQL, not in an error."""

from __future__ import annotations

import pytest

from lakebed.models.model import ModelError, ModelSet
from lakebed.models.parser import load_models
from lakebed.spec.queried_sources import RestApi, Secret, SqlTable, secret_names
from tests.unit.models.conftest import SOURCES, Project

VALUE = "hunter2-c0ffee"
SECRETS = [
    "AWS_SECRET_ACCESS_KEY",
    "PGPASSWORD",
    "LAKEBED_POSTGRES_URL",
    "LAKEBED_LAKE",
    "DBT_ENV_SECRET_TOKEN",
    "GITHUB_TOKEN",
    "SENTRY_DSN",
    "DB_PASS",
    "stripe_api_key",
    "SHOP_CODE",  # a table file's Secret
    "SHOP_SAME",  # has the value of that secret
    "SHOP_PLACE",  # a URL with a password
]
VALUES = {name: VALUE for name in SECRETS} | {
    "SHOP_PLACE": f"postgresql://me:{VALUE}@host/db",
    "SHOP_REGION": "north",
    "SHOP_URL": "https://shop.example",
    "PARTITION_KEY": "day",
    "DBT_ENV_CUSTOM_ENV_TEAM": "blue",
    "HOME": "/home/me",
}


def load(project: Project, name: str, allowed: str, default: str = "") -> ModelSet:
    files = {
        "dbt_project.yml": f"name: p\nvars: {{lakebed_env_vars: {allowed}}}",
        "models/a.sql": f"select '{{{{ env_var('{name}'{default}) }}}}' as n",
        "models/a.yml": f"models: [{{name: a, description: 'of {{{{ env_var(\"{name}\") }}}}'}}]",
    }
    return load_models(
        project.write(files).folder, SOURCES, {}, VALUES, secrets={"SHOP_CODE", "NOT_SET"}
    )


@pytest.mark.parametrize(
    ("name", "allowed", "value"),
    [
        ("SHOP_REGION", "[SHOP_REGION]", "north"),
        ("SHOP_REGION", "['SHOP_*']", "north"),
        ("SHOP_REGION", "SHOP_REGION", "north"),
        ("SHOP_URL", "[SHOP_URL]", "https://shop.example"),
        ("PARTITION_KEY", "[PARTITION_KEY]", "day"),
        ("DBT_ENV_CUSTOM_ENV_TEAM", "[]", "blue"),
    ],
)
def test_a_name_that_the_project_allows_is_read(
    project: Project, name: str, allowed: str, value: str
) -> None:
    assert load(project, name, allowed).get("a").sql == f"select '{value}' as n"


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("HOME", "[]"),
        ("HOME", "[HOM, HOME_]"),
        ("HOME", "['SHOP_*']"),
        ("SHOP_URL", "['SHOP_*']"),
        ("PARTITION_KEY", "['P*']"),
        *((name, f"[{name}, '{name[:3]}*']") for name in SECRETS),
    ],
)
@pytest.mark.parametrize("default", ["", ", 'x'"])
def test_another_name_and_a_secret_are_refused_and_not_shown(
    project: Project, name: str, allowed: str, default: str
) -> None:
    with pytest.raises(ModelError) as refused:
        load(project, name, allowed, default)
    assert name in str(refused.value)
    assert VALUES[name] not in str(refused.value)


@pytest.mark.parametrize("allowed", ["['*']", "[1]", "['A B']", "{A: B}"])
def test_a_list_that_allows_everything_or_nothing_that_is_a_name_is_refused(
    project: Project, allowed: str
) -> None:
    with pytest.raises(ModelError, match=r"dbt_project\.yml"):
        load(project, "SHOP_REGION", allowed)


def test_variables_of_a_command_allow_nothing(project: Project) -> None:
    project.write({"marts/a.sql": "select '{{ env_var('HOME') }}' as n"})
    with pytest.raises(ModelError):
        load_models(project.folder, SOURCES, {"lakebed_env_vars": ["HOME"]}, VALUES)


@pytest.mark.parametrize(
    "expression",
    [
        "env_var.__self__._world.environment.values",
        "env_var | attr('__self__')",
        "builtins.ref.__globals__",
        "ref('a').__class__.__mro__",
    ],
)
def test_no_template_reaches_the_environment_in_another_way(
    project: Project, expression: str
) -> None:
    text = f"select '{{{{ {expression} }}}}' as n"
    try:
        models = load_models(project.write({"marts/a.sql": text}).folder, SOURCES, {}, VALUES)
    except ModelError as error:
        assert VALUE not in str(error)
    else:
        assert VALUE not in models.get("a").sql


def test_the_secrets_of_a_source_are_known_by_name() -> None:
    api = RestApi(
        base_url="https://a.example",
        path="list",
        auth={"type": "bearer", "token": Secret("A_TOKEN")},
        params={"nested": [{"key": Secret("B_CODE")}]},
    )
    assert secret_names(api) == {"A_TOKEN", "B_CODE"}
    assert secret_names(SqlTable(url_setting="SHOP_DB", table="t")) == {"SHOP_DB"}
    assert secret_names(None) == set()
