"""Reads a trace without any code of agentrec, from what docs/trace-format.md says."""

import base64
import math
import struct

import msgpack
import zstandard
from blake3 import blake3

MAGIC_OURS = 0x184D2A5A
MAGIC_SEEK_TABLE = 0x184D2A5E
MAGIC_ZSTD = 0xFD2FB528
MAX_FRAME = 16 << 20

# What the tables of the document call `event`, `bytes`, `payload`, `content` and so on, by type and field.
KINDS = {}


def read_kinds(document):
    """Fills KINDS from the tables of docs/trace-format.md."""
    name = None
    for line in document.split("\n## Event types\n")[1].split("\n## ")[0].splitlines():
        if line.startswith("### `"):
            name = line.split("`")[1]
            KINDS[name] = {}
        elif line.startswith("| `"):
            field, kind = line.split(" | ")[:2]
            KINDS[name][field.strip("|` ")] = kind.removesuffix(", optional")


class Damaged(Exception):
    """The bytes are not what a writer writes."""


class Trace:
    """All of a trace: `events` as JSON shows them, `objects` by id, `status`."""

    def __init__(self, data):
        self.events, self.objects, self.chunks = [], {}, []
        self.recipes, self.order, self.index = [], [], {"frames": [], "objects": b""}
        self.counts, self.status = [], "incomplete"
        header = struct.pack("<II", MAGIC_OURS, 12) + b"agentrec" + struct.pack("<I", 1)
        if data[:20] != header:
            raise Damaged("no header of version 1")
        self.frames = [(20, 0)]
        self.previous = data[:20]
        self.read_frames(data, 20)
        for number, object_id in enumerate(self.order):
            self.objects[object_id] = self.content(number)

    def read_frames(self, data, offset):
        while (found := frame_length(data, offset)) is not None:
            magic, length = found
            frame = data[offset : offset + length]
            if magic == MAGIC_ZSTD:
                content = decompress(frame)
                self.records(content)
                self.frames.append((length, len(content)))
                self.previous = frame
            elif magic == MAGIC_OURS and frame[8:16] == b"agrcseal":
                self.check_seal(data, offset, frame)
                return
            else:
                self.frames.append((length, 0))
                self.previous = frame
            offset += length

    def records(self, content):
        unpacker = msgpack.Unpacker(
            raw=False, strict_map_key=False, object_pairs_hook=Pairs, max_buffer_size=MAX_FRAME,
            unicode_errors="surrogateescape",
        )
        unpacker.feed(content)
        head, before = None, (len(self.events), len(self.recipes), len(self.chunks))
        for record in unpacker:
            kind = record.items[0][0]
            if head is None:
                head = record
                self.check_head(head)
                self.time, self.process = head["ts"], 0
            elif kind == "type":
                self.events.append(self.event(record))
            elif kind == "chunk":
                self.chunks.append(record["chunk"])
            elif kind == "object":
                self.order.append(record["object"])
                self.recipes.append((record["len"], record["parts"]))
            elif kind == "index" and record["index"] == "frames":
                columns = record["events"], record["objects"], record["chunks"]
                self.index["frames"] += zip(*columns)
            elif kind == "index" and record["index"] == "objects":
                self.index["objects"] += record["ids"]
        after = (len(self.events), len(self.recipes), len(self.chunks))
        self.counts.append(tuple(a - b for a, b in zip(after, before)))

    def check_head(self, head):
        if head["frame"] != len(self.counts):
            raise Damaged(f"frame {len(self.counts)} is missing")
        if head["prev"] != blake3(self.previous).digest():
            raise Damaged("the frame before has another hash")
        numbers = (head["seq"], head["object"], head["chunk"])
        if numbers != (len(self.events) + 1, len(self.recipes) + 1, len(self.chunks) + 1):
            raise Damaged("events, objects or chunks are missing")

    def check_seal(self, data, offset, frame):
        seal = msgpack.unpackb(frame[16:], object_pairs_hook=Pairs)
        index = seal["index"]
        expected = {
            "hash": blake3(data[:offset]).digest(),
            "bytes": offset,
            "frames": len(self.counts),
            "index": index,
            "events": len(self.events),
            "objects": len(self.recipes),
            "chunks": len(self.chunks),
        }
        if dict(seal.items) != expected:
            raise Damaged("the seal is not that of this trace")
        if self.index["frames"] != self.counts[:index]:
            raise Damaged("the index lists other frames")
        if self.index["objects"] != b"".join(self.order):
            raise Damaged("the index lists other objects")
        entries = self.frames + [(len(frame), 0)]
        table = b"".join(struct.pack("<II", *entry) for entry in entries)
        table += struct.pack("<IBI", len(entries), 0, 0x8F92EAB1)
        table = struct.pack("<II", MAGIC_SEEK_TABLE, len(table)) + table
        if data[offset + len(frame) :] == table:
            self.status = "complete"

    def event(self, record):
        seq = len(self.events) + 1
        self.time += record.get("dt", 0)
        self.process = record.get("proc", self.process)
        name = record["type"]
        event = {
            "seq": seq,
            "ts": self.time * 1000,
            "layer": record.get("layer", "sys"),
            "type": name,
            "proc": self.process,
            "tid": record.get("tid"),
            "cause": distance(seq, record.get("cause")),
            "source": record.get("source", "kernel"),
        }
        event = {key: value for key, value in event.items() if value is not None}
        if event["proc"] == 0:
            del event["proc"]
        data = record.get("data", Pairs([]))
        if name in KINDS:
            event["data"] = {
                key: field(KINDS[name][key], value, seq)
                for key, value in data.items
                if key in KINDS[name]
            }
        else:
            event["data"] = free_form(data)
        return event

    def content(self, number, depth=0):
        """The content of the object of that number, from 0."""
        length, parts = self.recipes[number]
        out = b""
        for part in parts:
            if "chunk" in part:
                source = self.chunks[part["chunk"] - 1]
            elif part["copy"] > number or depth > 64:
                raise Damaged("an object copies from itself, or too deeply")
            else:
                source = self.objects.get(self.order[part["copy"] - 1])
                if source is None:
                    source = self.content(part["copy"] - 1, depth + 1)
            at = part.get("at", 0)
            out += source[at : at + part["len"]]
        if len(out) != length:
            raise Damaged("the parts of an object don't add up to its length")
        return out

    def listing(self):
        """What our own reader lists, line by line."""
        yield from self.events
        for object_id in self.order:
            content = self.objects[object_id]
            sound = blake3(content).digest() == object_id
            yield {"object": object_id.hex(), "len": len(content), "sound": sound}
        yield {"status": self.status}


