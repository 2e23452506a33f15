"""Which variables of the environment the templates of a project may read with env_var().

The compiled SQL is printed, stored and shown in the UI, so a variable is read only where the
project allows its name, and one that holds a secret is never read. dbt_project.yml allows names,
and prefixes that end with a star; names that begin with DBT_ENV_CUSTOM_ENV_ need no line there:

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
# Such a name may hold a secret or not: the project must allow it by its whole name.
_PERHAPS = re.compile(r"(^|_)(KEY|KEYS|URL|URI|SALT|CERT|PIN)(_|$)", re.I)
_PASSWORD_IN_URL = re.compile(r"://[^/@\s]*:[^/@\s]+@|\bpassword\s*=", re.I)


@dataclass(frozen=True)
class AllowedEnvironment:
    """The environment as the templates of one project see it.

    Attributes:
        values: All variables; only the allowed ones are given out.
        allowed: Names, and prefixes that end with a star.
        secrets: Names that table files declare as secrets.
    """

    values: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    allowed: tuple[str, ...] = (ALWAYS,)
    secrets: frozenset[str] = frozenset()

    def get(self, name: str) -> str | None:
        """Return the value of a variable, None where it is not set.

        Raises:
            ComplaintError: The variable holds a secret, or the project does not allow its name.
        """
        if self._is_secret(name):
            raise UnlocatedModelError(
                f"env_var({name!r}) would show a secret in the SQL",
                "Take a variable that holds none: the SQL is printed, stored and shown.",
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
    # Not what --vars says: a command must not open what the project keeps closed.
    said = project.variables.get(SETTING, [])
    entries = [said] if isinstance(said, str) else said
    if not isinstance(entries, list) or not all(
        isinstance(entry, str) and _ENTRY.fullmatch(entry) for entry in entries
    ):
        raise ModelError(
            project.file,
            None,
            f"vars: {SETTING} is {said!r}. Expected names of variables, and prefixes with a star",
            f'Write {SETTING}: [REGION, "SHOP_*"].',
        )
    return AllowedEnvironment(values, (ALWAYS, *entries), frozenset(secrets))
