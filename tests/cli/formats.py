#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads docs/formats.md and decodes by it what the program wrote: a second reader that has only the document.

usage: formats.py DOCUMENT dump NAME            the bytes of a dump in the document, in hexadecimal
       formats.py DOCUMENT table HEADING        whether its rows follow one another without gap or overlap; prints the end
       formats.py DOCUMENT bundle FILE OUTDIR   checks it, writes manifest, signature and key id into OUTDIR; prints JSON
       formats.py DOCUMENT delta FILE BASE ROOT  decodes the image root into ROOT; prints the head as JSON
       formats.py DOCUMENT state FILE OFFSET    decodes the copy at this offset; prints JSON
"""
import hashlib
import json
import re
import subprocess
import sys
import tempfile


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


class Document:
    def __init__(self, path):
        with open(path, encoding="utf-8") as f:
            self.text = f.read()

    def table(self, heading):
        """[(offset, size or None, field)] of the table below a heading."""
        section = re.search(rf"^### {re.escape(heading)}\n(.*?)(?=^##|\Z)", self.text, re.M | re.S)[1]
        rows = re.findall(r"^\| (\d+) \| (\d*) *\| ([^|]*?) *\|", section, re.M)
        return [(int(o), int(s) if s else None, field) for o, s, field in rows]

    def dump(self, name):
        block = re.search(rf"<!-- dump: {re.escape(name)} -->\n((?:    .*\n)+)", self.text)[1]
        return bytes.fromhex("".join(line.split(">")[0].split(None, 1)[1] for line in block.splitlines()))

    def decode(self, heading, data, base=0):
        """{field: int of up to 8 bytes, else bytes}; what is reserved must be zeros."""
        found = {}
        for offset, size, field in self.table(heading):
            value = data[base + offset:base + offset + size] if size else b""
            if field == "reserved":
                assert not any(value), f"{heading}: {offset} is reserved and not zeros"
            elif size:
                text = field in ("magic", "version", "base version")
                found[field] = value.rstrip(b"\0").decode() if text else int.from_bytes(value, "little") if size <= 8 else value.hex()
        return found


def check_table(doc, heading):
    at = 0
    for offset, size, field in doc.table(heading):
        assert offset == at, f"{heading}: {field} is at {offset}, what is before it ends at {at}"
        at += size or 0
    return at


def check_bundle(doc, path, out):
    with open(path, "rb") as f:
        data = f.read()
    h = doc.decode("Bundle header", data)
    assert h["magic"] == "BOOTMGRB" and h["major"] in (1, 2) and h["header crc"] == crc32c(data[:60]) and h["total length"] == len(data)
    at = check_table(doc, "Bundle header")
    manifest = data[at:at + h["manifest length"]]
    at += len(manifest)
    block = data[at:at + h["signatures length"]]
    at += len(block)
    assert int.from_bytes(block[-4:], "little") == crc32c(block[:-4])
    s = doc.decode("Signatures", block)
    start = max(o for o, size, _ in doc.table("Signatures") if size is None)
    assert start + s["signature length"] + 4 == len(block), "one signature"
    m = json.loads(manifest)
    end = at + h["index length"]
    for image in m["images"]:
        size = check_table(doc, "Chunk index") if h["major"] == 2 else 40
        n = image["chunks"] if h["major"] == 2 else -(-image["size"] // image["chunk_size"])
        entries = data[at:at + size * n]
        offset = 0
        assert hashlib.sha256(entries).hexdigest() == image["index_digest"], image["name"]
        for i in range(n):
            e = doc.decode("Chunk index", entries[size * i:size * (i + 1)])
            length = e["length"] if h["major"] == 2 else min(image["chunk_size"], image["size"] - offset)
            offset += length
            stored = data[end:end + e["stored length"]]
            end += len(stored)
            if stored:
                assert stored[:4] == bytes.fromhex("28b52ffd") and crc32c(stored) == e["stored crc"]
            else:
                digest = bytes(32) if h["major"] == 2 else hashlib.sha256(bytes(length)).digest()
                assert digest.hex() == e["content digest"] and e["stored crc"] == 0
        assert offset == image["size"], image["name"]
        at += size * n
    assert end == len(data)
    for name, content in (("manifest", manifest), ("signature", block[start:-4])):
        with open(f"{out}/{name}", "wb") as f:
            f.write(content)
    return {"key": s["key id"], "algorithm": s["algorithm"], "digest": hashlib.sha256(manifest).hexdigest(), **m}


def decode_frame(frame, prefix):
    with tempfile.NamedTemporaryFile() as base:
        base.write(prefix)
        base.flush()
        patch = [f"--patch-from={base.name}"] if prefix else []
        return subprocess.run(["zstd", "-dcq", *patch], input=frame, stdout=subprocess.PIPE, check=True).stdout


def check_delta(doc, path, base_path, out):
    with open(path, "rb") as f:
        data = f.read()
    with open(base_path, "rb") as f:
        base = f.read()
    h = doc.decode("Bundle header", data)
    assert h["major"] == 4 and h["header crc"] == crc32c(data[:60]) and h["total length"] == len(data)
    at = 64 + h["manifest length"] + h["signatures length"]
    images = json.loads(data[64:64 + h["manifest length"]])["images"]
    head = doc.decode("Deltas", data, at)
    size = check_table(doc, "Deltas")
    assert head["head crc"] == crc32c(data[at:at + size - 4] + data[at + size:at + size + head["url length"]])
    head["url"] = data[at + size:at + size + head["url length"]].decode()
    at += size + head["url length"]
    end = at + h["index length"] + head["table length"]
    stored = data[at + h["index length"]:end]
    assert head["table crc"] == crc32c(stored) and head["base size"] == len(base)
    table = decode_frame(stored, b"")
    assert len(table) == 28 * sum(image["chunks"] for image in images)
    with open(out, "wb") as root:
        for image in images:
            for _ in range(image["chunks"]):
                entry, record = doc.decode("Chunk index", data, at), doc.decode("Delta table", table)
                at, table = at + 44, table[28:]
                prefix = base[record["base offset"]:record["base offset"] + record["base length"]]
                frame, end = data[end:end + record["frame length"]], end + record["frame length"]
                if frame:
                    assert record["frame crc"] == crc32c(frame)
                if frame and prefix:
                    assert record["base digest start"] == int.from_bytes(hashlib.sha256(prefix).digest()[:8], "little")
                content = decode_frame(frame, prefix) if frame else prefix or bytes(entry["length"])
                if image["name"] == "root":
                    assert not any(content) or hashlib.sha256(content).hexdigest() == entry["content digest"]
                    root.write(content)
    assert end == len(data)
    return head


def check_state(doc, path, offset):
    with open(path, "rb") as f:
        f.seek(offset)
        data = f.read(4096)
    h = doc.decode("State header", data)
    start = check_table(doc, "State header")
    end = start + h["payload length"]
    assert h["magic"] == "BOOTMGRS" and h["state crc"] == crc32c(data[:start - 4] + data[start:end]) and not any(data[end:])
    p = doc.decode("State payload", data, start)
    size = check_table(doc, "Slot record")
    first = next(o for o, _, field in doc.table("State payload") if field == "slot records")
    slots = [doc.decode("Slot record", data, start + first + i * size) for i in range(8)]
    return {**h, **{k: v for k, v in p.items() if k != "slot records"}, "each": slots[:p["slots"]]}


def main():
    doc, what, args = Document(sys.argv[1]), sys.argv[2], sys.argv[3:]
    if what == "dump":
        print(doc.dump(args[0]).hex())
    elif what == "table":
        print(check_table(doc, args[0]))
    elif what == "bundle":
        print(json.dumps(check_bundle(doc, *args)))
    elif what == "delta":
        print(json.dumps(check_delta(doc, *args)))
    else:
        print(json.dumps(check_state(doc, args[0], int(args[1]))))


main()
