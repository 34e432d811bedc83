"""How long OpenMP's threads spin before they sleep.

At the end of each parallel region a thread waits for the others. GNU's OpenMP library, which torch's CPU builds bring,
lets it spin for 300,000 turns first. If another program has the core that the awaited thread needs, the spinning takes
as long as that program's time slice. The generator of the recipe for photographs, with two threads on two cores, means
of two runs in turns:

| other busy processes | 300,000 turns | 3,000 turns |
|---|---|---|
| 0 | 185 images/s | 179 images/s |
| 1 | 49 | 53 |
| 3 | 16 | 35 |
"""

import os

SPIN_COUNT = 3000
_COUNT = "GOMP_SPINCOUNT"
_POLICY = "OMP_WAIT_POLICY"


def limit_spinning() -> None:
    """Let threads of this process and its children spin `SPIN_COUNT` times, unless the user has set a variable for it.

    Call it before torch is imported, since its OpenMP library then reads the variable.
    """
    if _POLICY not in os.environ:
        os.environ.setdefault(_COUNT, str(SPIN_COUNT))
