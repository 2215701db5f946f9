//! The only loop of the relay: a list of numbered priorities around the pure hub. The
//! hub decides, the store makes it durable, and only then it is said.

pub mod boot;
pub mod relaying;

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use suora_protocol::documents::{Descriptor, Verified};
use suora_protocol::fault::{Code, Fault};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::clock::Clock;
use crate::control::streams::Envelope;
use crate::control::{Control, PROVEN};
use crate::http::local::{self, Enrol, Local};
use crate::hub::change::Change;
use crate::hub::crowd::Bounds;
use crate::hub::enrolment::Enrolment;
use crate::hub::{Hub, Input, LinkId, Output};
use crate::metrics::{Metrics, Pulse, Question};
use crate::net::udp::Shards;
use crate::store::Store;
use crate::store::sqlite::Sqlite;
use crate::turn::Shared;
use crate::{Faults, http, keys};

/// What nodes said and the loop has not yet taken.
pub const ENVELOPES: usize = 1_024;
/// Changes that wait for the store; beyond this nobody is heard until it answers.
const BACKLOG: usize = 4_096;
/// Envelopes that are taken in a row before the loop looks at the rest of its list.
const BATCH: usize = 64;

/// What comes to the loop from its doors.
#[derive(Debug)]
pub struct Doors {
    /// To stop in order.
    pub stop: oneshot::Receiver<()>,
    /// New descriptors of the agency, verified.
    pub descriptors: mpsc::Receiver<Box<Verified<Descriptor>>>,
    /// Credentials that an administrator brings.
    pub credentials: mpsc::Receiver<Enrol>,
    /// Questions of operators.
    pub questions: mpsc::Receiver<Question>,
    /// What nodes say.
    pub envelopes: mpsc::Receiver<Envelope>,
}

/// What the store did.
enum Done {
    Committed(Result<(), Fault>),
    /// Whether all.
    Forgot(bool),
}

type Work<S> = Pin<Box<dyn Future<Output = (S, Done)> + Send>>;

/// The store and what it was asked for. While it works on one transaction, everything
/// that the hub decides gathers for the next (group commit). Now and then it forgets for
/// good what was deleted.
struct Writer<S> {
    idle: Option<S>,
    busy: Option<Work<S>>,
    /// The last commit of the transaction under way, and of what gathers.
    writing: u64,
    gathered: (u64, Vec<Change>),
    under_way: usize,
    clock: Clock,
    /// When to forget what was deleted.
    forget: std::time::Instant,
}

impl<S: Store + 'static> Writer<S> {
    fn new(store: S, clock: Clock) -> Self {
        Self {
            idle: Some(store),
            busy: None,
            writing: 0,
            gathered: (0, Vec::new()),
            under_way: 0,
            clock,
            // at the start somebody may have been reading
            forget: clock.now().mono + S::AGAIN,
        }
    }

    fn ask(&mut self, commit: u64, changes: Vec<Change>) {
        self.gathered.0 = commit;
        self.gathered.1.extend(changes);
    }

    /// Begins a transaction if there is something to write and the store is idle.
    fn begin(&mut self) {
        let must_forget = self.forget <= self.clock.now().mono;
        if self.gathered.1.is_empty() && !must_forget {
            return;
        }
        let Some(mut store) = self.idle.take() else {
            return;
        };
        if must_forget {
            self.forget = self.clock.now().mono + S::FORGET;
            self.busy = Some(Box::pin(async move {
                let all = store.forget().await;
                (store, Done::Forgot(all))
            }));
        } else {
            let (last, changes) = std::mem::take(&mut self.gathered);
            self.writing = last;
            self.under_way = changes.len();
            self.busy = Some(Box::pin(async move {
                let stands = store.commit(&changes).await;
                (store, Done::Committed(stands))
            }));
        }
    }

    /// The last commit that stands, once what the store does has ended. For ever when it is idle.
    async fn done(&mut self) -> Result<u64, Fault> {
        let Some(busy) = &mut self.busy else {
            return std::future::pending().await;
        };
        let (store, done) = busy.await;
        self.busy = None;
        self.idle = Some(store);
        self.under_way = 0;
        match done {
            Done::Committed(stands) => stands?,
            Done::Forgot(true) => {}
            Done::Forgot(false) => self.forget = self.clock.now().mono + S::AGAIN,
        }
        Ok(self.writing)
    }

    fn is_at_rest(&self) -> bool {
        self.busy.is_none() && self.gathered.1.is_empty()
    }

    fn backlog(&self) -> usize {
        self.under_way + self.gathered.1.len()
    }
}

