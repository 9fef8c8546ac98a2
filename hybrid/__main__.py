"""python -m hybrid"""

import sys

from hybrid.cli.entry import main

sys.exit(main())
