"""The command line `dpt`, with a verb for each job.

Modules here import torch, Ray and the pipeline only inside the functions of their verbs, so that help and completion
are fast.
"""
