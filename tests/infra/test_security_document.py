"""The tests that docs/security.md names exist, and its numbers are those of the code."""

import ast
import re

import pytest
from rendering import REPOSITORY

from dpt_ray.config import yaml_reader
from dpt_ray.core import class_ids, weights
from dpt_ray.data.images import jpeg, pictures, slow_images
from dpt_ray.data.importing import parquet_file, parquet_footer, parquet_pages, parquet_table, text_files
from dpt_ray.data.shards import samples, tar_members


def document() -> str:
    """Return the page on one line."""
    return " ".join((REPOSITORY / "docs/security.md").read_text().split())


def test_every_test_that_the_document_names_is_there():
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", document())
    assert len(named) > 20
    for file, function in named:
        text = (REPOSITORY / "tests" / file).read_text()
        assert re.search(rf"^def {function}\(", text, re.MULTILINE), f"{file}::{function}"


@pytest.mark.parametrize(
    "sentence",
    [
        f"at most {tar_members.MOST_EXTENDED_HEADERS} extended headers a member, "
        f"of at most {tar_members.MOST_EXTENDED_BYTES >> 20} MiB",
        f"at most {class_ids.MAX_CLASS_ID:,} is read, from at most {samples.LONGEST_LABEL} bytes",
        f"refused above {pictures.FREE_PIXELS / 1e6:g} million pixels and {pictures.PIXELS_PER_BYTE:,} for each byte "
        f"({pictures.PIXELS_PER_BYTE * pictures.BLACK_AND_WHITE_FACTOR:,} of black and white)",
        f"above {jpeg.MAX_SCANS} scans ({jpeg.MAX_SCANS_OF_LARGE} of 50 million pixels and more) or "
        f"{jpeg.MAX_SEGMENTS:,} segments",
        f"refused above {slow_images.MAX_RUN_LENGTH_PIXELS / 1e6:g} million pixels in run lengths",
        f"{slow_images.MAX_QOI_STEPS / 1e6:g} million steps of a QOI",
        f"{slow_images.MAX_SCALED_VALUES / 1e6:g} million scaled values",
        f"{slow_images.MAX_PLAIN_BYTES / 1e6:g} MB of digits or {slow_images.MAX_PLAIN_COMMENTS:,} comments",
        f"several channels of 16 bits | refused above {slow_images.MAX_DEEP_PIXELS / 1e6:g} million pixels",
        f"a tag has at most {slow_images.MAX_TAG_VALUES / 1e6:g} million numbers",
        f"endless blank lines in a table or a list | refused above {text_files.MAX_BLANK_LINES / 1e6:g} million",
        f"a PNG has at most {slow_images.MAX_CHUNKS:,} chunks beside its pixels",
        f"a page has at most {parquet_file._MAX_IMAGE_PAGE >> 20} MiB "
        f"(of texts {parquet_file._MAX_TEXT_PAGE >> 20} MiB) or {parquet_pages.MAX_COMPRESSION} times its compressed "
        f"bytes; rows are decoded {parquet_file.MAX_BATCH_BYTES >> 20} MiB at a time; "
        f"above {parquet_table._UNCHECKED_BYTES >> 20} MiB, "
        f"a row group decodes to at most {parquet_table._MAX_EXPANSION:,} times its bytes; "
        f"labels have at most {parquet_footer.MAX_LABEL_BYTES >> 20} MiB a row group",
        f"refused above {parquet_file.MAX_ROWS_WITHOUT_BYTES:,} rows and a row for each {parquet_file._BYTES_A_ROW} "
        f"bytes, above {parquet_file._MAX_STRUCTS:,} structs, above {parquet_file._MAX_FOOTER_BYTES >> 20} MiB",
        f"headers of at most {weights.MAX_HEADER_BYTES >> 20} MiB",
        f"at most {yaml_reader.MAX_BYTES >> 20} MiB, {yaml_reader.MAX_DEPTH} levels and "
        f"{yaml_reader.MAX_NODES:,} values",
        f"with the {pictures.MAX_PIXELS / 1e6:g} million of `data.max_image_pixels`",
    ],
)
def test_its_numbers_are_those_of_the_code(sentence):
    assert sentence in document()


def test_50_million_pixels_are_large_for_a_jpeg():
    assert jpeg.max_scans(50_000_000) == jpeg.MAX_SCANS_OF_LARGE
    assert jpeg.max_scans(10_000_000) == jpeg.MAX_SCANS


BETWEEN_OWN_PROCESSES = {"messages.py"}
"""Pickles what Ray would pickle otherwise: arguments of tasks, which the job itself has made."""
UNPICKLERS = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}


def test_no_module_unpickles_anything():
    """But torch's restricted loader, for published weights: those of a package, and those that the user names.

    NumPy's loader refuses pickles with `allow_pickle=False`.
    """
    files = [file for folder in ("dpt_ray", "jobs") for file in sorted((REPOSITORY / folder).rglob("*.py"))]
    assert len(files) > 100
    loaders = []
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                if file.name not in BETWEEN_OWN_PROCESSES:
                    assert not UNPICKLERS & {name.partition(".")[0] for name in names}, file
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "np.load", "numpy.load"):
                loaders.append((file.name, {option.arg: ast.unparse(option.value) for option in node.keywords}))
    assert {(name, options.get("weights_only"), options.get("allow_pickle")) for name, options in loaders} == {
        ("lite_encoder.py", "True", None),
        ("torch_files.py", "True", None),
        ("reference_statistics.py", None, "False"),
    }
