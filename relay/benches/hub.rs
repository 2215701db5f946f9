//! What the hub, its store and its loop do a second.
#![expect(
    clippy::disallowed_methods,
    reason = "door: the base of the virtual clock, and a runtime for the real loop"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use divan::Bencher;
use divan::counter::ItemsCount;
use suora_protocol::documents::{
    self, Challenge, Descriptor, Desk, DeskId, Names, TicketId, Verified, chain,
};
use suora_protocol::identity::{AgencyId, Key, PeerId};
use suora_protocol::time::{Now, Timestamp};
use suora_protocol::wire::{self, citizen, officer};
use suora_relay::Faults;
use suora_relay::clock::Clock;
use suora_relay::control::streams::{Envelope, OUTBOX};
use suora_relay::hub::change::{Change, Row, Snapshot};
use suora_relay::hub::crowd::{Bounds, Prefix};
use suora_relay::hub::{Hub, Input, LinkId, Output};
use suora_relay::metrics::Metrics;
use suora_relay::serve::{self, Doors};
use suora_relay::store::Store;
use suora_relay::store::sqlite::Sqlite;
use tokio::sync::{mpsc, oneshot};

fn main() {
    divan::main();
}

const FULL: u64 = 10_000;

fn desk() -> DeskId {
    DeskId::new("tax").unwrap()
}

fn descriptor(now: Timestamp) -> Verified<Descriptor> {
    let root = Key::from_secret(&[1; 32]);
    let page = Descriptor {
        agency: AgencyId::of_root(&root.peer_id()),
        root: root.peer_id(),
        names: Names::default(),
        domain: "agency.example".into(),
        relays: Vec::new(),
        turn: Vec::new(),
        keys: Vec::new(),
        desks: vec![Desk::new(desk(), Names::default())],
        revoked: Vec::new(),
        sequence: 1,
        issued_at: now,
        not_after: Timestamp::from_secs(now.as_secs() + 86_400),
        next_root: None,
    };
    let signed = documents::sign(&page, &root).unwrap();
    chain::descriptor_as_given(&signed, now).unwrap()
}

fn peer(number: u64) -> PeerId {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    PeerId::from_bytes(bytes)
}

fn body(message: &impl serde::Serialize) -> Bytes {
    let framed = wire::encode(message).unwrap();
    let prefix = framed.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    framed.slice(prefix..)
}

/// Nobody has to work: what is measured is the queue.
fn open() -> Bounds {
    Bounds {
        prefix: usize::MAX,
        prefix_free: usize::MAX,
        queue_free: usize::MAX,
    }
}

fn join() -> Bytes {
    body(&citizen::ToRelay::Join {
        desk: desk(),
        challenge: Challenge::from_bytes([5; 16]),
        ticket: None,
        work: None,
    })
}

fn row(number: u64) -> Row {
    let mut ticket = [0; 16];
    ticket[..8].copy_from_slice(&number.to_be_bytes());
    Row {
        ticket: TicketId::from_bytes(ticket),
        desk: desk(),
        guest: peer(number),
        challenge: Challenge::from_bytes([5; 16]),
        order: number,
        joined: Timestamp::from_secs(1_795_600_000),
        attempt: 0,
        officer: None,
    }
}

fn rows(count: u64) -> Snapshot {
    Snapshot {
        rows: (1..=count).map(row).collect(),
        ..Snapshot::default()
    }
}

/// A hub where so many wait, all of them with a stream.
struct Crowd {
    hub: Hub,
    now: Now,
}

impl Crowd {
    fn new(people: u64) -> Self {
        let now = Now {
            mono: Instant::now(),
            utc: Timestamp::from_secs(1_795_600_000),
        };
        let faults = Faults {
            unchecked_credential: true,
            ..Faults::default()
        };
        let mut hub = Hub::restore(descriptor(now.utc), rows(people), [1; 32], now, faults);
        hub.set_bounds(open());
        let mut crowd = Self { hub, now };
        for number in 1..=people {
            crowd.up(number, false);
            crowd.say(number, join());
        }
        // the first sweeps are over, and nobody has spoken too much
        for _ in 0..200 {
            crowd.now = crowd.now.after(Duration::from_millis(50));
            crowd.input(Input::Tick);
        }
        crowd
    }

    fn up(&mut self, number: u64, officer: bool) {
        self.input(Input::Up {
            link: LinkId(number),
            peer: peer(number),
            officer,
            prefix: Prefix::NONE,
        });
    }

    fn say(&mut self, number: u64, body: Bytes) {
        let link = LinkId(number);
        self.input(Input::Message { link, body });
    }

    fn input(&mut self, input: Input) {
        self.hub.handle_input(self.now, input).unwrap();
        loop {
            match self.hub.poll_output() {
                Output::Commit(id, _) => {
                    let committed = Input::Committed(id);
                    self.hub.handle_input(self.now, committed).unwrap();
                }
                Output::Wait(..) => return,
                output => drop(divan::black_box(output)),
            }
        }
    }
}

