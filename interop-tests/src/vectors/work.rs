//! The vectors of `spec/desk.md`, section 5: a proof of work, and what does not prove any.

use serde_json::{Value, json};
use suora_protocol::documents::DeskId;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::PeerId;
use suora_protocol::wire::work::{Puzzle, Slot};

use super::cast::desk;
use super::raw::hex;
use super::verify::{Case, fixed, lacks, text};
use super::{Facts, Vectors, fields};

/// Enough to show, and quickly done.
const BITS: u8 = 12;

fn puzzle(name: &str) -> Result<Puzzle, Fault> {
    Ok(Puzzle {
        desk: desk(name)?,
        slot: Slot::from_bytes([0x73; 16]),
        peer: PeerId::from_bytes([0x70; 32]),
        bits: BITS,
    })
}

fn case(puzzle: &Puzzle, nonce: u64) -> Value {
    json!({
        "desk": puzzle.desk.as_str(),
        "slot": hex(puzzle.slot.as_bytes()),
        "peer": hex(puzzle.peer.as_bytes()),
        "bits": puzzle.bits,
        "nonce": nonce,
        "zeros": puzzle.zeros(nonce),
    })
}

/// The file.
pub fn make() -> Result<Vectors, Fault> {
    let mut vectors = Vectors::new("control", "work", "spec/desk.md, section 5");
    vectors.format.extend([
        ("desk", "the desk that is joined"),
        ("slot", "the relay's slot of time"),
        ("peer", "the public key that joins"),
        ("bits", "how many bits have to be zero"),
        ("nonce", "the number that was found"),
        (
            "zeros",
            "how many bits of its hash are zero, from the first on",
        ),
    ]);
    vectors.verification = vec![
        "Hash `suora/1/work`, slot, peer, the desk's text, a zero byte and the nonce in 8 bytes, the highest first, by SHA-256.",
        "Count the zero bits from the first on; compare with zeros. Fewer than bits is bad-work.",
    ];
    let tax = puzzle("tax")?;
    let nonce = tax.solve()?.nonce;
    vectors.valid("done", "the first nonce that does it", case(&tax, nonce));
    let more = (nonce + 1..)
        .find(|other| tax.zeros(*other) >= BITS.into())
        .unwrap_or(nonce);
    vectors.valid("done-again", "any other that does it", case(&tax, more));
    let nothing = Puzzle {
        bits: 0,
        ..tax.clone()
    };
    vectors.valid("nothing", "no bit is asked for", case(&nothing, 1 << 40));
    let bad = Code::BadWork;
    let short = (0..)
        .find(|other| tax.zeros(*other) == u32::from(BITS) - 1)
        .unwrap_or(0);
    vectors.invalid("a-bit-short", bad, "one zero too few", case(&tax, short));
    vectors.invalid(
        "other-desk",
        bad,
        "done for another desk",
        case(&puzzle("ta")?, nonce),
    );
    let other = Puzzle {
        slot: Slot::from_bytes([0x74; 16]),
        ..tax.clone()
    };
    vectors.invalid(
        "other-slot",
        bad,
        "done for another slot",
        case(&other, nonce),
    );
    let other = Puzzle {
        peer: PeerId::from_bytes([0x71; 32]),
        ..tax
    };
    vectors.invalid(
        "other-key",
        bad,
        "done for another key",
        case(&other, nonce),
    );
    Ok(vectors)
}

/// Verifies a case.
pub fn verify(case: &Case) -> Result<Facts, Fault> {
    let number = |name: &str| case.get(name).and_then(Value::as_u64);
    let bits = number("bits").and_then(|bits| u8::try_from(bits).ok());
    let puzzle = Puzzle {
        desk: DeskId::new(text(case, "desk")?)?,
        slot: Slot::from_bytes(fixed(case, "slot")?),
        peer: PeerId::from_bytes(fixed(case, "peer")?),
        bits: bits.ok_or_else(|| lacks("bits"))?,
    };
    let nonce = number("nonce").ok_or_else(|| lacks("nonce"))?;
    puzzle.verify(nonce)?;
    Ok(fields(json!({ "zeros": puzzle.zeros(nonce) })))
}
