"""What unit tests share."""

from hypothesis import settings

# The same examples in every run: a failure is then always one of the change under test.
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None, max_examples=60)
settings.load_profile("repeatable")
