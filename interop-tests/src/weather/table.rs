//! The scenes of the real-time table, ours beside quinn's default controller.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn_proto::{Connection, Dir, Event, StreamId, TransportConfig};
use suora_node::endpoint::congestion::Floating;
use suora_node::endpoint::transport;
use suora_protocol::fault::Fault;
use suora_protocol::time::{Now, Timestamp};

use super::day;
use super::end::{Diary, End, Model};
use super::line::{Loss, Weather};
use super::voice::Voice;
use super::wire::{Net, Tenant};

/// What decides how much QUIC lets out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Controller {
    /// Our floating window.
    Ours,
    /// quinn's default, CUBIC.
    Default,
    /// A window that never moves: the control.
    Constant,
}

impl Controller {
    /// The transport settings of a node with this controller.
    pub fn transport(self) -> Arc<TransportConfig> {
        let mut config = transport();
        match self {
            Self::Ours => config.congestion_controller_factory(Arc::new(Floating)),
            Self::Default => config.congestion_controller_factory(Arc::new(
                quinn_proto::congestion::CubicConfig::default(),
            )),
            Self::Constant => config.congestion_controller_factory(Arc::new(Constant)),
        };
        Arc::new(config)
    }
}

/// A window that never moves.
#[derive(Clone, Debug)]
struct Constant;

impl quinn_proto::congestion::ControllerFactory for Constant {
    fn build(self: Arc<Self>, _: Instant, _: u16) -> Box<dyn quinn_proto::congestion::Controller> {
        Box::new(Constant)
    }
}

impl quinn_proto::congestion::Controller for Constant {
    fn on_congestion_event(&mut self, _: Instant, _: Instant, _: bool, _: u64) {}
    fn on_mtu_update(&mut self, _: u16) {}
    fn window(&self) -> u64 {
        12_000
    }
    fn clone_box(&self) -> Box<dyn quinn_proto::congestion::Controller> {
        Box::new(self.clone())
    }
    fn initial_window(&self) -> u64 {
        12_000
    }
    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any> {
        self
    }
}

/// Who lives on a connection of these scenes.
pub enum Person {
    /// A participant.
    End(Box<End>),
    /// A transfer that takes what it gets.
    Bulk(Bulk),
}

/// Writes one endless stream from a moment on, or reads it.
pub struct Bulk {
    writes: Option<Instant>,
    up: bool,
    stream: Option<StreamId>,
}

impl Tenant for Person {
    fn event(&mut self, now: Now, connection: &mut Connection, event: Event) {
        match self {
            Self::End(end) => end.event(now, connection, event),
            Self::Bulk(bulk) => bulk.event(&event),
        }
    }

    fn tick(&mut self, now: Now, connection: &mut Connection) {
        match self {
            Self::End(end) => end.tick(now, connection),
            Self::Bulk(bulk) => bulk.tick(now, connection),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::End(end) => end.deadline(),
            Self::Bulk(bulk) => bulk.deadline(),
        }
    }
}

impl Bulk {
    /// One that writes from a moment on, or that reads.
    pub const fn new(writes: Option<Instant>) -> Self {
        Self {
            writes,
            up: false,
            stream: None,
        }
    }

    /// The connection tells something.
    pub const fn event(&mut self, event: &Event) {
        self.up |= matches!(event, Event::Connected);
    }

    /// When to come again.
    pub fn deadline(&self) -> Option<Instant> {
        self.writes.filter(|_| self.stream.is_none())
    }

    /// Time passed.
    pub fn tick(&mut self, now: Now, connection: &mut Connection) {
        match self.writes {
            Some(begin) if self.up && now.mono >= begin => {
                if self.stream.is_none() {
                    self.stream = connection.streams().open(Dir::Uni);
                }
                if let Some(stream) = self.stream {
                    while connection.send_stream(stream).write(&[0; 8_192]).is_ok() {}
                }
            }
            Some(_) => {}
            None => {
                self.stream = self
                    .stream
                    .or_else(|| connection.streams().accept(Dir::Uni));
                if let Some(stream) = self.stream
                    && let Ok(mut chunks) = connection.recv_stream(stream).read(true)
                {
                    while let Ok(Some(_)) = chunks.next(64 * 1_024) {}
                    let _ = chunks.finalize();
                }
            }
        }
    }
}

