"""How a CSV file is written: its marks, and what values and records are, as regular expressions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written; each mark is one byte.

    line_end: what ends a line, of one byte or two; None where any break does.  initial_space:
    whether spaces before a value do not belong to it.  short_lines: whether a line may have too few
    values.  copy_text: whether escapes are those of COPY.
    """

    delimiter: bytes
    quote: bytes | None
    escape: bytes | None
    doubled_quotes: bool
    multiline: bool
    comment: bytes | None
    line_end: bytes | None = None
    initial_space: bool = False
    short_lines: bool = False
    copy_text: bool = False

    @cached_property
    def value(self) -> bytes:
        """A value, as a regular expression."""
        delimiter = re.escape(self.delimiter)
        escaped = re.escape(self.escape) if self.escape else None
        inner = rb"[^" + delimiter + rb"\r\n" + (escaped or b"") + rb"]"
        plain = rb"(?:" + inner + rb"++" + (rb"|" + escaped + rb".)*+" if escaped else rb")*+")
        if self.quote is None:
            return plain
        ended = rb"(?=" + delimiter + rb"|[\r\n]|\Z)"
        quote = self._spaces + re.escape(self.quote)
        quoted = self._spaces + self.quoted + ended
        return rb"(?:" + quoted + rb"|(?!" + quote + rb")" + plain + rb")"

    @cached_property
    def quoted(self) -> bytes:
        """A value in quotes, as a regular expression; what nothing matches where there are none."""
        if self.quote is None:
            return rb"(?!)"
        quote = re.escape(self.quote)
        escaped = re.escape(self.escape) if self.escape else None
        parts = [rb"[^" + quote + (escaped or b"") + rb"]++"]
        parts += [escaped + rb"."] if escaped else []
        parts += [quote + quote] if self.doubled_quotes else []
        return quote + rb"(?:" + rb"|".join(parts) + rb")*+" + quote

    @cached_property
    def record(self) -> re.Pattern[bytes]:
        """A whole record with its line break."""
        rest = rb"(?:" + re.escape(self.delimiter) + self.value + rb")*+"
        end = rb"\r?(?P<feed>\n)|\r"
        if self.line_end is not None:
            # Behind a carriage return alone, a line feed makes another break of it.
            alone = rb"(?!\n)" if self.line_end == b"\r" else b""
            end = rb"(?P<feed>" + re.escape(self.line_end) + alone + rb")"
        return re.compile(self.value + rest + rb"(?:" + end + rb"|\Z)", re.S)

    @cached_property
    def values(self) -> re.Pattern[bytes]:
        """The values of a record, one after the other, each behind its delimiter."""
        return re.compile(
            rb"(?:\A|"
            + re.escape(self.delimiter)
            + rb")"
            + self._spaces
            + rb"("
            + self.value
            + rb")",
            re.S,
        )

    @cached_property
    def unfinished(self) -> re.Pattern[bytes]:
        """The beginning of a record up to the end of the data, within quotes or not."""
        value = self.value
        opened = b""
        if self.quote is not None:
            quote = re.escape(self.quote)
            escaped = re.escape(self.escape) if self.escape else b""
            opened = self._spaces + quote
            opened += rb"(?:[^" + quote + escaped + rb"]++|" + quote + quote
            opened += rb"|" + escaped + rb"." if escaped else b""
            opened += rb")*+" + (escaped + rb"?" if escaped else b"") + quote + rb"?"
        rest = rb"(?:" + value + re.escape(self.delimiter) + rb")*+"
        half = rb"\r?" if self.line_end in (None, b"\r\n") else b""
        return re.compile(rest + rb"(?:" + opened + rb"|" + value + rb")" + half + rb"\Z", re.S)

    @property
    def _spaces(self) -> bytes:
        return rb" *+" if self.initial_space else b""
