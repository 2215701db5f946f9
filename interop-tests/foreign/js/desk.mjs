// A stock js-libp2p node at a relay: identify, ping, and a citizen's turn at a desk.
// Usage: node --input-type=module - ADDRESS DESK < desk.mjs; one JSON line for each thing learnt.
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { webSockets } from '@libp2p/websockets'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { decode, encode, rfc8949EncodeOptions } from 'cborg'
import { createLibp2p } from 'libp2p'

const [address, desk] = process.argv.slice(2)
const say = (what, more) => console.log(JSON.stringify({ what, ...more }))

const node = await createLibp2p({
  transports: [webSockets(), tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify(), ping: ping() }
})
const relay = multiaddr(address)
const identified = new Promise((resolve) => {
  node.addEventListener('peer:identify', ({ detail }) => resolve(detail), { once: true })
})
await node.dial(relay)
const { protocolVersion, agentVersion, protocols, peerId, listenAddrs } = await identified
say('identify', { protocolVersion, agentVersion, protocols, peer: peerId.toString(), listens: listenAddrs.length })
say('ping', { ms: await node.services.ping.ping(relay) })

const stream = await node.dialProtocol(relay, '/suora/desk/1')

function send (message) {
  const body = encode(message, rfc8949EncodeOptions)
  const head = []
  let left = body.length
  while (left > 127) {
    head.push(left & 127 | 128)
    left >>= 7
  }
  stream.send(Uint8Array.from([...head, left, ...body]))
}

async function * messages () {
  let held = new Uint8Array()
  for await (const chunk of stream) {
    held = Uint8Array.from([...held, ...chunk.subarray()])
    for (;;) {
      const end = held.findIndex((byte) => byte < 128)
      if (end < 0) break
      const length = held.slice(0, end + 1).reduceRight((sum, byte) => sum * 128 + (byte & 127), 0)
      if (held.length < end + 1 + length) break
      const body = held.slice(end + 1, end + 1 + length)
      held = held.slice(end + 1 + length)
      yield decode(body, { strict: true, rejectDuplicateMapKeys: true })
    }
  }
}

const heard = messages()
const next = async () => (await heard.next()).value

send({ type: 'join', desk, challenge: new Uint8Array(16).fill(7) })
const { type, ticket, position } = await next()
say(type, { ticket: Buffer.from(ticket ?? []).toString('hex'), position })
send({ type: 'ping', n: 7 })
const pong = await next()
say(pong.type, { n: pong.n })
send({ type: 'leave', ticket })
const ended = await next()
say(ended.type, { code: ended.code })
send({ type: 'join', desk: 'no-such-desk', challenge: new Uint8Array(16).fill(7) })
const refused = await next()
say(refused.type, { code: refused.code })
await node.stop()
