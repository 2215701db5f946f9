//! The words of quality, their causes, and how a network is (`spec/registries.md`,
//! section 6). How they are found is in [`crate::consultation::quality`].

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! registry {
    ($(#[$doc:meta])* $name:ident, else $other:ident; $($(#[$of:meta])* $case:ident = $text:literal,)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum $name { $($(#[$of])* $case,)* }

        impl $name {
            /// All of them, in the order of the registry.
            pub const ALL: &'static [$name] = &[$($name::$case,)*];

            /// The text of the registry.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$case => $text,)* }
            }

            /// What a text of the registry means; `None` for one that is not registered.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|case| case.as_str() == text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        /// A text that is not registered has a reading too, so that old ends understand new ones.
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Ok(Self::parse(&text).unwrap_or(Self::$other))
            }
        }
    };
}

registry! {
    /// How well two people see and hear each other, from best to worst.
    Word, else Fair;
    /// Nothing is wrong that a person would notice.
    Good = "good",
    /// A person notices: a small or slow picture, a delay, now and then a gap in the sound.
    Fair = "fair",
    /// It is hard to talk: the sound breaks, or the picture stands still again and again.
    Poor = "poor",
    /// The network is too weak for a picture; the sound goes on.
    SoundOnly = "sound-only",
    /// Nothing comes from the other end.
    Lost = "lost",
}

registry! {
    /// Where the trouble is.
    Cause, else Unknown;
    /// This end's own network.
    Own = "own",
    /// The other end's network.
    Other = "other",
    /// The relay that passes the media on, or its network.
    Relay = "relay",
    /// Somewhere between, or nobody can say.
    Unknown = "unknown",
}

registry! {
    /// How an end's own network is, as its link to the relay shows.
    Network, else Unknown;
    /// The link answers as fast as it did at its best.
    Good = "good",
    /// The link answers late, or not at all.
    Bad = "bad",
    /// There is no link to tell it.
    Unknown = "unknown",
}

/// Nothing is known.
impl Default for Network {
    fn default() -> Self {
        Self::Unknown
    }
}

#[cfg(test)]
mod tests {
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error, StrDeserializer};

    use super::*;

    fn text(text: &str) -> StrDeserializer<'_, Error> {
        text.into_deserializer()
    }

    // covers: SUORA-REG-004
    #[test]
    fn every_text_means_one_thing_and_others_have_a_reading() {
        for word in Word::ALL {
            assert_eq!(Word::parse(word.as_str()), Some(*word));
        }
        for cause in Cause::ALL {
            assert_eq!(Cause::parse(cause.as_str()), Some(*cause));
        }
        for network in Network::ALL {
            assert_eq!(Network::parse(network.as_str()), Some(*network));
        }
        assert!(Word::ALL.is_sorted(), "from best to worst");
        let word = Word::deserialize(text("splendid")).unwrap();
        let cause = Cause::deserialize(text("weather")).unwrap();
        let network = Network::deserialize(text("wet")).unwrap();
        assert_eq!(
            (word, cause, network),
            (Word::Fair, Cause::Unknown, Network::Unknown)
        );
    }
}
