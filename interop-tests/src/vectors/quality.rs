//! The vectors of quality (`spec/media.md`, section 11) and of the clocks
//! (`spec/consultation.md`, section 5).

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use suora_protocol::consultation::clock::Sync;
use suora_protocol::consultation::quality::{Quality, Second, Told};
use suora_protocol::fault::Fault;
use suora_protocol::quality::{Network, Word};
use suora_protocol::time::{Now, Timestamp};
use suora_protocol::wire::guest::ClockAnswer;

use super::verify::{Case, lacks};
use super::{Facts, Vectors, fields};

fn describe(vectors: &mut Vectors) {
    vectors.format.extend([
        ("name", "the case's name in this file"),
        ("comment", "what a valid case shows"),
    ]);
}

/// A second in which all is well.
const CALM: Second = Second {
    length_ms: 1_000,
    silent_ms: 15,
    sound: true,
    played_ms: 1_000,
    concealed_ms: 0,
    sound_delay_ms: Some(90.0),
    picture: true,
    shown: 30,
    frozen_ms: 0,
    picture_delay_ms: Some(80.0),
    loss: 0.0,
    queue_ms: 0.0,
    sends_picture: true,
    target_bps: 1_000_000,
    relayed: false,
    network: Network::Good,
};

fn figures(second: &Second) -> Value {
    json!({
        "silent_ms": second.silent_ms,
        "sound": second.sound,
        "played_ms": second.played_ms,
        "concealed_ms": second.concealed_ms,
        "sound_delay_ms": second.sound_delay_ms,
        "picture": second.picture,
        "shown": second.shown,
        "frozen_ms": second.frozen_ms,
        "picture_delay_ms": second.picture_delay_ms,
        "loss": second.loss,
        "queue_ms": second.queue_ms,
        "sends_picture": second.sends_picture,
        "target_bps": second.target_bps,
        "relayed": second.relayed,
        "network": second.network.as_str(),
    })
}

/// So many equal seconds of a consultation, and what the other end told before them.
type Part = (usize, Second, Option<Told>);

const fn told(word: Word, network: Network) -> Option<Told> {
    Some(Told { word, network })
}

/// Words and causes of seconds.
pub fn make() -> Result<Vectors, Fault> {
    let mut vectors = Vectors::new("media", "quality", "spec/media.md, section 11");
    describe(&mut vectors);
    vectors.format.extend([
        (
            "parts",
            "equal seconds one after another, from the accept on: how many, what the other end told before them (null: nothing), their figures",
        ),
        ("words", "the word after each second"),
        ("causes", "its cause; null while the word is good"),
        ("told", "the word that the other end is told"),
    ]);
    vectors.verification =
        vec!["Judge the seconds one after another; compare words, causes and told."];
    let slow = Second { shown: 8, ..CALM };
    let broken = Second {
        concealed_ms: 250,
        ..CALM
    };
    let at = |network| Second { network, ..broken };
    let good = told(Word::Good, Network::Good);
    let cases: [(&str, &str, Vec<Part>); 10] = [
        ("good", "all is well", vec![(6, CALM, good)]),
        (
            "begins",
            "a track counts from the fourth second on, and a word needs two seconds",
            vec![(7, Second { shown: 0, ..CALM }, good)],
        ),
        (
            "fair",
            "few pictures: worse after two seconds, better after four",
            vec![(5, CALM, good), (3, slow, None), (5, CALM, None)],
        ),
        (
            "own",
            "the sound breaks and the own link is late",
            vec![(5, CALM, good), (4, at(Network::Bad), None)],
        ),
        (
            "other",
            "the other end says that its network is bad",
            vec![(5, CALM, good), (4, broken, told(Word::Good, Network::Bad))],
        ),
        (
            "relay",
            "relayed, and both first miles are fine",
            vec![(
                9,
                Second {
                    relayed: true,
                    ..broken
                },
                good,
            )],
        ),
        (
            "both-bad",
            "only what we send suffers: it is our way up",
            vec![(
                9,
                Second {
                    queue_ms: 400.0,
                    network: Network::Bad,
                    ..CALM
                },
                told(Word::Good, Network::Bad),
            )],
        ),
        (
            "lost",
            "nothing comes while the own link answers, then it comes again",
            vec![
                (5, CALM, good),
                (
                    2,
                    Second {
                        silent_ms: 2_500,
                        played_ms: 0,
                        shown: 0,
                        ..CALM
                    },
                    None,
                ),
                (5, CALM, None),
            ],
        ),
        (
            "theirs",
            "what the other end suffers counts and is not told back",
            vec![(5, CALM, told(Word::SoundOnly, Network::Unknown))],
        ),
        (
            "off",
            "what is switched off is not missed",
            vec![(
                6,
                Second {
                    sound: false,
                    picture: false,
                    sends_picture: false,
                    played_ms: 0,
                    shown: 0,
                    target_bps: 0,
                    silent_ms: 3_000,
                    ..CALM
                },
                good,
            )],
        ),
    ];
    for (name, comment, parts) in cases {
        let listed: Vec<Value> = parts
            .iter()
            .map(|(count, second, told)| {
                json!({
                    "count": count,
                    "told": told.map(|told| json!({"word": told.word.as_str(), "network": told.network.as_str()})),
                    "figures": figures(second),
                })
            })
            .collect();
        let mut case = fields(json!({ "parts": listed }));
        case.extend(verify(&case)?);
        vectors.valid(name, comment, Value::Object(case));
    }
    Ok(vectors)
}

