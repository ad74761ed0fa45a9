#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Holds the manual pages against what they describe, both ways: manual.py DOCS BOOTMGR, in the top directory.

Prints a line for each that is missing in a page ("missing: ...") or stands there but is none ("unknown: ..."),
and at the end how many were compared.
"""
import re
import subprocess
import sys
from pathlib import Path

DOCS, BOOTMGR = Path(sys.argv[1]), sys.argv[2]
compared = 0


def compare(what, real, page):
    global compared
    compared += len(set(real) | set(page))
    for name in sorted(set(real) - set(page)):
        print(f"missing: {what} {name}")
    for name in sorted(set(page) - set(real)):
        print(f"unknown: {what} {name}")


def section(text, name):
    return re.search(rf'^\.Sh "?{re.escape(name)}"?\n(.*?)(?=^\.Sh |\Z)', text, re.M | re.S).group(1)


def options_of_help(text):
    """The long and short options of lines such as "  -y, --yes   do not ask"."""
    return {o for line in text.splitlines() for o in re.findall(r"^ +(?:-(\w), )?--([\w-]+)", line) for o in o if o}


def verbs_of_help():
    text = subprocess.run([BOOTMGR, "help"], check=True, stdout=subprocess.PIPE, text=True).stdout
    body, everywhere = text.split("Options for every verb:")
    verbs, last = {}, None
    for line in body.splitlines():
        if m := re.match(r"  ([a-z].*?)(?:  +|$)", line):
            last = " ".join(w for w in m.group(1).split() if re.fullmatch(r"[a-z-]+", w))
            verbs[last] = set()
        elif last and line.startswith("      "):
            verbs[last] |= options_of_help(line)
    return verbs, options_of_help(everywhere)


def options_of_page(text):
    long = re.findall(r"\bFl Fl ([\w-]+)", text)
    short = re.findall(r"\bFl (\w)\b(?!-)", re.sub(r"\bFl Fl [\w-]+", "", text))
    return set(long) | set(short)


def entries(text, mark):
    """What follows each ".It MARK ..." up to the next one."""
    return re.findall(rf"^\.It {mark} (.*)\n((?:(?!\.It {mark} |\.Ss |\.Sh ).*\n?)*)", text, re.M)


def check_verbs(page):
    real, everywhere = verbs_of_help()
    found = {}
    for head, rest in entries(section(page, "VERBS"), "Cm"):
        words = re.match(r"[a-z-]+(?: [a-z-]+)*", head).group(0)
        found[words] = options_of_page(head + "\n" + rest)
    compare("verb", real, found)
    for verb in set(real) & set(found):
        compare(f"option of {verb}:", real[verb], found[verb] - (everywhere - real[verb]))
    compare("option", everywhere, options_of_page(section(page, "OPTIONS")))


def kinds():
    found = re.findall(r'X\(\w+,\s*"([a-z-]+)",\s*(\d)\)', Path("bootmgr/slot/kinds.h").read_text())
    found += re.findall(r'\.name = "([a-z-]+)", \.exit_status = (\d)', Path("bootmgr/base/error.c").read_text())
    return found


def check_kinds(page, bus_page):
    found = []
    for status, names in re.findall(r"^\.It Exit status (\d)\n((?!\.).*(?:\n(?!\.).*)*)", section(page, "DIAGNOSTICS"), re.M):
        found += [f"{n} {status}" for n in re.split(r",\s*", names.strip())]
    compare("kind and its exit status", [f"{n} {s}" for n, s in kinds()], found)
    compare("error", ["org.bootmgr1.Error." + n.replace("-", "_") for n, _ in kinds()],
            re.findall(r"^org\.bootmgr1\.Error\.\w+$", bus_page, re.M))


def check_configuration(page):
    real = [f"[{g}] {n}=" for g, n in re.findall(r'\{\s*"(\w+)",\s*"(\w+)",\s*set_', Path("bootmgr/slot/config_keys.c").read_text())]
    found = []
    for group, text in re.findall(r"^\.Ss \[(\w+)\]\n(.*?)(?=^\.S[sh] |\Z)", page, re.M | re.S):
        for name, rest in entries(text, "Va"):
            found.append(f"[{group}] {name}")
            compare(f"default of {name}", ["Default:"], re.findall(r"^Default:", rest, re.M)[:1])
    compare("key", real, found)


def check_actions(page):
    policy = re.findall(r'<action id="([\w.]+)"', Path("units/org.bootmgr1.policy").read_text())
    compare("polkit action", policy, re.findall(r"^\.It Li (org\.bootmgr1\.\w+)", section(page, "POLKIT ACTIONS"), re.M))
    compare("polkit action in use", policy, re.findall(r'"(org\.bootmgr1\.[a-z]+)"', Path("bootmgr/daemon/methods.c").read_text()))


def check_references(pages):
    there = {f"{p.stem} {p.suffix[1:]}" for p in DOCS.glob("*.[1-8]")}
    said = set()
    for text in pages.values():
        said |= {f"{n} {s}" for n, s in re.findall(r"\bXr ((?:org\.)?bootmgr\S*) (\d)", text)}
    for unit in Path("units/system").iterdir():
        said |= {f"{n} {s}" for n, s in re.findall(r"man:((?:org\.)?bootmgr[\w.]*)\((\d)\)", unit.read_text())}
    compare("page", said, there)


def main():
    pages = {p.name: p.read_text() for p in DOCS.glob("*.[1-8]")}
    check_verbs(pages["bootmgr.1"])
    check_kinds(pages["bootmgr.1"], pages["org.bootmgr1.5"])
    check_configuration(pages["bootmgr.conf.5"])
    check_actions(pages["org.bootmgr1.5"])
    check_references(pages)
    print(f"{compared} compared")


main()
