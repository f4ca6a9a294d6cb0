"""Workload 4: makes 1,000 HTTP requests to the port of this machine that its argument says."""

import sys
import urllib.request

for _ in range(1000):
    with urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/file", timeout=60) as response:
        assert response.read() == b"hello\n"
