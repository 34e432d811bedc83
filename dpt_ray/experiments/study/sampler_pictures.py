"""Pictures of every sampler: images of one generator from the same noise, with few evaluations and with many."""

from collections.abc import Callable, Iterator

import numpy as np

from dpt_ray.core.diffusion.samplers import SAMPLERS, num_evaluations
from dpt_ray.core.seeds import derive_seed
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.networks.generator import Generator
from dpt_ray.pipeline.artifacts.store import ArtifactStore
from dpt_ray.pipeline.dpt import build
from dpt_ray.pipeline.graph import make_all
from dpt_ray.pipeline.run_settings import load_run
from dpt_ray.report.grid import grid_png
from dpt_ray.report.image_content import SampleGrid

EVALUATIONS = (6, 12, 24, 48)
"""Rows of a picture: largest number of evaluations of the network for an image, without those for guidance."""

TIMED = "stage2.process=variance_preserving"
"""A process whose noise levels have times, which one of the samplers needs."""


def sampler_pictures(
    *, config: str, root: str, seeds: list[int], processes: int, say: Callable[[str], None]
) -> Iterator[tuple[str, bytes]]:
    """Yield a PNG for each sampler: a column a class, a row a number of evaluations, one noise for each column.

    Args:
        config: YAML file of the run whose generator draws.
        root: folder or URL for the artifacts of the run.
        seeds: a single seed.
        processes: not used, since one process draws all images.
        say: called with lines of text about the steps.
    """
    loaded = load_run(config, [f"root={root}", f"seed={seeds[0]}", TIMED]).config
    run = build(loaded)
    made = make_all(run.checked([run.generator]), ArtifactStore(loaded.root), loaded.cluster, say)
    generator = Generator(made[run.generator].file(NETWORK_FILE))
    places = [(label, 0) for label in range(generator.num_classes)]
    seed = derive_seed("sampler pictures", seeds[0])
    for name in SAMPLERS:
        rows, titles = [], []
        for wanted in EVALUATIONS:
            steps = max(n for n in range(1, wanted + 1) if num_evaluations(name, n) <= wanted)
            sampling = loaded.sampling.model_copy(update={"sampler": name, "steps": steps})
            rows.append(generator.draw(sampling, seed, places).numpy())
            titles.append(f"{num_evaluations(name, steps)} evaluations")
        yield name, grid_png(SampleGrid(np.stack(rows), titles), with_labels=True)
