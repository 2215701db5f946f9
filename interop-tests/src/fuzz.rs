//! What bad bytes may not do. A [`Target`] is one parser with what must hold of whatever it
//! accepts; libFuzzer drives them (`make fuzz`, [`run`]), and the tests replay the committed
//! corpus, the vectors and small changes of both on every build.

pub mod documents;
pub mod files;
pub mod media;
pub mod packets;
pub mod run;
pub mod turn;
pub mod wire;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::vectors::raw::unhex;
use crate::vectors::spec;

/// A parser under test. Its body panics if something that must hold does not.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// What it reads.
    pub reads: &'static str,
    /// Reads some bytes.
    pub body: fn(&[u8]),
    /// The longest input that is worth a try.
    pub longest: usize,
    /// Chapters of the vectors whose bytes are seeds.
    pub chapters: &'static [&'static str],
}

/// All parsers of bytes from outside.
pub const TARGETS: &[Target] = &[
    Target {
        name: "cbor",
        reads: "any deterministic CBOR item",
        body: documents::cbor,
        longest: 512,
        chapters: &["documents", "control", "session"],
    },
    Target {
        name: "document",
        reads: "the envelope of all signed documents",
        body: documents::document,
        longest: 4_096,
        chapters: &["documents"],
    },
    Target {
        name: "payload",
        reads: "descriptor, credential and invite behind a good signature",
        body: documents::payload,
        longest: 4_096,
        chapters: &[],
    },
    Target {
        name: "hello",
        reads: "hello and welcome behind a good signature",
        body: documents::hello,
        longest: 1_024,
        chapters: &[],
    },
    Target {
        name: "names",
        reads: "peer ids, root ids, desk ids, addresses of agencies",
        body: documents::names,
        longest: 256,
        chapters: &[],
    },
    Target {
        name: "framing",
        reads: "messages out of a stream, however it is cut",
        body: wire::framing,
        longest: 4_096,
        chapters: &["control"],
    },
    Target {
        name: "control",
        reads: "messages between nodes and relay",
        body: wire::control,
        longest: 1_024,
        chapters: &["control"],
    },
    Target {
        name: "session",
        reads: "messages between host and guest",
        body: wire::session,
        longest: 1_024,
        chapters: &["session"],
    },
    Target {
        name: "routes",
        reads: "packets at a node's socket, before any cryptography",
        body: packets::routes,
        longest: 1_024,
        chapters: &[],
    },
    Target {
        name: "turn",
        reads: "packets at the relay's STUN and TURN, before and behind a good proof",
        body: turn::turn,
        longest: 1_024,
        chapters: &[],
    },
    Target {
        name: "paths",
        reads: "STUN, TURN and QUIC at the paths of a node in mid-consultation",
        body: packets::paths,
        longest: 1_024,
        chapters: &[],
    },
    Target {
        name: "rtp",
        reads: "RTP packets and their extensions",
        body: media::rtp,
        longest: 256,
        chapters: &["media"],
    },
    Target {
        name: "rtcp",
        reads: "RTCP packets and arrival reports",
        body: media::rtcp,
        longest: 1_200,
        chapters: &["media"],
    },
    Target {
        name: "roq",
        reads: "flow ids, datagrams, streams: the whole receiver",
        body: media::roq,
        longest: 2_048,
        chapters: &["media"],
    },
    Target {
        name: "h264",
        reads: "access units: cut, joined and decoded",
        body: media::h264,
        longest: 4_096,
        chapters: &["media"],
    },
    Target {
        name: "opus",
        reads: "Opus packets: measured and decoded",
        body: media::opus,
        longest: 512,
        chapters: &["media"],
    },
    Target {
        name: "mp4",
        reads: "MP4 files",
        body: files::mp4,
        longest: 8_192,
        chapters: &[],
    },
    Target {
        name: "ogg",
        reads: "Ogg Opus files",
        body: files::ogg,
        longest: 4_096,
        chapters: &[],
    },
    Target {
        name: "wav",
        reads: "WAV files",
        body: files::wav,
        longest: 512,
        chapters: &[],
    },
    Target {
        name: "y4m",
        reads: "Y4M files",
        body: files::y4m,
        longest: 2_048,
        chapters: &[],
    },
    Target {
        name: "config",
        reads: "settings, key files, registers, pages, memories, made-up devices, intents",
        body: files::config,
        longest: 1_024,
        chapters: &[],
    },
    Target {
        name: "store",
        reads: "the relay's store file",
        body: files::store,
        longest: 32_768,
        chapters: &[],
    },
];

