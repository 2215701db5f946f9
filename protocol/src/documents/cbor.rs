//! Deterministic CBOR (RFC 8949, section 4.2.1): the writer's order and the
//! reader's scanner. The scanner walks received bytes before serde sees them and
//! refuses what a lenient parser lets through: longer forms than needed, indefinite
//! lengths, unsorted or repeated keys, trailing bytes, deep nesting.

use ciborium::Value;

use crate::fault::{Code, Fault};
use crate::limits;

fn malformed(what: &str) -> Fault {
    Fault::new(Code::Malformed).with(what)
}

fn loose(what: &str) -> Fault {
    Fault::new(Code::NotDeterministic).with(what)
}

/// Sorts all map keys by their encoded bytes, and drops null entries of maps
/// (an absent value is an absent key).
pub fn sort(value: Value) -> Result<Value, Fault> {
    Ok(match value {
        Value::Array(items) => Value::Array(items.into_iter().map(sort).collect::<Result<_, _>>()?),
        Value::Map(entries) => {
            let mut keyed = Vec::with_capacity(entries.len());
            for (key, value) in entries {
                if value.is_null() {
                    continue;
                }
                let mut bytes = Vec::new();
                ciborium::into_writer(&key, &mut bytes)
                    .map_err(|error| Fault::new(Code::Internal).with(error.to_string()))?;
                keyed.push((bytes, key, sort(value)?));
            }
            keyed.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Map(
                keyed
                    .into_iter()
                    .map(|(_, key, value)| (key, value))
                    .collect(),
            )
        }
        other => other,
    })
}

/// Checks that `bytes` are exactly one deterministic item of bounded depth.
/// Broken bytes are [`Code::Malformed`], loose ones [`Code::NotDeterministic`].
pub fn scan(bytes: &[u8]) -> Result<(), Fault> {
    let mut scanner = Scanner { bytes, at: 0 };
    scanner.item(0)?;
    if scanner.at != bytes.len() {
        return Err(malformed("bytes after the end"));
    }
    Ok(())
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let end = self
            .at
            .checked_add(len)
            .ok_or_else(|| malformed("a length over all bounds"))?;
        let taken = self
            .bytes
            .get(self.at..end)
            .ok_or_else(|| malformed("cut short"))?;
        self.at = end;
        Ok(taken)
    }

    /// Major type and argument, in the shortest form.
    fn head(&mut self) -> Result<(u8, u8, u64), Fault> {
        let first = self.take(1)?.first().copied().unwrap_or(0);
        let (major, info) = (first >> 5, first & 0x1f);
        let (argument, least) = match info {
            0..=23 => (u64::from(info), 0),
            24 => (self.number(1)?, 24),
            25 => (self.number(2)?, 1 << 8),
            26 => (self.number(4)?, 1 << 16),
            27 => (self.number(8)?, 1 << 32),
            31 if (2..=5).contains(&major) => return Err(loose("an indefinite length")),
            _ => return Err(malformed("a reserved head")),
        };
        if major < 7 && argument < least {
            return Err(loose("a number in a longer form than needed"));
        }
        Ok((major, info, argument))
    }

    fn number(&mut self, len: usize) -> Result<u64, Fault> {
        Ok(self
            .take(len)?
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn item(&mut self, depth: usize) -> Result<(), Fault> {
        if depth > limits::CBOR_DEPTH_MAX {
            return Err(malformed("nested too deeply"));
        }
        let (major, info, argument) = self.head()?;
        let len = || usize::try_from(argument).map_err(|_| malformed("a length over all bounds"));
        match major {
            0 | 1 => {}
            2 => {
                self.take(len()?)?;
            }
            3 => {
                let text = self.take(len()?)?;
                std::str::from_utf8(text).map_err(|_| malformed("text that is not UTF-8"))?;
            }
            4 => {
                for _ in 0..argument {
                    self.item(depth + 1)?;
                }
            }
            5 => {
                let mut last: Option<&[u8]> = None;
                for _ in 0..argument {
                    let start = self.at;
                    self.item(depth + 1)?;
                    let key = self.bytes.get(start..self.at).unwrap_or_default();
                    match last {
                        Some(last) if last == key => return Err(loose("a key twice")),
                        Some(last) if last > key => return Err(loose("keys out of order")),
                        _ => last = Some(key),
                    }
                    self.item(depth + 1)?;
                }
            }
            7 if (20..=22).contains(&info) => {}
            _ => return Err(malformed("a tag, float or simple value")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(bytes: &[u8]) -> Option<Code> {
        scan(bytes).err().map(|fault| fault.code)
    }

    // covers: SUORA-DOC-003
    #[test]
    fn only_deterministic_items_pass() {
        assert_eq!(code(&[0xa2, 0x61, b'a', 1, 0x61, b'b', 2]), None);
        assert_eq!(code(&[0x18, 0x17]), Some(Code::NotDeterministic));
        assert_eq!(code(&[0x19, 0, 0xff]), Some(Code::NotDeterministic));
        assert_eq!(code(&[0x9f, 1, 0xff]), Some(Code::NotDeterministic));
        assert_eq!(
            code(&[0xa2, 0x61, b'b', 1, 0x61, b'a', 2]),
            Some(Code::NotDeterministic)
        );
        assert_eq!(
            code(&[0xa2, 0x61, b'a', 1, 0x61, b'a', 2]),
            Some(Code::NotDeterministic)
        );
        assert_eq!(code(&[1, 1]), Some(Code::Malformed));
        assert_eq!(code(&[0x1c]), Some(Code::Malformed));
        assert_eq!(code(&[0xf9, 0, 0]), Some(Code::Malformed));
        assert_eq!(code(&[0xc0, 0x60]), Some(Code::Malformed));
        assert_eq!(code(&[0x61, 0xff]), Some(Code::Malformed));
        assert_eq!(code(&[]), Some(Code::Malformed));
        assert_eq!(code(&[0x81; 40]), Some(Code::Malformed));
        assert_eq!(
            code(&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            Some(Code::Malformed)
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = scan(&bytes);
        }
    }
}
