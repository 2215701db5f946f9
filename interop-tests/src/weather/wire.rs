//! Two machines with quinn-proto and a wire between them, all on virtual time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quinn_proto::{
    Connection, ConnectionHandle, DatagramEvent, Endpoint, EndpointConfig, Event, TransportConfig,
};
use suora_node::Faults;
use suora_node::endpoint::certificate::Certificate;
use suora_node::endpoint::{client_config, server_config};
use suora_node::engine::ports::Dial;
use suora_protocol::documents::{Dcid, SessionId};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::Hash;
use suora_protocol::time::{Now, Timestamp};

use super::line::{Line, Weather};

/// What lives on a connection.
pub trait Tenant {
    /// The connection tells something.
    fn event(&mut self, now: Now, connection: &mut Connection, event: Event);
    /// Time passed, or something was told.
    fn tick(&mut self, now: Now, connection: &mut Connection);
    /// When to come again.
    fn deadline(&self) -> Option<Instant>;
    /// The number of a heartbeat that leaves for the relay now.
    fn beat(&mut self, _now: Now) -> Option<u64> {
        None
    }
    /// The relay answered the heartbeat of this number.
    fn pong(&mut self, _now: Now, _number: u64) {}
}

/// The first mile of a side: what all its packets pass, heartbeats too.
#[derive(Debug)]
pub struct Mile {
    /// On the way out.
    pub up: Line,
    /// On the way in.
    pub down: Line,
}

/// What a packet reaches next.
#[derive(Clone, Copy, Debug)]
enum Hop {
    /// The wire between the two first miles, on its way to this machine.
    Middle(usize),
    /// This machine's first mile, from outside.
    Last(usize),
    /// This machine.
    Machine(usize),
    /// The relay: a heartbeat of this machine.
    Relay(usize, u64),
    /// This machine: the relay's answer.
    Answer(usize, u64),
    /// It leaves this machine again: it was lost so often.
    Again(usize, u64, u32),
}

/// Bytes of a heartbeat's packet.
const BEAT: usize = 60;
/// A heartbeat that was lost leaves again after this, which doubles.
const AGAIN: Duration = Duration::from_millis(300);
/// Most times that a heartbeat leaves.
const TRIES: u32 = 8;

/// How long connections have to stand before the weather begins. On a wire without bottleneck
/// the length of handshakes, which differs by bytes from run to run, moves nothing.
pub const WARM: Duration = Duration::from_secs(2);

struct Machine<T> {
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Connection)>,
    address: SocketAddr,
    /// 0 or 1: which line it sends into.
    side: usize,
    /// When QUIC wants to be called.
    due: Option<Instant>,
    /// Bytes of packets that reached it.
    received: u64,
    tenant: T,
}

/// Machines in pairs, the first of each on side 0; all pairs share the wire.
pub struct Net<T> {
    start: Now,
    /// Since the first handshake.
    elapsed: Duration,
    machines: Vec<Machine<T>>,
    /// Both directions.
    pub lines: [Line; 2],
    /// The first miles of both sides, where they are told from the wire between them.
    pub miles: Option<[Mile; 2]>,
    /// Packets under way, by arrival and number: what they reach next.
    flying: BTreeMap<(Duration, u64), (Hop, Vec<u8>)>,
    count: u64,
}

fn internal(error: impl std::fmt::Display) -> Fault {
    Fault::new(Code::Internal).with(error.to_string())
}

#[expect(clippy::disallowed_methods, reason = "door: the base of virtual time")]
fn base() -> Now {
    Now {
        mono: Instant::now() + Duration::from_secs(3_600),
        utc: Timestamp::from_secs(1_795_608_000),
    }
}

impl<T: Tenant> Net<T> {
    /// A wire with nobody on it; chance comes from `seed`.
    pub fn new(weather: &Weather, seed: u8) -> Self {
        Self {
            start: base(),
            elapsed: Duration::ZERO,
            machines: Vec::new(),
            lines: [
                Line::new(weather.clone(), WARM, seed),
                Line::new(weather.clone(), WARM, seed.wrapping_add(128)),
            ],
            miles: None,
            flying: BTreeMap::new(),
            count: 0,
        }
    }

