"""The cases of `make bench-ingest`: each lays out its files, loads them, and adds its lines.

A case measures every figure of its ratios, so that it can run alone.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from bench import peers
from bench.lineitem import LARGE_SAMPLE, SMALL_SAMPLE, UPSERTS
from bench.server import Loaded, LoadError, Server, encode

PARALLEL_FILES = (1, 2)
"""How many files of an append are loaded at once, one line of the table each."""


@dataclass(frozen=True)
class Line:
    """A line of the table.

    rows: the rows loaded in these seconds.  ratio: a number.  against: its reference, or the
    reason for a missing number.
    """

    case: str
    what: str
    seconds: float | None = None
    rows: int | None = None
    ratio: float | None = None
    against: str = ""
    peak_mb: float | None = None


@dataclass
class Bench:
    """One run: the server, the files, and the lines so far. tell: prints progress."""

    server: Server
    files: Path
    runs: int
    tell: Callable[[str], None]
    lines: list[Line] = field(default_factory=list)
    rows: int = 0
    _encoded: dict[str, Path] = field(default_factory=dict)
    full_append: Loaded | None = None

    def __post_init__(self) -> None:
        """Encode what the floor copies."""
        self.encoded("whole")

    def add(self, line: Line) -> None:
        """Add a line to the table."""
        self.lines.append(line)
        seconds = "" if line.seconds is None else f", {line.seconds:.2f} s"
        self.tell(f"{line.case}: {line.what}{seconds}")

    def encoded(self, name: str) -> Path:
        """Return a Parquet file's rows as COPY BINARY, encoded on first use."""
        if name not in self._encoded:
            target = self.files / f"{name}.copy"
            rows = encode(self.files / f"{name}.parquet", target)
            self._encoded[name] = target
            if name == "whole":
                self.rows = rows
        return self._encoded[name]

    def deliver(self, name: str, label: str | None = None) -> Path:
        """Put a file where the loads find theirs, under its own name or another."""
        return Path(
            shutil.copyfile(self.files / name, self.server.data / (label or Path(name).name))
        )

    def fresh(self, *names: str) -> None:
        """Empty the table and the folder of the sources, and deliver these files."""
        for old in self.server.data.iterdir():
            old.unlink()
        for name in names:
            self.deliver(name)
        self.server.empty()

    def load(self, glob: str, rows: int, write_mode: str = "append", **more: Any) -> Loaded:
        """Load, and check the number of rows that were read. Raises LoadError."""
        self.server.flush()
        loaded = self.server.load(glob, write_mode, **more)
        if loaded.rows_read != rows:
            raise LoadError(f"{glob}: {loaded.rows_read} rows were read, {rows} are there")
        self.tell(f"    loaded {rows:,} rows of {glob}, {write_mode}: {loaded.seconds:.2f} s")
        return loaded

    def appended(self) -> Loaded:
        """Return a full load by append; taken once a run."""
        if self.full_append is None:
            self.fresh("whole.parquet")
            self.full_append = self.load("whole.parquet", self.rows)
        return self.full_append

    def whole(self, write_mode: str, glob: str = "whole.parquet") -> Loaded:
        """Load everything into the empty table."""
        self.fresh(glob)
        loaded = self.load(glob, self.rows, write_mode)
        if loaded.inserted != self.rows or self.server.rows() != self.rows:
            raise LoadError(f"{glob}: {self.server.rows()} rows came of {self.rows}")
        return loaded


def full(bench: Bench) -> None:
    """The floor, the same work in one thread by hand, and Lakebed in both write modes."""
    floors, serials, appends, merges = [], [], [], []
    for _ in range(bench.runs):
        bench.fresh()
        floors.append(bench.server.copy(bench.encoded("whole")))
        bench.server.empty()
        serials.append(bench.server.copy_one_after_the_other(bench.files / "whole.parquet"))
        appends.append(bench.whole("append"))
        merges.append(bench.whole("merge"))
    floor, serial = statistics.median(floors), statistics.median(serials)
    bench.full_append = _middle(appends)
    add = _adder(bench, "full")
    add("COPY BINARY, encoded beforehand: the floor", floor, bench.rows, 1.0, "of the floor")
    add(
        "by hand, one thread: read, pandera, encode, COPY",
        serial,
        bench.rows,
        floor / serial,
        "of the floor",
    )
    for mode, loads in (("append", appends), ("merge", merges)):
        it = _middle(loads)
        peak = max(load.peak_mb for load in loads)
        add(
            f"Lakebed, asset hot/lineitem, Parquet, {mode}",
            it.seconds,
            bench.rows,
            floor / it.seconds,
            "of the floor",
            peak,
        )


