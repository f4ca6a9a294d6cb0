"""Conversations of three turns with one of the clients that agents are made of, many at once.

    python3 clients.py CLIENT BASE_URL COUNT
"""

import asyncio
import os
import socket
import ssl
import sys
import threading

client, base, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
system = "You are terse."


def prompts(number):
    return [f"{number}.{turn}: " + "words " * (turn * 50) for turn in range(3)]


def asked(history, stream=False):
    return {"model": "m", "messages": [{"role": "system", "content": system}, *history], "stream": stream}


def said(answer):
    return {"role": "assistant", "content": answer["choices"][0]["message"]["content"]}


def openai_sync(number, stream=False):
    import openai

    history, api = [{"role": "system", "content": system}], openai.OpenAI(base_url=f"{base}/v1", api_key="none")
    for prompt in prompts(number):
        history.append({"role": "user", "content": prompt})
        answer = api.chat.completions.create(model="m", messages=history, stream=stream)
        if stream:
            text = "".join(part.choices[0].delta.content or "" for part in answer)
        else:
            text = answer.choices[0].message.content
        history.append({"role": "assistant", "content": text})


def openai_stream(number):
    openai_sync(number, stream=True)


async def openai_async(number):
    import openai

    history = [{"role": "system", "content": system}]
    async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="none") as api:
        for prompt in prompts(number):
            history.append({"role": "user", "content": prompt})
            stream = await api.chat.completions.create(model="m", messages=history, stream=True)
            text = "".join([part.choices[0].delta.content or "" async for part in stream])
            history.append({"role": "assistant", "content": text})


def anthropic_sync(number, stream=False):
    import anthropic

    history, api = [], anthropic.Anthropic(base_url=base, api_key="none")
    for prompt in prompts(number):
        history.append({"role": "user", "content": prompt})
        ask = {"model": "m", "max_tokens": 100, "system": system, "messages": history}
        if stream:
            with api.messages.stream(**ask) as answer:
                text = "".join(answer.text_stream)
        else:
            text = api.messages.create(**ask).content[0].text
        history.append({"role": "assistant", "content": text})


def anthropic_stream(number):
    anthropic_sync(number, stream=True)


async def anthropic_async(number):
    import anthropic

    history = []
    async with anthropic.AsyncAnthropic(base_url=base, api_key="none") as api:
        for prompt in prompts(number):
            history.append({"role": "user", "content": prompt})
            answer = await api.messages.create(model="m", max_tokens=100, system=system, messages=history)
            history.append({"role": "assistant", "content": answer.content[0].text})


def requests(number):
    import requests

    history, session = [], requests.Session()
    for prompt in prompts(number):
        history.append({"role": "user", "content": prompt})
        answer = session.post(f"{base}/v1/chat/completions", json=asked(history))
        history.append(said(answer.json()))


async def aiohttp(number):
    import aiohttp

    history = []
    trust = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session:
        for prompt in prompts(number):
            history.append({"role": "user", "content": prompt})
            async with session.post(f"{base}/v1/chat/completions", json=asked(history)) as answer:
                history.append(said(await answer.json()))


def wait_for_the_recorder():
    """By eBPF a library is looked into milliseconds after it is mapped; a snapshot waits for all before it."""
    with socket.socket(socket.AF_UNIX) as recorder:
        recorder.connect(os.environ["AGENTREC_SOCKET"])
        recorder.send(b'{"type": "snapshot", "req": 1}\n')
        assert b'"ok":true' in recorder.recv(4096)


wait_for_the_recorder()
talk = globals()[client.replace("-", "_")]
if asyncio.iscoroutinefunction(talk):

    async def all_of_them():
        await asyncio.gather(*(talk(number) for number in range(count)))

    asyncio.run(all_of_them())
else:
    failed = []

    def one(number):
        try:
            talk(number)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
