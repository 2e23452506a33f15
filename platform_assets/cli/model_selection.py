"""dbt's selectors as options of a command, and the models that they choose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from lakebed.cli.completion import complete_models

if TYPE_CHECKING:
    from lakebed.models.model import ModelSet
    from lakebed.models.selection import Selected
    from lakebed.store.platform import Platform

Command = Callable[..., None]


def selecting(command: Command) -> Command:
    """Add dbt's selectors to a command."""
    for option in (
        click.option(
            "--vars", "variables", metavar="YAML", help="Variables: '{late_after_minutes: 30}'."
        ),
        click.option(
            "--exclude",
            multiple=True,
            metavar="EXPR",
            shell_complete=complete_models,
            help="What to leave out.",
        ),
        click.option(
            "--select",
            "-s",
            multiple=True,
            metavar="EXPR",
            shell_complete=complete_models,
            help="dbt's selectors: names, tag:x, path:x, +x, x+, @x, state:modified; a space is or,"
            " a comma is and.",
        ),
        click.argument("names", metavar="[MODEL]...", nargs=-1, shell_complete=complete_models),
    ):
        command = option(command)
    return command


def selected_models(
    platform: Platform, select: Sequence[str], exclude: Sequence[str], variables: str | None
) -> tuple[ModelSet, Selected]:
    """Return all models, and those that the selectors choose."""
    from lakebed.models.runner import built_versions, models_of
    from lakebed.models.selection import select as select_from

    models = models_of(platform, _variables(variables))
    asks_state = any("state:" in expression for expression in (*select, *exclude))
    built = built_versions(platform) if asks_state else None
    return models, select_from(models, select, exclude, built)


def _variables(text: str | None) -> dict[str, object]:
    import yaml

    if text is None:
        return {}
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise click.BadParameter(f"{text!r} is no YAML", param_hint="--vars") from error
    if not isinstance(found, dict):
        raise click.BadParameter("write names and values: '{a: 1}'", param_hint="--vars")
    return found
