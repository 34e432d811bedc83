"""The notebooks of the documentation run to their end on a finished run, cell by cell in one namespace.

Without a kernel: a kernel adds a server and ten packages, and what can break here is the code of the cells.
"""

import json
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest
from tiny_runs import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "docs" / "notebooks").glob("*.ipynb"))


def code_of(notebook: Path) -> list[str]:
    """The code cells of a notebook."""
    cells = json.loads(notebook.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.fixture
def beside_results(finished, tmp_path, monkeypatch):
    """A working folder whose `dpt_results` are those of the finished run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dpt_results").symlink_to(finished)
    before = matplotlib.get_backend()
    plt.switch_backend("Agg")
    yield tmp_path
    plt.close("all")
    plt.switch_backend(before)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_to_its_end(notebook, beside_results, capsys):
    names: dict = {"__name__": "__main__"}
    cells = code_of(notebook)
    assert len(cells) >= 3
    for number, code in enumerate(cells):
        exec(compile(code, f"{notebook.name}, cell {number}", "exec"), names)
    if notebook.stem == "results":
        assert "stage 3 accuracy" in capsys.readouterr().out
        assert names["unsure"].confidence.is_monotonic_increasing
        assert list(names["accuracies"].index) == [str(digit) for digit in range(10)]
    elif notebook.stem == "prediction":
        assert 0 <= names["agreement"] <= 1
        assert (beside_results / "digits-classifier" / "config.json").exists()
    else:
        assert names["picture"].size == (10 * 8, 3 * 8)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_without_output(notebook):
    content = json.loads(notebook.read_text())
    assert [cell for cell in content["cells"] if cell.get("outputs") or cell.get("execution_count")] == []
    assert content["nbformat"] == 4
    assert len({cell["id"] for cell in content["cells"]}) == len(content["cells"])


def test_the_notebooks_are_the_three_that_the_guide_names():
    named = (REPOSITORY / "docs" / "reference" / "python.md").read_text()
    assert [path.stem for path in NOTEBOOKS] == ["generation", "prediction", "results"]
    assert all(f"../notebooks/{path.name}" in named for path in NOTEBOOKS)
