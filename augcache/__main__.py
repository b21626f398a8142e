"""``python -m augcache``."""

from augcache.cli.main import main

main()
