"""The object store does what every kind of storage must do."""

import pytest
from store_contract import (  # noqa: F401
    test_a_tree_and_its_folders_are_listed,
    test_a_tree_is_removed_with_all_in_it_and_absence_is_fine,
    test_a_writable_place_is_left_as_it_was,
    test_json_comes_back_and_broken_json_is_named,
    test_listing_leaves_folders_out_and_an_absent_or_plain_file_lists_nothing,
    test_missing_files_are_named,
    test_ranges_are_cut_at_the_end_of_the_file,
    test_what_is_written_is_read_replaced_and_listed,
)


@pytest.fixture(params=["bucket", "folder"])
def root(request, aws, bucket) -> str:
    """URL of an empty bucket, or of a folder in one."""
    return bucket if request.param == "bucket" else f"{bucket}/a/folder"
