//! A store that is killed: one process writes tickets and credentials and says what stands, another kills it at
//! any moment and looks what the file has. Nothing that was said to stand may be missing, and
//! what is there beyond is a whole commit that was under way. And citizens of a relay that is
//! killed, who remember which tickets they were told.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use suora_node::clock::Clock;
use suora_node::engine::ports::{LinkCommand, LinkEvent};
use suora_node::link::{self, Link, Times};
use suora_protocol::documents::{Challenge, Descriptor, DeskId, TicketId};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::{Draw, Hash, Key, PeerId};
use suora_protocol::time::Timestamp;
use suora_protocol::wire::citizen::{FromRelay, ToRelay};
use suora_relay::hub::change::{Change, Enrolled, Row, Snapshot};
use suora_relay::store::Store;
use suora_relay::store::sqlite::Sqlite;

/// Tickets that come and go.
const TICKETS: u64 = 40;
/// Officers whose credentials come and go.
const OFFICERS: u64 = 10;
/// Most changes of one commit.
const CHANGES: u64 = 12;
/// After so many commits what was deleted is forgotten, as a relay does it now and then.
const FORGETS: u64 = 4;

/// The commits that a seed makes, one after the other, without end.
#[derive(Debug)]
pub struct Commits {
    draw: Draw,
    order: u64,
}

impl Commits {
    /// From the first.
    pub fn new(seed: u64) -> Self {
        let hash = Hash::of(&seed.to_be_bytes());
        Self {
            draw: Draw::from_seed(*hash.as_bytes()),
            order: 0,
        }
    }
}

impl Commits {
    /// A credential that comes, in place of an older one, or goes.
    fn credential(&mut self) -> Change {
        let number = self.draw.below(OFFICERS).to_be_bytes();
        let mut peer = [0x70; 32];
        peer.iter_mut()
            .zip(number)
            .for_each(|(to, from)| *to = from);
        let peer = PeerId::from_bytes(peer);
        if self.draw.below(3) == 0 {
            return Change::Expel(peer);
        }
        self.order += 1;
        let issued_at = 1_795_525_200 + i64::try_from(self.order).unwrap_or(0);
        Change::Enrol(Enrolled {
            peer,
            credential: self.draw.bytes::<300>().to_vec().into(),
            issued_at: Timestamp::from_secs(issued_at),
            not_after: Timestamp::from_secs(issued_at + 604_800),
        })
    }
}

impl Iterator for Commits {
    type Item = Vec<Change>;

    fn next(&mut self) -> Option<Vec<Change>> {
        let many = 1 + self.draw.below(CHANGES);
        let mut changes = Vec::new();
        for _ in 0..many {
            if self.draw.below(4) == 0 {
                changes.push(self.credential());
                continue;
            }
            let number = self.draw.below(TICKETS);
            let mut ticket = [0x74; 16];
            ticket
                .iter_mut()
                .zip(number.to_be_bytes())
                .for_each(|(to, from)| *to = from);
            let ticket = TicketId::from_bytes(ticket);
            if self.draw.below(3) == 0 {
                changes.push(Change::Drop(ticket));
                continue;
            }
            self.order += 1;
            changes.push(Change::Put(Row {
                ticket,
                desk: DeskId::new("tax").ok()?,
                guest: PeerId::from_bytes(self.draw.bytes()),
                challenge: Challenge::from_bytes(self.draw.bytes()),
                order: self.order,
                joined: Timestamp::from_secs(1_795_525_200),
                attempt: 0,
                officer: None,
            }));
        }
        Some(changes)
    }
}

/// Writes the commits of a seed into a file, with the store's cleaning between them, and says on
/// standard output how many stand.
pub async fn write(file: &Path, seed: u64) -> Result<(), Fault> {
    let mut store = Sqlite::open(file).await?;
    let mut out = std::io::stdout();
    for (number, changes) in (1_u64..).zip(Commits::new(seed)) {
        store.commit(&changes).await?;
        if number % FORGETS == seed % FORGETS {
            store.forget().await;
        }
        let said = writeln!(out, "{number}").and_then(|()| out.flush());
        // nobody listens any more
        said.map_err(|error| Fault::new(Code::PeerSilent).with(error.to_string()))?;
    }
    Ok(())
}

/// Whether a file has all of a seed's first `said` commits, and whole commits beyond; how many
/// it has, or what is wrong with it.
pub async fn check(file: &Path, seed: u64, said: u64) -> Result<u64, String> {
    let failed = |fault: Fault| fault.to_string();
    let mut store = Sqlite::open(file).await.map_err(failed)?;
    let found = store.load().await.map_err(failed)?;
    let mut should = Snapshot::default();
    let mut commits = Commits::new(seed);
    for changes in commits
        .by_ref()
        .take(usize::try_from(said).unwrap_or(usize::MAX))
    {
        should.apply(&changes);
    }
    if found == should {
        return Ok(said);
    }
    // the one that was under way, when it stood and was not yet said
    if let Some(changes) = commits.next() {
        should.apply(&changes);
    }
    if found == should {
        return Ok(said + 1);
    }
    Err(format!(
        "seed {seed}: after {said} commits {} tickets and {} credentials should be there, and {} and {} others are",
        should.rows.len(),
        should.enrolled.len(),
        found.rows.len(),
        found.enrolled.len()
    ))
}

/// Somebody who waits at an agency's first desk, by a real link of a node. The link goes by TCP:
/// it falls at once when the relay does, and is dialled again.
#[derive(Debug)]
pub struct Citizen {
    link: Link,
    desk: DeskId,
}

impl Citizen {
    /// Dials the relay of an agency's page, under a key of its own.
    pub async fn dial(page: &Descriptor, draw: &mut Draw) -> Result<Self, String> {
        let times = Times {
            pause: Duration::from_millis(20),
            pause_max: Duration::from_millis(200),
            ..Times::default()
        };
        let link = link::start_with(draw.bytes(), Clock::start(), times);
        let by_tcp = |relay: &&String| relay.contains("/tcp/") && !relay.contains("/ws");
        let open = LinkCommand::Open {
            relays: page.relays.iter().filter(by_tcp).cloned().collect(),
            key: Key::from_secret(&draw.bytes()),
            officer: false,
        };
        link.commands.send(open).await;
        let desk = page.desks.first().ok_or("the agency has no desk")?;
        Ok(Self {
            link,
            desk: desk.id.clone(),
        })
    }

    /// Joins once the link stands; the ticket of which the relay says that it is queued. `None`:
    /// the link fell before, and nothing was told.
    pub async fn join(&mut self) -> Result<Option<TicketId>, String> {
        loop {
            match self.link.events.recv().await {
                Some(LinkEvent::Up) => {
                    let join = ToRelay::Join {
                        desk: self.desk.clone(),
                        challenge: Challenge::from_bytes([5; 16]),
                        ticket: None,
                        work: None,
                    };
                    self.link.commands.send(LinkCommand::Citizen(join)).await;
                }
                Some(LinkEvent::Citizen(FromRelay::Queued { ticket, .. })) => {
                    return Ok(Some(ticket));
                }
                Some(LinkEvent::Citizen(FromRelay::Position { .. })) => {}
                Some(LinkEvent::Down(_)) => return Ok(None),
                other => return Err(format!("not queued: {other:?}")),
            }
        }
    }

    /// Joins again at the relay that comes back; the ticket that it has for this key.
    pub async fn again(&mut self) -> Result<TicketId, String> {
        loop {
            if let Some(ticket) = self.join().await? {
                return Ok(ticket);
            }
        }
    }
}