fn second(value: &Value) -> Option<Second> {
    let number = |key: &str| value[key].as_u64().and_then(|n| u32::try_from(n).ok());
    let flag = |key: &str| value[key].as_bool();
    Some(Second {
        length_ms: 1_000,
        silent_ms: number("silent_ms")?,
        sound: flag("sound")?,
        played_ms: number("played_ms")?,
        concealed_ms: number("concealed_ms")?,
        sound_delay_ms: value["sound_delay_ms"].as_f64(),
        picture: flag("picture")?,
        shown: number("shown")?,
        frozen_ms: number("frozen_ms")?,
        picture_delay_ms: value["picture_delay_ms"].as_f64(),
        loss: value["loss"].as_f64()?,
        queue_ms: value["queue_ms"].as_f64()?,
        sends_picture: flag("sends_picture")?,
        target_bps: number("target_bps")?,
        relayed: flag("relayed")?,
        network: Network::parse(value["network"].as_str()?)?,
    })
}

/// Judges the seconds of a case.
pub fn verify(case: &Case) -> Result<Facts, Fault> {
    let parts = case["parts"].as_array().ok_or_else(|| lacks("parts"))?;
    let mut quality = Quality::new();
    let (mut words, mut causes, mut tells) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        let count = part["count"].as_u64().ok_or_else(|| lacks("count"))?;
        let second = second(&part["figures"]).ok_or_else(|| lacks("figures"))?;
        let of = |key: &str| part["told"][key].as_str();
        if let (Some(word), Some(network)) = (of("word"), of("network")) {
            quality.told(Told {
                word: Word::parse(word).ok_or_else(|| lacks("word"))?,
                network: Network::parse(network).ok_or_else(|| lacks("network"))?,
            });
        }
        for _ in 0..count {
            let verdict = quality.second(second);
            words.push(verdict.word.as_str());
            causes.push(verdict.cause.map(suora_protocol::quality::Cause::as_str));
            tells.push(verdict.tell.word.as_str());
        }
    }
    Ok(fields(
        json!({ "words": words, "causes": causes, "told": tells }),
    ))
}

