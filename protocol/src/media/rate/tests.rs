use super::delay::Delay;
use super::*;
use crate::media::tests::base;

const MS: fn(u64) -> Duration = Duration::from_millis;

/// A wire in virtual time that queues without bound, or drops what is over its rate.
struct Wire {
    capacity: f64,
    /// Packets of sound of which one is lost; 0: none.
    loss: u32,
    polices: bool,
    free: Instant,
    start: Now,
    beat: u32,
    pending: Vec<(Packet, Instant)>,
    worst: Duration,
    allowance: f64,
    drops: bool,
    dark: bool,
    /// Most milliseconds that a packet takes longer than it must, and what chance was last.
    jitter: u64,
    chance: u64,
    last: Instant,
}

impl Wire {
    fn new(capacity: f64) -> Self {
        let start = base();
        Self {
            capacity,
            loss: 0,
            polices: false,
            free: start.mono,
            start,
            beat: 0,
            pending: Vec::new(),
            worst: Duration::ZERO,
            allowance: 0.0,
            drops: false,
            dark: false,
            jitter: 0,
            chance: 1,
            last: start.mono,
        }
    }

    fn send(&mut self, now: Now, kind: Kind, bytes: usize, lost: bool) {
        let mut fate = Fate::Lost;
        let mut told = now.mono + MS(50);
        // drops in spells, whatever the size of a packet
        self.drops = self.polices && self.allowance > if self.drops { 1_500.0 } else { 3_000.0 };
        if !self.drops && !lost && !self.dark {
            self.allowance += bytes as f64;
            if !self.polices {
                let lasts = Duration::from_secs_f64(bytes as f64 * 8.0 / self.capacity);
                self.free = self.free.max(now.mono) + lasts;
                self.worst = self.worst.max(self.free - now.mono);
            }
            self.chance = self.chance * 48_271 % 0x7fff_ffff;
            let arrives = self.free.max(now.mono) + MS(25 + self.chance % (self.jitter + 1));
            let arrives = self.last.max(arrives);
            self.last = arrives;
            told = arrives;
            let at = arrives - self.start.mono;
            fate = Fate::Arrived(Some(i64::try_from(at.as_micros()).unwrap()));
        }
        let (sent, kind) = (now.mono, kind);
        if kind == Kind::Video && fate == Fate::Lost {
            return;
        }
        let packet = Packet {
            kind,
            sent,
            bytes,
            fate,
        };
        self.pending.push((packet, told));
    }

    fn run(&mut self, rate: &mut Rate, secs: u32) -> u32 {
        self.worst = Duration::ZERO;
        let end = self.beat + secs * 200;
        while self.beat < end {
            let now = self.start.after(BEAT * self.beat);
            self.allowance = (self.allowance - self.capacity / 8.0 * 0.005).max(0.0);
            if self.beat.is_multiple_of(4) {
                let sound = self.beat / 4;
                let lost = self.loss > 0 && sound.is_multiple_of(self.loss);
                self.send(now, Kind::Audio, 100, lost);
            }
            let copies = rate.copies();
            let wanted = f64::from(rate.target()) * copies as f64 / 8.0 * 0.005;
            let bytes = rate.beat(now, Way::default()).min(wanted as usize);
            if bytes > 0 {
                rate.spent(bytes);
                let waits = self.pending.len();
                self.send(now, Kind::Video, bytes, false);
                // a copy that arrives is no second arrival
                for (packet, _) in self.pending.iter_mut().skip(waits) {
                    packet.bytes /= copies;
                }
            }
            if self.beat % 16 == 15 {
                let (told, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending)
                    .into_iter()
                    .partition(|(_, at)| *at <= now.mono && !self.dark);
                self.pending = rest;
                let feedback = Feedback {
                    at: i64::try_from((now.mono - self.start.mono).as_micros()).unwrap(),
                    packets: told.into_iter().map(|(packet, _)| packet).collect(),
                };
                rate.report(now.after(MS(25)), &feedback);
            }
            self.beat += 1;
        }
        rate.target()
    }
}

