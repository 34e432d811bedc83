"""Loading: from the shards of an image source to a worker's batches, in an order that depends on seed and epoch alone.

These are the words for a number of images, here, in `data/shards` and in `distributed`; there are no others:

- shard: one tar archive of samples. It is fetched whole and compared with its index, or some of its images are.
- layout: where each image of a shard lies, and its checksum. It is stored beside the index.
- lane: one of a fixed number of interleaved sequences that make up the data order. Each worker reads some lanes.
- shuffle window, or window: consecutive images of one lane, which are shuffled together.
- segment: consecutive rows of one shard. A window consists of segments, and a worker requests one after another.
- fetch: rows of a segment that a reader requests at once: their whole shard, or at most 32 MiB of images.
- read task: the segments that one task of Ray Data reads.
- block: consecutive decoded rows in arrays, one for each column. A segment is read as one or more blocks, each of which
  may be a view of a larger one. Ray's object store holds blocks.
- batch: the rows of one training step.

A row is one image with its label and further columns. A stream is what one worker reads of a source that is not kept in
memory; one or more executions of Ray Data produce its blocks.
"""
