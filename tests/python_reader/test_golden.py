"""A reader in another language reads the golden traces as ours does."""

import json
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import trace_reader

ROOT = pathlib.Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "v1"


class GoldenTraces(unittest.TestCase):
    def setUp(self):
        trace_reader.read_kinds((ROOT / "docs" / "trace-format.md").read_text())

    def test_every_golden_trace_reads_as_listed(self):
        traces = sorted(GOLDEN.glob("*.zst"))
        self.assertGreaterEqual(len(traces), 5)
        for path in traces:
            with self.subTest(path.name):
                listed = path.with_suffix(".jsonl").read_text().splitlines()
                trace = trace_reader.Trace(path.read_bytes())
                for line, found in zip(listed, trace.listing(), strict=True):
                    self.assertEqual(json.loads(line), found)

    def test_a_flipped_bit_is_noticed(self):
        whole = (GOLDEN / "every-event.zst").read_bytes()
        for offset in range(0, len(whole), 97):
            damaged = bytearray(whole)
            damaged[offset] ^= 1
            with self.subTest(offset=offset):
                try:
                    status = trace_reader.Trace(bytes(damaged)).status
                except Exception:
                    continue
                self.assertEqual(status, "incomplete")

    def test_a_cut_trace_gives_every_whole_frame(self):
        whole = (GOLDEN / "every-event.zst").read_bytes()
        all_events = trace_reader.Trace(whole).events
        counts = set()
        for length in range(20, len(whole), 41):
            trace = trace_reader.Trace(whole[:length])
            self.assertEqual(trace.status, "incomplete")
            self.assertEqual(trace.events, all_events[: len(trace.events)])
            counts.add(len(trace.events))
        self.assertIn(0, counts)
        self.assertIn(len(all_events), counts)
        self.assertGreater(len(counts), 3)


if __name__ == "__main__":
    unittest.main()
