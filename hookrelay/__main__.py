"""`python -m hookrelay` is the `hookrelay` command."""

from hookrelay.cli.main import main

main()
