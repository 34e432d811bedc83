"""`dpt compare`: rows over seeds, their intervals, and the four forms of the table."""

import csv
import io
import json
import math
import re
from dataclasses import replace

import pytest
from click.testing import CliRunner
from made_up_comparison import LABELS, made_up_comparison, made_up_runs
from recorded_runs import EARLY, LATE, A, finished, write_artifact, write_record
from scipy import stats

from dpt_ray.cli.main import dpt
from dpt_ray.errors import UserError
from dpt_ray.experiments.comparison.compared_runs import ComparedRun, differing, read_search
from dpt_ray.experiments.comparison.rows import compare_rows
from dpt_ray.experiments.comparison.write import write_comparison
from dpt_ray.report.compare_page import (
    comparison_csv,
    comparison_latex,
    comparison_markdown,
    format_estimate,
    render_comparison,
)
from dpt_ray.text import latex_text


def test_runs_that_differ_in_seeds_alone_are_one_row_with_student_s_interval():
    rows = compare_rows(made_up_runs())
    assert [(row.name, row.labels, row.seeds, len(row.runs)) for row in rows] == [
        (letter, str(labels), 3, 3) for letter, labels in zip("ABCD", LABELS, strict=True)
    ]
    gain = rows[0].figures["gain"]
    low, high = stats.t.interval(0.95, 2, loc=0.03, scale=0.01 / math.sqrt(3))
    assert (gain.mean, gain.low, gain.high) == pytest.approx((0.03, low, high))


def test_the_gain_is_paired():
    """Seeds differ by far more than the stages: unpaired, no gain would show."""
    runs = [
        ComparedRun(f"r{seed}", {"seed": seed}, {"labels.per_class": 4}, {
            "stage1_accuracy": first, "stage3_accuracy": first + gain, "gain": gain})
        for seed, (first, gain) in enumerate([(0.5, 0.03), (0.7, 0.031), (0.9, 0.029)])
    ]  # fmt: skip
    (row,) = compare_rows(runs)
    assert row.figures["gain"].low > 0.02
    assert row.figures["stage3_accuracy"].low < row.figures["stage1_accuracy"].mean


def test_one_seed_has_no_interval():
    (row,) = compare_rows(made_up_runs()[:1])
    assert not row.figures["gain"].has_interval
    assert format_estimate("gain", row.figures["gain"]) == "+2.0"
    assert format_estimate("gain", None) == "–"  # noqa: RUF001


def test_labels_and_guidance_come_first_among_the_settings_that_differ():
    runs = [
        ComparedRun("a", {}, {"x": 1, "sampling.guidance_scale": 0.4, "labels.per_class": 1, "y": 3}, {}),
        ComparedRun("b", {}, {"x": 2, "sampling.guidance_scale": 0.8, "labels.per_class": 2, "y": 3}, {}),
    ]
    assert differing(runs) == ["labels.per_class", "sampling.guidance_scale", "x"]


def test_the_page_has_a_row_a_curve_and_the_settings():
    text = render_comparison(made_up_comparison())
    assert text.count("<svg") == 3
    assert re.search(r"\+3\.0 \[\+0\.5, \+5\.5\]", text)
    assert "labels.per_class" in text
    assert "over 1 of" not in text


def test_csv_holds_plain_numbers_and_no_formula():
    report = made_up_comparison()
    first = replace(report.rows[0], labels="=1+1", settings={"x": "@x"})
    others = [replace(row, settings={"x": "y"}) for row in report.rows[1:]]
    rows = list(csv.DictReader(io.StringIO(comparison_csv(replace(report, rows=[first, *others])))))
    assert (rows[0]["labels_per_class"], rows[0]["x"]) == ("'=1+1", "'@x")
    assert float(rows[1]["gain_mean"]) == pytest.approx(0.03)
    assert float(rows[1]["stage1_accuracy_low"]) == pytest.approx(0.82)


def test_an_interval_holds_only_what_is_possible():
    (row,) = compare_rows(
        [
            ComparedRun(str(seed), {"seed": seed}, {}, {"stage3_accuracy": value})
            for seed, value in enumerate((0.8, 1.0))
        ]
    )
    assert row.figures["stage3_accuracy"].high == 1.0
    assert 0 <= row.figures["stage3_accuracy"].low < 0.8


