"""Decide which environment variables the templates of a project may read with env_var().

The compiled SQL is printed, stored and shown in the UI. Templates therefore read only variables
that the project allows, and never a secret. dbt_project.yml allows names, and prefixes that end
with a star. Names that begin with DBT_ENV_CUSTOM_ENV_ are always allowed:

    vars:
      lakebed_env_vars: [REGION, "SHOP_*"]
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from lakebed.models.model import ModelError, UnlocatedModelError
from lakebed.models.project import Project

SETTING = "lakebed_env_vars"
ALWAYS = "DBT_ENV_CUSTOM_ENV_*"
_ENTRY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\*?")
_OWN = ("DBT_ENV_SECRET", "LAKEBED_", "PG")
_NEVER = re.compile(
    r"SECRET|PASSW|PASSPHRASE|(^|_)(PWD|PASS|DSN|JWT|AUTH)(_|$)|TOKEN|CREDENTIAL|WEBHOOK"
    r"|(API|ACCESS|ACCOUNT|PRIVATE|ENCRYPTION|SIGNING|MASTER|SAS)_?KEY|CONNECTION_?STRING",
    re.I,
)
# Variables with such names can hold a secret: the project must allow them by the whole name.
_PERHAPS = re.compile(r"(^|_)(KEY|KEYS|URL|URI|SALT|CERT|PIN)(_|$)", re.I)
_PASSWORD_IN_URL = re.compile(r"://[^/@\s]*:[^/@\s]+@|\bpassword\s*=", re.I)


@dataclass(frozen=True)
class AllowedEnvironment:
    """The environment as the templates of one project see it.

    Attributes:
        values: All variables; `get` returns only the allowed ones.
        allowed: Names, and prefixes that end with a star.
        secrets: Names that table files declare as secrets.
    """

    values: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    allowed: tuple[str, ...] = (ALWAYS,)
    secrets: frozenset[str] = frozenset()

    def get(self, name: str) -> str | None:
        """Return the value of a variable, None where it is not set.

        Raises:
            UnlocatedModelError: The variable holds a secret, or the project does not allow it.
        """
        if self._is_secret(name):
            raise UnlocatedModelError(
                f"env_var({name!r}) would show a secret in the SQL",
                "Use a variable without a secret: the SQL is printed, stored and shown.",
            )
        exactly = name in self.allowed
        if not exactly and (_PERHAPS.search(name) or not self._has_prefix(name)):
            raise UnlocatedModelError(
                f"env_var({name!r}) is not allowed in this project",
                f"Allow it in dbt_project.yml: vars: {{{SETTING}: [{name}]}}.",
            )
        return self.values.get(name)

    def _has_prefix(self, name: str) -> bool:
        prefixes = [entry.removesuffix("*") for entry in self.allowed if entry.endswith("*")]
        return name.startswith(tuple(prefixes))

    def _is_secret(self, name: str) -> bool:
        if name.upper().startswith(_OWN) or _NEVER.search(name) or name in self.secrets:
            return True
        value = self.values.get(name, "")
        same = {self.values.get(secret) for secret in self.secrets}
        return bool(value) and (_PASSWORD_IN_URL.search(value) is not None or value in same)


def allowed_environment(
    project: Project, values: Mapping[str, str], secrets: Collection[str] = ()
) -> AllowedEnvironment:
    """Return the environment as the templates of a project see it.

    Args:
        project: Its dbt_project.yml says which names are allowed.
        values: The variables of the process.
        secrets: Names of variables that hold a secret.

    Raises:
        ModelError: The line in dbt_project.yml is not a list of names and prefixes.
    """
    # --vars does not count: a command must not allow more than the project does.
    configured = project.variables.get(SETTING, [])
    entries = [configured] if isinstance(configured, str) else configured
    if not isinstance(entries, list) or not all(
        isinstance(entry, str) and _ENTRY.fullmatch(entry) for entry in entries
    ):
        raise ModelError(
            project.file,
            None,
            f"vars: {SETTING} is {configured!r}. Expected names of variables, and prefixes with a "
            "star",
            f'Write {SETTING}: [REGION, "SHOP_*"].',
        )
    return AllowedEnvironment(values, (ALWAYS, *entries), frozenset(secrets))
