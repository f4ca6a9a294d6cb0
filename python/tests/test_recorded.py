"""The package under the real recorder: what it says must be in the trace, as of the process that said it."""

import json
import os
import subprocess
import sys
import tempfile
import textwrap
import unittest

from recorder import PACKAGE, PATIENCE

AGENTREC = os.environ.get("AGENTREC_BIN")

AGENT = textwrap.dedent(
    """
    import agentrec_sdk as a, os, sys, threading

    state = a.resume_state()
    if state:
        print(state.prompt, state.messages, state.system_prompt, state.model, state.snapshot)
        sys.exit()

    @a.tool
    def double(x):
        return 2 * x

    a.record_message("user", "hi", model="m")
    double(21)
    thread = threading.Thread(target=a.event, args=("my.step",), kwargs={"where": "thread"})
    thread.start()
    thread.join()
    if os.fork() == 0:
        a.event("my.step", where="child")
        os._exit(0)
    os.wait()
    for i in range(5000):
        a.event("my.many", i=i)
    messages = [{"role": "user", "content": "hi"}]
    print(a.snapshot("mine", messages=messages, system_prompt="be brief", model="m"), a.session_id())
    """
)


@unittest.skipUnless(AGENTREC, "AGENTREC_BIN names no agentrec")
class Recorded(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        self.work = os.path.join(directory.name, "work")
        os.mkdir(self.work)
        self.trace = os.path.join(directory.name, "trace.zst")

    def agentrec(self, *arguments, **environment):
        done = subprocess.run(
            [AGENTREC, *arguments],
            cwd=self.work,
            env={
                "PATH": os.environ["PATH"],
                "HOME": self.directory,
                "AGENTREC_HOME": os.path.join(self.directory, "data"),
                "PYTHONDONTWRITEBYTECODE": "1",
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            text=True,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def events(self):
        return [json.loads(line) for line in self.agentrec("export", self.trace).splitlines()]

    def test_what_the_agent_says_is_in_the_trace_and_comes_back(self):
        out = self.agentrec(
            "run", "-o", self.trace, "--", sys.executable, "-c", AGENT, PYTHONPATH=str(PACKAGE)
        )
        number, session = out.split()
        events = self.events()
        of = {kind: [e for e in events if e["type"] == kind] for kind in {e["type"] for e in events}}

        (message,) = of["message"]
        self.assertEqual(message["data"]["content"], {"inline": "hi"})
        self.assertEqual((message["source"], message["layer"]), ("sdk", "agent"))
        (call,), (result,) = of["tool.call"], of["tool.result"]
        self.assertEqual(call["data"]["arguments"], {"inline": {"x": 21}})
        self.assertEqual(result["data"]["result"], {"inline": 42})
        self.assertEqual(result["data"]["call"], call["seq"])

        thread, child = of["my.step"]
        self.assertEqual((thread["data"]["where"], child["data"]["where"]), ("thread", "child"))
        self.assertEqual(thread["proc"], message["proc"])
        self.assertIn("tid", thread)
        self.assertIn(child["proc"], [fork["data"]["child"] for fork in of["process.fork"]])

        self.assertEqual([e["data"]["i"] for e in of["my.many"]], list(range(5000)))
        self.assertNotIn("lost", of)
        snapshot = next(e for e in of["snapshot.created"] if e["data"]["index"] == int(number))
        self.assertEqual(snapshot["data"]["description"], "mine")
        self.assertEqual(of["session.start"][0]["data"]["session"], session)

        resumed = self.agentrec("resume", self.trace, "--snapshot", number, "--prompt", "go on")
        self.assertEqual(
            resumed, f"go on [{{'role': 'user', 'content': 'hi'}}] be brief m {number}\n"
        )

    def test_with_sdk_needs_no_install(self):
        program = "import agentrec_sdk as a; a.record_message('user', 'x'); print(a.recording())"
        out = self.agentrec(
            "run", "--with-sdk", "-o", self.trace, "--", sys.executable, "-c", program
        )
        self.assertEqual(out, "True\n")
        self.assertIn("message", [e["type"] for e in self.events()])


if __name__ == "__main__":
    unittest.main()
