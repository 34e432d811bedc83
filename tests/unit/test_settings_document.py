"""docs/reference/settings.md is generated: it must say what the schema says."""

from pathlib import Path

from dpt_ray.config.load import setting_names
from dpt_ray.report.settings_document import COMMAND, render_settings

DOCUMENT = Path(__file__).parents[2] / "docs/reference/settings.md"


def test_document_is_up_to_date():
    assert DOCUMENT.read_text() == render_settings(), f"docs/reference/settings.md is out of date, run: {COMMAND}"


def test_every_setting_has_a_row():
    text = render_settings()
    own_rows = [name for name in setting_names() if not name.startswith("stage3.")]  # stage 3 refers to stage 1
    assert [name for name in own_rows if text.count(f"| `{name}` |") != 1] == []
