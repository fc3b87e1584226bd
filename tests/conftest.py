"""One thread each: small tensors gain nothing from more, and test processes side by side would wait for each other."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
