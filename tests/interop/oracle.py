"""scapy as a judge of single packets: takes orders as lines of JSON on standard input, answers each by a line.

    {"do": "protect", "packet": INNER, ...SA}    ->  {"packet": OUTER}
    {"do": "unprotect", "packet": OUTER, ...SA}  ->  {"packet": INNER} or {"refused": REASON}

An SA is "suite" (our name), "key" (as in our key files), "spi", "seq" (64 bits), "esn", "udp", and "tunnel", the two outer
addresses, or null in transport mode. Octets are hexadecimal, packets begin with their IP header. A suite that scapy has not is
answered by {"unknown": NAME}.

Where scapy differs from the RFCs, the RFC is followed here:
  - AES-GCM has ICVs of 8 and 12 octets, too (RFC 4106 section 6); scapy makes 16, whatever it is told.
  - An implicit IV is the sequence number, and is not sent (RFC 8750); scapy has none.
  - HMAC-SHA-256 with 96 bits, which old Linux has, is no standard's.
  - A sequence number whose low half is 0 can be sent, after a wrap (RFC 4303 section 3.3.3).
  - Padding is 1, 2, 3 and so on, and no longer than it must be (RFC 4303 section 2.4); scapy looks at neither.
  - Over IPv6 UDP has a checksum (RFC 8200 section 8.1); scapy leaves it 0.
  - On its way by a source route, a packet is authenticated for where it ends (RFC 4302 section 3.3.3.1.1.1); scapy takes the
    header's destination.
AH without a source route is scapy's own, the high half of the number and the padding of the header included.
"""

import json
import logging
import re
import struct
import sys

logging.getLogger("scapy").setLevel(logging.ERROR)

from cryptography.hazmat.primitives.ciphers import algorithms, modes
from scapy.layers import ipsec
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import raw

INTEGRITY = {
    "hmac-sha-1": ("HMAC-SHA1-96", 20),
    "hmac-sha-256-96": ("SHA2-256-96", 32),
    "hmac-sha-256": ("SHA2-256-128", 32),
    "hmac-sha-384": ("SHA2-384-192", 48),
    "hmac-sha-512": ("SHA2-512-256", 64),
    "aes-cmac": ("AES-CMAC-96", 16),
}
NAMES = {"gcm": "AES-GCM", "ccm": "AES-CCM", "gmac": "AES-NULL-GMAC", "cbc": "AES-CBC", "ctr": "AES-CTR"}


def counted(sa, **_):
    return sa.crypt_salt + struct.pack("!Q", sa.full)


def salted(sa, iv, **_):
    return sa.crypt_salt + iv


def zeroed(packet, sending=False, scapys=ipsec.zero_mutable_fields):
    end = packet.dst
    if packet.version == 4:
        for option in packet.options:
            # RFC 791 section 3.1: the pointer counts from 1, and a route that is used up is no route.
            if option.option in (3, 9) and option.pointer <= option.length:
                end = option.routers[-1]
    packet = scapys(packet, sending)
    packet.dst = end
    return packet


def register():
    """What scapy lacks."""
    for size in (8, 12):
        ipsec.CRYPT_ALGOS[f"AES-GCM-{size}"] = ipsec.CryptAlgo(
            f"AES-GCM-{size}", cipher=algorithms.AES, mode=modes.GCM, block_size=1, iv_size=8, salt_size=4,
            icv_size=size, format_mode_iv=salted)
    for name in ("AES-GCM", "AES-CCM", "CHACHA20-POLY1305"):
        sent = ipsec.CRYPT_ALGOS[name]
        ipsec.CRYPT_ALGOS[f"{name}-IIV"] = ipsec.CryptAlgo(
            f"{name}-IIV", cipher=sent.cipher, mode=None, key_size=sent.key_size, block_size=1, iv_size=0,
            salt_size=sent.salt_size, icv_size=sent.icv_size, format_mode_iv=counted)
    ipsec.zero_mutable_fields = zeroed
    sent = ipsec.AUTH_ALGOS["SHA2-256-128"]
    ipsec.AUTH_ALGOS["SHA2-256-96"] = ipsec.AuthAlgo("SHA2-256-96", sent.mac, sent.digestmod, icv_size=12)


