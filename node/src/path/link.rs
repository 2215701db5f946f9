//! One session's part of the paths: its checks, and the way in use that they prove. Pure.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use stun_types::message::Message;
use suora_protocol::identity::Draw;
use suora_protocol::wire::path::{Kind, Path as Told};

use super::candidates::{Base, Local, Policy, Way};
use super::ice::{self, Agent};
use super::select::Select;
use super::{Network, is_private};

/// What a session's part says.
#[derive(Debug)]
pub enum Said {
    /// Send this.
    Send(Way, Vec<u8>),
    /// What comes this way is the other end's.
    Admit(Way),
    /// Tell the other end.
    Tell(Told),
    /// The session's packets go another way.
    Moved,
    /// The way in use is in doubt.
    Doubt,
}

/// A session whose handshake completed.
#[derive(Debug)]
pub struct Link {
    /// Its virtual address.
    pub address: SocketAddr,
    select: Select,
    checks: Option<(Agent, Policy)>,
    generation: u32,
    told: Option<Told>,
    /// What the other end told, and its generation.
    theirs: Option<Told>,
    known: Vec<(Kind, SocketAddr)>,
    out: VecDeque<Said>,
}

impl Link {
    /// On the way that the handshake took.
    pub const fn new(now: Instant, address: SocketAddr, way: Option<Way>) -> Self {
        Self {
            address,
            select: Select::new(now, way),
            checks: None,
            generation: 0,
            told: None,
            theirs: None,
            known: Vec::new(),
            out: VecDeque::new(),
        }
    }

    /// Both ends are proven.
    pub fn begin(&mut self, policy: Policy, draw: Draw) {
        if self.checks.is_none() {
            self.checks = Some((Agent::new(!policy.host, draw), policy));
        }
    }

    /// The officer accepted.
    pub const fn accept(&mut self) {
        if let Some((_, policy)) = &mut self.checks {
            policy.accepted = true;
        }
    }

    /// The other end told where it may be reached. What is older than what it told is ignored.
    pub fn heard(&mut self, now: Instant, told: Told) {
        let newer = self
            .theirs
            .as_ref()
            .map(|old| told.generation.cmp(&old.generation));
        if newer == Some(std::cmp::Ordering::Less) {
            return;
        }
        let again = newer == Some(std::cmp::Ordering::Greater);
        let Some((agent, _)) = &mut self.checks else {
            // it is quicker than we are
            self.theirs = Some(told);
            return;
        };
        agent.creds(&told.ufrag, &told.pwd);
        if again {
            self.select.doubt(now);
            agent.check_all(now);
        }
        self.theirs = Some(told);
    }

    /// Our addresses changed: all is checked anew, at both ends.
    pub fn restart(&mut self, now: Instant) {
        self.generation += 1;
        self.select.doubt(now);
        if let Some((agent, _)) = &mut self.checks {
            agent.check_all(now);
        }
        self.out.push_back(Said::Doubt);
        self.sync(now);
    }

    /// Pairs what we have with what the other end told, and tells what is new of ours. Returns the
    /// peers that our allocations have to let in.
    pub fn pair(
        &mut self,
        now: Instant,
        locals: &[Local],
        sockets: &[SocketAddr],
        own: &[Network],
    ) -> Vec<SocketAddr> {
        let Some((agent, policy)) = &mut self.checks else {
            return Vec::new();
        };
        let creds = agent.own();
        let told = Told {
            generation: self.generation,
            ufrag: creds.ufrag.clone(),
            pwd: creds.pwd.clone(),
            candidates: policy.told(locals),
            end: true,
        };
        if self.told.as_ref() != Some(&told) {
            self.told = Some(told.clone());
            self.out.push_back(Said::Tell(told));
        }
        let Some(theirs) = &self.theirs else {
            return Vec::new();
        };
        agent.creds(&theirs.ufrag, &theirs.pwd);
        self.known = policy.heard(&theirs.candidates, own);
        let mut bases: Vec<(Base, bool, Kind)> = Vec::new();
        for (at, bound) in sockets.iter().enumerate() {
            bases.push((Base::Socket(at), bound.is_ipv4(), Kind::Host));
        }
        for local in locals.iter().filter(|local| local.kind == Kind::Relayed) {
            bases.push((local.base, local.address.is_ipv4(), Kind::Relayed));
        }
        let (mut ways, mut peers) = (Vec::new(), Vec::new());
        for (base, four, kind) in bases {
            for (remote, address) in &self.known {
                let relay = matches!(base, Base::Relay(_));
                // a relay's network is none of ours
                let foreign = relay && is_private(address.ip()) && !policy.routed;
                let around = policy.fixed && !relay && *remote != Kind::Relayed;
                if four == address.is_ipv4() && policy.allows(base, *remote) && !foreign && !around
                {
                    ways.push(((base, *address), kind, *remote));
                    if relay {
                        peers.push(*address);
                    }
                }
            }
        }
        // the way that the handshake took is checked like the others, where it may be
        if let Some(way) = self.select.in_use()
            && !ways.iter().any(|(one, ..)| *one == way)
            && policy.allows(way.0, kind_of(&self.known, way))
        {
            ways.push((way, Kind::Host, kind_of(&self.known, way)));
        }
        agent.ways(now, &ways);
        if let Some(way) = self.select.in_use() {
            self.select.hops(hops(&self.known, way));
        }
        self.sync(now);
        peers
    }

