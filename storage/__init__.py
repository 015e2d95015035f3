"""Where things are kept: the store of artifacts, MLflow's registry, and the formats of both.

Every package of ours imports it before Arrow, which reads its setting when it is imported: Arrow's own pool
keeps what was freed, 50 MB more where part follows part.
"""

import os

os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