/// Exchanges of the clock.
pub fn clock() -> Result<Vectors, Fault> {
    let mut vectors = Vectors::new("session", "clock", "spec/consultation.md, section 5");
    describe(&mut vectors);
    vectors.format.extend([
        (
            "exchanges",
            "t1, t2, t3 and t4, in microseconds; t1 and t4 by our clock, which does not jump",
        ),
        (
            "found",
            "after each exchange: offset and uncertainty, in microseconds; null: it is impossible and ignored",
        ),
        ("later", "microseconds after the last t4"),
        ("then", "offset and uncertainty then"),
    ]);
    vectors.verification = vec![
        "Take the exchanges one after another, each as the answer to an open question; compare found.",
        "Compare then with what is known so much later.",
    ];
    let cases: [(&str, &str, Vec<[i64; 4]>, i64); 6] = [
        (
            "one",
            "half the round trip, and what clocks drift in it",
            vec![[0, 5_010_000, 5_010_500, 20_500]],
            0,
        ),
        (
            "both-sides",
            "a slow way there, then a slow way back: each bounds one side",
            vec![
                [0, 1_090_000, 1_090_000, 100_000],
                [1_000_000, 2_010_000, 2_010_000, 1_100_000],
            ],
            0,
        ),
        (
            "drift",
            "the uncertainty grows by 200 microseconds a second",
            vec![[0, 10_000, 10_000, 20_000]],
            60_000_000,
        ),
        (
            "worse",
            "an exchange that says less takes nothing away",
            vec![
                [0, 10_000, 10_000, 20_000],
                [20_000, 220_000, 220_000, 420_000],
            ],
            0,
        ),
        (
            "set",
            "nothing is left: a clock was set, and only the last counts",
            vec![
                [0, 10_000, 10_000, 20_000],
                [20_000, 3_600_050_000, 3_600_050_000, 80_000],
            ],
            0,
        ),
        (
            "impossible",
            "longer there than the whole exchange took here",
            vec![
                [0, 10_000, 10_000, 20_000],
                [20_000, 30_000, 90_000, 40_000],
            ],
            0,
        ),
    ];
    for (name, comment, exchanges, later) in cases {
        let mut case = fields(json!({ "exchanges": exchanges, "later": later }));
        case.extend(verify_clock(&case)?);
        vectors.valid(name, comment, Value::Object(case));
    }
    Ok(vectors)
}

/// Takes the exchanges of a case.
pub fn verify_clock(case: &Case) -> Result<Facts, Fault> {
    let exchanges = case["exchanges"].as_array();
    let exchanges = exchanges.ok_or_else(|| lacks("exchanges"))?;
    let mut sync = Sync::default();
    let start = base();
    let mut last = start;
    let mut found = Vec::new();
    for exchange in exchanges {
        let time = |at: usize| exchange[at].as_i64().ok_or_else(|| lacks("time"));
        let moment = |micros: i64| {
            let passed = u64::try_from(micros).map_err(|_| lacks("time"))?;
            Ok::<Now, Fault>(Now {
                mono: start + Duration::from_micros(passed),
                utc: Timestamp::from_micros(micros),
            })
        };
        let (asked, answered) = (moment(time(0)?)?, moment(time(3)?)?);
        let clock = sync.ask(asked).ok_or_else(|| lacks("question"))?;
        let answer = ClockAnswer {
            id: clock.id,
            t1: clock.t1,
            t2: Timestamp::from_micros(time(1)?),
            t3: Timestamp::from_micros(time(2)?),
        };
        last = answered.mono;
        let offset = sync.answer(last, answer, answered.utc);
        found.push(offset.map(|offset| [offset.offset, offset.uncertainty]));
    }
    let later = case["later"].as_u64().ok_or_else(|| lacks("later"))?;
    let then = sync.offset(last + Duration::from_micros(later));
    let then = then.map(|offset| [offset.offset, offset.uncertainty]);
    Ok(fields(json!({ "found": found, "then": then })))
}

#[expect(clippy::disallowed_methods, reason = "door: the base of virtual time")]
fn base() -> Instant {
    Instant::now()
}