// covers: SUORA-MED-013
#[test]
fn a_narrow_wire_takes_the_target_down_at_once_and_a_wide_one_lets_it_grow() {
    let mut rate = Rate::new((50_000, 2_000_000));
    let mut wire = Wire::new(4_000_000.0);
    assert_eq!(wire.run(&mut rate, 5), 2_000_000);
    wire.capacity = 500_000.0;
    wire.run(&mut rate, 1);
    assert!(rate.target() < 500_000, "{}", rate.target());
    assert!(wire.worst < MS(800), "{:?}", wire.worst);
    wire.run(&mut rate, 5);
    let target = wire.run(&mut rate, 10);
    assert!((300_000..500_000).contains(&target), "{target}");
    assert!(wire.worst < MS(150), "{:?}", wire.worst);
    wire.capacity = 4_000_000.0;
    assert!(wire.run(&mut rate, 5) > 1_500_000, "{}", rate.target());
}

#[test]
fn jitter_is_no_queue_but_a_queue_beside_it_is() {
    let mut rate = Rate::new((50_000, 600_000));
    let mut wire = Wire::new(4_000_000.0);
    wire.jitter = 60;
    wire.run(&mut rate, 20);
    let mean = (0..40).map(|_| wire.run(&mut rate, 1)).sum::<u32>() / 40;
    assert!(mean > 350_000, "{mean}");
    wire.capacity = 250_000.0;
    wire.run(&mut rate, 5);
    let mean = (0..20).map(|_| wire.run(&mut rate, 1)).sum::<u32>() / 20;
    assert!(
        mean < 230_000 && wire.worst < MS(300),
        "{mean} {:?}",
        wire.worst
    );
}

#[test]
fn loss_of_the_wire_itself_does_not_take_the_target_down() {
    for loss in [50, 20, 5] {
        let mut rate = Rate::new((50_000, 1_000_000));
        let mut wire = Wire::new(10_000_000.0);
        wire.loss = loss;
        wire.run(&mut rate, 15);
        let copies = u32::try_from(rate.copies()).unwrap();
        let lowest = (0..30).map(|_| wire.run(&mut rate, 1)).min();
        assert!(lowest >= Some(600_000 / copies), "1 of {loss}: {lowest:?}");
        assert_eq!(copies, if loss == 50 { 1 } else { 3 });
    }
}

// covers: SUORA-MED-023
#[test]
fn copies_leave_each_the_least_that_makes_a_picture() {
    let mut rate = Rate::new((80_000, 1_000_000));
    let mut wire = Wire::new(200_000.0);
    wire.loss = 20;
    wire.run(&mut rate, 20);
    // three times the least and sound would not fit
    wire.run(&mut rate, 20);
    assert!(wire.worst < MS(400), "{:?}", wire.worst);
    assert!(rate.copies() < 3 && rate.target() >= 80_000);
    wire.capacity = 4_000_000.0;
    wire.run(&mut rate, 20);
    assert_eq!(rate.copies(), 3);
}

// covers: SUORA-MED-013
#[test]
fn pictures_are_handed_over_evenly_however_much_waits() {
    let mut rate = Rate::new((50_000, 500_000));
    let mut wire = Wire::new(4_000_000.0);
    assert_eq!(wire.run(&mut rate, 5), 500_000);
    let start = wire.start.after(BEAT * wire.beat);
    let mut handed = vec![0];
    for beat in 1..=400 {
        let now = start.after(BEAT * beat);
        let bytes = rate.beat(now, Way::default());
        rate.spent(bytes);
        handed.push(handed.last().unwrap() + bytes);
        assert!((250..=1_150).contains(&rate.piece(now)));
    }
    let second = 500_000.0 / 8.0;
    for (from, before) in handed.iter().enumerate() {
        for (beats, all) in handed[from..].iter().enumerate() {
            let most = second * (2.0 * 0.005 * beats as f64 + 0.2) + 3_000.0;
            assert!(
                ((all - before) as f64) <= most,
                "{beats} beats: {}",
                all - before
            );
        }
    }
    assert!(handed[400] > 50_000, "{}", handed[400]);
}