def csv(bench: Bench) -> None:
    """The same rows as CSV: psql's copy, and Lakebed."""
    add = _adder(bench, "csv")
    copies, loads = [], []
    try:
        for _ in range(bench.runs):
            bench.fresh()
            copies.append(peers.psql(bench.server, bench.files / "whole.csv"))
    except peers.SkippedError as skipped:
        add("psql \\copy of the CSV", against=f"skipped: {skipped}")
    loads = [bench.whole("append", "whole.csv") for _ in range(bench.runs)]
    it = _middle(loads)
    peak = max(load.peak_mb for load in loads)
    if copies:
        copy = statistics.median(copies)
        add("psql \\copy of the CSV", copy, bench.rows, 1.0, "of psql's speed")
        ratio, against = copy / it.seconds, "of psql's speed"
    else:
        ratio, against = None, ""
    add("Lakebed, CSV, append", it.seconds, bench.rows, ratio, against, peak)


def others(bench: Bench) -> None:
    """Other loaders, each on a sample that takes it about a minute."""
    add = _adder(bench, "peers")
    ours = bench.appended()
    rate = bench.rows / ours.seconds
    add("Lakebed, Parquet, append", ours.seconds, bench.rows, peak_mb=ours.peak_mb)
    for what, run, form, sample in (
        ("sling, CSV, its own table", peers.sling, "csv", LARGE_SAMPLE),
        ("dlt, Parquet, its own table", peers.dlt, "parquet", SMALL_SAMPLE),
        ("pgloader, CSV", peers.pgloader, "csv", SMALL_SAMPLE),
    ):
        bench.fresh()
        rows = min(sample, bench.rows)
        try:
            seconds = run(bench.server, bench.files / f"sample_{sample}.{form}")
        except peers.SkippedError as skipped:
            add(what, against=f"skipped: {skipped}")
            continue
        name = what.split(",")[0]
        add(what, seconds, rows, rate * seconds / rows, f"times {name}'s rows/s is Lakebed's")


def growth(bench: Bench) -> None:
    """One per cent of new rows: as a new file, and at the end of the file that was loaded."""
    new = encode(bench.files / "new.parquet", bench.files / "new.copy")
    for what, pattern, grown in (
        ("a new Parquet file", "*.parquet", None),
        ("a Parquet file that has grown", "whole.parquet", "grown.parquet"),
        ("a CSV file that has grown", "whole.csv", "grown.csv"),
    ):
        form = pattern.rpartition(".")[2]
        bench.fresh(f"whole.{form}")
        more = {"changed_files": "grown"} if grown else {}
        every = bench.load(pattern, bench.rows, **more)
        nothing = _middle([bench.load(pattern, 0, **more) for _ in range(3)])
        if grown:
            bench.deliver(grown, pattern)
        else:
            bench.deliver("new.parquet")
        some = bench.load(pattern, new, **more)
        if bench.server.rows() != bench.rows + new:
            raise LoadError(f"{what}: {bench.server.rows()} rows of {bench.rows + new}")
        _add_growth(bench, what, every, nothing, some)


def _add_growth(bench: Bench, what: str, every: Loaded, nothing: Loaded, some: Loaded) -> None:
    add = _adder(bench, "growth")
    fixed = nothing.seconds + some.import_seconds - nothing.import_seconds
    add(f"1 % more, {what}: everything first", every.seconds, every.rows_read)
    add("    fixed start", fixed)
    beyond = some.seconds - fixed
    add(
        "    1 % more, whole run",
        some.seconds,
        some.rows_read,
        some.seconds / every.seconds,
        "of the full load's time",
        some.peak_mb,
    )
    share = beyond / every.seconds
    add("    beyond the fixed start", beyond, None, share, "of the full load's time")
    if some.bytes_read is None or every.bytes_read is None or nothing.bytes_read is None:
        add("    bytes read", against="not counted on this system")
        return
    read = some.bytes_read - nothing.bytes_read
    share = read / (every.bytes_read - nothing.bytes_read)
    add(
        f"    {read / 1e6:,.1f} MB read beyond the fixed start",
        None,
        None,
        share,
        "of the full load's bytes",
    )