    /// Now.
    pub fn now(&self) -> Now {
        self.start.after(self.elapsed)
    }

    /// When the weather begins.
    pub fn begin(&self) -> Now {
        self.start.after(WARM)
    }

    /// Bytes of packets that reached the machine of this number.
    pub fn received(&self, number: usize) -> u64 {
        self.machines[number].received
    }

    /// Who lives on the machine of this number.
    pub fn tenant(&mut self, number: usize) -> &mut T {
        &mut self.machines[number].tenant
    }

    /// Does something at the machine of this number, now.
    pub fn with(&mut self, number: usize, act: impl FnOnce(Now, &mut T, &mut Connection)) {
        let now = self.now();
        let machine = &mut self.machines[number];
        if let Some((_, connection)) = &mut machine.connection {
            act(now, &mut machine.tenant, connection);
        }
        self.pump(number);
    }

    /// Adds a pair whose first dials the second.
    pub fn pair(&mut self, transport: &Arc<TransportConfig>, tenants: [T; 2]) -> Result<(), Fault> {
        let now = self.now();
        let number = u16::try_from(self.machines.len()).map_err(internal)?;
        let address = |side| SocketAddr::from(([10, 0, 0, 1 + side], 1_000 + number));
        let certificate = Certificate::generate(now.utc)?;
        let mut server = server_config(&certificate, Faults::default(), false)?;
        server.transport_config(transport.clone());
        let dial = Dial {
            session: SessionId::from_bytes([0; 16]),
            dcid: Dcid::from_bytes([9; 20]),
            addresses: Vec::new(),
            fingerprint: certificate.fingerprint(),
            invite: Hash::of(b"invite"),
            require_pq: false,
        };
        let mut client = client_config(&dial, Faults::default())?;
        client.transport_config(transport.clone());
        let [first, second] = tenants;
        for (side, tenant) in [(0, first), (1, second)] {
            let mut config = EndpointConfig::default();
            config.rng_seed(Some([u8::try_from(side).unwrap_or(0) + 1; 32]));
            let server = (side == 1).then(|| Arc::new(server.clone()));
            self.machines.push(Machine {
                endpoint: Endpoint::new(Arc::new(config), server, false, None),
                connection: None,
                address: address(u8::try_from(side).unwrap_or(0)),
                side,
                due: None,
                received: 0,
                tenant,
            });
        }
        let dialler = &mut self.machines[usize::from(number)];
        let made = dialler
            .endpoint
            .connect(now.mono, client, address(1), "suora.invalid");
        dialler.connection = Some(made.map_err(internal)?);
        self.pump(usize::from(number));
        Ok(())
    }

    /// Lets time run to this moment of the weather.
    pub fn run_to(&mut self, until: Duration) {
        let until = WARM + until;
        while let Some(next) = self.next().filter(|next| *next <= until) {
            self.elapsed = self.elapsed.max(next);
            self.step();
        }
        self.elapsed = until;
    }

    fn next(&self) -> Option<Duration> {
        let flying = self.flying.keys().next().map(|(at, _)| *at);
        let due = self
            .machines
            .iter()
            .flat_map(|machine| [machine.due, machine.tenant.deadline()]);
        let due = due
            .flatten()
            .map(|at| at.saturating_duration_since(self.start.mono));
        due.chain(flying).min().map(|at| at.max(self.elapsed))
    }

    fn step(&mut self) {
        while let Some(entry) = self.flying.first_entry()
            && entry.key().0 <= self.elapsed
        {
            let (hop, packet) = entry.remove();
            self.reach(hop, packet);
        }
        for number in 0..self.machines.len() {
            let now = self.now();
            let machine = &mut self.machines[number];
            if let Some((_, connection)) = &mut machine.connection {
                if machine.due.is_some_and(|due| due <= now.mono) {
                    connection.handle_timeout(now.mono);
                }
                machine.tenant.tick(now, connection);
            }
            if let Some(beat) = self.machines[number].tenant.beat(now) {
                self.reach(Hop::Again(number, beat, 0), Vec::new());
            }
            self.pump(number);
        }
    }

