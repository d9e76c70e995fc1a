"""The first process of the guest: a Linux kernel of its own as a peer of ours (user-mode-linux).

It takes orders as lines of JSON over a link of their own and answers each by a line. The root file system is the host's,
read-only, so every program of the host is there. When the line goes, the guest goes.

    {"run": SCRIPT}                          ->  {"status": N, "output": TEXT}
    {"write": {FILE: TEXT}}                  ->  {}                             sysctls, say
    {"read": [FILE]}                         ->  {"texts": [TEXT]}
    {"talk": [[KIND, FROM, TO, PORT, [LENGTH]]]}
                                             ->  {"failed": [null or REASON]}   KIND is tcp or udp; all at once

`talk` sends to an echo server and wants its octets back. Servers of both kinds run on port 7 of every address; a socket for
ESP in UDP (RFC 3948) is open on port 4500.
"""

import ctypes
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time

MODULES = """af_packet ipv6 xfrm_user esp4 esp6 ah4 ah6 xfrm4_tunnel xfrm6_tunnel udp_tunnel ip6_udp_tunnel
    hmac sha512_generic jitterentropy_rng drbg seqiv echainiv gcm ccm ctr cbc ecb cmac authenc authencesn chacha20poly1305
    chacha_generic poly1305_generic crypto_null ghash_generic""".split()
ECHO, UDP_ENCAP, ESP_IN_UDP = 7, 100, 2
FINIT_MODULE = {"x86_64": 313}.get(os.uname().machine, 273)
PATIENCE = 30

libc = ctypes.CDLL(None, use_errno=True)


