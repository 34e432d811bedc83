"""From what people have (folders, tables, CIFAR-10, Parquet) to the samples of shards; no Ray in here.

`detect.describe` looks at the data on the driver and gives an `ImageSet` (`plan.py`). Its recipes, one an output
shard, travel to workers as JSON; `detect.read` turns a recipe into images there, and `prepare.py` those into samples.
"""
