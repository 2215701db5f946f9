//! Shows bytes to people: the diagnostic notation of RFC 8949, section 8, and walks with
//! one line an item.

use std::fmt::Write;

use ciborium::Value;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::wire;
use suora_protocol::wire::citizen;

use super::cast::{Cast, challenge, desk, sign, ticket};
use super::internal;
use super::raw::hex;

/// The diagnostic notation of one item.
pub fn diagnostic(bytes: &[u8]) -> Result<String, Fault> {
    let value: Value = ciborium::from_reader(bytes).map_err(internal)?;
    notation(&value)
}

fn notation(value: &Value) -> Result<String, Fault> {
    let list = |items: Vec<String>| items.join(", ");
    Ok(match value {
        Value::Integer(number) => i128::from(*number).to_string(),
        Value::Bytes(bytes) => format!("h'{}'", hex(bytes)),
        Value::Text(text) => serde_json::to_string(text).map_err(internal)?,
        Value::Bool(bool) => bool.to_string(),
        Value::Null => "null".into(),
        Value::Array(items) => {
            let items = items.iter().map(notation).collect::<Result<_, _>>()?;
            format!("[{}]", list(items))
        }
        Value::Map(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| Ok(format!("{}: {}", notation(key)?, notation(value)?)))
                .collect::<Result<_, Fault>>()?;
            format!("{{{}}}", list(entries))
        }
        _ => return Err(Fault::new(Code::Malformed).with("no item of Suora's")),
    })
}

/// Where the notes stand.
const COLUMN: usize = 60;

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    out: String,
}

impl<'a> Walk<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            out: String::new(),
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let taken = self
            .bytes
            .get(self.at..self.at + len)
            .ok_or_else(|| internal("the walk left its bytes"))?;
        self.at += len;
        Ok(taken)
    }

    fn line(&mut self, depth: usize, bytes: &[u8], note: &str) {
        let spaced: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let indent = "  ".repeat(depth);
        let text = format!("{indent}{}", spaced.join(" "));
        let line = format!("{text:<COLUMN$}{note}");
        // writing to a text cannot fail
        let _ = writeln!(self.out, "{}", line.trim_end());
    }

    /// A head; its bytes, major type and argument.
    fn head(&mut self) -> Result<(&'a [u8], u8, usize), Fault> {
        let start = self.at;
        let first = self.take(1)?[0];
        let more = match first & 0x1f {
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => 0,
        };
        let argument = match more {
            0 => usize::from(first & 0x1f),
            len => self
                .take(len)?
                .iter()
                .fold(0, |number, byte| number << 8 | usize::from(*byte)),
        };
        Ok((&self.bytes[start..self.at], first >> 5, argument))
    }

    fn content(&mut self, depth: usize, bytes: &[u8]) {
        for chunk in bytes.chunks(16) {
            self.line(depth, chunk, "");
        }
    }

    /// One item, with a note of what it is. `inside`: its byte string holds an item.
    fn item(&mut self, depth: usize, what: &str, inside: bool) -> Result<(), Fault> {
        let (head, major, argument) = self.head()?;
        let note = |kind: String| {
            if what.is_empty() {
                kind
            } else {
                format!("{what}: {kind}")
            }
        };
        match major {
            0 => self.line(depth, head, &note(argument.to_string())),
            1 => self.line(depth, head, &note(format!("-{}", argument + 1))),
            2 if inside => {
                self.line(depth, head, &note(format!("{argument} bytes, which hold")));
                self.item(depth + 1, "", false)?;
            }
            2 => {
                self.line(depth, head, &note(format!("{argument} bytes")));
                let content = self.take(argument)?;
                self.content(depth + 1, content);
            }
            3 => {
                let start = self.at - head.len();
                let content = self.take(argument)?;
                let text = String::from_utf8_lossy(content).into_owned();
                if head.len() + content.len() <= 24 {
                    let whole = &self.bytes[start..self.at];
                    self.line(depth, whole, &note(format!("\"{text}\"")));
                } else {
                    self.line(depth, head, &note(format!("\"{text}\"")));
                    self.content(depth + 1, content);
                }
            }
            4 => {
                self.line(depth, head, &note(format!("an array of {argument}")));
                for _ in 0..argument {
                    self.item(depth + 1, "", false)?;
                }
            }
            5 => {
                self.line(depth, head, &note(format!("a map of {argument}")));
                for _ in 0..argument {
                    self.item(depth + 1, "key", false)?;
                    self.item(depth + 2, "", false)?;
                }
            }
            _ => self.line(depth, head, &note(hex(head))),
        }
        Ok(())
    }

    fn done(self) -> Result<String, Fault> {
        if self.at == self.bytes.len() {
            Ok(self.out)
        } else {
            Err(internal("the walk did not reach the end"))
        }
    }
}

/// The hello of the vectors, byte by byte.
pub fn hello() -> Result<(&'static str, String), Fault> {
    let cast = Cast::default();
    let guest = cast.guest();
    let signed = sign(&cast.hello()?, &guest)?;
    let mut walk = Walk::new(signed.bytes());
    let (head, _, _) = walk.head()?;
    walk.line(0, head, "COSE_Sign1: an array of 4");
    walk.item(1, "protected header", true)?;
    walk.item(1, "unprotected header", false)?;
    walk.item(1, "payload", true)?;
    walk.item(1, "signature", false)?;
    let text = walk.done()?;
    let message = super::raw::array(&[
        super::raw::tstr("Signature1"),
        super::raw::bstr(&super::raw::protected("suora/1/hello")),
        super::raw::bstr(b"suora/1/hello"),
        super::raw::bstr(&suora_protocol::documents::encode(&cast.hello()?)?),
    ]);
    // the same signature over the structure built by hand
    guest
        .peer_id()
        .verify(&message, &signed.bytes()[signed.bytes().len() - 64..])?;
    let mut walk = Walk::new(&message);
    let (head, _, _) = walk.head()?;
    walk.line(0, head, "Sig_structure: an array of 4");
    walk.item(1, "context", false)?;
    walk.item(1, "protected header", false)?;
    walk.item(1, "external data", false)?;
    walk.item(1, "payload", false)?;
    Ok((
        "documents/walk.md",
        format!(
            "# A signed document, byte by byte\n\n\
             The case `good` of `hello.json`: {} bytes, signed by the guest's key\n`{}`.\n\n\
             ```text\n{text}```\n\n\
             The signature is made over these {} bytes (RFC 9052, section 4.4):\n\n\
             ```text\n{}```\n",
            signed.bytes().len(),
            hex(guest.peer_id().as_bytes()),
            message.len(),
            walk.done()?,
        ),
    ))
}

/// A framed message, byte by byte.
pub fn join() -> Result<(&'static str, String), Fault> {
    let message = citizen::ToRelay::Join {
        desk: desk("tax")?,
        challenge: challenge(),
        ticket: Some(ticket()),
        work: None,
    };
    let framed = wire::encode(&message)?;
    let mut walk = Walk::new(&framed);
    let length = walk.take(1)?;
    walk.line(0, length, &format!("length: {} bytes follow", length[0]));
    walk.item(0, "message", false)?;
    Ok((
        "control/walk.md",
        format!(
            "# A framed message, byte by byte\n\n\
             The case `join-again` of `citizen.json`, from the citizen's node to the relay.\n\n\
             ```text\n{}```\n",
            walk.done()?
        ),
    ))
}
