"""What each function says to the recorder, seen at the other end of the socket."""

import unittest

from recorder import Recorder


class Events(unittest.TestCase):
    def setUp(self):
        self.recorder = Recorder()
        self.addCleanup(self.recorder.close)

    def run_agent(self, program, **environment):
        out = self.recorder.run(program, **environment)
        self.recorder.wait_closed()
        return out

    def test_messages_keep_their_fields_and_order(self):
        self.run_agent(
            """
            import agentrec_sdk as a
            a.record_message("user", "fix it")
            a.record_message("assistant", [{"type": "text", "text": "ja\\u00df"}], model="m",
                             conversation="c", index=1, stop_reason="end")
            a.record_usage("m", input=10, output=2, cost=0.5)
            a.event("myapp.step", n=3, layer="tool")
            """
        )
        first, second, usage, custom = self.recorder.lines
        self.assertEqual((first["role"], first["content"]), ("user", "fix it"))
        self.assertEqual(second["content"], [{"type": "text", "text": "jaß"}])
        self.assertEqual(
            (second["model"], second["conversation"], second["index"], second["stop_reason"]),
            ("m", "c", 1, "end"),
        )
        self.assertEqual((usage["input"], usage["output"], usage["cost"]), (10, 2, 0.5))
        self.assertEqual((custom["type"], custom["n"], custom["layer"]), ("myapp.step", 3, "tool"))
        self.assertLess(first["ts"], second["ts"])

    def test_tools_of_every_kind(self):
        out = self.run_agent(
            """
            import asyncio, agentrec_sdk as a

            @a.tool
            def plain(path, mode="r", *more, deep=False): return [path, mode]

            @a.tool("named")
            async def later(x): return x + 1

            @a.tool
            def counting(n):
                for i in range(n):
                    got = yield i
                    assert got is None or got == "hello"
                return "end"

            @a.tool
            async def streaming(n):
                for i in range(n):
                    yield i

            @a.tool
            def failing(): raise ValueError("no such file")

            class Box:
                @a.tool
                def method(self, x): return x

            plain("a", "b", "c", deep=True)
            assert asyncio.run(later(1)) == 2
            generator = counting(2)
            assert next(generator) == 0
            assert generator.send("hello") == 1
            try: next(generator)
            except StopIteration as stop: assert stop.value == "end"
            early = counting(9); next(early); early.close()
            async def consume(): return [x async for x in streaming(3)]
            assert asyncio.run(consume()) == [0, 1, 2]
            try: failing()
            except ValueError as error: print("raised", error)
            Box().method(5)
            assert plain.__name__ == "plain"
            """
        )
        self.assertEqual(out, "raised no such file\n")
        calls, results = self.recorder.of("tool.call"), self.recorder.of("tool.result")
        self.assertEqual(
            [(c["name"], c["arguments"]) for c in calls],
            [
                ("plain", {"path": "a", "mode": "b", "more": ["c"], "deep": True}),
                ("named", {"x": 1}),
                ("counting", {"n": 2}),
                ("counting", {"n": 9}),
                ("streaming", {"n": 3}),
                ("failing", {}),
                ("method", {"x": 5}),
            ],
        )
        self.assertEqual([c["id"] for c in calls], [r["id"] for r in results])
        self.assertEqual(len({c["id"] for c in calls}), len(calls))
        self.assertEqual(
            [r.get("result") for r in results],
            [
                ["a", "b"],
                2,
                {"yielded": [0, 1], "returned": "end"},
                {"yielded": [0]},
                {"yielded": [0, 1, 2]},
                None,
                5,
            ],
        )
        self.assertEqual(results[5]["error"], "ValueError: no such file")
        self.assertTrue(all(r["duration"] >= 0 for r in results))

    def test_a_call_as_a_block_has_the_id_the_model_gave(self):
        self.run_agent(
            """
            import agentrec_sdk as a
            with a.tool("shell", arguments={"command": "ls"}, id="call_1") as call:
                call.result = "README"
            try:
                with a.tool("shell", id="call_2"):
                    raise KeyError("x")
            except KeyError:
                pass
            id = a.record_tool_call("hand", {"a": 1})
            a.record_tool_result(id, error=OSError("bad"), duration=1.5)
            """
        )
        calls, results = self.recorder.of("tool.call"), self.recorder.of("tool.result")
        self.assertEqual([c["id"] for c in calls[:2]], ["call_1", "call_2"])
        self.assertEqual(results[0]["result"], "README")
        self.assertEqual(results[1]["error"], "KeyError: 'x'")
        self.assertEqual(results[2]["id"], calls[2]["id"])
        self.assertEqual((results[2]["error"], results[2]["duration"]), ("OSError: bad", 1_500_000_000))

    def test_values_that_json_cannot_hold(self):
        self.run_agent(
            """
            import agentrec_sdk as a, dataclasses, datetime, pathlib
            @dataclasses.dataclass
            class Point: x: int; y: object
            class Odd:
                def __repr__(self): raise RuntimeError
            class Pydantic:
                def model_dump(self, mode, warnings): return {"dumped": mode}
            circle = []; circle.append(circle)
            for value in [b"\\xff", {1, }, Point(1, b"x"), pathlib.Path("/a"), float("nan"), {(1, 2): 3},
                          "\\udcff", circle, Odd(), object, Pydantic(), datetime.date(2026, 1, 2), 1e999]:
                a.event("x.y", value=value)
            """
        )
        values = [line["value"] for line in self.recorder.of("x.y")]
        self.assertEqual(values[0], {"$bytes": "/w=="})
        self.assertEqual(values[1], {"$set": [1]})
        self.assertEqual(values[2], {"x": 1, "y": {"$bytes": "eA=="}})
        self.assertEqual(values[3], "/a")
        self.assertEqual(values[4], {"$float": "nan"})
        self.assertEqual(values[5], {"(1, 2)": 3})
        self.assertEqual(values[6], "\ufffd")
        self.assertIsInstance(values[7], list)
        self.assertIn("RuntimeError", values[8]["$repr"])
        self.assertEqual(values[9]["$type"], "builtins.type")
        self.assertEqual(values[10], {"dumped": "json"})
        self.assertEqual(values[11]["$repr"], "datetime.date(2026, 1, 2)")
        self.assertEqual(values[12], {"$float": "inf"})

    def test_a_line_beyond_the_limit_is_cut_and_says_so(self):
        self.run_agent(
            """
            import agentrec_sdk as a
            a.record_message("user", "x" * (20 << 20))
            a.record_message("user", ["y"] * (5 << 20))
            a.record_message("user", "after")
            """
        )
        text, items, after = self.recorder.of("message")
        self.assertIn("[agentrec: cut, 20971520 characters]", text["content"])
        self.assertGreater(items["$truncated"], 16 << 20)
        self.assertEqual(after["content"], "after")

    def test_snapshot_and_status_are_answered(self):
        out = self.run_agent(
            """
            import agentrec_sdk as a, asyncio
            print(a.snapshot("before", messages=[{"role": "user"}], system_prompt="s", tools=[], model="m",
                             last_query="q", last_result="r"))
            print(asyncio.run(a.snapshot_async("later")))
            print(a.status()["events"], a.session_id(), a.recording())
            """
        )
        self.assertEqual(out, "7\n7\n3 abcdefgh True\n")
        first, second = self.recorder.of("snapshot")
        self.assertEqual(first["description"], "before")
        self.assertEqual(first["messages"], [{"role": "user"}])
        self.assertEqual(
            [first[k] for k in ("system_prompt", "tools", "model", "last_query", "last_result")],
            ["s", [], "m", "q", "r"],
        )
        self.assertNotIn("messages", second)

    def test_names_of_custom_events_are_checked(self):
        out = self.recorder.run(
            """
            import agentrec_sdk as a
            for call in (lambda: a.event("nodot"), lambda: a.event("x.y", req=1)):
                try: call()
                except ValueError as error: print(error)
            """
        )
        self.assertEqual(
            out,
            "the name of a custom event needs a dot in it, such as 'myapp.nodot'\n"
            "an event can't hold a field called 'req'\n",
        )


if __name__ == "__main__":
    unittest.main()