    /// Whether a request is for this session.
    pub fn is_named(&self, request: &Message<'_>) -> bool {
        let named = |(agent, _): &(Agent, Policy)| agent.is_named(request);
        self.checks.as_ref().is_some_and(named)
    }

    /// Whether an answer is to a check of this session.
    pub fn awaits(&self, way: Way, answer: &Message<'_>) -> bool {
        let awaits = |(agent, _): &(Agent, Policy)| agent.awaits(way, answer);
        self.checks.as_ref().is_some_and(awaits)
    }

    /// A check of the other end; one that the policy does not allow is not answered.
    pub fn requested(&mut self, now: Instant, way: Way, request: &Message<'_>, own: &[Network]) {
        let Some((agent, policy)) = &mut self.checks else {
            return;
        };
        let in_use = self.select.in_use() == Some(way);
        if policy.allows(way.0, kind_of(&self.known, way)) && (in_use || policy.reaches(way.1, own))
        {
            agent.requested(now, way, request);
            self.sync(now);
        }
    }

    /// An answer to a check.
    pub fn answered(&mut self, now: Instant, way: Way, answer: &Message<'_>) {
        if let Some((agent, _)) = &mut self.checks {
            agent.answered(now, way, answer);
            self.sync(now);
        }
    }

    /// A packet of QUIC's came this way.
    pub fn packet(&mut self, now: Instant, way: Way) {
        self.select.heard(now, way);
    }

    /// A packet of the other end is due.
    pub fn due(&mut self, now: Instant) {
        self.select.due(now);
    }

    /// A packet of QUIC's leaves: by which ways.
    pub fn leaves(&mut self, now: Instant, len: usize) -> Vec<Way> {
        self.select.sent(now, len);
        self.select.targets(now)
    }

    /// The way in use, and the relays on it.
    pub fn in_use(&self) -> Option<(Way, u8)> {
        let way = self.select.in_use()?;
        // while no direct way may be, what was dialled is a relay's, told or not
        let direct = |(_, policy): &(Agent, Policy)| policy.direct();
        let least = u8::from(!self.checks.as_ref().is_none_or(direct));
        Some((way, hops(&self.known, way).max(least)))
    }

    /// An allocation is no more, with all ways through it.
    pub fn lost(&mut self, now: Instant, relay: usize) {
        let gone = |way: Way| way.0 == Base::Relay(relay);
        if let Some((agent, _)) = &mut self.checks {
            agent.gone(gone);
        }
        let moved = self.select.gone(now, gone);
        if moved {
            self.out.push_back(Said::Moved);
        }
        self.sync(now);
    }

    /// Time passed.
    pub fn tick(&mut self, now: Instant) {
        let unanswered = self.unanswered();
        if self.select.tick(now, unanswered) {
            if let Some((agent, _)) = &mut self.checks {
                agent.check_all(now);
            }
            self.out.push_back(Said::Doubt);
        }
        if let Some((agent, _)) = &mut self.checks {
            agent.tick(now);
        }
        self.sync(now);
    }

    /// When time has to pass next.
    pub fn deadline(&self) -> Option<Instant> {
        let (agent, _) = self.checks.as_ref()?;
        let silence = self.select.deadline(self.unanswered());
        [silence, agent.deadline()].into_iter().flatten().min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Said> {
        self.out.pop_front()
    }

    fn unanswered(&self) -> Option<Instant> {
        let (agent, _) = self.checks.as_ref()?;
        agent.unanswered(self.select.in_use()?)
    }

    /// Takes what the checks say, and tells them which way is in use.
    fn sync(&mut self, now: Instant) {
        let Some((agent, _)) = &mut self.checks else {
            return;
        };
        loop {
            if let Some(way) = self.select.in_use() {
                agent.in_use(now, way, self.select.is_doubtful());
            }
            let Some(output) = agent.poll_output() else {
                return;
            };
            let moved = match output {
                ice::Output::Send(way, bytes) => {
                    self.out.push_back(Said::Send(way, bytes));
                    false
                }
                ice::Output::Proven(way, trip, jitter) => {
                    self.out.push_back(Said::Admit(way));
                    let hops = hops(&self.known, way);
                    self.select.proven(now, way, hops, (trip, jitter))
                }
                ice::Output::Heard(way) => {
                    self.out.push_back(Said::Admit(way));
                    false
                }
                ice::Output::Stranger => {
                    agent.check_all(now);
                    false
                }
                ice::Output::Nominated(way) => self.select.nominated(now, way),
            };
            if moved {
                self.out.push_back(Said::Moved);
            }
        }
    }
}

/// What the other end's address of a way was told to be.
fn kind_of(known: &[(Kind, SocketAddr)], way: Way) -> Kind {
    let told = known.iter().find(|(_, address)| *address == way.1);
    told.map_or(Kind::Unknown, |(kind, _)| *kind)
}

/// Relays on a way.
fn hops(known: &[(Kind, SocketAddr)], way: Way) -> u8 {
    u8::from(matches!(way.0, Base::Relay(_))) + u8::from(kind_of(known, way) == Kind::Relayed)
}