def algorithm(suite, key):
    """What a SecurityAssociation is told of a suite, or None. The key is encryption key, salt, integrity key."""
    encryption, integrity = suite, None
    for name in INTEGRITY:
        if suite.endswith("-" + name):
            encryption, integrity = suite[: -len(name) - 1], name
    told = {}
    if integrity:
        name, length = INTEGRITY[integrity]
        told.update(auth_algo=name, auth_key=key[len(key) - length:])
        key = key[: len(key) - length]
    if encryption in ("ah", "null") and integrity:
        return told
    counted = encryption.endswith("-iiv")
    encryption = encryption.removesuffix("-iiv")
    icv = None
    if found := re.fullmatch(r"(.*)-(8|12)", encryption):
        encryption, icv = found[1], int(found[2])
    if encryption == "chacha20-poly1305":
        name = "CHACHA20-POLY1305"
    elif found := re.fullmatch(r"aes-(?:128|192|256)-(gcm|ccm|gmac|cbc|ctr)", encryption):
        name = NAMES[found[1]]
    else:
        return None
    if name == "AES-GCM" and icv:
        name = f"AES-GCM-{icv}"
    if counted:
        name += "-IIV"
    if name not in ipsec.CRYPT_ALGOS:
        return None
    return told | {"crypt_algo": name, "crypt_key": key, "crypt_icv_size": icv}


def association(order):
    told = algorithm(order["suite"], bytes.fromhex(order["key"]))
    if told is None:
        raise KeyError(order["suite"])
    if tunnel := order["tunnel"]:
        source, destination = tunnel
        header = IPv6(src=source, dst=destination) if ":" in source else IP(src=source, dst=destination, id=0x7a7a)
        told["tunnel_header"] = header
    if order["udp"]:
        told["nat_t_header"] = UDP(sport=4500, dport=4500)
    protocol = ipsec.AH if order["suite"].startswith("ah-") else ipsec.ESP
    sa = ipsec.SecurityAssociation(protocol, spi=order["spi"], seq_num=order["seq"] & 0xFFFFFFFF, **told)
    sa.full = order["seq"]
    # The high half is authenticated where numbers have one, and only there.
    sa.esn_en, sa.esn = order["esn"], order["seq"] >> 32 if order["esn"] else 0
    return sa


def parsed(octets):
    return IPv6(octets) if octets[0] >> 4 == 6 else IP(octets)


def protect(sa, packet):
    outer = sa.encrypt(packet)
    if sa.nat_t_header and outer.version == 6:
        del outer[UDP].chksum
    return raw(outer)


def unprotect(sa, packet):
    layer = packet.getlayer(sa.proto)
    if layer is None:
        raise ValueError(f"there is no {sa.proto.name} in it")
    if layer.seq != sa.full & 0xFFFFFFFF:
        raise ValueError(f"its number is {layer.seq}")
    if sa.proto is ipsec.ESP:
        look_at_padding(sa, layer.copy())
    return raw(sa.decrypt(packet))


def look_at_padding(sa, esp):
    numbers = {"esn_en": sa.esn_en, "esn": sa.esn}
    sa.auth_algo.verify(esp, sa.auth_key, **numbers)
    icv = sa.crypt_icv_size or sa.crypt_algo.icv_size or sa.auth_algo.icv_size
    plain = sa.crypt_algo.decrypt(sa, esp, sa.crypt_key, icv, **numbers)
    padding = bytes(plain.padding)
    if padding != bytes(range(1, len(padding) + 1)):
        raise ValueError(f"the padding is {padding.hex()}")
    if len(padding) >= max(sa.crypt_algo.block_size, 4):
        raise ValueError(f"{len(padding)} octets of padding are more than there must be")


def obey(order):
    try:
        sa = association(order)
    except KeyError:
        return {"unknown": order["suite"]}
    packet = parsed(bytes.fromhex(order["packet"]))
    if order["do"] == "protect":
        return {"packet": protect(sa, packet).hex()}
    try:
        return {"packet": unprotect(sa, packet).hex()}
    except (ipsec.IPSecIntegrityError, ValueError, TypeError, IndexError, struct.error) as error:
        return {"refused": f"{type(error).__name__}: {error}"}


register()
for line in sys.stdin:
    print(json.dumps(obey(json.loads(line))), flush=True)
