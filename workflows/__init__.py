"""What people run: Ray jobs, the report and the command line. The only place that joins `sam_core` and `schemas`."""

import os

# Before torch is imported, here or in a worker: where other processes take their cores, its threads would spin while
# they wait for each other, and a step of training took two and a half times as long (tests/benchmarks/LOG.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
