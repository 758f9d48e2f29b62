#!/usr/bin/env python3
"""Writes placement.json: placement as the manual describes it, with exact tools and none of the code under test.

Hashes are hashlib's; logarithms mpmath's with 120 digits, so a rounding mistake would show as another order.
"""

import hashlib
import json
from fractions import Fraction
from math import ceil
from pathlib import Path

from mpmath import log, mp, mpf

mp.dps = 120


def h(node, text):
    return int.from_bytes(hashlib.sha256(f"{node}#{text}".encode()).digest(), "big")


def score(node, weight, text):
    return -log(1 - mpf(h(node, text)) / mpf(2) ** 256) / weight


def place(nodes, pool, mode, live):
    """`nodes` is name -> weight; answers (vip, order, base, owner, backups) for each address."""
    candidates = {node: weight for node, weight in nodes.items() if weight > 0}
    prefer = [node for node in pool["prefer"] if node in candidates]

    def order(text):
        ranked = sorted(candidates, key=lambda node: score(node, candidates[node], text))
        return prefer + [node for node in ranked if node not in prefer]

    texts = {vip: pool["name"] if pool["together"] else vip for vip in pool["addresses"]}
    orders = {vip: order(text) for vip, text in texts.items()}
    base = {vip: line[0] if line else None for vip, line in orders.items()}
    if mode == "balanced" and not prefer and not pool["together"] and candidates:
        total = sum(candidates.values())
        count = len(texts)
        cap = {node: ceil(Fraction(5, 4) * count * weight / total) for node, weight in candidates.items()}
        best = {vip: min(score(node, weight, vip) for node, weight in candidates.items()) for vip in texts}
        held = dict.fromkeys(candidates, 0)
        for vip in sorted(texts, key=best.get):
            free = [node for node in orders[vip] if held[node] < cap[node]]
            base[vip] = (free or orders[vip])[0]
            held[base[vip]] += 1
    rows = []
    for vip, line in orders.items():
        succession = [base[vip]] + [node for node in line if node != base[vip]]
        able = [node for node in succession if node in live]
        rows.append(
            {"vip": vip, "order": line, "base": base[vip], "owner": able[0] if able else None, "backups": able[1:3]}
        )
    return rows


def case(title, mode, nodes, addresses, live=None, prefer=(), together=False):
    pool = {"name": "web", "addresses": addresses, "prefer": list(prefer), "together": together}
    live = list(nodes) if live is None else live
    return {
        "title": title,
        "placement": mode,
        "nodes": nodes,
        "pool": pool,
        "live": live,
        "expected": place(nodes, pool, mode, live),
    }


def numbered(count, weight=lambda at: 1):
    return {f"edge-{at:02}": weight(at) for at in range(count)}


v4 = [f"10.99.0.{at}" for at in range(100, 106)]
v6 = ["fd99::1", "fd99::100", "2001:db8::", "2001:db8:0:1:1:1:1:1", "2001:db8::1:0:0:1"]
three = {"edge-a": 1, "edge-b": 1, "edge-c": 1}
long_name = ".".join(["a" * 60] * 3)

cases = [
    case("three equal nodes, rendezvous", "rendezvous", three, v4 + v6),
    case("three equal nodes, balanced", "balanced", three, v4 + v6),
    case("the middle one away", "balanced", three, v4 + v6, live=["edge-a", "edge-c"]),
    case("nobody there", "balanced", three, v4[:2], live=[]),
    case("weights, rendezvous", "rendezvous", {"a": 1, "b": 2, "c": 3, "d": 100, "w": 0}, v4 + v6),
    case("weights, balanced", "balanced", {"a": 1, "b": 2, "c": 3, "d": 5, "w": 0}, v4 + v6),
    case("equal weights of 7 rank as equal weights of 1", "rendezvous", {n: 7 for n in three}, v4),
    case("preferred nodes, a witness among them", "balanced", three | {"w": 0}, v4, prefer=["w", "edge-c", "edge-b"]),
    case("placed together", "balanced", three, v4 + v6, together=True),
    case("a small pool meets its cap", "balanced", numbered(4), [f"192.0.2.{at}" for at in range(1, 9)]),
    case("more nodes than the head of an order holds", "balanced", numbered(12), [f"192.0.2.{at}" for at in range(60)]),
    case(
        "many nodes, mixed weights, most of them away",
        "balanced",
        numbered(30, lambda at: at % 4),
        [f"198.51.100.{at}" for at in range(40)],
        live=["edge-03", "edge-14", "edge-22", "edge-29"],
    ),
    case("names that need more than one block", "rendezvous", {long_name: 1, f"b.{long_name}": 1}, v6),
]

if __name__ == "__main__":
    text = ",\n".join(json.dumps(case) for case in cases)
    Path(__file__).with_suffix(".json").write_text(f"[\n{text}\n]\n")