/// A wire with two participants, the second of whom is watched.
pub struct Scene {
    /// The wire.
    pub net: Net<Person>,
    /// One way without any queue.
    delay: Duration,
}

impl Scene {
    /// Two participants under this weather, each sending at most `most` bits of picture a
    /// second; `shape` sets what both send.
    pub fn new(
        weather: &Weather,
        (controller, seed): Run,
        most: u32,
        shape: impl Fn(&mut Model),
    ) -> Result<Self, Fault> {
        let mut net = Net::new(weather, seed);
        let begin = net.begin();
        let end = |number| {
            let mut model = Model::new(begin, 30);
            shape(&mut model);
            let end = End::new(number, begin, most, Box::new(model))?;
            Ok::<_, Fault>(Person::End(Box::new(end)))
        };
        net.pair(&controller.transport(), [end(0)?, end(1)?])?;
        Ok(Self {
            net,
            delay: weather.delay,
        })
    }

    /// The same with a real voice, which says this clip again and again.
    pub fn speaking(
        weather: &Weather,
        (controller, seed): Run,
        most: u32,
        clip: &[i16],
    ) -> Result<Self, Fault> {
        let mut net = Net::new(weather, seed);
        let begin = net.begin();
        let end = |number| {
            let voice = Voice::new(begin, clip.to_vec())?;
            let end = End::new(number, begin, most, Box::new(voice))?;
            Ok::<_, Fault>(Person::End(Box::new(end)))
        };
        net.pair(&controller.transport(), [end(0)?, end(1)?])?;
        Ok(Self {
            net,
            delay: weather.delay,
        })
    }

    /// Adds a transfer beside it from `at` on, by quinn's default controller, in the first's
    /// direction.
    pub fn beside(&mut self, at: Duration) -> Result<(), Fault> {
        let begin = self.net.begin().mono + at;
        let bulk = |writes| Person::Bulk(Bulk::new(writes));
        let config = Arc::new(TransportConfig::default());
        self.net.pair(&config, [bulk(Some(begin)), bulk(None)])
    }

    /// The participant of this number.
    pub fn end(&mut self, number: usize) -> &mut End {
        match self.net.tenant(number) {
            Person::End(end) => end,
            Person::Bulk(_) => panic!("a transfer is no participant"),
        }
    }

    /// What the participant of this number wrote down.
    pub fn diary(&mut self, number: usize) -> &Diary {
        &self.end(number).diary
    }

    /// A moment of the weather.
    pub fn at(&self, at: Duration) -> Timestamp {
        self.net.begin().utc + at
    }

    /// How long sound that was captured from `from` to `to` waited on top of the wire's delay,
    /// at this share of the packets, in ms.
    pub fn queueing(&mut self, from: Duration, to: Duration, share: f64) -> f64 {
        let (span, delay) = (self.at(from)..self.at(to), self.delay);
        let heard = self.diary(1).heard.iter();
        let waits = heard
            .filter(|heard| span.contains(&heard.captured))
            .map(|heard| heard.at.micros_since(heard.captured + delay) as f64 / 1_000.0);
        quantile(waits.collect(), share)
    }

    /// From `at` to the first sound that arrives after it, in ms.
    pub fn first_sound_after(&mut self, at: Duration) -> f64 {
        let at = self.at(at);
        let heard = self.diary(1).heard.iter().map(|heard| heard.at);
        heard
            .filter(|heard| *heard >= at)
            .min()
            .map_or(f64::NAN, |heard| heard.micros_since(at) as f64 / 1_000.0)
    }

    /// The first participant's target of pictures at `at`, in bits a second.
    pub fn target(&mut self, at: Duration) -> f64 {
        let at = self.at(at);
        let targets = self.diary(0).targets.iter().rev();
        targets
            .copied()
            .find(|(since, _)| *since <= at)
            .map_or(f64::NAN, |(_, target)| f64::from(target))
    }

