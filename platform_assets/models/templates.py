"""Renders the Jinja of a model, and knows which line of the file each line of the SQL came from.

The template language is Jinja's own, sandboxed and strict about undefined names, with the macros
of macros/*.sql and the functions of `calls`. What the rendered SQL means does not matter here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jinja2
from jinja2 import nodes
from jinja2.sandbox import SandboxedEnvironment

from platform_assets.models.calls import MODEL_OPTIONS, CallError, Calls, Options
from platform_assets.models.model import ModelError, did_you_mean

_MARK = re.compile("\0(\\d+)\0")
_UNDEFINED_NAME = re.compile(r"'(\w+)' is undefined")
# Their output goes into a variable or through a filter before it is SQL, so it must not be marked.
_CAPTURING = (nodes.Macro, nodes.CallBlock, nodes.FilterBlock, nodes.AssignBlock)
# What an expression of a template can raise by itself: a division by zero, a missing key, ...
_TEMPLATE_FAULTS = (
    jinja2.TemplateError,
    ArithmeticError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Rendered:
    """A file after its template ran. lines: for each line of sql the line of the file."""

    raw_sql: str
    sql: str
    lines: tuple[int, ...]
    refs: tuple[str, ...]
    sources: tuple[str, ...]
    config: Mapping[str, object]


class Renderer:
    """Renders the files of one folder, which share models, sources, variables and macros."""

    def __init__(
        self,
        folder: Path,
        models: Collection[str],
        sources: Mapping[str, Collection[str]],
        variables: Mapping[str, object],
    ) -> None:
        self._models = models
        self._sources = sources
        self._variables = variables
        # The output is SQL, not HTML: escaping would damage every '<'.
        self._environment = SandboxedEnvironment(
            undefined=jinja2.StrictUndefined,
            extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"],
            autoescape=False,
        )
        self._files: set[str] = set()
        self._macros: dict[str, jinja2.Template] = {}
        for path in sorted((folder / "macros").rglob("*.sql")):
            self._add_macros(path)

    def render(
        self, path: Path, *, this: str | None = None, options: Options = MODEL_OPTIONS
    ) -> Rendered:
        """Run the template of a file.

        this: the name behind {{ this }}; without one it is undefined.
        options: what config() takes.
        Raises ModelError for whatever is wrong in the template.
        """
        raw_sql = read_sql(path)
        self._files.add(str(path))
        calls = Calls(self._models, self._sources, self._variables, options)
        namespace = self._namespace(calls, this)
        with self._errors_located(path, namespace):
            sql = self._template(raw_sql, path).render(namespace)
            again = self._namespace(
                Calls(self._models, self._sources, self._variables, options), this
            )
            marked = self._template(raw_sql, path, with_marks=True).render(again)
        return Rendered(
            raw_sql=raw_sql,
            sql=sql,
            lines=_lines_by_marks(marked),
            refs=tuple(calls.refs),
            sources=tuple(calls.sources),
            config=calls.config,
        )

    def line_of_ref(self, path: Path, raw_sql: str, name: str) -> int | None:
        """Return the line on which a file says ref('name'), None where only a macro does."""
        tree = self._environment.parse(raw_sql, path.name, str(path))
        for call in tree.find_all(nodes.Call):
            names = [arg.value for arg in call.args if isinstance(arg, nodes.Const)]
            if isinstance(call.node, nodes.Name) and call.node.name == "ref" and names == [name]:
                return call.lineno
        return None

    def _template(self, raw_sql: str, path: Path, *, with_marks: bool = False) -> jinja2.Template:
        tree = self._environment.parse(raw_sql, path.name, str(path))
        if with_marks:
            _mark_lines(tree)
        code = self._environment.compile(tree, path.name, str(path))
        return jinja2.Template.from_code(
            self._environment, code, self._environment.make_globals(None)
        )

    def _namespace(self, calls: Calls, this: str | None) -> dict[str, object]:
        namespace = calls.namespace()
        if this is not None:
            namespace["this"] = f'"{this}"'
        for name, template in self._macros.items():
            namespace[name] = _macro(name, template, namespace)
        return namespace

    def _add_macros(self, path: Path) -> None:
        text = read_sql(path)
        self._files.add(str(path))
        built_in = {*Calls((), {}, {}, {}).namespace(), "this"}
        with self._errors_located(path, {}):
            template = self._template(text, path)
            macros = list(self._environment.parse(text).find_all(nodes.Macro))
        for macro in macros:
            if macro.name in built_in or macro.name in self._macros:
                other = "dbt's own function" if macro.name in built_in else "a macro before it"
                raise ModelError(
                    path,
                    macro.lineno,
                    f"the macro {macro.name!r} has the name of {other}",
                    "Give it another name.",
                )
            self._macros[macro.name] = template

    @contextmanager
    def _errors_located(self, path: Path, namespace: Mapping[str, object]) -> Iterator[None]:
        try:
            yield
        except jinja2.TemplateSyntaxError as error:
            raise ModelError(
                path,
                error.lineno,
                f"the template cannot be read: {(error.message or '').rstrip('.')}",
                "Mend the {{ ... }} or {% ... %} there.",
            ) from error
        except CallError as error:
            where, line = self._place_of(error, path)
            raise ModelError(where, line, error.problem, error.advice) from error
        except _TEMPLATE_FAULTS as error:
            where, line = self._place_of(error, path)
            problem = f"the template failed: {str(error).rstrip('.')}"
            raise ModelError(where, line, problem, _advice_on(error, namespace)) from error

    def _place_of(self, error: BaseException, path: Path) -> tuple[Path, int | None]:
        """Return file and line of the innermost template that the error passed through.

        Jinja rewrites tracebacks, so that their frames speak of templates.
        """
        place: tuple[Path, int | None] = (path, None)
        step = error.__traceback__
        while step is not None:
            file = step.tb_frame.f_code.co_filename
            if file in self._files:
                place = (Path(file), step.tb_lineno)
            step = step.tb_next
        return place


def read_sql(path: Path) -> str:
    """Return the text of a file, without a byte order mark. Raises ModelError if it is no UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ModelError(path, line, "the file is no UTF-8 text", "Save it as UTF-8.") from error


