"""Processes import what they use: torch, Matplotlib and SciPy's statistics cost seconds in each."""

import subprocess
import sys

import pytest

WITHOUT_TORCH = (
    "distributed.inference",
    "pipeline.execution.index_worker",
    "pipeline.execution.draw_candidates",
    "pipeline.execution.listed_candidates",
    "pipeline.execution.overlap_groups",
    "pipeline.execution.packed_labelled",
    "pipeline.execution.repeated_images",
    "pipeline.steps.import_shards",
)
"""Modules that processes import to make or compare shards. Only the writer of shards needs torch, which WebDataset
imports."""


@pytest.mark.parametrize(
    ("modules", "left_out"),
    [(WITHOUT_TORCH, ("torch",)), (("pipeline.jobs", "cli.job"), ("matplotlib", "scipy.stats", "sklearn"))],
    ids=["workers", "the job"],
)
def test_what_takes_long_to_import_is_left_out(modules, left_out):
    imports = "".join(f"import dpt_ray.{module}\n" for module in modules)
    script = f"import sys\n{imports}print([name for name in {left_out} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
