//! A participant who judges: the media machines of an [`End`], the control stream with the
//! clock and what both ends tell, the heartbeat of a link to the relay, and the word of
//! quality of each second, as a node has them. Its clock is its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use quinn_proto::{Connection, Dir, Event, StreamId, TransportConfig};
use suora_node::engine::sessions::{Judged, judged};
use suora_node::play;
use suora_node::session::alive::Alive;
use suora_node::session::figures::Figures;
use suora_node::view::{PictureStats, RateStats, RelayStats, SoundStats, Stats};
use suora_protocol::consultation::quality::link::Link;
use suora_protocol::consultation::quality::{Quality, Told, Verdict};
use suora_protocol::consultation::talk::{Line, Talk};
use suora_protocol::consultation::{Output, Phase};
use suora_protocol::fault::Fault;
use suora_protocol::limits;
use suora_protocol::time::{Now, Timestamp};
use suora_protocol::wire::guest::{self, FromHost, Media, ToHost};
use suora_protocol::wire::{self, Framer};

use super::end::{End, Model};
use super::line::{self, Weather};
use super::table::{Bulk, Controller};
use super::wire::{Mile, Net, Tenant, WARM};

const SECOND: Duration = Duration::from_secs(1);

/// What an end does wrong on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Wrong {
    /// Nothing.
    #[default]
    Nothing,
    /// It says that it is muted, and goes on sending.
    Leaks,
    /// Its link seems to answer at once, whatever the network does.
    Deaf,
}

/// A second of a participant.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When it was over, by the wire's clock, since the weather began.
    pub at: Duration,
    /// Its figures.
    pub stats: Stats,
    /// What was found of them.
    pub verdict: Verdict,
}

/// A participant who judges.
pub struct Person {
    /// Its sound and picture.
    pub end: End,
    talk: Talk,
    guest: bool,
    stream: Option<StreamId>,
    outbox: VecDeque<Bytes>,
    framer: Framer,
    figures: Figures,
    taken: (usize, usize),
    quality: Quality,
    alive: Alive,
    link: Link,
    ping: (u64, Option<Instant>),
    begin: Now,
    second: Option<Instant>,
    /// How far its clock is ahead, in microseconds, and how much faster it runs, in millionths.
    clock: (i64, i64),
    wrong: Wrong,
    relayed: bool,
    theirs: Media,
    media: Media,
    /// What it saw, second by second.
    pub seconds: Vec<Entry>,
    /// What the other end said that it sends, and when that was heard, since the weather began.
    pub said: Vec<(Duration, Media)>,
}

const BOTH: Media = Media {
    audio: true,
    video: true,
};

impl Person {
    fn new(number: u8, begin: Now, plan: &Plan) -> Self {
        let model = Model::new(begin, 30);
        Self {
            end: must(End::new(number, begin, plan.most, Box::new(model))),
            talk: Talk::new(number == 0),
            guest: number == 0,
            stream: None,
            outbox: VecDeque::new(),
            framer: Framer::new(),
            figures: Figures::default(),
            taken: (0, 0),
            quality: Quality::new(),
            alive: Alive::new(begin.mono),
            link: Link::default(),
            ping: (0, None),
            begin,
            second: None,
            clock: plan.clocks[usize::from(number)],
            wrong: plan.wrong[usize::from(number)],
            relayed: plan.relayed,
            theirs: BOTH,
            media: BOTH,
            seconds: Vec::new(),
            said: Vec::new(),
        }
    }

    /// Now by its own clock.
    fn own(&self, now: Now) -> Now {
        let passed = now.mono.saturating_duration_since(self.begin.mono);
        let passed = i64::try_from(passed.as_micros()).unwrap_or(i64::MAX);
        let (ahead, faster) = self.clock;
        Now {
            mono: now.mono,
            utc: now.utc.shift(ahead + passed * faster / 1_000_000),
        }
    }

    fn since(&self, now: Now) -> Duration {
        now.mono.saturating_duration_since(self.begin.mono)
    }