    /// A packet, or a heartbeat, reaches a part of its way and goes on.
    fn reach(&mut self, hop: Hop, packet: Vec<u8>) {
        let (at, now) = (self.elapsed, self.now());
        let side = |number: usize| self.machines[number].side;
        let next = match (hop, &mut self.miles) {
            (Hop::Machine(to), _) => return self.deliver(to, &packet),
            (Hop::Answer(of, beat), _) => return self.machines[of].tenant.pong(now, beat),
            (Hop::Middle(to), _) => {
                let from = 1 - side(to);
                (Hop::Last(to), self.lines[from].send(at, packet.len()))
            }
            (Hop::Last(to), Some(miles)) => {
                let to_side = self.machines[to].side;
                (Hop::Machine(to), miles[to_side].down.send(at, packet.len()))
            }
            (Hop::Again(of, beat, tries), Some(miles)) if tries < TRIES => {
                match miles[self.machines[of].side].up.send(at, BEAT) {
                    Some(at) => (Hop::Relay(of, beat), Some(at)),
                    None => (
                        Hop::Again(of, beat, tries + 1),
                        Some(at + AGAIN * 2u32.pow(tries)),
                    ),
                }
            }
            (Hop::Relay(of, beat), Some(miles)) => {
                match miles[self.machines[of].side].down.send(at, BEAT) {
                    Some(at) => (Hop::Answer(of, beat), Some(at)),
                    None => (Hop::Again(of, beat, 1), Some(at + AGAIN)),
                }
            }
            _ => return,
        };
        if let (hop, Some(at)) = next {
            self.fly(hop, at, packet);
        }
    }

    fn fly(&mut self, hop: Hop, at: Duration, packet: Vec<u8>) {
        self.count += 1;
        self.flying.insert((at, self.count), (hop, packet));
    }

    fn deliver(&mut self, to: usize, packet: &[u8]) {
        let now = self.now();
        let from = self.machines[to ^ 1].address;
        let machine = &mut self.machines[to];
        machine.received += packet.len() as u64;
        let mut answer = Vec::new();
        match machine.endpoint.handle(
            now.mono,
            from,
            None,
            None,
            BytesMut::from(packet),
            &mut answer,
        ) {
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                if let Some((_, connection)) = &mut machine.connection {
                    connection.handle_event(event);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                if let Ok(made) = machine
                    .endpoint
                    .accept(incoming, now.mono, &mut answer, None)
                {
                    machine.connection = Some(made);
                }
            }
            Some(DatagramEvent::Response(_)) | None => {}
        }
        self.pump(to);
    }

    /// Tells the tenant what happened and sends what there is to send.
    fn pump(&mut self, number: usize) {
        let now = self.now();
        let machine = &mut self.machines[number];
        let Some((handle, connection)) = &mut machine.connection else {
            return;
        };
        let mut sent = Vec::new();
        loop {
            let mut moved = false;
            while let Some(event) = connection.poll_endpoint_events() {
                if let Some(event) = machine.endpoint.handle_event(*handle, event) {
                    connection.handle_event(event);
                }
            }
            while let Some(event) = connection.poll() {
                machine.tenant.event(now, connection, event);
                moved = true;
            }
            if moved {
                machine.tenant.tick(now, connection);
            }
            let mut buffer = Vec::new();
            while let Some(transmit) = connection.poll_transmit(now.mono, 1, &mut buffer) {
                buffer.truncate(transmit.size);
                sent.push(std::mem::take(&mut buffer));
                moved = true;
            }
            if !moved {
                break;
            }
        }
        machine.due = connection.poll_timeout();
        let (side, to) = (machine.side, number ^ 1);
        for packet in sent {
            let (hop, at) = match &mut self.miles {
                Some(miles) => {
                    let up = &mut miles[side].up;
                    (Hop::Middle(to), up.send(self.elapsed, packet.len()))
                }
                None => {
                    let line = &mut self.lines[side];
                    (Hop::Machine(to), line.send(self.elapsed, packet.len()))
                }
            };
            if let Some(at) = at {
                self.fly(hop, at, packet);
            }
        }
    }
}