    /// From `at` until the first participant's target is one that `reaches` accepts, in s.
    pub fn until_target(&mut self, at: Duration, reaches: impl Fn(f64) -> bool) -> f64 {
        if reaches(self.target(at)) {
            return 0.0;
        }
        let at = self.at(at);
        let targets = self.diary(0).targets.iter();
        let mut later = targets.filter(|(since, _)| *since >= at);
        later
            .find(|(_, target)| reaches(f64::from(*target)))
            .map_or(f64::NAN, |(since, _)| {
                since.micros_since(at) as f64 / 1_000_000.0
            })
    }
}

/// The value at this share of the ordered values; not a number where there is none.
pub(super) fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * share) as usize;
    let last = values.len().saturating_sub(1);
    values.get(at.min(last)).copied().unwrap_or(f64::NAN)
}

/// What decides, and the seed of the weather's chance.
pub type Run = (Controller, u8);

/// What a figure should be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Aim {
    /// At most so much.
    Most(f64),
    /// At least so much.
    Least(f64),
}

/// A line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// What is measured, and its unit.
    pub name: &'static str,
    /// What it should be.
    pub aim: Aim,
    /// The figures by controller, each the median of the seeds.
    pub figures: Vec<f64>,
}

impl Row {
    /// Whether the figure of the controller with this number reaches the aim.
    pub fn holds(&self, number: usize) -> bool {
        match (self.aim, self.figures.get(number)) {
            (Aim::Most(most), Some(figure)) => *figure <= most,
            (Aim::Least(least), Some(figure)) => *figure >= least,
            (_, None) => false,
        }
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let aim = match self.aim {
            Aim::Most(most) => format!("≤ {most}"),
            Aim::Least(least) => format!("≥ {least}"),
        };
        write!(f, "{:<58} {aim:>8}", self.name)?;
        for figure in &self.figures {
            write!(f, " {figure:>10.2}")?;
        }
        Ok(())
    }
}

