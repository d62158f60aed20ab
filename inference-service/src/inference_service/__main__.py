"""`python -m inference_service`."""

from inference_service.main import main

main()
