"""`python -m hearth_local`."""

from hearth_local.main import main

main()
