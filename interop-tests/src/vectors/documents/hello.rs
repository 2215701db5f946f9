//! The hello (`spec/setup.md`, section 5).

use serde_json::json;
use suora_protocol::documents::{self, DescriptorRef, Hello, Invite, Nonce};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::Hash;

use super::super::cast::{Cast, NOW, binding, sign};
use super::super::raw::hex;
use super::super::{Vectors, fields};
use super::{describe, forms, only, whole};

const SCHEMA: [&str; 2] = ["signed-hello", "hello"];

/// The file.
pub fn make() -> Result<Vectors, Fault> {
    let cast = Cast::default();
    let mut vectors = Vectors::new("documents", "hello", "spec/setup.md, section 5");
    describe(&mut vectors);
    vectors.format.extend([
        ("descriptor", "the signed descriptor that the host trusts"),
        ("trusted_at", "when the host verified it"),
        ("invite", "the signed invite on which the guest came"),
        ("binding", "the 32 bytes of the TLS exporter at the host"),
        ("alpn", "the ALPN that TLS negotiated, at the host"),
    ]);
    vectors.verification = vec![
        "Verify document as the hello to invite on a connection with binding and alpn.",
        "Compare hash.",
    ];
    let invite = cast.invite()?;
    vectors.parameters = fields(json!({
        "descriptor": hex(sign(&cast.descriptor()?, &cast.root)?.bytes()),
        "trusted_at": NOW,
        "now": NOW,
        "invite": hex(sign(&invite, &cast.officer)?.bytes()),
        "binding": binding().to_hex(),
        "alpn": "suora/1",
    }));
    let good = cast.hello()?;
    let guest = cast.guest();
    vectors.valid(
        "good",
        "the hello of all other vectors",
        whole(&good, &guest, SCHEMA)?,
    );
    let mut older = good.clone();
    older.descriptor = DescriptorRef {
        sequence: 6,
        hash: Hash::from_bytes([0x19; 32]),
    };
    vectors.valid(
        "other-descriptor",
        "the guest holds a descriptor of another sequence",
        whole(&older, &guest, SCHEMA)?,
    );
    forms::add(
        &mut vectors,
        forms::Form {
            kind: "hello",
            payload: &documents::encode(&good)?,
            key: &guest,
            stranger: &cast.stranger,
            field: "alpn",
        },
    )?;
    let mut refuse = |name: &str, code, reason: &str, change: &dyn Fn(&mut Hello)| {
        let mut changed = good.clone();
        change(&mut changed);
        vectors.invalid(name, code, reason, only(&changed, &guest)?);
        Ok::<(), Fault>(())
    };
    let other = sign(
        &Invite {
            nonce: Nonce::from_bytes([0x22; 32]),
            ..invite
        },
        &cast.officer,
    )?;
    refuse(
        "another-invite",
        Code::WrongInvite,
        "the answer to another invite",
        &|h| h.invite = other.hash(),
    )?;
    refuse(
        "another-connection",
        Code::WrongBinding,
        "bound to another TLS connection",
        &|h| h.binding = Hash::from_bytes([0x23; 32]),
    )?;
    refuse(
        "another-alpn",
        Code::WrongVersion,
        "names another ALPN than the negotiated one",
        &|h| h.alpn = "h3".into(),
    )?;
    refuse(
        "equivocation",
        Code::Equivocation,
        "names another descriptor of the sequence that the host holds",
        &|h| h.descriptor.hash = Hash::from_bytes([0x19; 32]),
    )?;
    refuse("long-alpn", Code::Malformed, "an ALPN of 257 bytes", &|h| {
        h.alpn = "a".repeat(257)
    })?;
    vectors.invalid(
        "signed-by-the-node-key",
        Code::BadSignature,
        "signed by the device's node key and not by the key that the invite names",
        only(&good, &cast.citizen.node_key())?,
    );
    Ok(vectors)
}
