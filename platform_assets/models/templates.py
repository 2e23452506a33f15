"""Render the Jinja of a model, and find the line of the file behind each line of the SQL.

The template language is Jinja, sandboxed and strict about undefined names, with dbt's block
{% test %}, the macros of the project and the functions of `calls`. This module does not interpret
the rendered SQL.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import SandboxedEnvironment

from lakebed.models.calls import Calls, ProjectContext, Relation
from lakebed.models.functions import Returned
from lakebed.models.model import ModelError, Run, SourceLocation, UnlocatedModelError, did_you_mean
from lakebed.models.options import MODEL_OPTIONS, Options
from lakebed.spec.broken import Broken

_MARK = re.compile("\0(\\d+)\0")
_UNDEFINED_NAME = re.compile(r"'(\w+)' is undefined")
_CALL = re.compile(r"\s*(env_var|ref|var|source|doc)\s*\(.+\)\s*", re.S)
# Their output goes into a variable or through a filter before it is SQL, so it must not be marked.
_CAPTURING = (nodes.Macro, nodes.CallBlock, nodes.FilterBlock, nodes.AssignBlock)
# Errors that an expression of a template can raise: a division by zero, a missing key, ...
_TEMPLATE_FAULTS = (
    jinja2.TemplateError,
    ArithmeticError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
_MACRO_HEAD = re.compile(r"\{%-?\s*(macro|test|data_test)\s+(\w+)")
_NO_OPTIONS: Mapping[str, object] = {}
TEST = "test_"
"""The prefix of the macro behind {% test name(...) %}, as in dbt."""
_MACRO = "dbt_macro__"


@dataclass(frozen=True)
class Rendered:
    """A rendered template. lines: the line of the file behind each line of `sql`."""

    raw_sql: str
    sql: str
    lines: tuple[int, ...]
    refs: tuple[str, ...]
    sources: tuple[str, ...]
    config: Mapping[str, object]


class _TestBlocks(Extension):
    """{% test name(model, column_name) %} ... {% endtest %} is a macro."""

    tags = {"test", "data_test"}  # noqa: RUF012  (as jinja2 declares it)

    def parse(self, parser: Parser) -> nodes.Node:
        """Return the block as a macro."""
        tag = next(parser.stream)
        macro = nodes.Macro(lineno=tag.lineno)
        macro.name = TEST + parser.parse_assign_target(name_only=True).name
        parser.parse_signature(macro)
        macro.body = parser.parse_statements((f"name:end{tag.value}",), drop_needle=True)
        return macro


class Renderer:
    """Renders the templates of one project, which share models, sources, variables and macros."""

    def __init__(self, world: ProjectContext, macro_files: Sequence[Path]) -> None:
        self.world = world
        # The output is SQL, not HTML: escaping would damage every '<'.
        self._environment = SandboxedEnvironment(
            undefined=jinja2.StrictUndefined,
            extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols", _TestBlocks],
            autoescape=False,
        )
        self._environment.filters |= {
            **{"as_native": _same, "as_bool": _as_bool, "as_number": _as_number, "as_text": str}
        }
        self._files: set[str] = set()
        self._macros: dict[str, jinja2.Template] = {}
        self._macro_texts: list[str] = []
        self._add_macros(Path(__file__).with_name("built_in_tests.sql"))
        self._own = set(self._macros)
        self.broken: list[Broken] = []
        self._broken_macros: dict[str, ModelError] = {}
        for path in macro_files:
            try:
                self._add_macros(path)
            except ModelError as error:
                self._leave_out(path, error)

    def render(
        self,
        path: Path,
        *,
        this: str | None = None,
        options: Options = MODEL_OPTIONS,
        base: Mapping[str, object] = _NO_OPTIONS,
        run: Run | None = None,
    ) -> Rendered:
        """Render the template of a file.

        Args:
            path: The file.
            this: The name behind {{ this }}; without one it is undefined.
            options: The options that config() accepts.
            base: The options from other places.
            run: The run to render for; by default the compilation before a run.

        Raises:
            ModelError: The template cannot be rendered.
        """
        raw_sql = read_sql(path)
        return self.render_text(
            raw_sql, SourceLocation(path, None), this=this, options=options, base=base, run=run
        )

    def render_text(
        self,
        text: str,
        place: SourceLocation,
        *,
        this: str | None = None,
        options: Options = MODEL_OPTIONS,
        base: Mapping[str, object] = _NO_OPTIONS,
        run: Run | None = None,
        more: Callable[[Mapping[str, Any]], Mapping[str, object]] = lambda namespace: {},
    ) -> Rendered:
        """Render a template with a known place. more: adds names to its namespace."""
        run = run or Run()
        path = place.path
        self._files.add(str(path))
        calls = Calls(self.world, options, run, base)
        namespace = self._namespace(calls, this)
        with self._errors_located(place, namespace):
            namespace |= more(namespace)
            sql = self._template(text, path).render(namespace)
            again = self._namespace(Calls(self.world, options, run, base, quiet=True), this)
            again |= more(again)
            marked = self._template(text, path, with_marks=True).render(again)
        return Rendered(
            raw_sql=text,
            sql=sql,
            lines=_lines_by_marks(marked),
            refs=tuple(calls.refs),
            sources=tuple(calls.sources),
            config=calls.config,
        )

    def value(
        self, value: object, place: SourceLocation, namespace: Mapping[str, Any] | None = None
    ) -> object:
        """Render the templates in a value of a YAML file. An expression keeps its type.

        Args:
            value: The value.
            place: Its file and line.
            namespace: The names that the templates see; by default the project's functions.
        """
        if isinstance(value, Mapping):
            return {name: self.value(inner, place, namespace) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.value(inner, place, namespace) for inner in value]
        if not isinstance(value, str):
            return value
        text = f"{{{{ {value} }}}}" if _CALL.fullmatch(value) else value
        if "{{" not in text and "{%" not in text:
            return value
        if namespace is None:
            namespace = self._namespace(Calls(self.world, {}, Run(), {}, quiet=True), None)
        with self._errors_located(place, namespace):
            body = self._environment.parse(text).body
            if len(body) == 1 and isinstance(body[0], nodes.Output) and len(body[0].nodes) == 1:
                expression = text.strip().removeprefix("{{").removesuffix("}}").strip("-")
                found = self._environment.compile_expression(expression, False)(**namespace)
                if isinstance(found, jinja2.Undefined):
                    str(found)  # raises the error that names it
                return found
            return self._environment.from_string(text).render(namespace)
        raise AssertionError("unreachable")

    def has_test(self, kind: str) -> bool:
        """Whether a generic test has this name."""
        return f"{TEST}{kind}" in self._macros.keys() | self._broken_macros.keys()

    @property
    def tests(self) -> list[str]:
        """The names of the generic tests."""
        return [name.removeprefix(TEST) for name in self._macros if name.startswith(TEST)]

    def mentions(self, raw_sql: str, *words: str) -> bool:
        """Whether a template, or any macro that it could call, has one of the words."""
        return any(word in text for word in words for text in (raw_sql, *self._macro_texts))

    def line_of_ref(self, path: Path, raw_sql: str, name: str) -> int | None:
        """Return the line of ref('name') in a file; None where only a macro calls it."""
        tree = self._environment.parse(raw_sql, path.name, str(path))
        for call in tree.find_all(nodes.Call):
            names = [arg.value for arg in call.args if isinstance(arg, nodes.Const)]
            is_ref = isinstance(call.node, nodes.Name) and call.node.name == "ref"
            if is_ref and names[-1:] == [name]:
                return call.lineno
        return None

    def _template(self, text: str, path: Path, *, with_marks: bool = False) -> jinja2.Template:
        tree = self._environment.parse(text, path.name, str(path))
        if with_marks:
            _mark_lines(tree)
        return self._compiled(tree, path)

    def _compiled(self, tree: nodes.Template, path: Path) -> jinja2.Template:
        code = self._environment.compile(tree, path.name, str(path))
        return jinja2.Template.from_code(
            self._environment, code, self._environment.make_globals(None)
        )

    def _namespace(self, calls: Calls, this: str | None) -> dict[str, Any]:
        namespace: dict[str, Any] = calls.namespace()
        if this is not None:
            namespace["this"] = Relation(this)
            namespace["model"] = {"name": this, "alias": this, "schema": "main"}
        for name, template in self._macros.items():
            namespace[name] = _macro(name, template, namespace)
        namespace |= {name: _unusable(name, why) for name, why in self._broken_macros.items()}
        # A macro is also available under the name of the project.
        project = {name: namespace[name] for name in self._macros}
        namespace.setdefault(self.world.project, project)
        return namespace

    def _leave_out(self, path: Path, error: ModelError) -> None:
        """Record a broken file. Every caller of a macro that it names is broken too."""
        self.broken.append(Broken("macros", path.name, path, error))
        text = path.read_bytes().decode(errors="replace")
        for tag, name in _MACRO_HEAD.findall(text):
            self._broken_macros[name if tag == "macro" else f"{TEST}{name}"] = error

    def _add_macros(self, path: Path) -> None:
        text = read_sql(path)
        self._files.add(str(path))
        built_in = {*Calls(self.world, {}, Run(), {}).namespace(), "this"}
        with self._errors_located(SourceLocation(path, None), {}):
            macros = list(self._environment.parse(text, path.name, str(path)).find_all(nodes.Macro))
            for macro in macros:
                name = macro.name
                taken = name in self._macros and name not in getattr(self, "_own", ())
                if name in built_in or taken:
                    other = "dbt's own function" if name in built_in else "a macro before it"
                    raise UnlocatedModelError(
                        f"the macro {name!r} has the name of {other}", "Give it another name."
                    ).at(path, macro.lineno)
                # A template of its own, under another name: each call of a macro, also of itself,
                # goes through the namespace, where return() ends.
                macro.name = f"{_MACRO}{name}"
                tree = nodes.Template([macro], lineno=1)
                tree.set_environment(self._environment)
                self._macros[name] = self._compiled(tree, path)
        if path.name != "built_in_tests.sql":
            self._macro_texts.append(text)

    @contextmanager
    def _errors_located(
        self, at: SourceLocation, namespace: Mapping[str, object]
    ) -> Iterator[None]:
        try:
            yield
        except jinja2.TemplateSyntaxError as error:
            raise ModelError(
                at.path,
                error.lineno if at.line is None else at.line,
                f"the template cannot be read: {(error.message or '').rstrip('.')}",
                "Correct the {{ ... }} or {% ... %} there.",
            ) from error
        except ModelError:
            raise
        except UnlocatedModelError as error:
            raise error.at(*self._place_of(error, at)) from error
        except _TEMPLATE_FAULTS as error:
            where, line = self._place_of(error, at)
            problem = f"the template failed: {str(error).rstrip('.')}"
            raise ModelError(where, line, problem, _advice_on(error, namespace)) from error

    def _place_of(self, error: BaseException, at: SourceLocation) -> SourceLocation:
        """Return file and line of the innermost template that the error passed through.

        Jinja rewrites tracebacks, so that their frames name templates.
        """
        place = at
        step = error.__traceback__
        while step is not None:
            file = step.tb_frame.f_code.co_filename
            # A template in a YAML file counts lines from its own first line.
            if file in self._files and not (file == str(at.path) and at.line is not None):
                place = SourceLocation(Path(file), step.tb_lineno)
            step = step.tb_next
        return place


def read_sql(path: Path) -> str:
    """Return the text of a file, without a byte order mark.

    Raises:
        ModelError: The file is not UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ModelError(path, line, "the file is not UTF-8 text", "Save it as UTF-8.") from error


