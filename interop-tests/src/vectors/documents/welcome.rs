//! The welcome (`spec/setup.md`, section 5).

use serde_json::json;
use suora_protocol::documents::{self, Welcome};
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::Hash;

use super::super::cast::{Cast, NOW, binding, sign};
use super::super::raw::hex;
use super::super::{Vectors, fields};
use super::{describe, forms, only, whole};

const SCHEMA: [&str; 2] = ["signed-welcome", "welcome"];

/// The file.
pub fn make() -> Result<Vectors, Fault> {
    let cast = Cast::default();
    let mut vectors = Vectors::new("documents", "welcome", "spec/setup.md, section 5");
    describe(&mut vectors);
    vectors.format.extend([
        ("descriptor", "the signed descriptor that the guest trusts"),
        ("trusted_at", "when the guest verified it"),
        ("invite", "the signed invite on which the guest came"),
        ("desk", "the desk at which the guest waits"),
        ("ticket", "the guest's ticket"),
        ("guest", "the guest's public key at this agency"),
        ("challenge", "what the guest drew for its join"),
        ("hello", "the signed hello that the guest sent"),
        ("binding", "the 32 bytes of the TLS exporter at the guest"),
    ]);
    vectors.verification = vec![
        "Verify document as the host's welcome in answer to hello, on a connection with binding.",
        "Compare hash.",
    ];
    vectors.parameters = fields(json!({
        "descriptor": hex(sign(&cast.descriptor()?, &cast.root)?.bytes()),
        "trusted_at": NOW,
        "now": NOW,
        "invite": hex(sign(&cast.invite()?, &cast.officer)?.bytes()),
        "hello": hex(sign(&cast.hello()?, &cast.guest())?.bytes()),
        "binding": binding().to_hex(),
    }));
    vectors.parameters.extend(fields(cast.expected()));
    let good = cast.welcome()?;
    vectors.valid(
        "good",
        "the welcome of all other vectors",
        whole(&good, &cast.officer, SCHEMA)?,
    );
    forms::add(
        &mut vectors,
        forms::Form {
            kind: "welcome",
            payload: &documents::encode(&good)?,
            key: &cast.officer,
            stranger: &cast.stranger,
            field: "binding",
        },
    )?;
    let mut refuse = |name: &str, code, reason: &str, change: &dyn Fn(&mut Welcome)| {
        let mut changed = good.clone();
        change(&mut changed);
        vectors.invalid(name, code, reason, only(&changed, &cast.officer)?);
        Ok::<(), Fault>(())
    };
    let other = Hash::from_bytes([0x23; 32]);
    refuse(
        "another-invite",
        Code::WrongInvite,
        "the answer to another invite",
        &|w| w.invite = other,
    )?;
    refuse(
        "another-connection",
        Code::WrongBinding,
        "bound to another TLS connection",
        &|w| w.binding = other,
    )?;
    refuse(
        "another-hello",
        Code::WrongInvite,
        "the answer to another hello",
        &|w| w.hello = other,
    )?;
    vectors.invalid(
        "signed-by-a-colleague",
        Code::BadSignature,
        "signed by another officer of the agency",
        only(&good, &cast.colleague)?,
    );
    Ok(vectors)
}
