"""`dpt benchmark gpu`: measure, compare with the card's baseline, write and print."""

import sys
from functools import partial

from dpt_ray.benchmark.baseline import card_file, compare, comparison_table, read_baseline
from dpt_ray.benchmark.contest import limited_threads
from dpt_ray.benchmark.gpu_suite import measure_gpu
from dpt_ray.data.storage import stores
from dpt_ray.distributed.job_log import tell


def measure_card(
    *, output: str | None, baseline: str | None, write_baseline: bool, rehearse: bool, threads: int
) -> bool:
    """Run the whole set of measurements; return whether a figure is worse than the card's baseline.

    Args:
        output: path of the files without extension.
        baseline: URL of the baseline; that of the card in the repository if None.
        write_baseline: store the figures as the baseline, after the comparison with the former one.
        rehearse: run with tiny sizes on the CPU.
        threads: threads of PyTorch.

    Raises:
        UserError: there is no GPU, or the baseline is damaged.
    """
    with limited_threads(threads):
        measured = measure_gpu(rehearse=rehearse, say=partial(print, file=sys.stderr, flush=True))
    place = baseline or card_file(measured.card)
    comparisons = compare(measured.figures, read_baseline(place))
    head = f"{measured.card}, torch {measured.versions['torch']}; {measured.seconds:.0f} s."
    if rehearse:
        head = f"A rehearsal with tiny sizes on a CPU: the figures mean nothing. {head}"
    text = f"{head}\n\n{comparison_table(comparisons)}"
    output = output or "dpt_results/benchmarks/gpu"
    stores.write_json(f"{output}.json", measured.to_json())
    stores.write_bytes(f"{output}.md", (text + "\n").encode())
    if write_baseline:
        stores.write_json(place, measured.to_json())
    tell(text)
    return any(item.is_worse for item in comparisons)
