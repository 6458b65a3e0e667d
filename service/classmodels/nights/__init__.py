"""Every night: which checkpoints are new, the job for each, and what there is to tell in the morning.

`discover.py` finds, `reconcile.py` compares with what the store holds, `night.py` does it, `tell.py` tells.
"""