class Pairs:
    """A map as it stands: in order, its keys of any kind, repeated or not."""

    def __init__(self, items):
        self.items = list(items)

    def get(self, key, default=None):
        return next((value for found, value in self.items if found == key), default)

    def __contains__(self, key):
        return any(found == key for found, _ in self.items)

    def __getitem__(self, key):
        if key not in self:
            raise Damaged(f"{key} is missing")
        return self.get(key)


def frame_length(data, offset):
    """Magic number and length of the frame at `offset`; None where no whole frame is."""
    if len(data) - offset < 8:
        return None
    magic, length = struct.unpack_from("<II", data, offset)
    if magic & 0xFFFFFFF0 == 0x184D2A50:
        return (magic, length + 8) if offset + length + 8 <= len(data) else None
    if magic != MAGIC_ZSTD:
        return None
    parameters = zstandard.get_frame_parameters(data[offset : offset + 18])
    at = offset + zstandard.frame_header_size(data[offset : offset + 18])
    last = False
    while not last:
        if at + 3 > len(data):
            return None
        block = int.from_bytes(data[at : at + 3], "little")
        last, kind, size = block & 1, block >> 1 & 3, block >> 3
        # A block of repeated bytes holds one of them.
        at += 3 + (1 if kind == 1 else size)
    at += 4 if parameters.has_checksum else 0
    return (magic, at - offset) if at <= len(data) else None


def decompress(frame):
    parameters = zstandard.get_frame_parameters(frame)
    if not parameters.has_checksum or parameters.content_size > MAX_FRAME:
        raise Damaged("a frame without checksum, or too long")
    return zstandard.ZstdDecompressor().decompress(frame)


def distance(seq, value):
    """The event that is `value` back from event `seq`."""
    return None if value is None else (seq - value) % (1 << 64)


def field(kind, value, seq):
    """A field of that kind as JSON shows it."""
    if value is None:
        return None
    if kind.startswith("list of "):
        return [field(kind.removeprefix("list of "), element, seq) for element in value]
    if kind.startswith("["):
        kinds = kind.strip("[]").replace(" or nil", "").split(", ")
        return [field(kind, element, seq) for kind, element in zip(kinds, value)]
    if kind == "bytes":
        return byte_string(value)
    if kind == "object":
        return value.hex()
    if kind == "event":
        return distance(seq, value)
    if kind in ("payload", "content"):
        form, inner = value.items[0]
        if form == "object":
            return {"object": {"id": inner["id"].hex(), "len": inner["len"]}}
        if form == "json":
            return {"json": {"id": inner["id"].hex(), "at": inner["at"], "len": inner["len"]}}
        return {"inline": free_form(inner) if kind == "payload" else byte_string(inner)}
    if isinstance(value, Pairs):
        return {key: inner_field(key, inner) for key, inner in value.items}
    return value


def inner_field(key, value):
    """A field of a map that is a kind of its own."""
    if key == "tree":
        return value.hex()
    return byte_string(value) if isinstance(value, bytes) else value


def byte_string(value):
    value = value.encode() if isinstance(value, str) else value
    try:
        return {"text": value.decode()}
    except UnicodeDecodeError:
        return {"bytes": base64.b64encode(value).decode()}


def free_form(value):
    """A value as JSON shows it."""
    if isinstance(value, Pairs):
        keys = [key for key, _ in value.items]
        plain = all(isinstance(key, str) for key in keys) and len(set(keys)) == len(keys)
        if plain and not (len(keys) == 1 and keys[0].startswith("$")):
            return {key: free_form(inner) for key, inner in value.items}
        return {"$map": [[free_form(key), free_form(inner)] for key, inner in value.items]}
    if isinstance(value, list):
        return [free_form(element) for element in value]
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, msgpack.ExtType):
        return {"$ext": [value.code, base64.b64encode(value.data).decode()]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"}
    return value
