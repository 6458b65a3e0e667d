"""The mathematics: what is climbed, what is seen through, what is preferred, and the loop. Knows tensors only.

`recipe` is the schema of all that can be asked for; `loop` reads as the algorithm does.
"""
