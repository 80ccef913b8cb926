"""Every test, and every kernel that a test starts, runs small, on one thread,
away from the reader's own results."""

import os
import tempfile

os.environ["COURSE_PROFILE"] = "smoke"
os.environ["COURSE_RESULTS"] = tempfile.mkdtemp(prefix="course-results-")
os.environ["OMP_NUM_THREADS"] = "1"
