"""Workload 2: imports 60 modules of the standard library and reads 500 files."""

import importlib
from pathlib import Path

MODULES = """
argparse array ast asyncio base64 bisect bz2 calendar cmath codecs collections concurrent.futures configparser
contextlib copy csv dataclasses datetime decimal difflib dis email enum fractions ftplib functools getpass gettext glob
gzip hashlib heapq hmac html http.client inspect ipaddress itertools json logging lzma mimetypes multiprocessing
operator optparse pickle platform plistlib pprint queue random re shlex shutil smtplib socket sqlite3 ssl tarfile xml.dom
""".split()

assert len(MODULES) == 60, len(MODULES)
for module in MODULES:
    importlib.import_module(module)
read = [path.read_bytes() for path in sorted(Path("files").iterdir())]
assert len(read) == 500, len(read)
