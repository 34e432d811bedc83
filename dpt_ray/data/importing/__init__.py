"""Import class folders, tables, CIFAR-10 and Parquet as samples of shards. Nothing here imports Ray.

`detect.describe` lists the data on the driver and returns an `ImageSet` (`import_plan.py`). Its recipes, one for each
output shard, are sent to workers as JSON. There `detect.read` yields the images of a recipe, and `prepare.py` turns
each image into a sample.
"""