def _macro(
    name: str, template: jinja2.Template, namespace: Mapping[str, Any]
) -> Callable[..., object]:
    # Compiled at each call, so that a macro sees the ref() and source() of the model that calls
    # it, and the macros of files that were read after its own.
    def call(*args: object, **kwargs: object) -> object:
        module = template.make_module(dict(namespace))
        try:
            return str(getattr(module, f"{_MACRO}{name}")(*args, **kwargs))
        except Returned as returned:
            return returned.value

    return call


def _unusable(name: str, why: ModelError) -> Callable[..., object]:
    def call(*args: object, **kwargs: object) -> object:
        raise UnlocatedModelError(
            f"the macro {name!r} cannot be used: {why.problem}", f"Fix {why.path}."
        )

    return call


def _advice_on(error: BaseException, namespace: Mapping[str, object]) -> str:
    undefined = _UNDEFINED_NAME.search(str(error))
    if undefined is None:
        return "Correct the expression there."
    known = {name for name in namespace if not name.startswith(TEST)}
    return did_you_mean(undefined[1], known, "Apart from Jinja's own, the known names")


def _same(value: object) -> object:
    return value


def _as_bool(value: object) -> bool:
    return str(value).lower() == "true"


def _as_number(value: str) -> int | float:
    return float(value) if "." in str(value) else int(value)


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