def _macro(
    name: str, template: jinja2.Template, namespace: Mapping[str, object]
) -> Callable[..., str]:
    # Made anew at each call: only so does a macro see the ref() and source() of the model that
    # calls it, and the macros of files that were read after its own.
    def call(*args: object, **kwargs: object) -> str:
        module = template.make_module(dict(namespace))
        return str(getattr(module, name)(*args, **kwargs))

    return call


def _advice_on(error: BaseException, namespace: Mapping[str, object]) -> str:
    undefined = _UNDEFINED_NAME.search(str(error))
    if undefined is None:
        return "Mend the expression there."
    return did_you_mean(undefined[1], namespace, "Beside Jinja's own, the known names")


def _mark_lines(node: nodes.Node) -> None:
    """Put the line of the file, between two NULs, before each piece of the template's output."""
    if isinstance(node, nodes.Output):
        node.nodes = [piece for part in node.nodes for piece in _marked(part)]
    for child in node.iter_child_nodes():
        if not isinstance(child, _CAPTURING):
            _mark_lines(child)


def _marked(part: nodes.Expr) -> list[nodes.Expr]:
    if not isinstance(part, nodes.TemplateData):
        return [nodes.TemplateData(f"\0{part.lineno}\0", lineno=part.lineno), part]
    marked = []
    for offset, text in enumerate(part.data.split("\n")):
        start = len(text) - len(text.lstrip())
        mark = f"\0{part.lineno + offset}\0" if text.strip() else ""
        marked.append(text[:start] + mark + text[start:])
    return [nodes.TemplateData("\n".join(marked), lineno=part.lineno)]


def _lines_by_marks(marked: str) -> tuple[int, ...]:
    lines = []
    latest = 1
    for text in marked.split("\n"):
        marks = [int(mark) for mark in _MARK.findall(text)]
        lines.append(marks[0] if marks else latest)
        latest = marks[-1] if marks else latest
    return tuple(lines)
