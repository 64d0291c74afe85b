"""The results as Markdown tables, between markers in RESULTS.md."""

from collections.abc import Callable, Mapping
from pathlib import Path

from loadtests.results import Cost, Measurement, Results

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
REFERENCE = "tiltyard"


def render(results: Results, titles: Mapping[str, str], workloads: Mapping[str, str]) -> str:
    """Everything between the markers."""
    parts = [header(results)]
    for name in results.workloads:
        parts += [f"### {workloads.get(name, name)}", closed_table(results, name, titles)]
        if any(each.workload == name and each.load == "open" for each in results.measurements):
            parts += [OPEN_NOTE, open_table(results, name, titles)]
        if any(each.workload == name and each.load == "overload" for each in results.measurements):
            parts += [OVERLOAD_NOTE, overload_table(results, name, titles)]
    if results.failures:
        parts += [
            "### What failed",
            *(f"- {f.workload}, {f.peer}, round {f.round + 1}: {f.why}" for f in results.failures),
        ]
    return "\n\n".join(parts) + "\n"


OPEN_NOTE = (
    "Open loop: requests arrive at a fixed share of what the closed loop got out of the same server in the same round, "
    "and latency counts from the moment each was due."
)
OVERLOAD_NOTE = (
    "Overload: twice the capacity arrives. Goodput is what was answered 200; its latency is that of the admitted."
)


def header(results: Results) -> str:
    """Machine, versions, commit, command."""
    facts = "\n".join(
        f"- {name}: {f'`{value}`' if name == 'command' else value}" for name, value in results.machine.items()
    )
    rounds = len({each.round for each in results.measurements})
    return (
        f"{facts}\n\nMedians of {rounds} interleaved round{'s' if rounds != 1 else ''}; the load generator runs on the "
        "same cores, its share of them is in the last column. Ratios are medians of the ratios within each round."
    )


def closed_table(results: Results, workload: str, titles: Mapping[str, str]) -> str:
    """One row per server, fastest first: throughput and p50 / p99 for each number of clients, and what it costs."""
    levels = [level for level in results.levels("closed")]
    most = levels[-1]
    columns = [f"{level:g} client{'s' if level != 1 else ''}: req/s" for level in levels]
    columns += [f"p50 / p99 ms at {level:g}" for level in levels if level in (levels[0], most)]
    columns += ["of the limit", "x Tiltyard", "errors", "start s", "memory MiB", "generator"]
    rows = []
    for peer in ordered(results, workload, most):

        def at(level: float, value: Callable[[Measurement], float], peer: str = peer) -> float | None:
            return results.median(workload, peer, "closed", level, value)

        row = [titles.get(peer, peer), *(number(at(level, lambda m: m.rps)) for level in levels)]
        for level in dict.fromkeys((levels[0], most)):
            row.append(f"{number(at(level, lambda m: m.p50_ms))} / {number(at(level, lambda m: m.p99_ms))}")
        ratios = [results.ratio(workload, peer, to, most) for to in ("limit", REFERENCE)]
        row += ["" if ratio is None else number(ratio) for ratio in ratios]
        row.append(number(at(most, lambda m: m.errors)))
        row += [number(results.cost(workload, peer, value)) for value in (startup_s, memory_mib)]
        share = at(most, lambda m: m.generator_cpu)
        row.append("" if not share else f"{share:.0%}")
        rows.append(row)
    return table(["server", *columns], rows)


def open_table(results: Results, workload: str, titles: Mapping[str, str]) -> str:
    """One row per server: latency at each share of its capacity."""
    levels = results.levels("open")
    columns = [f"{what} at {level:.0%}" for level in levels for what in ("offered req/s", "p50 / p99 ms", "errors")]
    rows = []
    for peer in ordered(results, workload, results.levels("closed")[-1]):
        if not results.select(workload, peer, "open", levels[0]):
            continue
        row = [titles.get(peer, peer)]
        for level in levels:

            def at(value: Callable[[Measurement], float], peer: str = peer, level: float = level) -> float | None:
                return results.median(workload, peer, "open", level, value)

            row += [
                number(at(lambda m: m.offered_rps)),
                f"{number(at(lambda m: m.p50_ms))} / {number(at(lambda m: m.p99_ms))}",
                number(at(lambda m: m.errors + m.refused)),
            ]
        row.append(f"{results.median(workload, peer, 'open', levels[-1], lambda m: m.generator_cpu) or 0:.0%}")
        rows.append(row)
    return table(["server", *columns, "generator"], rows)


def overload_table(results: Results, workload: str, titles: Mapping[str, str]) -> str:
    """One row per server at twice its capacity."""
    columns = ["offered req/s", "goodput req/s", "of capacity", "p99 ms of the admitted", "p99 ms at 80 %"]
    columns += ["refused", "p99 ms of refusals", "errors", "memory MiB at 80 %", "memory MiB after"]
    rows = []
    for each in results.measurements:
        if (each.workload, each.load) != (workload, "overload"):
            continue
        before = [m for m in results.select(workload, each.peer, "open", 0.8) if m.round == each.round]
        rows.append(
            [titles.get(each.peer, each.peer), number(each.offered_rps), number(each.rps)]
            + [f"{each.rps / (each.offered_rps / each.level):.2f}", number(each.p99_ms)]
            + [number(before[0].p99_ms if before else None), number(each.refused), number(each.refused_p99_ms)]
            + [number(each.errors), number(before[0].memory_mib if before else None), number(each.memory_mib)]
        )
    return table(["server", *columns], rows)


def ordered(results: Results, workload: str, level: float) -> list[str]:
    """Peers by throughput, the fastest first."""
    return sorted(
        results.peers(workload),
        key=lambda peer: -(results.median(workload, peer, "closed", level, lambda m: m.rps) or 0.0),
    )


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [columns, ["---"] * len(columns), *rows])


def number(value: float | None) -> str:
    """With as many digits as mean something."""
    if value is None:
        return ""
    if value == 0 or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def insert(text: str, path: Path) -> None:
    """Put text between the markers of a file, at its end where it has none."""
    content = path.read_text() if path.exists() else ""
    if BEGIN not in content:
        content = f"{content.rstrip()}\n\n## The comparison: `make bench`\n\n{BEGIN}\n{END}\n".lstrip()
    head, _, rest = content.partition(BEGIN)
    tail = rest.partition(END)[2]
    path.write_text(f"{head}{BEGIN}\n\n{text.strip()}\n\n{END}{tail}")


def startup_s(cost: Cost) -> float:
    """For medians."""
    return cost.startup_s


def memory_mib(cost: Cost) -> float:
    """For medians."""
    return cost.memory_mib