def main():
    for kind, place in (("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/run")):
        mount(kind, place)
    os.environ.update(PATH="/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL="C", TMPDIR="/run", HOME="/run")
    load(pathlib.Path(sys.argv[1]) / os.uname().release)
    for family in ("ipv4", "ipv6"):
        settings = pathlib.Path("/proc/sys/net") / family / "conf"
        for name in ("all", "default", "vec0", "vec1"):
            setting = settings / name / ("rp_filter" if family == "ipv4" else "accept_dad")
            if setting.exists():
                setting.write_text("0")
    # What a test left unacknowledged when its gateway went is not sent again and again into the tests after it.
    pathlib.Path("/proc/sys/net/ipv4/tcp_orphan_retries").write_text("1")
    # No module can be found by the kernel itself: without this it would try for each name it does not know.
    pathlib.Path("/proc/sys/kernel/modprobe").write_text("\n")
    run(f"ip link set lo up; ip link set vec0 up; ip address add {sys.argv[2]} dev vec1; ip link set vec1 up")
    for family in (socket.AF_INET, socket.AF_INET6):
        threading.Thread(target=serve_udp, args=(bound(family, socket.SOCK_DGRAM, ECHO),), daemon=True).start()
        threading.Thread(target=serve_tcp, args=(bound(family, socket.SOCK_STREAM, ECHO),), daemon=True).start()
    kept = [bound(family, socket.SOCK_DGRAM, 4500) for family in (socket.AF_INET, socket.AF_INET6)]
    for encapsulated in kept:
        encapsulated.setsockopt(socket.IPPROTO_UDP, UDP_ENCAP, ESP_IN_UDP)
    orders = bound(socket.AF_INET, socket.SOCK_STREAM, 4949)
    orders.listen()
    line, _ = orders.accept()
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with line.makefile("rw") as lines:
        for order in lines:
            lines.write(json.dumps(obey(json.loads(order))) + "\n")
            lines.flush()


def mount(kind, place):
    if libc.mount(kind.encode(), place.encode(), kind.encode(), 0, None):
        raise OSError(ctypes.get_errno(), f"mounting {place}")


def load(folder):
    """Loads modules with what they need, by the list that comes with them."""
    needs = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        file, _, rest = line.partition(":")
        needs[pathlib.Path(file).stem.replace("-", "_")] = [file, *rest.split()]
    loaded = set()
    for name in MODULES:
        # Built in is as good as loaded. What a module needs stands behind it, the deepest last.
        for file in reversed(needs.get(name.replace("-", "_"), [])):
            if file not in loaded:
                loaded.add(file)
                with open(folder / file, "rb") as module:
                    if libc.syscall(FINIT_MODULE, module.fileno(), b"", 0) and ctypes.get_errno() != 17:
                        print(f"{file}: {os.strerror(ctypes.get_errno())}", flush=True)


def bound(family, kind, port):
    made = socket.socket(family, kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    made.bind(("", port))
    return made


def serve_tcp(server):
    server.listen(256)
    while True:
        threading.Thread(target=echo_tcp, args=(server.accept()[0],), daemon=True).start()


def echo_tcp(stream):
    with stream:
        try:
            while octets := stream.recv(1 << 16):
                stream.sendall(octets)
        except OSError:
            pass  # a peer that vanished


def serve_udp(server):
    # The answer goes out from the address that was asked.
    info = (socket.IPPROTO_IP, 8) if server.family == socket.AF_INET else (socket.IPPROTO_IPV6, 49)
    server.setsockopt(*info, 1)
    reply = socket.IPPROTO_IP if server.family == socket.AF_INET else socket.IPPROTO_IPV6
    while True:
        octets, ancillary, _, who = server.recvmsg(1 << 16, 128)
        told = [data for _, _, data in ancillary]
        if server.family == socket.AF_INET:
            control = [(reply, 8, bytes(4) + data[8:12] + bytes(4)) for data in told]
        else:
            control = [(reply, 50, data[:16] + bytes(4)) for data in told]
        try:
            server.sendmsg([octets], control, 0, who)
        except OSError:
            pass  # no route, no SA: whoever asked will miss it


def obey(order):
    if "run" in order:
        return run(order["run"])
    for file, text in order.get("write", {}).items():
        pathlib.Path(file).write_text(text)
    if "read" in order:
        return {"texts": [pathlib.Path(file).read_text() for file in order["read"]]}
    if "talk" in order:
        return {"failed": together(order["talk"])}
    return {}


def run(script):
    done = subprocess.run(["bash", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, errors="replace", timeout=60)
    return {"status": done.returncode, "output": done.stdout}


def together(talks):
    failed = [None] * len(talks)

    def one(place, talk):
        try:
            {"tcp": talk_tcp, "udp": talk_udp}[talk[0]](*talk[1:])
        except Exception as error:
            failed[place] = f"{type(error).__name__}: {error}"

    threads = [threading.Thread(target=one, args=(n, talk)) for n, talk in enumerate(talks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed


def pattern(length):
    return bytes(n * 7 % 251 for n in range(length))


def talk_tcp(source, to, port, lengths):
    with socket.create_connection((to, port), PATIENCE, (source, 0)) as stream:
        for length in lengths:
            sent = pattern(length)
            writing = threading.Thread(target=stream.sendall, args=(sent,))
            writing.start()
            back = bytearray()
            while len(back) < length:
                octets = stream.recv(1 << 16)
                if not octets:
                    raise ValueError(f"ended after {len(back)} of {length}")
                back += octets
            writing.join()
            if back != sent:
                raise ValueError(f"{length} octets came back changed")


def talk_udp(source, to, port, lengths):
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.bind((source, 0))
        asking.settimeout(1)
        asking.connect((to, port))
        for place, length in enumerate(lengths):
            sent, before = pattern(length), [pattern(earlier) for earlier in lengths[:place]]
            end = time.monotonic() + PATIENCE
            while True:
                try:
                    asking.send(sent)
                    # What was sent once more because its answer was late is answered twice.
                    while (back := asking.recv(1 << 16)) in before:
                        pass
                    if back == sent:
                        break
                    raise ValueError(f"{length} octets came back changed")
                except OSError as error:
                    if time.monotonic() > end:
                        raise ValueError(f"{length} octets: {error}") from error
                    time.sleep(0.05)


try:
    main()
except Exception as error:
    print(f"guest: {type(error).__name__}: {error}", flush=True)
finally:
    pathlib.Path("/proc/sysrq-trigger").write_text("o")
    time.sleep(60)