    /// Switches sound and picture on or off, as a person does.
    pub fn switch(&mut self, now: Now, connection: &mut Connection, media: Media) {
        let own = self.own(now);
        self.media = media;
        must(self.talk.media(media));
        if self.wrong != Wrong::Leaks {
            self.end.media(own, connection, media.audio, media.video);
        }
        self.speak(now, connection);
    }

    /// Control messages, both ways.
    fn speak(&mut self, now: Now, connection: &mut Connection) {
        let own = self.own(now);
        if self.stream.is_none() {
            self.stream = if self.guest {
                connection.streams().open(Dir::Bi)
            } else {
                connection.streams().accept(Dir::Bi)
            };
            if let Some(stream) = self.stream {
                let _ = connection.send_stream(stream).set_priority(10);
            }
        }
        let Some(stream) = self.stream else {
            return;
        };
        if let Ok(mut chunks) = connection.recv_stream(stream).read(true) {
            while let Ok(Some(chunk)) = chunks.next(64 * 1_024) {
                self.framer.push(&chunk.bytes);
            }
            let _ = chunks.finalize();
        }
        while let Some(body) = must(self.framer.next_message()) {
            if let Some(line) = self.line(&body) {
                must(self.talk.heard(own, line, own.utc));
            }
        }
        must(self.talk.tick(own));
        while let Some(output) = self.talk.poll_output() {
            match output {
                Output::Send(bytes) => self.outbox.push_back(bytes),
                Output::Media(media) => {
                    self.theirs = media;
                    self.figures.peer_media(media.video);
                    self.said.push((self.since(now), media));
                }
                Output::Quality(guest::Quality { word, network }) => {
                    self.quality.told(Told { word, network });
                }
                Output::Clock(offset) => self.figures.clock(offset),
                other => panic!("{other:?}"),
            }
        }
        while let Some(bytes) = self.outbox.front_mut() {
            match connection.send_stream(stream).write(bytes) {
                Ok(written) => bytes.advance(written),
                Err(_) => break,
            }
            if bytes.is_empty() {
                self.outbox.pop_front();
            }
        }
    }

    fn line(&self, body: &[u8]) -> Option<Line> {
        if self.guest {
            Some(match must(wire::decode::<FromHost>(body)) {
                FromHost::Media(line) => Line::Media(line),
                FromHost::Clock(line) => Line::Clock(line),
                FromHost::ClockAnswer(line) => Line::ClockAnswer(line),
                FromHost::Quality(line) => Line::Quality(line),
                FromHost::Path(line) => Line::Path(line),
                _ => return None,
            })
        } else {
            Some(match must(wire::decode::<ToHost>(body)) {
                ToHost::Media(line) => Line::Media(line),
                ToHost::Clock(line) => Line::Clock(line),
                ToHost::ClockAnswer(line) => Line::ClockAnswer(line),
                ToHost::Quality(line) => Line::Quality(line),
                ToHost::Path(line) => Line::Path(line),
                _ => return None,
            })
        }
    }

    /// What was played and shown since the last call, as a node's decoders tell it.
    fn watch(&mut self) {
        let diary = &self.end.diary;
        for played in &diary.played[self.taken.0..] {
            self.figures.take(&play::Event::Played {
                captured: played.block.captured,
                at: played.at,
                kind: played.block.kind,
                ledger: diary.ledger,
            });
        }
        for shown in &diary.shown[self.taken.1..] {
            self.figures.take(&play::Event::Shown {
                captured: shown.frame.captured,
                at: shown.at,
                width: u32::from(shown.frame.width),
                height: u32::from(shown.frame.height),
                show: shown.show,
            });
        }
        self.taken = (diary.played.len(), diary.shown.len());
    }

