"""Classifiers: where a network comes from, its weights, labels, preprocessing and head.

`spec` is what the job file may say; `resolve` finds and digests the files without building a network; `load`
builds the network and returns a `Classifier`. Importing this package does not import torch.
"""
