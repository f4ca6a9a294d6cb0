"""A conversation of 200 turns, each 2 KB longer, up to 400 KB a request.

    python3 conversation.py PORT LAST     # writes the last request's body to the file LAST
"""

import http.client
import json
import random
import sys

port, last = int(sys.argv[1]), sys.argv[2]
chance = random.Random(3)
words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 10))) for _ in range(5000)]


def prose(length):
    text = ""
    while len(text) < length:
        # The common ones far more often.
        text += words[chance.randrange(70) * chance.randrange(70)] + " "
    return text


messages = [{"role": "system", "content": prose(2000)}]
connection = http.client.HTTPConnection("localhost", port)
for turn in range(200):
    messages.append({"role": "user", "content": f"{turn} {prose(1900)}"})
    body = json.dumps({"model": "m", "messages": messages}).encode()
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    messages.append(json.loads(connection.getresponse().read())["choices"][0]["message"])
with open(last, "wb") as file:
    file.write(body)
