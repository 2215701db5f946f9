//! Words and causes of invented seconds. Scenes on a bad network are in `interop-tests`.

use proptest::prelude::*;

use super::*;

/// A second in which all is well.
fn calm() -> Second {
    Second {
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
    }
}

/// A consultation that has gone well for a while.
fn settled() -> Quality {
    let mut quality = Quality::new();
    quality.told(Told {
        word: Word::Good,
        network: Network::Good,
    });
    for _ in 0..10 {
        let verdict = quality.second(calm());
        assert_eq!((verdict.word, verdict.cause), (Word::Good, None));
    }
    quality
}

/// The word after so many of these seconds.
fn after(quality: &mut Quality, count: usize, second: Second) -> Verdict {
    let mut verdict = quality.second(second);
    for _ in 1..count {
        verdict = quality.second(second);
    }
    verdict
}

// covers: SUORA-MED-051
#[test]
fn each_figure_over_its_bound_has_its_word() {
    let cases: [(&str, Second, Word); 17] = [
        ("all is well", calm(), Word::Good),
        (
            "4 % made up",
            Second {
                concealed_ms: 40,
                ..calm()
            },
            Word::Fair,
        ),
        (
            "20 % made up",
            Second {
                concealed_ms: 200,
                ..calm()
            },
            Word::Poor,
        ),
        (
            "late sound",
            Second {
                sound_delay_ms: Some(300.0),
                ..calm()
            },
            Word::Fair,
        ),
        (
            "too late sound",
            Second {
                sound_delay_ms: Some(450.0),
                ..calm()
            },
            Word::Poor,
        ),
        ("few pictures", Second { shown: 8, ..calm() }, Word::Fair),
        ("a slide show", Second { shown: 3, ..calm() }, Word::Poor),
        (
            "short freezes",
            Second {
                frozen_ms: 150,
                ..calm()
            },
            Word::Fair,
        ),
        (
            "long freezes",
            Second {
                frozen_ms: 500,
                ..calm()
            },
            Word::Poor,
        ),
        (
            "late picture",
            Second {
                picture_delay_ms: Some(600.0),
                ..calm()
            },
            Word::Fair,
        ),
        ("no picture", Second { shown: 0, ..calm() }, Word::SoundOnly),
        (
            "our picture is small",
            Second {
                target_bps: 100_000,
                ..calm()
            },
            Word::Fair,
        ),
        (
            "none of ours may leave",
            Second {
                target_bps: 0,
                ..calm()
            },
            Word::SoundOnly,
        ),
        (
            "we lose a fifth",
            Second {
                loss: 0.2,
                ..calm()
            },
            Word::Fair,
        ),
        (
            "we lose a third",
            Second {
                loss: 0.33,
                ..calm()
            },
            Word::Poor,
        ),
        (
            "ours queue",
            Second {
                queue_ms: 200.0,
                ..calm()
            },
            Word::Fair,
        ),
        (
            "silence",
            Second {
                silent_ms: 2_000,
                ..calm()
            },
            Word::Lost,
        ),
    ];
    for (name, second, word) in cases {
        assert_eq!(after(&mut settled(), 6, second).word, word, "{name}");
    }
}

// covers: SUORA-MED-051
#[test]
fn what_is_switched_off_is_not_missed() {
    let muted = Second {
        sound: false,
        picture: false,
        sends_picture: false,
        played_ms: 0,
        shown: 0,
        frozen_ms: 0,
        target_bps: 0,
        silent_ms: 3_000,
        ..calm()
    };
    let mut quality = settled();
    assert_eq!(after(&mut quality, 20, muted).word, Word::Good);
    let gone = Second {
        silent_ms: 5_000,
        ..muted
    };
    assert_eq!(quality.second(gone).word, Word::Lost);
}

// covers: SUORA-MED-051
#[test]
fn a_picture_that_was_just_switched_on_has_time_to_come() {
    let off = Second {
        picture: false,
        shown: 0,
        ..calm()
    };
    let mut quality = settled();
    after(&mut quality, 10, off);
    let on = Second {
        picture: true,
        ..off
    };
    assert_eq!(after(&mut quality, SETTLE as usize, on).word, Word::Good);
    assert_eq!(after(&mut quality, 2, on).word, Word::SoundOnly);
}

