"""The functions that a template can call: ref, source, config, var, ... with dbt's meaning.

A `Calls` object lives for one rendering and records the calls. It does not know their lines.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlglot import exp

from lakebed.models.environment import AllowedEnvironment
from lakebed.models.functions import functions
from lakebed.models.model import Run, UnlocatedModelError, did_you_mean
from lakebed.models.options import Options, checked, layered
from lakebed.spec.partitions import Window

SOURCE = "lakebed"
CTE = "__dbt__cte__"
"""The prefix of an ephemeral model's name in the SQL of its readers, as in dbt."""
_MISSING = object()


@dataclass
class ProjectContext:
    """The names that all templates of a project share.

    sources: source -> table -> the platform's table.  ephemeral: the ephemeral models, once every
    model's options are known.  blocks: the texts of {% docs %}.  event_times: the time column of
    the tables and models that have one.
    """

    project: str
    models: Collection[str]
    sources: Mapping[str, Mapping[str, str]]
    variables: Mapping[str, object]
    environment: AllowedEnvironment
    blocks: Mapping[str, str] = field(default_factory=dict)
    ephemeral: frozenset[str] = frozenset()
    event_times: Mapping[str, str] = field(default_factory=dict)


class Relation(str):
    """A quoted name in SQL, with the attributes that dbt's macros use."""

    __slots__ = ("_plain", "identifier")
    identifier: str
    _plain: str

    def __new__(cls, name: str, text: str | None = None, filtered: str | None = None) -> Relation:
        """Make the relation of a table or a model.

        Args:
            name: The table or model.
            text: Its name in SQL; by default the quoted name.
            filtered: The SQL that a query reads instead of all rows.
        """
        plain = f'"{name}"' if text is None else text
        made = super().__new__(cls, plain if filtered is None else filtered)
        made.identifier = name
        made._plain = plain
        return made

    def render(self) -> Relation:
        """Return the relation with all of its rows, without the filter of a run by windows."""
        return Relation(self.identifier, self._plain)

    @property
    def name(self) -> str:
        """The name without quotes."""
        return self.identifier

    @property
    def table(self) -> str:
        """The name without quotes."""
        return self.identifier

    @property
    def schema(self) -> str:
        """The one schema."""
        return "main"

    @property
    def database(self) -> str:
        """The one database."""
        return SOURCE


class Config:
    """config(): a call sets options; get and require return them."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def __call__(self, *maps: Mapping[str, object], **options: object) -> str:
        """Set options. A later call overrides an earlier one; tags and hooks add up."""
        for given in (*maps, options):
            for written, value in given.items():
                name = written.replace("-", "_")
                fresh = checked(name, value, self._calls.options)
                self._calls.config = layered(self._calls.config, {name: fresh})
        return ""

    def get(self, name: str, default: object = None, validator: object = None) -> object:
        """Return an option's value."""
        return self._calls.config.get(name, default)

    def require(self, name: str, validator: object = None) -> object:
        """Return the value of an option that must be set."""
        if name not in self._calls.config:
            raise UnlocatedModelError(f"config() has no {name!r}", f"Set it: config({name}=...).")
        return self._calls.config[name]


