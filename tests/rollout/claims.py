"""Who answers for an address? Asked on the wire, as any neighbour asks (RFC 826).

In: an interface, addresses. Out: of each the MAC addresses that answered. Not here: who should.
"""

import socket
import struct
import time

ARP, REQUEST, REPLY = 0x0806, 1, 2


def claims(interface: str, asker: str, vips: list[str], seconds: float = 0.2) -> dict[str, set[str]]:
    """Asks once for each, listens for so long."""
    found = {vip: set() for vip in vips}
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ARP)) as wire:
        wire.bind((interface, ARP))
        mac = wire.getsockname()[4]
        for vip in vips:
            ask = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, REQUEST, mac, socket.inet_aton(asker), bytes(6), socket.inet_aton(vip))
            wire.send(b"\xff" * 6 + mac + struct.pack("!H", ARP) + ask)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            wire.settimeout(left)
            try:
                frame = wire.recv(128)
            except TimeoutError:
                break
            operation, sender, address = struct.unpack_from("!H6s4s", frame, 20)
            vip = socket.inet_ntoa(address)
            # What they announce counts too: it says who has it.
            if vip in found and sender != mac and operation in (REQUEST, REPLY):
                found[vip].add(sender.hex(":"))
    return found
