"""A provider of SAs for two gateways: waits until one asks, proposes, installs fresh keys on both, and rekeys once.

With two files, the public keys of A and B as SubjectPublicKeyInfo in DER, it says that each has proven to have its key.
"""
import base64, json, secrets, socket, sys

SUITE, KEY_OCTETS = "aes-256-gcm", 32 + 4          # the key, and the salt of RFC 4106
INTERFACE = "org.latchway.Control."


class Gateway:
    def __init__(self, path, address, port=4500):
        self.path, self.address, self.port = path, address, port
        self.calls = self.connect()

    def connect(self):
        link = socket.socket(socket.AF_UNIX)
        link.connect(self.path)
        return link.makefile("rwb")

    def send(self, stream, method, /, more=False, **parameters):
        call = {"method": INTERFACE + method, "parameters": parameters}
        stream.write(json.dumps(call | ({"more": True} if more else {})).encode() + b"\0")
        stream.flush()

    def reply(self, stream):
        octets = bytearray()
        while (octet := stream.read(1)) not in (b"\0", b""):
            octets += octet
        reply = json.loads(octets)
        if "error" in reply:
            sys.exit(f"{reply['error']}: {reply['parameters']}")
        return reply["parameters"]

    def call(self, method, /, **parameters):
        self.send(self.calls, method, **parameters)
        return self.reply(self.calls)

    def events(self):
        stream = self.connect()
        self.send(stream, "Events", more=True)
        while True:
            yield self.reply(stream)


def sa():
    return {"spi": 0x10000 + secrets.randbelow(2**31), "key": secrets.token_hex(KEY_OCTETS)}


def keys(here, there, inbound, outbound):
    return {"inbound": inbound, "outbound": outbound, "inbound_suite": SUITE, "outbound_suite": SUITE,
            "path": {"from": here.address, "to": f"{there.address}:{there.port}"}, "usage": "standby"}


def proofs(files):
    """How each end has proven to the other who it is; nothing where nobody has."""
    keys = [{"public_key": base64.b64encode(open(file, "rb").read()).decode()} for file in files]
    ends = zip(keys, reversed(keys)) if keys else ()
    proven = [{"method": "public-key", "evidence": theirs, "local_evidence": ours} for ours, theirs in ends]
    return proven or [{}, {}]


def propose(gateway, peer, local, remote, proof):
    return gateway.call("Propose", peer=peer, selectors=[{"local": local, "remote": remote}],
                        inbound_suite=SUITE, outbound_suite=SUITE, **proof)


def mirrored(gateways, method, **of):
    """Calls both ends with the same two SAs, each from its own side; the receivers first, then the senders."""
    (a, b), forth, back = gateways, sa(), sa()
    pairs = (a.call(method, keys=keys(a, b, back, forth), **{k: v[0] for k, v in of.items()})["pair"],
             b.call(method, keys=keys(b, a, forth, back), **{k: v[1] for k, v in of.items()})["pair"])
    for gateway, pair in zip(gateways, pairs):
        gateway.call("Commit", activate=[pair])
    return pairs


a = Gateway("/run/latchway/office-a/control.sock", "192.0.2.1")
b = Gateway("/run/latchway/office-b/control.sock", "192.0.2.2")
for event in a.events():
    print(event["event"], event["text"], flush=True)
    if event["event"] == "acquire":
        break
of_a, of_b = proofs(sys.argv[1:3])
offers = (propose(a, "b.example", "10.1.0.0/24", "10.2.0.0/24", of_a),
          propose(b, "a.example", "10.2.0.0/24", "10.1.0.0/24", of_b))
print("offered:", [offer["selectors"] for offer in offers], "breaks:", [offer["breaks"] for offer in offers])
first = mirrored((a, b), "Install", ticket=[offer["ticket"] for offer in offers])
print("installed pairs", first)
second = mirrored((a, b), "Rekey", pair=first)
print("rekeyed to pairs", second)
for gateway, pair in zip((a, b), first):
    gateway.call("Commit", remove=[pair])
print("removed pairs", first)
