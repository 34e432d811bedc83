"""The command line `dpt`: a verb for each job.

Modules here import torch, Ray and the pipeline inside their verbs alone, so that help and completion are quick.
"""
