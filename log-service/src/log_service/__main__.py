from log_service.main import main

main()
