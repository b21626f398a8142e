"""``python -m augcache``."""

from augcache.cli_main import main

main()