    fn judge(&mut self, now: Now, connection: &mut Connection) {
        let own = self.own(now);
        self.watch();
        let figures = self.figures.second(own.utc);
        let millis = |time: Duration| time.as_secs_f64() * 1_000.0;
        let heard = connection.stats().udp_rx.datagrams;
        let stats = Stats {
            loss: self.end.rate().loss(),
            rtt_ms: millis(connection.rtt()),
            latency_ms: figures.picture_ms,
            fps: figures.shown as f64,
            sound: SoundStats {
                played_ms: figures.played_ms,
                concealed_ms: figures.concealed_ms,
                rebuilt_ms: figures.rebuilt_ms,
                delay_ms: figures.sound_ms,
                jitter_ms: None,
            },
            picture: PictureStats {
                shown: figures.shown,
                freezes: figures.freezes,
                frozen_ms: figures.frozen_ms,
                ..PictureStats::default()
            },
            rate: RateStats {
                target_bps: self.end.rate().target(),
                queue_ms: millis(self.end.rate().queue()),
            },
            relayed: self.relayed,
            relay: RelayStats {
                rtt_ms: self.link.trip().map(millis),
                jitter_ms: self.link.jitter().map(millis),
                missed: self.link.missed(),
                network: self.link.network(now.mono),
            },
            clock: self.talk.clock(now.mono).into(),
            ..Stats::default()
        };
        let silent_ms = self.alive.silent_ms(now.mono, heard);
        let _ = self.alive.heard(now.mono, heard, true);
        let verdict = self.quality.second(judged(&Judged {
            stats: &stats,
            length: SECOND,
            silent_ms,
            theirs: self.theirs,
            ours: self.media,
        }));
        let Told { word, network } = verdict.tell;
        must(self.talk.quality(own, guest::Quality { word, network }));
        let at = self.since(now);
        self.seconds.push(Entry { at, stats, verdict });
    }
}

fn must<T>(result: Result<T, Fault>) -> T {
    result.unwrap_or_else(|fault| panic!("{fault}"))
}

impl Person {
    fn event(&mut self, now: Now, connection: &mut Connection, event: Event) {
        let own = self.own(now);
        self.end.event(own, connection, event);
    }

    fn tick(&mut self, now: Now, connection: &mut Connection) {
        let own = self.own(now);
        if now.mono >= self.begin.mono {
            if self.second.is_none() {
                self.talk.phase = Phase::Accepted;
                self.second = Some(now.mono + SECOND);
                self.link.stood();
            }
            self.speak(now, connection);
        }
        self.end.tick(own, connection);
        if self.second.is_some_and(|second| now.mono >= second) {
            self.second = Some(now.mono + SECOND);
            self.judge(now, connection);
            self.speak(now, connection);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        [self.end.deadline(), self.second]
            .into_iter()
            .flatten()
            .min()
    }

    fn beat(&mut self, now: Now) -> Option<u64> {
        self.second?;
        let troubled = self
            .seconds
            .last()
            .is_some_and(|last| last.verdict.troubled);
        let interval = if troubled {
            limits::HEARTBEAT_TROUBLED
        } else {
            limits::HEARTBEAT
        };
        let due = self.ping.1.is_none_or(|sent| now.mono >= sent + interval);
        due.then(|| {
            self.ping = (self.ping.0 + 1, Some(now.mono));
            self.link.asked(now.mono, self.ping.0);
            if self.wrong == Wrong::Deaf {
                self.link
                    .answered(now.mono + Duration::from_millis(20), self.ping.0);
            }
            self.ping.0
        })
    }

    fn pong(&mut self, now: Now, number: u64) {
        self.link.answered(now.mono, number);
    }
}

/// Who lives on these wires.
pub enum Lodger {
    /// One who judges.
    Person(Box<Person>),
    /// A transfer that takes what it gets.
    Bulk(Bulk),
}

impl Tenant for Lodger {
    fn event(&mut self, now: Now, connection: &mut Connection, event: Event) {
        match self {
            Self::Person(person) => person.event(now, connection, event),
            Self::Bulk(bulk) => bulk.event(&event),
        }
    }

