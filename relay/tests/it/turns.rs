//! The loop around the hub, over a store that takes its time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use suora_protocol::documents::Challenge;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::wire::{self, citizen};
use suora_relay::clock::Clock;
use suora_relay::control::streams::Envelope;
use suora_relay::hub::change::{Change, Snapshot};
use suora_relay::hub::{Hub, LinkId};
use suora_relay::metrics::Metrics;
use suora_relay::metrics::{Pulse, Question};
use suora_relay::serve::{self, Doors};
use suora_relay::store::Store;
use suora_relay::{Faults, keys};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::agency::{Agency, desk};
use crate::rig::PATIENCE;
use crate::stage::{citizen_key, prefix};

/// A store that commits once for each permit, and remembers how much at a time.
#[derive(Clone)]
struct Slow {
    permits: Arc<Semaphore>,
    transactions: Arc<Mutex<Vec<usize>>>,
    fails: bool,
    closed: Arc<Mutex<bool>>,
    /// After how many transactions it was to forget, each time.
    forgot: Arc<Mutex<Vec<usize>>>,
    /// Somebody else reads it, so that it cannot forget.
    read: Arc<AtomicBool>,
}

impl Store for Slow {
    const FORGET: Duration = Duration::from_secs(1);
    const AGAIN: Duration = Duration::from_millis(50);

    async fn load(&mut self) -> Result<Snapshot, Fault> {
        Ok(Snapshot::default())
    }

    async fn commit(&mut self, changes: &[Change]) -> Result<(), Fault> {
        self.permits.acquire().await.unwrap().forget();
        if self.fails {
            return Err(Fault::new(Code::BadFile).with("the disk is full"));
        }
        self.transactions.lock().unwrap().push(changes.len());
        Ok(())
    }

    async fn forget(&mut self) -> bool {
        let stands = self.transactions.lock().unwrap().len();
        self.forgot.lock().unwrap().push(stands);
        !self.read.load(Ordering::Relaxed)
    }

    async fn close(self) -> Result<(), Fault> {
        *self.closed.lock().unwrap() = true;
        Ok(())
    }
}

/// A running loop and its doors.
struct Turns {
    store: Slow,
    envelopes: mpsc::Sender<Envelope>,
    questions: mpsc::Sender<Question>,
    stop: Option<oneshot::Sender<()>>,
    end: JoinHandle<Result<(), Fault>>,
}

fn start(fails: bool) -> Turns {
    let store = Slow {
        permits: Arc::new(Semaphore::new(0)),
        transactions: Arc::default(),
        fails,
        closed: Arc::default(),
        forgot: Arc::default(),
        read: Arc::default(),
    };
    // the clock of the tests' credentials is not needed here: nobody attends
    let clock = Clock::start();
    let hub = Hub::restore(
        Agency::new().descriptor(),
        Snapshot::default(),
        keys::draw().unwrap(),
        clock.now(),
        Faults::default(),
    );
    let (envelope, envelopes) = mpsc::channel(serve::ENVELOPES);
    let (question, questions) = mpsc::channel(1);
    let (stop, stopped) = oneshot::channel();
    let (_, descriptors) = mpsc::channel(1);
    let (_, credentials) = mpsc::channel(1);
    let run = store.clone();
    let end = tokio::spawn(async move {
        let mut doors = Doors {
            stop: stopped,
            descriptors,
            credentials,
            questions,
            envelopes,
        };
        serve::run(hub, run, clock, Arc::new(Metrics::default()), &mut doors).await
    });
    Turns {
        store,
        envelopes: envelope,
        questions: question,
        stop: Some(stop),
        end,
    }
}

impl Turns {
    /// Citizen `number` opens a stream and joins; what it hears comes here.
    async fn join(&self, number: u8) -> mpsc::Receiver<bytes::Bytes> {
        let (outbox, inbox) = mpsc::channel(64);
        let link = LinkId(number.into());
        let peer = citizen_key(number);
        let officer = false;
        let up = Envelope::Up {
            link,
            peer,
            officer,
            prefix: prefix(&peer),
            outbox,
        };
        self.envelopes.send(up).await.unwrap();
        let join = citizen::ToRelay::Join {
            desk: desk("tax"),
            challenge: Challenge::from_bytes([5; 16]),
            ticket: None,
            work: None,
        };
        let body = wire::encode(&join).unwrap().slice(1..);
        self.envelopes
            .send(Envelope::Message(link, body))
            .await
            .unwrap();
        inbox
    }

    async fn pulse(&self) -> Pulse {
        let (question, answer) = oneshot::channel();
        self.questions.send(question).await.unwrap();
        answer.await.unwrap()
    }

