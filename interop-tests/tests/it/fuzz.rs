//! What fuzzing found stays found: every target stands its committed corpus, the bytes of the
//! vectors, whole small files, and small changes of all of them.

use suora_interop::fuzz::{self, PLANTED, TARGETS, Target};

/// Changes of each input.
const CHANGES: usize = 8;
/// Those of slow targets, which decode or open a database each time.
const FEW: usize = 2;

/// The first input that a target does not stand.
fn replay(target: &Target) -> Result<usize, String> {
    let mut inputs = fuzz::corpus(target)?;
    inputs.extend(fuzz::seeds(target)?);
    let slow = ["store", "mp4", "h264"].contains(&target.name);
    let many = if slow { FEW } else { CHANGES };
    let changed = inputs.iter().flat_map(|input| fuzz::changes(input, many));
    let changed: Vec<Vec<u8>> = changed.collect();
    for input in inputs.iter().chain(&changed) {
        fuzz::stands(target, input)
            .map_err(|why| format!("{}: {why}; input {input:02x?}", target.name))?;
    }
    Ok(inputs.len() + changed.len())
}

// covers: SUORA-SEC-140
#[test]
fn every_parser_stands_its_corpus_and_small_changes_of_it() {
    std::thread::scope(|scope| {
        let halves = TARGETS.chunks(TARGETS.len().div_ceil(2));
        let work: Vec<_> = halves
            .map(|half| {
                scope.spawn(move || {
                    let replayed = half.iter().map(|target| (target.name, replay(target)));
                    replayed.collect::<Vec<_>>()
                })
            })
            .collect();
        let all: Vec<_> = work
            .into_iter()
            .flat_map(|half| half.join().unwrap())
            .collect();
        for (name, replayed) in all {
            let count = replayed.unwrap();
            assert!(count > 5, "{name}: only {count} inputs");
        }
    });
}

#[test]
fn a_planted_bug_is_found_by_its_input_and_by_no_other() {
    fuzz::stands(&PLANTED, b"Suo!\x01more").unwrap();
    fuzz::stands(&PLANTED, b"Suo").unwrap();
    let why = fuzz::stands(&PLANTED, b"Suo!\xff").unwrap_err();
    assert!(why.contains("planted"), "{why}");
}

#[test]
fn every_target_has_a_name_of_its_own_and_a_corpus() {
    for (number, target) in TARGETS.iter().enumerate() {
        let named = TARGETS.iter().position(|other| other.name == target.name);
        assert_eq!(named, Some(number));
        let corpus = fuzz::corpus(target).unwrap();
        assert!(corpus.iter().all(|input| input.len() <= target.longest));
        assert!(
            !corpus.is_empty(),
            "{}: no corpus is committed",
            target.name
        );
    }
}
