"""The cluster of each image, on which a generator is conditioned before it sees labels."""

from dataclasses import dataclass

from dpt_ray.pipeline.artifacts.step_facts import Facts, ShardFile


@dataclass(frozen=True, kw_only=True)
class ImageClustersFacts(Facts):
    """The facts of `ClusterImages`.

    Attributes:
        images: images with a cluster.
        clusters: number of clusters; where there are fewer different images, the last ones are empty.
        files: the sidecars, in the order of the shards.
    """

    images: int
    clusters: int
    files: tuple[ShardFile, ...]