    /// Waits until so many changes are in the loop's hands.
    async fn decided(&self, changes: usize) {
        crate::rig::until("decided", async || self.pulse().await.backlog == changes).await;
    }
}

#[tokio::test]
async fn what_is_decided_while_the_store_works_is_one_transaction() {
    let turns = start(false);
    // the first is under way before another comes, whatever the loop was at
    let mut inboxes = vec![turns.join(1).await];
    turns.decided(1).await;
    for number in 2..=40 {
        inboxes.push(turns.join(number).await);
    }
    turns.decided(40).await;
    assert!(
        inboxes.iter_mut().all(|inbox| inbox.try_recv().is_err()),
        "nothing is said yet"
    );
    turns.store.permits.add_permits(1);
    assert!(inboxes[0].recv().await.is_some());
    turns.decided(39).await;
    assert!(inboxes[1].try_recv().is_err());
    turns.store.permits.add_permits(1);
    for inbox in &mut inboxes[1..] {
        assert!(inbox.recv().await.is_some());
    }
    assert_eq!(*turns.store.transactions.lock().unwrap(), [1, 39]);
}

// covers: SUORA-SEC-004
#[tokio::test]
async fn what_was_deleted_is_forgotten_under_load_and_while_nobody_comes() {
    let turns = start(false);
    let mut inboxes = vec![turns.join(1).await];
    turns.decided(1).await;
    inboxes.push(turns.join(2).await);
    turns.decided(2).await;
    let clock = Clock::start();
    let due = clock.now().mono + Slow::FORGET;
    crate::rig::until("it is time", async || clock.now().mono > due).await;
    turns.store.permits.add_permits(2);
    for inbox in &mut inboxes {
        assert!(inbox.recv().await.is_some());
    }
    // between two transactions, and not when all are written
    let forgot = turns.store.forgot.lock().unwrap().clone();
    assert!(forgot.contains(&1), "{forgot:?}");
    let last = || turns.store.forgot.lock().unwrap().last().copied();
    crate::rig::until("forgotten", async || last() == Some(2)).await;
}

// covers: SUORA-SEC-004
#[tokio::test]
async fn what_cannot_be_forgotten_now_is_tried_again_soon_and_ends_nothing() {
    let turns = start(false);
    turns.store.read.store(true, Ordering::Relaxed);
    // so many at the usual pace would take longer than anybody waits
    let tried = || turns.store.forgot.lock().unwrap().len();
    crate::rig::until("tried again", async || tried() >= 40).await;
    let mut inbox = turns.join(1).await;
    turns.store.permits.add_permits(1);
    assert!(inbox.recv().await.is_some());
}

#[tokio::test]
async fn a_stop_finishes_what_was_decided_says_it_and_closes_the_store() {
    let mut turns = start(false);
    let mut inboxes = vec![turns.join(1).await, turns.join(2).await];
    turns.decided(2).await;
    turns.stop.take().unwrap().send(()).unwrap();
    turns.store.permits.add_permits(2);
    for inbox in &mut inboxes {
        assert!(inbox.recv().await.is_some());
        assert!(inbox.recv().await.is_none(), "then the stream is closed");
    }
    assert_eq!(turns.end.await.unwrap(), Ok(()));
    assert!(*turns.store.closed.lock().unwrap());
}

#[tokio::test]
async fn a_store_that_fails_ends_the_relay_and_nothing_is_said() {
    let turns = start(true);
    let mut inbox = turns.join(1).await;
    turns.decided(1).await;
    turns.store.permits.add_permits(1);
    assert_eq!(inbox.recv().await, None);
    let end = tokio::time::timeout(PATIENCE, turns.end)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(end.map_err(|fault| fault.code), Err(Code::BadFile));
}

#[tokio::test]
async fn a_node_that_does_not_read_loses_its_stream_and_keeps_its_ticket() {
    let turns = start(false);
    turns.store.permits.add_permits(100);
    let mut inbox = turns.join(1).await;
    assert!(inbox.recv().await.is_some());
    let body = wire::encode(&citizen::ToRelay::Ping { n: 1 })
        .unwrap()
        .slice(1..);
    let mut sent = 0;
    // 64 answers fit; the burst of a link is 60, so it takes a moment longer
    while turns.pulse().await.counts.citizens == 1 {
        for _ in 0..40 {
            let ping = Envelope::Message(LinkId(1), body.clone());
            turns.envelopes.send(ping).await.unwrap();
        }
        sent += 40;
        assert!(sent < 10_000);
    }
    let counts = turns.pulse().await.counts;
    assert_eq!((counts.citizens, counts.waiting), (0, 1));
}
