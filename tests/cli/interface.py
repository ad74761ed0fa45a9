#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Prints what an object on the bus says of itself, as org.bootmgr1(5) shows it: interface.py PATH <XML"""
import sys
import xml.etree.ElementTree as xml


def arguments(member, directions):
    return ", ".join(" ".join(filter(None, [a.get("direction") if directions else None, a.get("type"), a.get("name")]))
                     for a in member.iter("arg"))


def main():
    print(f"node {sys.argv[1]} {{")
    for interface in xml.parse(sys.stdin).getroot().iter("interface"):
        if interface.get("name").startswith("org.freedesktop."):
            continue
        print(f"  interface {interface.get('name')} {{")
        methods, signals, properties = (list(interface.iter(tag)) for tag in ("method", "signal", "property"))
        if methods:
            print("    methods:")
        for m in methods:
            print(f"      {m.get('name')}({arguments(m, True)});")
        if signals:
            print("    signals:")
        for s in signals:
            print(f"      {s.get('name')}({arguments(s, False)});")
        if properties:
            print("    properties:")
        for p in properties:
            print(f"      {'readonly' if p.get('access') == 'read' else p.get('access')} {p.get('type')} {p.get('name')};")
        print("  };")
    print("};")


main()