/// A bug that was put there, to see that it is found: not among [`TARGETS`].
pub const PLANTED: Target = Target {
    name: "planted",
    reads: "a bug that was put there",
    body: planted,
    longest: 64,
    chapters: &[],
};

fn planted(bytes: &[u8]) {
    if let [b'S', b'u', b'o', b'!', length, ..] = bytes {
        assert!(usize::from(*length) < bytes.len(), "planted");
    }
}

/// The target of this name, the planted bug too.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS
        .iter()
        .chain([&PLANTED])
        .find(|target| target.name == name)
}

/// Where the committed corpus is: a file a target, an input a line, in hexadecimal.
pub fn corpus_file(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(format!("{}.hex", target.name))
}

/// The committed corpus of a target; a target without one has none yet.
pub fn corpus(target: &Target) -> Result<Vec<Vec<u8>>, String> {
    let path = corpus_file(target);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    text.lines()
        .zip(1..)
        .map(|(line, number)| {
            unhex(line).ok_or_else(|| format!("{}:{number}: not hexadecimal", path.display()))
        })
        .collect()
}

/// Where a fuzzer begins: the bytes of the vectors, and small whole examples of files.
pub fn seeds(target: &Target) -> Result<Vec<Vec<u8>>, String> {
    let mut seeds = files::examples(target.name)?;
    seeds.extend(packets::examples(target.name));
    seeds.extend(turn::examples(target.name));
    seeds.extend(documents::examples(target.name).map_err(|fault| fault.to_string())?);
    for chapter in target.chapters {
        let folder = spec().join("vectors").join(chapter);
        let entries =
            std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths
            .iter()
            .filter(|path| path.extension().is_some_and(|e| e == "json"))
        {
            let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
            let value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            bytes_of(&value, &mut seeds);
        }
    }
    seeds.retain(|seed| seed.len() <= target.longest);
    seeds.sort();
    seeds.dedup();
    Ok(seeds)
}

/// All texts of a JSON value that are hexadecimal.
fn bytes_of(value: &Value, into: &mut Vec<Vec<u8>>) {
    match value {
        Value::String(text) => into.extend(unhex(text)),
        Value::Array(items) => items.iter().for_each(|item| bytes_of(item, into)),
        Value::Object(fields) => fields.values().for_each(|field| bytes_of(field, into)),
        _ => {}
    }
}

/// Small changes of an input, the same each time: bits, lengths, numbers at their ends.
pub fn changes(input: &[u8], many: usize) -> Vec<Vec<u8>> {
    let mut state = input.iter().fold(0x9e37_79b9_7f4a_7c15_u64, |state, byte| {
        (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut below = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(bound.max(1)).unwrap_or(1)).unwrap_or(0)
    };
    let mut all = Vec::with_capacity(many);
    for _ in 0..many {
        let mut changed = input.to_vec();
        for _ in 0..=below(3) {
            let at = below(changed.len());
            match below(6) {
                0 => changed.truncate(at),
                1 => changed.insert(at.min(changed.len()), [0, 1, 0x7f, 0x80, 0xff][below(5)]),
                2 if !changed.is_empty() => changed[at] ^= 1 << below(8),
                3 if !changed.is_empty() => changed[at] = [0, 1, 0x7f, 0x80, 0xff][below(5)],
                4 if !changed.is_empty() => {
                    changed.remove(at);
                }
                5 if !changed.is_empty() => {
                    let end = (at + 1 + below(8)).min(changed.len());
                    let again = changed[at..end].to_vec();
                    drop(changed.splice(at..at, again));
                }
                _ => {}
            }
        }
        all.push(changed);
    }
    all
}

/// Whether a body stands these bytes; else what it said.
pub fn stands(target: &Target, bytes: &[u8]) -> Result<(), String> {
    let body = target.body;
    std::panic::catch_unwind(|| body(bytes)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
            .unwrap_or_default()
    })
}