// covers: SUORA-MED-052
#[test]
fn a_bad_second_changes_no_word_and_two_do() {
    let slow = Second { shown: 8, ..calm() };
    let mut quality = settled();
    let verdict = quality.second(slow);
    assert_eq!((verdict.word, verdict.troubled), (Word::Good, true));
    assert_eq!(quality.second(calm()).word, Word::Good);
    assert_eq!(after(&mut quality, 2, slow).word, Word::Fair);
    assert_eq!(after(&mut quality, 3, calm()).word, Word::Fair);
    assert_eq!(quality.second(slow).word, Word::Fair, "it begins anew");
    assert_eq!(after(&mut quality, 3, calm()).word, Word::Fair);
    assert_eq!(quality.second(calm()).word, Word::Good);
}

// covers: SUORA-MED-052
#[test]
fn who_was_lost_and_comes_back_is_there_at_once() {
    let mut quality = settled();
    let lost = Second {
        silent_ms: 4_000,
        played_ms: 0,
        shown: 0,
        ..calm()
    };
    assert_eq!(quality.second(lost).word, Word::Lost);
    assert_eq!(quality.second(calm()).word, Word::Poor);
    assert_eq!(after(&mut quality, 3, calm()).word, Word::Good);
}

/// What both know of their networks → the cause that this end names.
fn cause(own: Network, theirs: Network, second: Second) -> Option<Cause> {
    let mut quality = settled();
    quality.told(Told {
        word: Word::Good,
        network: theirs,
    });
    let second = Second {
        network: own,
        ..second
    };
    after(&mut quality, 5, second).cause
}

// covers: SUORA-MED-054
#[test]
fn each_cause_is_named_by_what_tells_of_it() {
    use Network::{Bad, Good, Unknown};
    let direct = Second {
        concealed_ms: 200,
        ..calm()
    };
    let relayed = Second {
        relayed: true,
        ..direct
    };
    for (own, theirs, path, named) in [
        (Bad, Good, direct, Cause::Own),
        (Bad, Unknown, relayed, Cause::Own),
        (Good, Bad, direct, Cause::Other),
        (Unknown, Bad, relayed, Cause::Other),
        (Good, Good, relayed, Cause::Relay),
        (Bad, Bad, relayed, Cause::Relay),
        (Good, Good, direct, Cause::Unknown),
        (Good, Unknown, relayed, Cause::Unknown),
        (Unknown, Good, relayed, Cause::Unknown),
        (Unknown, Unknown, direct, Cause::Unknown),
    ] {
        assert_eq!(cause(own, theirs, path), Some(named), "{own} {theirs}");
    }
}

// covers: SUORA-MED-054
#[test]
fn where_both_networks_are_bad_the_direction_that_suffers_tells_whose_it_is() {
    use Network::Bad;
    let coming = Second {
        concealed_ms: 200,
        ..calm()
    };
    let going = Second {
        queue_ms: 500.0,
        ..calm()
    };
    let both = Second {
        queue_ms: 500.0,
        ..coming
    };
    assert_eq!(cause(Bad, Bad, coming), Some(Cause::Other));
    assert_eq!(cause(Bad, Bad, going), Some(Cause::Own));
    assert_eq!(cause(Bad, Bad, both), Some(Cause::Unknown));
}

// covers: SUORA-MED-054
#[test]
fn silence_is_the_other_ends_where_our_own_link_answers() {
    use Network::{Bad, Good, Unknown};
    let lost = Second {
        silent_ms: 3_000,
        ..calm()
    };
    // what they said before they fell silent does not count
    assert_eq!(cause(Good, Bad, lost), Some(Cause::Other));
    assert_eq!(cause(Bad, Bad, lost), Some(Cause::Own));
    assert_eq!(cause(Unknown, Bad, lost), Some(Cause::Unknown));
}

// covers: SUORA-MED-052
#[test]
fn a_known_cause_stays_through_seconds_that_tell_of_none() {
    let bad = |network| Second {
        concealed_ms: 200,
        network,
        ..calm()
    };
    let mut quality = settled();
    assert_eq!(
        after(&mut quality, 3, bad(Network::Bad)).cause,
        Some(Cause::Own)
    );
    let holds = CAUSE_HOLD as usize;
    let verdict = after(&mut quality, holds - 1, bad(Network::Good));
    assert_eq!(verdict.cause, Some(Cause::Own));
    assert_eq!(
        quality.second(bad(Network::Good)).cause,
        Some(Cause::Unknown)
    );
    assert_eq!(quality.second(bad(Network::Bad)).cause, Some(Cause::Own));
    assert_eq!(after(&mut quality, 12, calm()).cause, None);
}

