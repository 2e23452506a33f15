"""The command metrics: figures for a monitoring system."""

from __future__ import annotations

from pathlib import Path

import click

from lakebed.cli.context import open_for_reading
from lakebed.cli.output_file import open_output


@click.command()
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Replace this file in one step, for node_exporter's textfile collector.",
)
def metrics(output: Path | None) -> None:
    """Show metrics in Prometheus's text format.

    They are lag, sizes, partitions, the quarantine and findings.
    """
    from lakebed.monitoring.health import read_health
    from lakebed.monitoring.metrics import prometheus

    if output is not None and not output.absolute().parent.is_dir():
        raise click.BadParameter(
            f"there is no folder {output.absolute().parent}", param_hint="--output"
        )
    text = prometheus(read_health(open_for_reading()))
    if output is None:
        click.echo(text, nl=False)
        return
    with open_output(output) as stream:
        stream.write(text)
