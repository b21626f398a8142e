"""``python -m augcache``."""

from augcache.cli import main

main()