/// Names, aims and figures of a scene.
pub type Figures = Vec<(&'static str, Aim, f64)>;

const S: fn(u64) -> Duration = Duration::from_secs;

/// All scenes by each of these controllers; figures are medians over `seeds`.
pub fn rows(controllers: &[Controller], seeds: &[u8]) -> Result<Vec<Row>, Fault> {
    let scenes: [fn(Run) -> Result<Figures, Fault>; 10] = [
        two_percent,
        blackouts,
        large_frames,
        first_keyframe,
        capacity_step,
        beside_cubic,
        day::five_percent,
        day::twenty_percent,
        day::narrow,
        day::wireless,
    ];
    let mut rows = Vec::new();
    for scene in scenes {
        let mut table: Vec<Row> = Vec::new();
        for controller in controllers {
            let mut runs = Vec::new();
            for seed in seeds {
                runs.push(scene((*controller, *seed))?);
            }
            let lines = runs.first().map_or(0, Vec::len);
            for line in 0..lines {
                let all: Vec<_> = runs.iter().filter_map(|run| run.get(line)).collect();
                let Some((name, aim, _)) = all.first() else {
                    continue;
                };
                // what was never reached is the worst there is
                let worst = match aim {
                    Aim::Most(_) => f64::INFINITY,
                    Aim::Least(_) => f64::NEG_INFINITY,
                };
                let value = |figure: &f64| if figure.is_nan() { worst } else { *figure };
                let median = quantile(all.iter().map(|(.., f)| value(f)).collect(), 0.5);
                match table.get_mut(line) {
                    Some(row) => row.figures.push(median),
                    None => table.push(Row {
                        name,
                        aim: *aim,
                        figures: vec![median],
                    }),
                }
            }
        }
        rows.extend(table);
    }
    Ok(rows)
}

/// 80 ms of round trip and 2 % loss.
pub fn two_percent(run: Run) -> Result<Figures, Fault> {
    let weather = Weather::delay(40)
        .losing(Loss::Random(0.02))
        .narrow(4_000_000);
    let mut scene = Scene::new(&weather, run, 1_000_000, |_| {})?;
    scene.net.run_to(S(30));
    Ok(vec![(
        "80 ms, 2 % loss: sound's queueing p95, ms",
        Aim::Most(20.0),
        scene.queueing(S(2), S(30), 0.95),
    )])
}

/// Nothing passes for 3, 8 and 30 s.
pub fn blackouts(run: Run) -> Result<Figures, Fault> {
    let mut figures = Vec::new();
    for (secs, name) in [
        (3, "blackout of 3 s: first sound after it, ms"),
        (8, "blackout of 8 s: first sound after it, ms"),
        (30, "blackout of 30 s: first sound after it, ms"),
    ] {
        let mut weather = Weather::delay(25).narrow(4_000_000);
        weather.blackouts = vec![(S(5), S(5 + secs))];
        let mut scene = Scene::new(&weather, run, 1_000_000, |_| {})?;
        scene.net.run_to(S(5 + secs + 5));
        let first = scene.first_sound_after(S(5 + secs));
        figures.push((name, Aim::Most(100.0), first));
    }
    Ok(figures)
}

/// 12-kB frames on 300 kbit/s.
pub fn large_frames(run: Run) -> Result<Figures, Fault> {
    let weather = Weather::delay(25).narrow(300_000);
    let mut scene = Scene::new(&weather, run, 200_000, |model| {
        model.fixed = Some(12_000);
        model.keyframe = Some(12_000);
    })?;
    scene.net.run_to(S(20));
    Ok(vec![(
        "300 kbit/s beside 12-kB frames: sound's queueing p95, ms",
        Aim::Most(50.0),
        scene.queueing(S(2), S(20), 0.95),
    )])
}

/// A first keyframe of 20 kB.
pub fn first_keyframe(run: Run) -> Result<Figures, Fault> {
    let weather = Weather::delay(50).narrow(10_000_000);
    let mut scene = Scene::new(&weather, run, 1_000_000, |model| {
        model.keyframe = Some(20_000)
    })?;
    scene.net.run_to(S(3));
    let begin = scene.at(S(0));
    let whole = scene.diary(1).whole.first().copied();
    Ok(vec![(
        "20-kB first keyframe whole, beyond half a round trip, ms",
        Aim::Most(35.0),
        whole.map_or(f64::NAN, |whole| {
            whole.micros_since(begin) as f64 / 1_000.0 - 50.0
        }),
    )])
}

/// 2 → 0.5 → 2 Mbit/s, 15 s each.
pub fn capacity_step(run: Run) -> Result<Figures, Fault> {
    let mut weather = Weather::delay(40);
    let (low, high) = (500_000, 2_000_000);
    weather.capacity = vec![(S(0), high), (S(15), low), (S(30), high)];
    let mut scene = Scene::new(&weather, run, 2_000_000, |_| {})?;
    scene.net.run_to(S(45));
    let before = scene.target(S(15));
    Ok(vec![
        (
            "2 → 0.5 Mbit/s: target under the capacity after, s",
            Aim::Most(1.0),
            scene.until_target(S(15), |target| target <= low as f64),
        ),
        (
            "0.5 → 2 Mbit/s: target at 80 % again after, s",
            Aim::Most(5.0),
            scene.until_target(S(30), |target| target >= 0.8 * before),
        ),
        (
            "2 → 0.5 Mbit/s: sound's queueing p95 of the 15 s, ms",
            Aim::Most(150.0),
            scene.queueing(S(15), S(30), 0.95),
        ),
        (
            "2 Mbit/s before the step: target, Mbit/s",
            Aim::Least(1.2),
            before / 1e6,
        ),
    ])
}

/// A transfer by CUBIC joins on a wire of 2 Mbit/s.
pub fn beside_cubic(run: Run) -> Result<Figures, Fault> {
    let weather = Weather {
        // 150 ms
        queue: 37_500,
        ..Weather::delay(40).narrow(2_000_000)
    };
    let mut scene = Scene::new(&weather, run, 2_000_000, |_| {})?;
    scene.beside(S(10))?;
    scene.net.run_to(S(20));
    let before = [1, 3].map(|number| scene.net.received(number));
    scene.net.run_to(S(60));
    let after = [1, 3].map(|number| scene.net.received(number));
    let [ours, theirs] = [0, 1].map(|n| (after[n] - before[n]) as f64);
    let percent = 100.0 / (ours + theirs);
    Ok(vec![
        (
            "beside CUBIC: our share, %",
            Aim::Least(30.0),
            ours * percent,
        ),
        (
            "beside CUBIC: its share, %",
            Aim::Least(30.0),
            theirs * percent,
        ),
    ])
}