// covers: SUORA-MED-051, SUORA-CON-013
#[test]
fn what_the_other_end_suffers_counts_and_is_not_told_back() {
    let mut quality = settled();
    quality.told(Told {
        word: Word::Poor,
        network: Network::Good,
    });
    let verdict = quality.second(calm());
    assert_eq!(verdict.word, Word::Poor);
    assert_eq!(verdict.tell.word, Word::Good);
    assert_eq!(quality.heard(), Some(Word::Poor));
}

#[test]
fn each_second_counts_once_by_word_and_at_most_once_by_cause() {
    let mut quality = settled();
    let slow = Second {
        shown: 8,
        network: Network::Bad,
        ..calm()
    };
    after(&mut quality, 12, slow);
    let shares = quality.shares();
    assert_eq!(shares.words, [11, 11, 0, 0, 0]);
    assert_eq!(shares.causes, [11, 0, 0, 0]);
}

fn any_second() -> impl Strategy<Value = Second> {
    let network = prop_oneof![
        Just(Network::Good),
        Just(Network::Bad),
        Just(Network::Unknown)
    ];
    (
        (0..6_000u32, any::<bool>(), 0..=1_000u32, 0.0..600.0f64),
        (any::<bool>(), 0..40u32, 0..=1_000u32, 0.0..2_000.0f64),
        (0.0..1.0f64, 0.0..2_000.0f64, any::<bool>(), 0..2_000_000u32),
        (any::<bool>(), network),
    )
        .prop_map(|(sound, picture, going, way)| Second {
            length_ms: 1_000,
            silent_ms: sound.0,
            sound: sound.1,
            played_ms: 1_000,
            concealed_ms: sound.2,
            sound_delay_ms: Some(sound.3),
            picture: picture.0,
            shown: picture.1,
            frozen_ms: picture.2,
            picture_delay_ms: Some(picture.3),
            loss: going.0,
            queue_ms: going.1,
            sends_picture: going.2,
            target_bps: going.3,
            relayed: way.0,
            network: way.1,
        })
}

proptest! {
    // covers: SUORA-MED-052
    #[test]
    fn a_word_that_got_better_was_earned_by_seconds_in_a_row(
        seconds in proptest::collection::vec(prop_oneof![Just(calm()), any_second()], 1..60),
    ) {
        let mut quality = Quality::new();
        let mut words = Vec::new();
        for second in &seconds {
            let verdict = quality.second(*second);
            words.push(verdict.word);
            prop_assert_eq!(verdict.cause.is_none(), verdict.word == Word::Good);
            if verdict.word > Word::Good {
                prop_assert!(verdict.troubled);
            }
        }
        // between an improvement and the one before lie the seconds that earned it, but for
        // an end that was lost and is back
        let mut since = 0;
        for pair in words.windows(2) {
            since += 1;
            match pair {
                // who is back was lost in a second that counts
                [Word::Lost, _] => since = 1,
                [before, now] if now < before => {
                    prop_assert!(since >= BETTER_AFTER as usize, "{:?}", words);
                    since = 0;
                }
                [before, now] if now > before => since = 0,
                _ => {}
            }
        }
        let shares = quality.shares();
        prop_assert_eq!(shares.words.iter().sum::<u32>() as usize, seconds.len());
    }

    // covers: SUORA-MED-052
    #[test]
    fn figures_that_change_each_second_leave_the_word_alone(good_first in any::<bool>()) {
        let slow = Second { shown: 8, ..calm() };
        let mut quality = settled();
        for turn in 0..40 {
            let second = if (turn % 2 == 0) == good_first { calm() } else { slow };
            prop_assert_eq!(quality.second(second).word, Word::Good);
        }
    }

    // covers: SUORA-MED-054
    #[test]
    fn nobody_is_blamed_whose_network_answers_well(
        seconds in proptest::collection::vec(any_second(), 1..40),
    ) {
        let mut quality = Quality::new();
        quality.told(Told { word: Word::Good, network: Network::Good });
        for second in seconds {
            let second = Second { network: Network::Good, silent_ms: 0, ..second };
            let cause = quality.second(second).cause;
            prop_assert!(!matches!(cause, Some(Cause::Own | Cause::Other)), "{:?}", cause);
        }
    }
}
