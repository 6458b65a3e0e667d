"""Finished results, wherever they lie: told, brought here, checked, shared, deleted.

Each command has a file of its own: `holdings` (list), `pull`, `verify`, `export`, `prune`. `place` says what SRC means,
`survey` what is there.
"""