#[test]
fn loss_of_what_is_over_the_rate_of_the_wire_does() {
    let mut rate = Rate::new((50_000, 2_000_000));
    let mut wire = Wire::new(500_000.0);
    wire.polices = true;
    wire.run(&mut rate, 20);
    let mean = (0..20).map(|_| wire.run(&mut rate, 1)).sum::<u32>() / 20;
    assert!((200_000..650_000).contains(&mean), "{mean}");
}

#[test]
fn the_first_keyframe_may_leave_at_once_and_a_later_one_is_spread() {
    let mut rate = Rate::new((50_000, 600_000));
    assert!(rate.beat(base(), Way::default()) >= 10_000);
    let mut wire = Wire::new(4_000_000.0);
    wire.run(&mut rate, 5);
    let now = wire.start.after(BEAT * wire.beat);
    assert!(rate.beat(now, Way::default()) <= 1_500);
}

#[test]
fn no_picture_leaves_in_the_dark_and_its_losses_are_not_counted() {
    let mut rate = Rate::new((50_000, 600_000));
    let mut wire = Wire::new(4_000_000.0);
    wire.run(&mut rate, 5);
    let now = wire.start.after(BEAT * wire.beat);
    rate.silence(now.mono);
    assert!(rate.holds());
    assert_eq!(rate.beat(now.after(MS(100)), Way::default()), 0);
    wire.dark = true;
    wire.run(&mut rate, 1);
    assert!(rate.holds());
    wire.dark = false;
    wire.run(&mut rate, 3);
    assert!(rate.loss() < 0.02 && !rate.holds(), "{}", rate.loss());
    assert!(rate.target() > 450_000, "{}", rate.target());
}

#[test]
fn a_train_bounds_what_is_begun_with_until_reports_know_better() {
    let begin = |bits| {
        let mut rate = Rate::new((50_000, 2_000_000));
        rate.probed(base(), bits);
        let burst = rate.beat(base(), Way::default());
        (rate.target(), burst)
    };
    assert_eq!(begin(10_000_000).0, begin(40_000_000).0);
    let (target, burst) = begin(300_000);
    assert!((150_000..240_000).contains(&target), "{target}");
    assert!(burst <= 1_500, "{burst}");
    assert_eq!(begin(10_000).0, 50_000);
    let mut rate = Rate::new((50_000, 2_000_000));
    Wire::new(4_000_000.0).run(&mut rate, 5);
    rate.probed(base(), 10_000);
    assert_eq!(rate.target(), 2_000_000);
}

#[test]
fn without_an_answer_it_begins_softly_and_takes_one_that_comes_late() {
    let mut rate = Rate::new((50_000, 2_000_000));
    assert_eq!(rate.target(), 300_000);
    let burst = rate.beat(base(), Way::default());
    assert!((10_000..15_000).contains(&burst), "{burst}");
    rate.spent(burst);
    rate.probed(base().after(MS(60)), 10_000_000);
    assert_eq!(rate.target(), 500_000);
}

#[test]
fn a_first_keyframe_leaves_at_what_a_train_found_before_anything_is_acknowledged() {
    let (mut rate, start) = (Rate::new((50_000, 2_000_000)), base());
    rate.probed(start, 10_000_000);
    let (mut under_way, mut beats) = (0, 0);
    while under_way < 25_000 {
        let way = Way {
            under_way,
            ..Way::default()
        };
        let bytes = rate.beat(start.after(BEAT * beats), way);
        rate.spent(bytes);
        (under_way, beats) = (under_way + bytes, beats + 1);
        assert!(beats < 8, "{under_way} bytes in {beats} beats");
    }
}

