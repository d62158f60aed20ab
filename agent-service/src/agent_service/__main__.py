"""`python -m agent_service`: the process `api`."""

from agent_service.main import main

main()