def upsert(bench: Bench) -> None:
    """Upserts of half old and half new rows, by hand and by Lakebed in turns, other rows each."""
    add = _adder(bench, "upsert")
    bench.fresh("whole.parquet")
    bench.load("*.parquet", bench.rows, "merge")
    one = _middle([_load_one(bench, index) for index in range(3)])
    hand, ours, rows = [], [], 0
    for index in range(0, UPSERTS, 2):
        encoded = bench.encoded(f"upsert_{index}")
        bench.server.flush()
        hand.append(bench.server.upsert_by_hand(encoded))
        name = f"upsert_{index + 1}.parquet"
        rows = encode(bench.files / name, bench.files / "upsert.copy")
        bench.deliver(name)
        loaded = bench.load("*.parquet", rows, "merge")
        if loaded.updated != rows // 2 or loaded.inserted != rows - rows // 2:
            raise LoadError(f"{name}: {loaded}")
        ours.append(loaded)
    by_hand = statistics.median(hand)
    it = _middle(ours)
    what = f"{rows:,} upserts"
    add(f"{what} by hand: COPY to temp, ON CONFLICT", by_hand, rows, 1.0, "times by hand")
    whole = it.seconds / by_hand
    add(f"{what}, Lakebed, whole run", it.seconds, rows, whole, "times by hand", it.peak_mb)
    add("    a load of one row", one.seconds)
    beyond = it.seconds - one.seconds
    add("    beyond a load of one row", beyond, rows, beyond / by_hand, "times by hand")


def _load_one(bench: Bench, index: int) -> Loaded:
    """Upsert a single row, to measure the fixed cost of a load."""
    name = f"one_{index}.parquet"
    query = f"from '{bench.files / 'upsert_0.parquet'}' limit 1 offset {index}"
    duckdb.execute(f"copy ({query}) to '{bench.server.data / name}' (format parquet)")
    return bench.load("*.parquet", 1, "merge")


def memory(bench: Bench) -> None:
    """The peak of a load's process, of a tenth of the rows and of all."""
    add = _adder(bench, "memory")
    tenth = bench.rows // 10
    for mode in ("append", "merge"):
        bench.fresh("tenth.parquet")
        small = bench.load("tenth.parquet", tenth, mode)
        large = bench.appended() if mode == "append" else bench.whole(mode)
        add(f"a tenth of the rows, {mode}", small.seconds, tenth, peak_mb=small.peak_mb)
        add(
            f"all rows, {mode}",
            large.seconds,
            bench.rows,
            large.peak_mb / small.peak_mb,
            "times the peak memory",
            large.peak_mb,
        )


def parallel(bench: Bench) -> None:
    """The same rows in several files, loaded one after the other and in parallel."""
    add = _adder(bench, "parallel")
    pieces = sorted((bench.files / "pieces").iterdir())
    one: float | None = None
    for count in PARALLEL_FILES:
        bench.fresh(*(f"pieces/{path.name}" for path in pieces))
        what = f"{len(pieces)} files, append, {count} at once"
        more: dict[str, Any] = {"parallel_files": count} if count > 1 else {}
        try:
            loaded = bench.load("*.parquet", bench.rows, **more)
        except LookupError as error:
            add(what, against=f"skipped: {error}")
            continue
        one = one or loaded.seconds
        add(
            what,
            loaded.seconds,
            bench.rows,
            one / loaded.seconds,
            "times the speed of one at a time",
            loaded.peak_mb,
        )


def _middle(loads: list[Loaded]) -> Loaded:
    return sorted(loads, key=lambda load: load.seconds)[len(loads) // 2]


def _adder(bench: Bench, case: str) -> Callable[..., None]:
    def add(
        what: str,
        seconds: float | None = None,
        rows: int | None = None,
        ratio: float | None = None,
        against: str = "",
        peak_mb: float | None = None,
    ) -> None:
        bench.add(Line(case, what, seconds, rows, ratio, against, peak_mb))

    return add


CASES: dict[str, Callable[[Bench], None]] = {
    "full": full,
    "csv": csv,
    "peers": others,
    "growth": growth,
    "upsert": upsert,
    "memory": memory,
    "parallel": parallel,
}
"""Every case by the name that --only takes, in the order in which they run."""