/// The loop: hub, store and the streams that it speaks on.
struct Loop<S> {
    hub: Hub,
    clock: Clock,
    writer: Writer<S>,
    outboxes: BTreeMap<LinkId, mpsc::Sender<Bytes>>,
    /// Administrators who wait for an answer, and the number of the last.
    asks: BTreeMap<u64, oneshot::Sender<Result<Enrolment, Fault>>>,
    asked: u64,
    metrics: Arc<Metrics>,
}

impl<S: Store + 'static> Loop<S> {
    /// Gives the hub an input and does all that it asks for.
    fn turn(&mut self, input: Input) {
        if let Err(fault) = self.hub.handle_input(self.clock.now(), input) {
            tracing::debug!(code = %fault.code, "refused");
        }
        while let Some(unread) = self.drain() {
            // the hub hears at once that nobody listens there
            let _ = self.hub.handle_input(self.clock.now(), Input::Down(unread));
        }
        self.writer.begin();
    }

    /// Drains the hub; stops at a stream whose node does not read.
    fn drain(&mut self) -> Option<LinkId> {
        loop {
            match self.hub.poll_output() {
                Output::Commit(id, changes) => {
                    self.metrics.committed(changes.len());
                    self.writer.ask(id, changes);
                }
                Output::Say(link, bytes) => {
                    let outbox = self.outboxes.get(&link);
                    if outbox.is_some_and(|outbox| outbox.try_send(bytes).is_err()) {
                        tracing::info!(link = link.0, "a node does not read; its stream is closed");
                        self.outboxes.remove(&link);
                        return Some(link);
                    }
                }
                Output::Close(link) => {
                    self.outboxes.remove(&link);
                }
                Output::Answer(ask, answer) => {
                    if let Some(waits) = self.asks.remove(&ask) {
                        // nobody may wait any more
                        let _ = waits.send(answer);
                    }
                }
                Output::Wait(..) => return None,
            }
        }
    }

    fn enrol(&mut self, enrol: Enrol) {
        let (credential, answer) = enrol;
        self.asked += 1;
        let ask = self.asked;
        self.asks.insert(ask, answer);
        self.turn(Input::Credential { ask, credential });
    }

    fn envelope(&mut self, envelope: Envelope) {
        let input = match envelope {
            Envelope::Up {
                link,
                peer,
                officer,
                prefix,
                outbox,
            } => {
                self.outboxes.insert(link, outbox);
                Input::Up {
                    link,
                    peer,
                    officer,
                    prefix,
                }
            }
            Envelope::Message(link, body) => Input::Message { link, body },
            Envelope::Down(link) => {
                self.outboxes.remove(&link);
                Input::Down(link)
            }
        };
        self.turn(input);
    }

    fn deadline(&mut self) -> Option<Instant> {
        match self.hub.poll_output() {
            Output::Wait(at, _) => at.map(Instant::from_std),
            // a turn drains the hub, so there is nothing else
            _ => None,
        }
    }

    async fn run(&mut self, doors: &mut Doors) -> Result<(), Fault> {
        loop {
            let deadline = self.deadline();
            let is_open = self.writer.backlog() < BACKLOG;
            let (forget, is_idle) = (self.writer.forget, self.writer.idle.is_some());
            tokio::select! {
                biased;
                // 1. stop
                _ = &mut doors.stop => return Ok(()),
                // 2. the store's answer; a store that fails ends the relay: a restart begins from what stands
                done = self.writer.done() => self.turn(Input::Committed(done?)),
                // 3. a new descriptor
                Some(descriptor) = doors.descriptors.recv() => self.turn(Input::Descriptor(descriptor)),
                // 4. credentials that an administrator brings, unless the store is far behind
                Some(enrol) = doors.credentials.recv(), if is_open => self.enrol(enrol),
                // 5. questions of operators
                Some(question) = doors.questions.recv() => {
                    let pulse = Pulse { counts: self.hub.counts(), backlog: self.writer.backlog() };
                    let _ = question.send(pulse);
                }
                // 6. messages of nodes, unless the store is far behind
                envelope = doors.envelopes.recv(), if is_open => {
                    let Some(envelope) = envelope else {
                        return Err(Fault::new(Code::Internal).with("the control plane ended"));
                    };
                    self.envelope(envelope);
                    for _ in 1..BATCH {
                        match doors.envelopes.try_recv() {
                            Ok(envelope) => self.envelope(envelope),
                            Err(_) => break,
                        }
                    }
                }
                // 7. deadlines, which every input looks at too
                () = until(deadline) => self.turn(Input::Tick),
                // 8. forget what was deleted
                () = sleep_until(Instant::from_std(forget)), if is_idle => self.writer.begin(),
            }
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Runs a hub over a store until told to stop; then finishes what was decided and says it.
pub async fn run<S: Store + 'static>(
    hub: Hub,
    store: S,
    clock: Clock,
    metrics: Arc<Metrics>,
    doors: &mut Doors,
) -> Result<(), Fault> {
    let mut turns = Loop {
        hub,
        clock,
        writer: Writer::new(store, clock),
        outboxes: BTreeMap::new(),
        asks: BTreeMap::new(),
        asked: 0,
        metrics,
    };
    turns.run(doors).await?;
    while !turns.writer.is_at_rest() {
        turns.writer.begin();
        let last = turns.writer.done().await?;
        turns.turn(Input::Committed(last));
    }
    match turns.writer.idle.take() {
        Some(store) => store.close().await,
        None => Ok(()),
    }
}

/// Serves the relay of a data directory until SIGTERM or SIGINT; SIGHUP reads the descriptor again.
pub async fn serve(dir: &Path, faults: Faults) -> Result<(), Fault> {
    let files = raise_descriptors();
    let clock = Clock::start();
    let mut boot = boot::read(dir, clock.now().utc)?;
    let turn = relaying::read(dir, &boot.config, &boot.descriptor.domain)?;
    let sockets = turn
        .as_ref()
        .map_or(0, |(_, rules)| rules.quotas.allocations);
    let all = &mut boot.config.connections;
    if let Some(most) = within(files, sockets).filter(|most| most < all) {
        tracing::warn!(
            files,
            connections = most,
            "the system grants few open files, so there are fewer connections than relay.toml says"
        );
        *all = most;
    }
    let mut store = Sqlite::open(&dir.join("relay.db")).await?;
    let snapshot = store.load().await?;
    let restored = snapshot.rows.len();
    let mut hub = Hub::restore(
        boot.descriptor.clone(),
        snapshot,
        keys::draw()?,
        clock.now(),
        faults,
    );
    hub.set_bounds(Bounds {
        prefix: boot.config.tickets_per_prefix,
        ..Bounds::default()
    });
    if let Some((_, rules)) = &turn {
        hub.set_secret(Some(rules.secret.clone()));
        if boot.descriptor.turn.is_empty() {
            tracing::warn!(
                "relay.toml has [turn], but the descriptor lists no turn: nodes do not learn of it; add it to descriptor.toml and sign that again"
            );
        }
    }
    let mut metrics = Metrics::default();

    let failed = |error: std::io::Error| Fault::new(Code::Internal).with(error.to_string());
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(failed)?;

    let (envelope, envelopes) = mpsc::channel(ENVELOPES);
    let (question, questions) = mpsc::channel(16);
    let (enrol, credentials) = mpsc::channel(16);
    let (new_descriptor, descriptors) = mpsc::channel(1);
    let (stop, stopped) = oneshot::channel();
    let (stop_control, control_stopped) = oneshot::channel();
    let (page, pages) = watch::channel(boot.descriptor.bytes().clone());
    let (died, mut deaths) = mpsc::channel(1);

    let control = Control::listen(&boot.key, &boot.config, envelope, faults).await?;
    let public = http::listen("http", boot.config.http).await?;
    let operator = http::listen("metrics", boot.config.metrics).await?;
    let desk = Local::listen(dir).await?;
    let shards = match turn {
        Some((settings, rules)) => {
            let (shared, rules) = (Arc::new(Shared::default()), Arc::new(rules));
            metrics.watch(shared.clone());
            Some(Shards::start(&settings, &rules, &shared, clock, &died)?)
        }
        None => None,
    };
    let metrics = Arc::new(metrics);
    let addresses = (
        public.local_addr().map_err(failed)?,
        operator.local_addr().map_err(failed)?,
    );
    let control = tokio::spawn(control.run(control_stopped));
    let mut pages_tasks = tokio::task::JoinSet::new();
    pages_tasks.spawn(http::serve(
        public,
        http::public(pages, question.clone()),
        http::CONNECTIONS,
        faults,
    ));
    pages_tasks.spawn(http::serve(
        operator,
        http::operator(metrics.clone(), question),
        http::OPERATORS,
        faults,
    ));

    pages_tasks.spawn(desk.serve(local::router(enrol)));

    let signals = {
        let (dir, mut known) = (dir.to_path_buf(), boot.descriptor);
        let (key, clock) = (boot.key, clock);
        tokio::spawn(async move {
            let mut broken = None;
            loop {
                tokio::select! {
                    _ = terminate.recv() => break,
                    Some(fault) = deaths.recv() => {
                        broken = Some(fault);
                        break;
                    }
                    _ = interrupt.recv() => break,
                    _ = hang_up.recv() => match boot::descriptor_again(&dir, &key, &known, clock.now().utc) {
                        Ok(descriptor) => {
                            tracing::info!(sequence = descriptor.sequence, "new descriptor");
                            known = descriptor.clone();
                            page.send_replace(descriptor.bytes().clone());
                            if new_descriptor.send(Box::new(descriptor)).await.is_err() {
                                break;
                            }
                        }
                        Err(fault) => tracing::error!(%fault, "the descriptor on disk is not taken; the old one stands"),
                    }
                }
            }
            let _ = stop.send(());
            broken
        })
    };

    tracing::info!(tickets = restored, "relay runs");
    ready(&format!(
        "ready control={} http={} metrics={}",
        boot.config.control, addresses.0, addresses.1
    ));
    let mut doors = Doors {
        stop: stopped,
        descriptors,
        credentials,
        questions,
        envelopes,
    };
    let mut end = run(hub, store, clock, metrics, &mut doors).await;
    drop(doors);
    drop(shards);
    let _ = stop_control.send(());
    let _ = control.await;
    pages_tasks.shutdown().await;
    // a shard that died stopped everything: whoever started the relay starts it again
    if !signals.is_finished() {
        signals.abort();
    } else if let Ok(Some(fault)) = signals.await {
        end = end.and(Err(fault));
    }
    if end.is_ok() {
        tracing::info!("relay stopped; the queue is kept");
    }
    end
}

/// As many file descriptors as the system grants: a connection by TCP takes one, and a crowd of
/// connections must not keep the store from its file. Gives their number.
fn raise_descriptors() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return u64::MAX;
    };
    if let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        tracing::warn!(%error, "the limit of open files stays as it is");
        return soft;
    }
    hard
}

/// How many connections so many files allow, all of them by TCP, beside those whose handshake is
/// not done, relayed sockets, pages and the relay's own files; at least a half.
fn within(files: u64, sockets: usize) -> Option<u32> {
    const OTHERS: u64 = 256;
    let others = PROVEN.all + http::CONNECTIONS + http::OPERATORS + sockets;
    let others = u64::try_from(others)
        .unwrap_or(u64::MAX)
        .saturating_add(OTHERS);
    u32::try_from(files - others.min(files / 2)).ok()
}

/// One line for whoever started this: from now on everything answers.
fn ready(line: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    // nobody may be listening
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_files_leave_room_for_more_than_connections() {
        let others = PROVEN.all + http::CONNECTIONS + http::OPERATORS + 256;
        assert_eq!(within(20_000, 0), u32::try_from(20_000 - others).ok());
        assert_eq!(within(20_000, 5_000), u32::try_from(15_000 - others).ok());
        assert_eq!(within(1_024, 0), Some(512));
        assert_eq!(within(u64::MAX, 0), None);
    }
}
