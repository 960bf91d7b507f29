"""`python -m jaynes_audit` is `jaynes`."""

from jaynes_audit.cli.app import main

main()
