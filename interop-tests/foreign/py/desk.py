"""A stock py-libp2p node at a relay: identify, ping, and a citizen's turn at a desk.

Usage: desk.py ADDRESS DESK; one JSON line for each thing learnt.
"""

import json
import sys

import cbor2
import multiaddr
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.ping import PingService
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.identify import parse_identify_response
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.utils.varint import read_length_prefixed_protobuf

DESK = TProtocol("/suora/desk/1")


def say(what, **more):
    print(json.dumps({"what": what, **more}), flush=True)


async def send(stream, message):
    body = cbor2.dumps(message, canonical=True)
    head, left = bytearray(), len(body)
    while left > 127:
        head.append(left & 127 | 128)
        left >>= 7
    head.append(left)
    await stream.write(bytes(head) + body)


async def exactly(stream, count):
    held = b""
    while len(held) < count:
        more = await stream.read(count - len(held))
        if not more:
            raise EOFError("the relay ended the stream")
        held += more
    return held


async def hear(stream):
    length, shift = 0, 0
    while True:
        byte = (await exactly(stream, 1))[0]
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return cbor2.loads(await exactly(stream, length))


async def turn(host, address, desk):
    relay = info_from_p2p_addr(multiaddr.Multiaddr(address))
    await host.connect(relay)
    stream = await host.new_stream(relay.peer_id, [IDENTIFY])
    told = parse_identify_response(await read_length_prefixed_protobuf(stream, True))
    await stream.close()
    say(
        "identify",
        protocolVersion=told.protocol_version,
        agentVersion=told.agent_version,
        protocols=list(told.protocols),
        peer=str(relay.peer_id),
        listens=len(told.listen_addrs),
    )
    say("ping", ms=(await PingService(host).ping(relay.peer_id, 1))[0])

    stream = await host.new_stream(relay.peer_id, [DESK])
    await send(stream, {"type": "join", "desk": desk, "challenge": bytes([7] * 16)})
    queued = await hear(stream)
    ticket = queued.get("ticket", b"")
    say(queued["type"], ticket=ticket.hex(), position=queued.get("position"))
    await send(stream, {"type": "ping", "n": 7})
    pong = await hear(stream)
    say(pong["type"], n=pong.get("n"))
    await send(stream, {"type": "leave", "ticket": ticket})
    ended = await hear(stream)
    say(ended["type"], code=ended.get("code"))
    await send(stream, {"type": "join", "desk": "no-such-desk", "challenge": bytes([7] * 16)})
    refused = await hear(stream)
    say(refused["type"], code=refused.get("code"))


async def main(address, desk):
    host = new_host(
        key_pair=create_new_key_pair(), muxer_preference="YAMUX", enable_websocket=True
    )
    with trio.fail_after(30):
        async with host.run(listen_addrs=[]):
            await turn(host, address, desk)


trio.run(main, *sys.argv[1:3])