    fn tick(&mut self, now: Now, connection: &mut Connection) {
        match self {
            Self::Person(person) => person.tick(now, connection),
            Self::Bulk(bulk) => bulk.tick(now, connection),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Person(person) => person.deadline(),
            Self::Bulk(bulk) => bulk.deadline(),
        }
    }

    fn beat(&mut self, now: Now) -> Option<u64> {
        match self {
            Self::Person(person) => person.beat(now),
            Self::Bulk(_) => None,
        }
    }

    fn pong(&mut self, now: Now, number: u64) {
        if let Self::Person(person) = self {
            person.pong(now, number);
        }
    }
}

/// Two who judge, and the weather on each part of the way between them.
#[derive(Clone, Debug)]
pub struct Plan {
    /// On each one's first mile: the way out and the way in.
    pub miles: [[Weather; 2]; 2],
    /// Between the two first miles: from the first to the second, and back.
    pub middle: [Weather; 2],
    /// Whether the middle is a relay.
    pub relayed: bool,
    /// How far each one's clock is ahead, in microseconds, and how much faster it runs, in
    /// millionths.
    pub clocks: [(i64, i64); 2],
    /// What each does wrong.
    pub wrong: [Wrong; 2],
    /// Most bits of picture a second.
    pub most: u32,
    /// The seed of the weather's chance.
    pub seed: u8,
}

impl Default for Plan {
    fn default() -> Self {
        let mile = [Weather::delay(10), Weather::delay(10)];
        Self {
            miles: [mile.clone(), mile],
            middle: [Weather::delay(10), Weather::delay(10)],
            relayed: false,
            clocks: [(0, 0); 2],
            wrong: [Wrong::Nothing; 2],
            most: 1_000_000,
            seed: 1,
        }
    }
}

/// Two who judge each other's sound and picture.
pub struct Pair {
    /// The wire.
    pub net: Net<Lodger>,
}

impl Pair {
    /// On a wire of this plan.
    pub fn new(plan: &Plan) -> Result<Self, Fault> {
        let mut net = Net::new(&Weather::default(), plan.seed);
        let line = |weather: &Weather, salt| {
            line::Line::new(weather.clone(), WARM, plan.seed.wrapping_add(salt))
        };
        let mile = |at: usize, salt: u8| {
            let [up, down] = &plan.miles[at];
            Mile {
                up: line(up, salt),
                down: line(down, salt + 1),
            }
        };
        net.miles = Some([mile(0, 10), mile(1, 20)]);
        net.lines = [line(&plan.middle[0], 30), line(&plan.middle[1], 31)];
        let begin = net.begin();
        let persons =
            [0, 1].map(|number| Lodger::Person(Box::new(Person::new(number, begin, plan))));
        net.pair(&Controller::Ours.transport(), persons)?;
        Ok(Self { net })
    }

    /// Adds a transfer beside it from `at` on, by quinn's default controller, in the first's
    /// direction.
    pub fn beside(&mut self, at: Duration) -> Result<(), Fault> {
        let begin = self.net.begin().mono + at;
        let bulks = [Some(begin), None].map(|writes| Lodger::Bulk(Bulk::new(writes)));
        self.net.pair(&Arc::new(TransportConfig::default()), bulks)
    }

    /// The participant of this number.
    pub fn person(&mut self, number: usize) -> &mut Person {
        match self.net.tenant(number) {
            Lodger::Person(person) => person,
            Lodger::Bulk(_) => panic!("a transfer judges nothing"),
        }
    }

    /// One of them switches sound and picture, now.
    pub fn switch(&mut self, number: usize, media: Media) {
        self.net.with(number, |now, lodger, connection| {
            if let Lodger::Person(person) = lodger {
                person.switch(now, connection, media);
            }
        });
    }

    /// A moment of the weather, by the wire's clock.
    pub fn at(&self, at: Duration) -> Timestamp {
        self.net.begin().utc + at
    }
}