def test_latex_has_no_command_of_the_data():
    report = made_up_comparison()
    text = comparison_latex(replace(report, rows=[replace(report.rows[0], labels="\\input{x}_%&")]))
    assert r"\textbackslash{}input\{x\}\_\%\&" in text
    assert text.count(r"\\") == 2
    assert {line.replace(r"\&", "").count("&") for line in text.splitlines() if line.endswith(r"\\")} == {6}
    assert latex_text("50% ± 1 – #1~^$") == r"50\% $\pm$ 1 -- \#1\textasciitilde{}\textasciicircum{}\$"  # noqa: RUF001


def test_markdown_escapes_bars():
    report = made_up_comparison()
    text = comparison_markdown(replace(report, rows=[replace(report.rows[0], labels="a|b")]))
    assert r"| a\|b |" in text
    assert text.startswith("# Comparison of 12 runs\n\nA note.\n\n|")


def test_a_search_is_read_from_its_results(tmp_path):
    trial = {"point": {"labels.per_class": 2}, "seed": 1, "state": "finished"}
    figures = {"stage1_accuracy": 0.5, "stage3_accuracy": 0.75, "test_images": 9, "pseudo_label_accuracy": None}
    trials = [{**trial, "metrics": figures}, {**trial, "seed": 2, "state": "failed", "metrics": {}}]
    document = {"search": {"name": "s", "settings": {"sampling.steps": 5}}, "trials": trials}
    (tmp_path / "results.json").write_text(json.dumps(document))
    (run,) = read_search(str(tmp_path))
    assert run == ComparedRun(
        "s (trial 1)",
        {"seed": 1},
        {"sampling.steps": 5, "labels.per_class": 2},
        {"stage1_accuracy": 0.5, "stage3_accuracy": 0.75, "test_images": 9.0, "gain": 0.25},
    )


@pytest.mark.parametrize("document", [{}, [], {"search": {"name": "s", "settings": {}}, "trials": [{}]}, {"search": 1}])
def test_results_of_another_form_are_refused_in_one_line(tmp_path, document):
    (tmp_path / "results.json").write_text(json.dumps(document))
    with pytest.raises(UserError) as caught:
        read_search(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_run_that_is_given_twice_is_refused(tmp_path):
    runs = made_up_runs()[:1]
    with pytest.raises(UserError, match="given twice"):
        write_comparison([*runs, *runs], str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def _root(tmp_path):
    root, needs = str(tmp_path / "root"), []
    for letter, id, seed in ((A, EARLY, 0), ("b" * 16, LATE, 1)):
        needs = [write_artifact(root, "evaluation", letter)]
        end = finished(stage1_accuracy=0.5, stage3_accuracy=0.6 + 0.1 * seed)
        write_record(root, "digits", id, needs, end, f"seed={seed}")
    return root


def test_the_command_writes_all_forms_of_recorded_runs(tmp_path):
    root, output = _root(tmp_path), tmp_path / "out"
    words = ["compare", "--all", "digits", "--root", root, "--output", str(output)]
    done = CliRunner().invoke(dpt, words, standalone_mode=False)
    assert done.return_value == 0, done.output
    assert sorted(path.name for path in output.iterdir()) == [f"comparison.{k}" for k in ("csv", "html", "md", "tex")]
    assert re.search(r"A +4 +2 +50\.0% \[50\.0%, 50\.0%\] +65\.0%", done.output)
    named = ["compare", f"digits/{EARLY}", "digits", "--root", root, "--output", str(output)]
    assert CliRunner().invoke(dpt, named, standalone_mode=False).return_value == 0


@pytest.mark.parametrize("words", [[], ["no"], ["--all", "no"], ["--search", "no"]])
def test_what_is_not_there_is_an_error_that_the_user_can_correct(tmp_path, words):
    done = CliRunner().invoke(dpt, ["compare", *words, "--root", _root(tmp_path)], standalone_mode=False)
    assert done.return_value == 2
