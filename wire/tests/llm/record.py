"""Records what the real clients of five APIs send to a model, and what a scripted server answers in each API's form.

Each NAME.jsonl holds one session, in the order of the wire: `ask` (a request), `answer` (its response, decoded), messages of
a `socket`, or lines of a server of tools (`pipe`). Run it with a Python that has the packages openai, anthropic, openai-agents, google-genai, ollama,
websockets and mcp:

    python record.py [NAME ...]

then make the golden files again, as tests/dialects.rs says, and read what changed in them.
"""

import asyncio
import base64
import http.server
import itertools
import json
import os
import pathlib
import subprocess
import sys
import threading

os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"

HERE = pathlib.Path(__file__).parent
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n not really").decode()
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


class Recording:
    """A server on loopback that answers by a script, and notes both sides."""

    def __init__(self, name, script):
        self.lines, self.numbers, self.lock = [], itertools.count(1), threading.Lock()
        self.script, self.name = iter(script) if not callable(script) else script, name
        recording = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                chunked = self.headers.get("transfer-encoding") == "chunked"
                length = int(self.headers.get("content-length", 0))
                recording.answer(self, self.chunks() if chunked else self.rfile.read(length))

            def chunks(self):
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            do_GET = do_POST

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, handler, body):
        with self.lock:
            number = next(self.numbers)
            url = "http://model.example" + handler.path
            self.lines.append({"ask": number, "method": handler.command, "url": url, "body": body.decode()})
            asked = json.loads(body or b"null")
            reply = self.script(handler.path, asked) if callable(self.script) else next(self.script)
        status, kind, answer, whole = reply
        with self.lock:
            stream = kind == "text/event-stream"
            said = {"answer": number, "status": status, "stream": stream, "whole": whole, "body": answer}
            self.lines.append(said)
        answer = answer.encode()
        handler.send_response(status)
        handler.send_header("content-type", kind)
        if status in (429, 529):
            handler.send_header("retry-after-ms", "1")
        # One that is not whole promises more than it brings.
        handler.send_header("content-length", str(len(answer) + (0 if whole else 1000)))
        handler.end_headers()
        handler.wfile.write(answer)
        if not whole:
            handler.close_connection = True
            handler.wfile.flush()
            handler.connection.shutdown(2)

    def write(self):
        self.server.shutdown()
        self.server.server_close()
        (HERE / f"{self.name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in self.lines))
        print(self.name, len(self.lines), "lines")


def plain(body, status=200):
    return status, "application/json", json.dumps(body), True


def stream(events, whole=True):
    return 200, "text/event-stream", events, whole


def cut(run):
    """Runs into a stream that ends too soon."""
    try:
        run()
    except Exception as error:
        print("as wanted:", type(error).__name__)
        return
    raise AssertionError("the stream was to be cut")


# OpenAI chat completions


def chat_message(message, finish, usage, number=1):
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": 1763700000 + number,
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "message": {"role": "assistant", **message}, "logprobs": None, "finish_reason": finish}],
        "usage": usage,
        "service_tier": "default",
        "system_fingerprint": "fp_1",
    }


def chat_usage(prompt, cached, completion):
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def chat_stream(deltas, finish, usage, number=1, done=True):
    def chunk(choices, usage=None):
        return "data: " + json.dumps({
            "id": f"chatcmpl-{number}",
            "object": "chat.completion.chunk",
            "created": 1763700000 + number,
            "model": "gpt-4o-2024-08-06",
            "service_tier": "default",
            "system_fingerprint": "fp_1",
            "choices": choices,
            "usage": usage,
            "obfuscation": "x" * 7,
        }) + "\n\n"

    def choice(delta, finish=None):
        return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]

    text = chunk(choice({"role": "assistant", "content": "", "refusal": None}))
    text += "".join(chunk(choice(delta)) for delta in deltas)
    if done:
        text += chunk(choice({}, finish)) + (chunk([], usage) if usage else "") + "data: [DONE]\n\n"
    return stream(text, done)


