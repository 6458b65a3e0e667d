"""The arithmetic of the loop, one module per op: its Python face, and the reference that says what it computes.

`step` is the update with its regularizers, `filters` the periodic regularizers, `affine` the random transform.
Every reference runs in float32 and in float64; `backend` says which implementations this build has.
"""
