"""`python -m classmodels.cli`."""

from classmodels.cli import main

main()