/// One more joins a queue of this length.
#[divan::bench(args = [0, 100, FULL - 1_000])]
fn join_behind(bencher: Bencher, people: u64) {
    let mut crowd = Crowd::new(people);
    let mut next = people;
    let body = join();
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| {
        next += 1;
        if next < FULL {
            crowd.now = crowd.now.after(Duration::from_millis(1));
            crowd.up(next, false);
            crowd.say(next, body.clone());
        }
    });
}

/// The first of a queue is matched, served and gone, while everybody behind moves up.
#[divan::bench(args = [100, FULL], sample_count = 20, sample_size = 20)]
fn serve_the_first_of(bencher: Bencher, people: u64) {
    let mut crowd = Crowd::new(people);
    let officer = FULL + 1;
    crowd.up(officer, true);
    crowd.say(
        officer,
        body(&officer::ToRelay::Attend {
            desk: desk(),
            credential: Vec::new(),
            status: officer::Status::Available,
            engaged: None,
        }),
    );
    let mut next = 0;
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| {
        next += 1;
        let ticket = row(next).ticket;
        let attempt = 1;
        crowd.now = crowd.now.after(Duration::from_millis(200));
        crowd.say(
            officer,
            body(&officer::ToRelay::Accepted { ticket, attempt }),
        );
        let code = suora_protocol::fault::Code::Ended;
        crowd.say(officer, body(&officer::ToRelay::Done { ticket, code }));
    });
}

/// A hub comes back with all who waited.
#[divan::bench(sample_count = 20)]
fn restore_10_000(bencher: Bencher) {
    let now = Crowd::new(0).now;
    let descriptor = descriptor(now.utc);
    bencher
        .counter(ItemsCount::new(FULL))
        .with_inputs(|| (descriptor.clone(), rows(FULL)))
        .bench_values(|(descriptor, rows)| {
            Hub::restore(descriptor, rows, [1; 32], now, Faults::default())
        });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Rows that SQLite makes durable in transactions of this size, with full synchronisation.
#[divan::bench(args = [1, 10, 100], sample_count = 20, sample_size = 1)]
fn sqlite_rows(bencher: Bencher, size: u64) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let mut store = runtime
        .block_on(Sqlite::open(&dir.path().join("relay.db")))
        .unwrap();
    let mut next = 0;
    bencher.counter(ItemsCount::new(size * 20)).bench_local(|| {
        for _ in 0..20 {
            let changes: Vec<Change> = (0..size)
                .map(|_| {
                    next += 1;
                    Change::Put(row(next))
                })
                .collect();
            runtime.block_on(store.commit(&changes)).unwrap();
        }
    });
}

/// Loads ten thousand rows from disk.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn sqlite_load_10_000(bencher: Bencher) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let mut store = runtime
        .block_on(Sqlite::open(&dir.path().join("relay.db")))
        .unwrap();
    let changes: Vec<Change> = (1..=FULL).map(|number| Change::Put(row(number))).collect();
    runtime.block_on(store.commit(&changes)).unwrap();
    bencher
        .counter(ItemsCount::new(FULL))
        .bench_local(|| runtime.block_on(store.load()).unwrap());
}

/// Joins through the whole loop, hub and SQLite: from the first envelope until all of
/// them know that they wait. Streams are channels here.
#[divan::bench(args = [1_000, 5_000], sample_count = 5, sample_size = 1)]
fn joins_through_the_loop(bencher: Bencher, people: u64) {
    let runtime = runtime();
    let body = join();
    bencher
        .counter(ItemsCount::new(people))
        .with_inputs(|| tempfile::tempdir().unwrap())
        .bench_local_refs(|dir| {
            runtime.block_on(async {
                let clock = Clock::start();
                let store = Sqlite::open(&dir.path().join("relay.db")).await.unwrap();
                let now = clock.now();
                let page = descriptor(now.utc);
                let mut hub =
                    Hub::restore(page, Snapshot::default(), [1; 32], now, Faults::default());
                hub.set_bounds(open());
                let (envelope, envelopes) = mpsc::channel(serve::ENVELOPES);
                let (_question, questions) = mpsc::channel(1);
                let (_descriptor, descriptors) = mpsc::channel(1);
                let (_credential, credentials) = mpsc::channel(1);
                let (stop, stopped) = oneshot::channel();
                let turns = tokio::spawn(async move {
                    let mut doors = Doors {
                        stop: stopped,
                        descriptors,
                        credentials,
                        questions,
                        envelopes,
                    };
                    let metrics = Arc::new(Metrics::default());
                    serve::run(hub, store, clock, metrics, &mut doors).await
                });
                let mut inboxes = Vec::new();
                for number in 1..=people {
                    let (outbox, inbox) = mpsc::channel(OUTBOX);
                    inboxes.push(inbox);
                    let link = LinkId(number);
                    let up = Envelope::Up {
                        link,
                        peer: peer(number),
                        officer: false,
                        prefix: Prefix::NONE,
                        outbox,
                    };
                    envelope.send(up).await.unwrap();
                    let message = Envelope::Message(link, body.clone());
                    envelope.send(message).await.unwrap();
                }
                for inbox in &mut inboxes {
                    inbox.recv().await.unwrap();
                }
                stop.send(()).unwrap();
                turns.await.unwrap().unwrap();
            });
        });
}
