"""From a plan to results: batches and their numerics, publishing, the panel's turn, the gallery.

`job` does a whole plan, `share` a worker's part of one, `batch` one batch, `api` is `classmodels.ascend`.
"""
