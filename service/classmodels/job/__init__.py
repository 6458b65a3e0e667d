"""The job file: its schema, its positions, its presets, and the plan that it expands to.

`document` reads YAML and remembers where everything stood; `schema` says what may stand there; `check` finds
every problem at once and returns a `CheckedJob`; `plan` lists its units. None of it imports torch by itself.
"""
