"""The table of the benchmark of scale."""

from dpt_ray.benchmark.scale_records import STORE_SECONDS, ScaleFigures
from dpt_ray.tables import format_seconds, markdown_table


def scale_table(figures: ScaleFigures) -> str:
    """Return the results of `measure_scale` as Markdown, a table for each number of classes."""
    about = (
        f"Shards of {figures.per_shard:,} images. Time: CPU time of the driver, and {1000 * STORE_SECONDS:.0f} ms for "
        f"each of its requests. Wall time includes workers on the same machine, of {figures.machine_cpus} CPUs; load "
        f"{figures.load[0]:.1f} to {figures.load[-1]:.1f}. Exponents: growth of time and memory with the images "
        "between the two largest sizes."
    )
    if any(entry.drawn for entry in figures.measured):
        about += " *: partial results of groups were drawn at random, so wall times are without workers."
    parts = [about]
    for classes in dict.fromkeys(entry.classes for entry in figures.measured):
        rows: list[tuple[str, ...]] = [
            ("step", "images", "time", "wall", "memory (MiB)", "requests", "exponents (time, memory)")
        ]
        growth = {entry.step: entry for entry in figures.growth if entry.classes == classes}
        for entry in figures.measured:
            if entry.classes != classes:
                continue
            name = (entry.step, f"{_short(entry.images)}{'*' if entry.drawn else ''}")
            if entry.wall_seconds is None or entry.store_seconds is None:
                rows.append((*name, entry.told, "", "", "", ""))
                continue
            known = growth[entry.step]
            exponents = "" if known.seconds is None else f"{known.seconds:.2f}, {known.memory:.2f}"
            rows.append(
                (
                    *name,
                    format_seconds(entry.store_seconds),
                    format_seconds(entry.wall_seconds),
                    f"{entry.peak_mib:,.0f}",
                    f"{entry.requests:,}",
                    exponents,
                )
            )
        parts.append(f"{classes:,} classes\n\n{markdown_table(rows)}")
    return "\n\n".join(parts)


def _short(number: int) -> str:
    """Return a number as 1e7 or 6.4e4."""
    return f"{number:.1e}".replace("e+0", "e").replace("e+", "e").replace(".0e", "e")