class Calls:
    """The functions that one template sees, and the names that it read."""

    def __init__(
        self,
        world: ProjectContext,
        options: Options,
        run: Run,
        base: Mapping[str, object],
        *,
        quiet: bool = False,
    ) -> None:
        self._world = world
        self._run = run
        self._quiet = quiet
        self.options = options
        # Dictionaries serve as sets that keep the order of the calls.
        self.refs: dict[str, None] = {}
        self.sources: dict[str, None] = {}
        self.config: dict[str, object] = dict(base)

    def ref(self, *names: object, **options: object) -> Relation:
        """Return the quoted name of a model, and record that the template reads it."""
        usage = "{{ ref('model') }}"
        if len(names) == 2 and names[0] == self._world.project:
            names = names[1:]
        name = _only_text("ref", names, options, usage)
        if name not in self._world.models:
            advice = did_you_mean(name, self._world.models, "The models")
            if any(name in tables for tables in self._world.sources.values()):
                advice = f"It is a source table: write {{{{ source('{SOURCE}', '{name}') }}}}."
            raise UnlocatedModelError(f"ref({name!r}) names no model", advice)
        self.refs[name] = None
        return self._in_window(name, f"{CTE}{name}" if name in self._world.ephemeral else None)

    def source(self, *names: object, **options: object) -> Relation:
        """Return the quoted name of a source table, and record that the template reads it."""
        usage = f"{{{{ source('{SOURCE}', 'table') }}}}"
        if len(names) != 2:
            raise UnlocatedModelError(
                f"source() takes a source and a table, not {len(names)} names", f"Write {usage}."
            )
        source = _only_text("source", names[:1], options, usage)
        table = _only_text("source", names[1:], options, usage)
        tables = self._world.sources.get(source)
        if tables is None:
            advice = did_you_mean(source, self._world.sources, "The sources")
            raise UnlocatedModelError(f"source({source!r}, {table!r}) names no source", advice)
        if table not in tables:
            advice = did_you_mean(table, tables, f"The tables of {source!r}")
            if table in self._world.models:
                advice = f"It is a model: write {{{{ ref('{table}') }}}}."
            raise UnlocatedModelError(f"source({source!r}, {table!r}) names no table", advice)
        name = tables[table]
        if name not in self._world.sources[SOURCE].values():
            advice = did_you_mean(name, self._world.sources[SOURCE], "Its tables")
            raise UnlocatedModelError(
                f"source({source!r}, {table!r}) names {name!r}, which is not a table of the "
                "platform",
                advice,
            )
        self.sources[name] = None
        return self._in_window(name)

    def _in_window(self, name: str, text: str | None = None) -> Relation:
        """Return the relation; in a run by windows only its rows of that window."""
        window, column = self._run.window, self._world.event_times.get(name)
        plain = Relation(name, text)
        if window is None or column is None:
            return plain
        seen = f"(select * from {plain} where {within(window, column)})"  # noqa: S608  (quoted)
        return Relation(name, text, seen)

    def var(self, name: str, default: object = _MISSING) -> object:
        """Return the value of a variable, or the default if it has no value."""
        value = self._world.variables.get(name, default)
        if value is _MISSING:
            raise UnlocatedModelError(
                f"var({name!r}) has no value and no default",
                f"Add a default, {{{{ var('{name}', 0) }}}}, or set the variable. "
                + did_you_mean(name, self._world.variables, "The variables"),
            )
        return value

    def env_var(self, name: str, default: str | None = None) -> str:
        """Return an environment variable, or the default if it is not set."""
        value = self._world.environment.get(name)
        value = default if value is None else value
        if value is None:
            raise UnlocatedModelError(
                f"env_var({name!r}) is not set and has no default",
                f"Set it, or write {{{{ env_var('{name}', 'default') }}}}.",
            )
        return value

    def doc(self, *names: str) -> str:
        """Return the text of a block of docs."""
        text = self._world.blocks.get(names[-1])
        if text is None:
            advice = did_you_mean(names[-1], self._world.blocks, "The blocks")
            raise UnlocatedModelError(f"doc({names[-1]!r}) names no block of docs", advice)
        return text

    def namespace(self) -> dict[str, object]:
        """Return the functions by the names under which a template sees them."""
        own: dict[str, Callable[..., object]] = {
            "ref": self.ref,
            "source": self.source,
            "config": Config(self),
            "var": self.var,
            "env_var": self.env_var,
            "doc": self.doc,
            "is_incremental": lambda: self._run.incremental,
        }
        builtins = {"builtins": {name: own[name] for name in ("ref", "source", "config", "var")}}
        more = functions(self._world.project, self._run.started_at, quiet=self._quiet)
        return {**more, **builtins, **own}


def within(window: Window, column: str) -> str:
    """Return the condition that a column, a date or a time of any kind, lies in a window.

    The bounds are untyped literals: they take the column's type, so that DuckDB prunes files.
    """
    lower, upper = (_moment(at) for at in (window.lower, window.upper))
    name = exp.to_identifier(column, quoted=True).sql("duckdb")
    return f"{name} >= '{lower}' and {name} < '{upper}'"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d}" if at.hour == 0 else f"{at:%Y-%m-%d %H:%M:%S}"


def _only_text(
    function: str, arguments: tuple[object, ...], options: Mapping[str, object], usage: str
) -> str:
    if len(arguments) == 1 and isinstance(arguments[0], str) and not options:
        return arguments[0]
    given = [repr(argument) for argument in arguments]
    given += [f"{name}={value!r}" for name, value in options.items()]
    problem = f"{function}() does not accept ({', '.join(given)})"
    raise UnlocatedModelError(problem, f"Write {usage}.")