#[test]
fn a_cut_of_long_ago_makes_no_target_little() {
    let (mut rate, start) = (Rate::new((50_000, 2_000_000)), base());
    rate.cuts.take(start, 1_000_000.0);
    rate.set(300_000.0);
    assert!(rate.is_light(start.after(MS(29_000))));
    rate.cuts.take(start.after(MS(20_000)), 400_000.0);
    assert!(rate.is_light(start.after(MS(30_000))));
    assert!(!rate.is_light(start.after(MS(31_000))));
}

/// A packet of sound that left at this second is told of: it took `way` ms, by the other clock.
fn told(delay: &mut Delay, second: u32, way: i64) {
    let now = base().after(MS(1_000) * second);
    let at = i64::from(second) * 1_000_000 + way * 1_000;
    let packet = Packet {
        kind: Kind::Audio,
        sent: now.mono,
        bytes: 100,
        fate: Fate::Arrived(Some(at)),
    };
    let packets = vec![packet];
    delay.report(
        now.after(MS(2 * way.unsigned_abs())),
        &Feedback { at, packets },
        false,
    );
}

#[test]
fn a_way_that_became_longer_is_not_taken_for_full_for_ever() {
    let mut delay = Delay::default();
    for second in 0..130 {
        told(&mut delay, second, if second < 10 { 10 } else { 100 });
        if second == 60 {
            assert_eq!(delay.round_trip(), Some(MS(20)));
        }
    }
    assert_eq!(delay.round_trip(), Some(MS(200)));
    assert_eq!(delay.queue(), Duration::ZERO);
}

#[test]
fn what_was_short_before_a_long_silence_is_forgotten() {
    let mut delay = Delay::default();
    told(&mut delay, 0, 10);
    // ten minutes of a clock that drifts by 200 millionths
    told(&mut delay, 600, 130);
    assert_eq!(delay.queue(), Duration::ZERO);
}

/// A report of a picture that left at this beat and arrived at once.
fn picture(now: Now, beat: u32) -> Feedback {
    let at = i64::from(beat) * 5_000;
    let packet = Packet {
        kind: Kind::Video,
        sent: now.mono,
        bytes: 1_000,
        fate: Fate::Arrived(Some(at)),
    };
    let packets = vec![packet];
    Feedback { at, packets }
}

// covers: SUORA-MED-024
#[test]
fn what_quic_lost_of_a_mute_person_while_nothing_got_through_is_no_loss() {
    let mut rate = Rate::new((50_000, 2_000_000));
    let (start, mut way) = (base(), Way::default());
    for beat in 0..800 {
        let now = start.after(BEAT * beat);
        match beat {
            // what was sent in the dark turns out to be lost right after it
            200..420 => way.lost += 1_000,
            _ => way.acked += 1_000,
        }
        match beat {
            200 => rate.silence(now.mono),
            400 => rate.heard(now),
            _ => {}
        }
        rate.beat(now, way);
        if beat % 16 == 15 && !(200..400).contains(&beat) {
            rate.report(now, &picture(now, beat));
        }
    }
    assert_eq!((rate.steady_loss(), rate.copies()), (0.0, 1));
}

#[test]
fn who_is_mute_learns_of_loss_from_what_quic_lost() {
    let mut rate = Rate::new((50_000, 2_000_000));
    let (start, mut way) = (base(), Way::default());
    for beat in 0..400 {
        let now = start.after(BEAT * beat);
        way.acked += 950;
        way.lost += 50;
        rate.beat(now, way);
        if beat % 16 == 15 {
            rate.report(now, &picture(now, beat));
        }
    }
    let loss = rate.steady_loss();
    assert!((0.04..0.06).contains(&loss), "{loss}");
    assert_eq!(rate.copies(), 3);
}
