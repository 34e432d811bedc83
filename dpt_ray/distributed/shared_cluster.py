"""The runs that share a cluster: how many they are, and whether Ray Tune started this one."""

_runs = 1
"""Number of runs that share the cluster equally; this process belongs to one of them."""
_is_trial = False
"""Whether Ray Tune started this process. Ray Train refuses to train in such a process itself."""


def share_cluster(runs: int) -> None:
    """Let this process plan with an equal share of the cluster for each of `runs` runs (`concurrent_runs`)."""
    global _runs
    _runs = runs


def runs_here() -> int:
    """Return the number of runs that share the cluster, as `share_cluster` set it."""
    return _runs


def become_trial() -> None:
    """Note that Ray Tune started this process."""
    global _is_trial
    _is_trial = True


def is_trial() -> bool:
    """Return whether Ray Tune started this process."""
    return _is_trial