def chat_call(id, name, **arguments):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def openai_chat():
    import openai

    parallel = [chat_call("call_1", "weather", city="Oslo"), chat_call("call_2", "weather", city="Rome")]
    pieces = [{"tool_calls": [{"index": 0, **chat_call("call_3", "weather"), "function": {"name": "weather", "arguments": ""}}]}]
    pieces += [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in ['{"ci', 'ty":"', 'Bonn"}']]
    slow = {"error": {"message": "Rate limit reached", "type": "tokens", "param": None, "code": "rate_limit_exceeded"}}
    recording = Recording("openai-chat", [
        plain({"object": "list", "data": [{"id": "gpt-4o", "object": "model", "created": 1, "owned_by": "system"}]}),
        plain(chat_message({"content": None, "tool_calls": parallel, "refusal": None, "annotations": []}, "tool_calls", chat_usage(82, 0, 40))),
        plain(slow, 429),
        chat_stream([{"content": word} for word in ["Oslo is ", "colder", "."]], "stop", chat_usage(140, 64, 6), 2),
        chat_stream(pieces, "tool_calls", chat_usage(180, 128, 16), 3),
        chat_stream([{"content": "Bonn"}, {"content": " is"}], None, None, 4, done=False),
        chat_stream([{"content": "Bonn is mild."}], "stop", chat_usage(200, 128, 5), 5),
        plain(chat_message({"content": None, "refusal": "I can't say what that shows."}, "stop", chat_usage(900, 0, 9), 6)),
    ])
    client = openai.OpenAI(base_url=recording.base + "/v1", api_key="none")
    client.models.list()
    tools = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER, "strict": True}}]
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Oslo or Rome?"}]
    reply = client.chat.completions.create(model="gpt-4o", messages=messages, tools=tools)
    messages.append(reply.choices[0].message)
    for call, said in zip(reply.choices[0].message.tool_calls, ["-3 C", "14 C"]):
        messages.append({"role": "tool", "tool_call_id": call.id, "content": said})

    def streamed():
        options = {"include_usage": True}
        with client.chat.completions.stream(model="gpt-4o", messages=messages, tools=tools, stream_options=options) as events:
            for _ in events:
                pass
            return events.get_final_completion().choices[0].message

    messages.append(streamed())
    messages.append({"role": "user", "content": "And Bonn?"})
    messages.append(streamed())
    messages.append({"role": "tool", "tool_call_id": "call_3", "content": [{"type": "text", "text": "9 C"}]})
    cut(streamed)
    messages.append(streamed())
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + PIXEL}}
    messages.append({"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]})
    client.chat.completions.create(model="gpt-4o", messages=messages, tools=tools)
    recording.write()


# OpenAI responses


def response(number, output, usage=None, status="completed", model="gpt-5-codex", **more):
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 1763700000 + number,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "model": model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage,
        "metadata": {},
        **more,
    }


def responses_usage(input, cached, output, written=0):
    return {
        "input_tokens": input,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input + output,
    }


def text_item(number, text):
    content = [{"type": "output_text", "annotations": [], "logprobs": [], "text": text}]
    return {"id": f"msg_{number}", "type": "message", "status": "completed", "content": content, "role": "assistant"}


def function_item(number, name, arguments, **more):
    return {
        "id": f"fc_{number}", "type": "function_call", "status": "completed", "arguments": json.dumps(arguments),
        "call_id": f"call_{number}", "name": name, **more,
    }


def reasoning_item(number, text):
    return {"id": f"rs_{number}", "type": "reasoning", "summary": [{"type": "summary_text", "text": text}], "encrypted_content": "gAAA"}


def responses_events(whole, cut_after=None):
    """The events of a response, as the API sends them."""
    empty = {**whole, "output": [], "usage": None, "status": "in_progress"}
    events = [{"type": "response.created", "response": empty}, {"type": "response.in_progress", "response": empty}]
    for index, item in enumerate(whole["output"]):
        at = {"output_index": index, "item_id": item["id"]}
        begun = {**item, "status": "in_progress"}
        if item["type"] == "message":
            part = item["content"][0]
            begun["content"] = []
            of = {**at, "content_index": 0}
            middle = [{"type": "response.content_part.added", **of, "part": {**part, "text": ""}}]
            for word in part["text"].split(" "):
                delta = word if word is part["text"].split(" ")[0] else " " + word
                middle.append({"type": "response.output_text.delta", **of, "delta": delta, "logprobs": [], "obfuscation": "ab"})
            middle[1]["delta"] = part["text"].split(" ")[0]
            rest = part["text"][len(middle[1]["delta"]):]
            middle[2:] = [{**middle[1], "delta": rest}] if rest else []
            middle.append({"type": "response.output_text.done", **of, "text": part["text"], "logprobs": []})
            middle.append({"type": "response.content_part.done", **of, "part": part})
        elif item["type"] == "reasoning":
            begun = {**item, "summary": []}
            of = {**at, "summary_index": 0}
            part = item["summary"][0]
            middle = [
                {"type": "response.reasoning_summary_part.added", **of, "part": {"type": "summary_text", "text": ""}},
                {"type": "response.reasoning_summary_text.delta", **of, "delta": part["text"]},
                {"type": "response.reasoning_summary_text.done", **of, "text": part["text"]},
                {"type": "response.reasoning_summary_part.done", **of, "part": part},
            ]
        else:
            field, kind = ("input", "custom_tool_call_input") if "input" in item else ("arguments", "function_call_arguments")
            begun[field] = ""
            half = len(item[field]) // 2
            middle = [{"type": f"response.{kind}.delta", **at, "delta": d} for d in (item[field][:half], item[field][half:])]
            middle.append({"type": f"response.{kind}.done", **at, field: item[field]})
        events.append({"type": "response.output_item.added", "output_index": index, "item": begun})
        events += middle
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": "response.completed", "response": whole})
    events = [{**event, "sequence_number": number} for number, event in enumerate(events)]
    return events[:cut_after]


def responses_stream(whole, cut_after=None):
    events = responses_events(whole, cut_after)
    text = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    return stream(text, cut_after is None)


def openai_responses():
    import openai

    calls = [function_item(1, "weather", {"city": "Oslo"}), function_item(2, "weather", {"city": "Rome"})]
    recording = Recording("openai-responses", [
        responses_stream(response(1, [reasoning_item(1, "Two calls."), *calls], responses_usage(90, 0, 50))),
        plain(response(2, [text_item(2, "Oslo is colder.")], responses_usage(150, 64, 8))),
        responses_stream(response(3, [text_item(3, "Rome is a city in Italy.")], responses_usage(160, 128, 9)), cut_after=6),
        plain(response(4, [text_item(4, "Rome is a city in Italy.")], responses_usage(160, 128, 9))),
        plain({"error": {"message": "The server had an error", "type": "server_error", "param": None, "code": None}}, 500),
        plain(response(5, [{"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "Rome"}}, text_item(5, "It is old.")], responses_usage(300, 0, 9))),
        plain({"object": "response.input_tokens", "input_tokens": 11}),
    ])
    client = openai.OpenAI(base_url=recording.base + "/v1", api_key="none", max_retries=0)
    tools = [{"type": "function", "name": "weather", "parameters": WEATHER, "strict": True}]
    settings = {"model": "gpt-5-codex", "instructions": "Be brief.", "tools": tools}
    with client.responses.stream(input="Oslo or Rome?", **settings) as events:
        for _ in events:
            pass
        first = events.get_final_response()
    outputs = [
        {"type": "function_call_output", "call_id": call.call_id, "output": said}
        for call, said in zip([item for item in first.output if item.type == "function_call"], ["-3 C", "14 C"])
    ]
    second = client.responses.create(previous_response_id=first.id, input=outputs, **settings)
    follow = [{"role": "user", "content": "What is Rome?"}]
    cut(lambda: list(client.responses.create(previous_response_id=second.id, input=follow, stream=True, **settings)))
    client.responses.create(previous_response_id=second.id, input=follow, **settings)
    # The whole list again, without the server's memory.
    image = {"type": "input_image", "image_url": "data:image/png;base64," + PIXEL, "detail": "auto"}
    picture = {"role": "user", "content": [{"type": "input_text", "text": "Is it old?"}, image]}
    everything = [{"role": "user", "content": "Oslo or Rome?"}, *first.output, *outputs, *second.output]
    everything += [*follow, text_item(4, "Rome is a city in Italy."), picture]
    everything = [item if isinstance(item, dict) else item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in everything]
    settings.update(store=False, include=["reasoning.encrypted_content"])
    try:
        client.responses.create(input=everything, **settings)
        raise AssertionError("an error was to come")
    except openai.InternalServerError:
        pass
    client.responses.create(input=everything, **settings)
    client.responses.input_tokens.count(model="gpt-5-codex", input="How long is this?")
    recording.write()


def openai_websocket():
    import openai
    import websockets

    shell = {"id": "ctc_1", "type": "custom_tool_call", "status": "completed", "call_id": "call_1", "name": "apply_patch", "input": "*** Begin Patch\n*** End Patch"}
    find = function_item(2, "search", {"query": "parser"}, namespace="docs")
    script = [
        [response(1, [], responses_usage(60, 0, 0))],
        [response(2, [reasoning_item(2, "Patch and search."), shell, find], responses_usage(80, 60, 30))],
        [response(3, [text_item(3, "Both are done.")], responses_usage(130, 80, 6))],
        [None],
    ]
    lines = []

    async def serve(socket):
        for replies in script:
            try:
                message = await socket.recv()
            except websockets.ConnectionClosed:
                return
            lines.append({"socket": 1, "url": "http://model.example/v1/responses", "from": "client", "message": message if isinstance(message, str) else message.decode()})
            for reply in replies:
                events = responses_events(reply) if reply else responses_events(response(4, [text_item(4, "Once upon a time")]), cut_after=6)
                for event in events:
                    lines.append({"socket": 1, "url": "http://model.example/v1/responses", "from": "server", "message": json.dumps(event)})
                    await socket.send(json.dumps(event))
                if not reply:
                    await socket.close()
        lines.append({"socket": 1, "closed": True})

    async def run():
        async with websockets.serve(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            client = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
            async with client.responses.connect() as connection:

                async def ask(**more):
                    await connection.response.create(model="gpt-5-codex", store=False, **more)
                    async for event in connection:
                        if event.type == "response.completed":
                            return event.response

                search = {"type": "function", "name": "search", "parameters": {"type": "object", "properties": {"query": {"type": "string"}}}}
                namespace = {"type": "namespace", "name": "docs", "description": "Documents.", "tools": [search]}
                patch = {"type": "custom", "name": "apply_patch", "description": "Changes files."}
                added = {"type": "additional_tools", "role": "developer", "tools": [patch, namespace]}
                begin = [added, {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Fix the parser."}]}]
                first = await ask(instructions="You are a coder.", input=begin, generate=False)
                second = await ask(instructions="You are a coder.", input=[], previous_response_id=first.id)
                outputs = [
                    {"type": "custom_tool_call_output", "call_id": "call_1", "output": "Success"},
                    {"type": "function_call_output", "call_id": "call_2", "output": "[]"},
                ]
                third = await ask(instructions="You are a coder.", input=outputs, previous_response_id=second.id)
                more = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Tell me a story."}]}]
                try:
                    await asyncio.wait_for(ask(instructions="You are a coder.", input=more, previous_response_id=third.id), 5)
                except Exception:
                    pass

    asyncio.run(run())
    (HERE / "openai-websocket.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    print("openai-websocket", len(lines), "lines")


def openai_agents():
    """An agent with two sub-agents as tools, both called at once."""
    import agents
    import openai

    def script(path, asked):
        who, turns = asked.get("instructions"), len(asked["input"]) if isinstance(asked["input"], list) else 1
        number = next(numbers)
        if who == "You lead." and turns == 1:
            return plain(response(number, [
                function_item(1, "ask_poet", {"input": "A line on snow."}), function_item(2, "ask_critic", {"input": "Is snow a good subject?"}),
            ], responses_usage(100, 0, 40), model="gpt-4.1"))
        if who == "You write poems." and turns == 1:
            return plain(response(number, [function_item(3, "rhyme", {"word": "snow"})], responses_usage(40, 0, 10), model="gpt-4.1"))
        said = {"You lead.": "Snow, and below, the slow meadow.", "You write poems.": "Snow, slow.", "You judge.": "It is."}[who]
        return plain(response(number, [text_item(number, said)], responses_usage(60, 32, 10), model="gpt-4.1"))

    numbers = itertools.count(1)
    recording = Recording("openai-agents", script)

    @agents.function_tool
    def rhyme(word: str) -> str:
        """Finds a rhyme."""
        return "slow"

    client = openai.AsyncOpenAI(base_url=recording.base + "/v1", api_key="none")
    model = agents.OpenAIResponsesModel("gpt-4.1", client)
    poet = agents.Agent(name="poet", instructions="You write poems.", tools=[rhyme], model=model)
    critic = agents.Agent(name="critic", instructions="You judge.", model=model)
    tools = [poet.as_tool("ask_poet", "Asks the poet."), critic.as_tool("ask_critic", "Asks the critic.")]
    lead = agents.Agent(name="lead", instructions="You lead.", tools=tools, model=model)
    asyncio.run(agents.Runner.run(lead, "Write about snow."))
    recording.write()


# Anthropic


def anthropic_message(number, content, stop, usage, model="claude-sonnet-4-5-20250929"):
    return {
        "id": f"msg_{number}", "type": "message", "role": "assistant", "model": model, "content": content,
        "stop_reason": stop, "stop_sequence": None, "usage": usage,
    }


def anthropic_usage(input, read, written, output):
    return {
        "input_tokens": input, "cache_creation_input_tokens": written, "cache_read_input_tokens": read,
        "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
        "output_tokens": output, "service_tier": "standard",
    }


def anthropic_stream(whole, error_after=None):
    usage = {**whole["usage"], "output_tokens": 1}
    begun = {**whole, "content": [], "stop_reason": None, "usage": usage}
    events = [{"type": "message_start", "message": begun}]
    for index, block in enumerate(whole["content"]):
        kind = block["type"]
        if kind == "text":
            start, deltas = {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in halves(block["text"])]
        elif kind == "thinking":
            start = {"type": "thinking", "thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in halves(block["thinking"])]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        else:
            start = {**block, "input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *halves(json.dumps(block["input"])))]
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        if index == 0:
            events.append({"type": "ping"})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    events.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": whole["usage"]["output_tokens"]}})
    events.append({"type": "message_stop"})
    if error_after:
        events[error_after:] = [{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}]
    return stream("".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events))


def halves(text):
    half = len(text) // 2
    return text[:half], text[half:]


def anthropic_messages():
    import anthropic

    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_1"}
    calls = [{"type": "tool_use", "id": f"toolu_{n}", "name": "weather", "input": {"city": city}} for n, city in ((1, "Oslo"), (2, "Rome"))]
    thinking = {"type": "thinking", "thinking": "Both cities, at once.", "signature": "EqQB"}
    summary = "<summary>\n1. The user asked whether Oslo or Rome is colder.\n2. Oslo had -3 degrees, Rome could not be reached.\n</summary>"
    recording = Recording("anthropic-messages", [
        plain({"input_tokens": 403}),
        plain(overloaded, 529),
        anthropic_stream(anthropic_message(1, [thinking, {"type": "text", "text": "I'll look at both."}, *calls], "tool_use", anthropic_usage(12, 0, 1800, 90))),
        anthropic_stream(anthropic_message(2, [{"type": "text", "text": "Oslo, at -3 degrees."}], "end_turn", anthropic_usage(5, 1800, 120, 12))),
        anthropic_stream(anthropic_message(3, [{"type": "text", "text": "That can't be said, because Rome"}], "end_turn", anthropic_usage(5, 1920, 30, 9)), error_after=4),
        plain(anthropic_message(4, [{"type": "text", "text": "I couldn't reach Rome."}], "end_turn", anthropic_usage(5, 1920, 30, 9))),
        plain(anthropic_message(5, [{"type": "text", "text": summary}], "end_turn", anthropic_usage(30, 1950, 0, 60))),
        plain(anthropic_message(6, [{"type": "text", "text": "Then ask again later."}], "end_turn", anthropic_usage(200, 0, 0, 8))),
        plain(anthropic_message(7, [{"type": "text", "text": "Weather in Oslo"}], "end_turn", anthropic_usage(40, 0, 0, 5), "claude-haiku-4-5-20251001")),
    ])
    client = anthropic.Anthropic(base_url=recording.base, api_key="none")
    tools = [{"name": "weather", "description": "Tells the weather.", "input_schema": WEATHER}]
    system = [{"type": "text", "text": "You know the weather."}, {"type": "text", "text": "Today is Friday.", "cache_control": {"type": "ephemeral"}}]
    settings = {"model": "claude-sonnet-4-5", "max_tokens": 2000, "system": system, "tools": tools}
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "Is it colder in Oslo or in Rome?"}, image]}]
    client.messages.count_tokens(model="claude-sonnet-4-5", messages=messages, system=system, tools=tools)

    def marked():
        """As agents do: a mark at the end of what is to be cached, and nowhere before."""
        copy = json.loads(json.dumps(messages))
        last = copy[-1]["content"]
        if isinstance(last, str):
            copy[-1]["content"] = last = [{"type": "text", "text": last}]
        last[-1]["cache_control"] = {"type": "ephemeral"}
        return copy

    def streamed(**more):
        with client.messages.stream(messages=marked(), **settings, **more) as events:
            return events.get_final_message()

    def say(message):
        fields = {"text": ["type", "text"], "thinking": ["type", "thinking", "signature"], "tool_use": ["type", "id", "name", "input"]}
        blocks = [block.model_dump(include=set(fields[block.type])) for block in message.content]
        messages.append({"role": "assistant", "content": blocks})

    say(streamed(thinking={"type": "enabled", "budget_tokens": 1024}))
    messages.append({"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "-3 C"},
        {"type": "tool_result", "tool_use_id": "toolu_2", "content": [{"type": "text", "text": "no route to host"}], "is_error": True},
    ]})
    say(streamed())
    messages.append({"role": "user", "content": "And Rome?"})
    try:
        streamed()
        raise AssertionError("an error was to come")
    except anthropic.APIStatusError as error:
        assert "Overloaded" in str(error)
    say(client.messages.create(messages=marked(), **settings))
    messages.append({"role": "user", "content": "Summarize the conversation so far in <summary> tags."})
    client.messages.create(messages=marked(), **settings)
    inner = summary.replace("<summary>", "").replace("</summary>", "").strip()
    messages[:] = [{"role": "user", "content": f"This session continues an earlier one.\n{inner}\nGo on."}]
    client.messages.create(messages=marked(), **settings)
    client.messages.create(
        model="claude-haiku-4-5", max_tokens=50, system="Write a short title, of at most five words, for this conversation.",
        messages=[{"role": "user", "content": "Is it colder in Oslo or in Rome?"}],
    )
    recording.write()


# Gemini


def gemini_reply(parts, usage, finish="STOP", number=1):
    candidate = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-2.5-flash", "responseId": f"r{number}"}


def gemini_usage(prompt, output, thoughts=0, cached=None):
    usage = {"promptTokenCount": prompt, "candidatesTokenCount": output, "totalTokenCount": prompt + output + thoughts}
    usage["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": prompt}]
    if thoughts:
        usage["thoughtsTokenCount"] = thoughts
    if cached:
        usage["cachedContentTokenCount"] = cached
    return usage


def gemini_stream(replies, whole=True):
    return stream("".join(f"data: {json.dumps(reply)}\r\n\r\n" for reply in replies), whole)


def gemini():
    from google import genai
    from google.genai import types

    def call(city):
        return {"functionCall": {"name": "weather", "args": {"city": city}}}

    busy = {"error": {"code": 429, "message": "Resource has been exhausted (e.g. check quota).", "status": "RESOURCE_EXHAUSTED"}}
    recording = Recording("gemini", [
        plain({"totalTokens": 7}),
        plain(gemini_reply([{"text": "Two calls.", "thought": True}, {**call("Oslo"), "thoughtSignature": "CiQB"}, call("Rome")], gemini_usage(60, 20, 30))),
        plain(gemini_reply([{"text": "Oslo is colder."}], gemini_usage(110, 5, cached=40), number=2)),
        gemini_stream([
            gemini_reply([{"text": "Because it is"}], gemini_usage(120, 3), None, 3),
            gemini_reply([{"text": " further north."}], gemini_usage(120, 7), None, 3),
            gemini_reply([{"text": "", "thoughtSignature": "CiQC"}], gemini_usage(120, 7), "STOP", 3),
        ]),
        plain(busy, 429),
        gemini_stream([gemini_reply([{"text": "Some"}], gemini_usage(130, 1), None, 4)], whole=False),
        plain({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9}, "modelVersion": "gemini-2.5-flash", "responseId": "r5"}),
    ])
    client = genai.Client(api_key="none", http_options=types.HttpOptions(base_url=recording.base))
    client.models.count_tokens(model="gemini-2.5-flash", contents="How long is this?")

    def weather(city: str) -> str:
        """Tells the weather.

        Args:
            city: Which city.
        """
        return {"Oslo": "-3 C", "Rome": "14 C"}[city]

    config = types.GenerateContentConfig(system_instruction="Be brief.", tools=[weather])
    chat = client.chats.create(model="gemini-2.5-flash", config=config)
    image = types.Part.from_bytes(data=base64.b64decode(PIXEL), mime_type="image/png")
    chat.send_message(["Oslo or Rome?", image])
    for _ in chat.send_message_stream("Why?"):
        pass
    try:
        chat.send_message("Say something.")
        raise AssertionError("it was to be busy")
    except genai.errors.ClientError as error:
        assert error.code == 429
    cut(lambda: list(chat.send_message_stream("Say something.")))
    chat.send_message("Say something else.")
    recording.write()


# Ollama


def ollama():
    import ollama as client_of

    at = {"model": "llama3.2", "created_at": "2026-11-20T10:00:00Z"}
    end = {"done": True, "done_reason": "stop", "total_duration": 5, "load_duration": 1, "prompt_eval_count": 26, "prompt_eval_duration": 1, "eval_count": 8, "eval_duration": 2}

    def lines(*documents, whole=True):
        text = "".join(json.dumps(document) + "\n" for document in documents)
        return 200, "application/x-ndjson", text, whole

    def piece(**message):
        return {**at, "message": {"role": "assistant", "content": "", **message}, "done": False}

    def call(city):
        return {"function": {"name": "weather", "arguments": {"city": city}}}

    recording = Recording("ollama", [
        plain({"models": [{"name": "llama3.2", "model": "llama3.2", "size": 1}]}),
        plain({**at, "message": {"role": "assistant", "content": "", "tool_calls": [call("Oslo"), call("Rome")]}, **end}),
        lines(piece(thinking="Compare."), piece(content="Oslo is"), piece(content=" colder."), {**piece(), **end}),
        lines(*({**at, "response": text, "done": False} for text in ("The sky", " is blue.")), {**at, "response": "", "context": [1, 2, 3], **end}),
        lines(piece(content="Half an"), whole=False),
        (404, "application/json", json.dumps({"error": "model 'nope' not found"}), True),
    ])
    client = client_of.Client(host=recording.base)
    client.list()

    def weather(city: str) -> str:
        """Tells the weather.

        Args:
            city: Which city.
        """

    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Oslo or Rome?", "images": [PIXEL]}]
    reply = client.chat("llama3.2", messages=messages, tools=[weather])
    messages.append(reply.message)
    for said in ("-3 C", "14 C"):
        messages.append({"role": "tool", "tool_name": "weather", "content": said})
    text = "".join(part.message.content for part in client.chat("llama3.2", messages=messages, tools=[weather], stream=True, think=True))
    for _ in client.generate("llama3.2", "Why is the sky blue?", system="You are a physicist.", stream=True):
        pass
    messages += [{"role": "assistant", "content": text}, {"role": "user", "content": "Sure?"}]
    cut(lambda: list(client.chat("llama3.2", messages=messages, tools=[weather], stream=True)))
    try:
        client.chat("nope", messages=messages)
    except client_of.ResponseError as error:
        assert error.status_code == 404
    recording.write()


# MCP


def mcp_server():
    from mcp.server import MCPServer

    server = MCPServer("sums")

    @server.tool()
    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    @server.tool()
    def fail() -> str:
        """Fails."""
        raise ValueError("it failed")

    server.run()


def mcp_relay():
    """Stands between a client and its server, and notes each line."""
    server = subprocess.Popen([sys.executable, __file__, "mcp-server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    lock, log = threading.Lock(), open(HERE / "mcp-stdio.jsonl", "w")

    def pump(source, target, speaker):
        for line in source:
            with lock:
                log.write(json.dumps({"pipe": 1, "from": speaker, "message": line.decode()}) + "\n")
                log.flush()
            target.write(line)
            target.flush()
        target.close()

    threading.Thread(target=pump, args=(sys.stdin.buffer, server.stdin, "client")).start()
    pump(server.stdout, sys.stdout.buffer, "server")


def mcp_stdio():
    import mcp

    async def run():
        relay = mcp.StdioServerParameters(command=sys.executable, args=[__file__, "mcp-relay"])
        async with mcp.Client(relay) as client:
            await client.list_tools()
            await asyncio.gather(client.call_tool("add", {"a": 1, "b": 2}), client.call_tool("add", {"a": 3, "b": 4}))
            await client.call_tool("fail", {})
            await client.call_tool("no_such_tool", {})

    asyncio.run(run())


SESSIONS = {
    "openai-chat": openai_chat,
    "openai-responses": openai_responses,
    "openai-websocket": openai_websocket,
    "openai-agents": openai_agents,
    "anthropic-messages": anthropic_messages,
    "gemini": gemini,
    "ollama": ollama,
    "mcp-stdio": mcp_stdio,
}
PARTS = {"mcp-server": mcp_server, "mcp-relay": mcp_relay}

if __name__ == "__main__":
    for name in sys.argv[1:] or SESSIONS:
        (SESSIONS | PARTS)[name]()
