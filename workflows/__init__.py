"""What people run: Ray jobs, the report and the command line. The only place that joins `sam_core` and `schemas`."""
