"""The local object store and head of `infra/local`, as they are started for users."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "infra" / "local"))
