//! Signatures at the edges of Ed25519: what a strict verifier takes and what it refuses. The
//! cases were computed by a program that shares no code with this workspace; here they
//! are a table, and the key behind `KEY` has 32 bytes 0x21 as its secret.

use serde_json::json;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::identity::PeerId;

use crate::vectors::verify::{Case, bytes, fixed};
use crate::vectors::{Facts, Vectors};

/// The key of most cases.
const KEY: &str = "884b8857f4eaa1613c61504db34d4beaf346517a0e31de3cddd4d9b4201d9d0b";
/// The message of most cases, `Suora`.
const MESSAGE: &str = "53756f7261";

/// Name, key, message, signature, and what the case shows.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

/// Signatures that stand.
#[rustfmt::skip]
const VALID: &[Row] = &[
    ("rfc8032-1", "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "", "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b", "test 1 of RFC 8032, section 7.1"),
    ("rfc8032-2", "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72", "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00", "test 2 of RFC 8032, section 7.1"),
    ("rfc8032-3", "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82", "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a", "test 3 of RFC 8032, section 7.1"),
    ("plain", KEY, MESSAGE, "7bde40661420f0b7dea18c0294d28e5205fbac5cce43520f86b71c6d52fccb37e59a9da1ac0049e3b9a5e256c5b0e4715ea2965f271c51edee73a2a257b20801", "a signature as any library makes it"),
    ("mixed-order-key", "4961e129e3c9a9b5bf857f55f3647e29237858b11bf4165be4909b523fe1b036", MESSAGE, "df15fe46aecdf9023c2b2ac7240c5347fbc72afd641c92663042ac4beac78c19d1f9efc2ad75c0d61f323fa584a0e68eeac1f8c551aaeba4493b3807a4c3a803", "a key with a part of small order, and the equation holds without the cofactor"),
];

/// Signatures that do not, or only for a lenient verifier.
#[rustfmt::skip]
const INVALID: &[Row] = &[
    ("mixed-order-key-needs-cofactor", "4961e129e3c9a9b5bf857f55f3647e29237858b11bf4165be4909b523fe1b036", MESSAGE, "c9f497edda53696513349403e45c185c558f91d2066d17d594e628a0ef98a56a9249f9bfed0497663a14eed7ddac8280ab546dac9f9bd2f82eea31fea91d4602", "a key with a part of small order, and the equation holds only when it is multiplied by the cofactor"),
    ("mixed-order-r", KEY, MESSAGE, "e2e36f2cee1c8d0095b57147200356e19f159f56ded31b189999a47d4ca6def85447c4a570065decf7a838923e6b637d3c8fa5b8ba4ae7179eae99436f45f907", "R with a part of small order: the equation holds only when it is multiplied by the cofactor"),
    ("s-plus-l", KEY, MESSAGE, "7bde40661420f0b7dea18c0294d28e5205fbac5cce43520f86b71c6d52fccb37d26e93fec6635b3b9042daf9a3aac3865ea2965f271c51edee73a2a257b20811", "S is not reduced: the same signature in a second form"),
    ("s-plus-8l", KEY, MESSAGE, "7bde40661420f0b7dea18c0294d28e5205fbac5cce43520f86b71c6d52fccb374d3a4c897f19dca36c8c9f6eba7fdc185fa2965f271c51edee73a2a257b20881", "S is not reduced, and its upper bits are set"),
    ("s-is-l", KEY, MESSAGE, "7bde40661420f0b7dea18c0294d28e5205fbac5cce43520f86b71c6d52fccb37edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010", "S is the order of the group"),
    ("s-all-ones", KEY, MESSAGE, "7bde40661420f0b7dea18c0294d28e5205fbac5cce43520f86b71c6d52fccb37ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", "S is the largest number of 32 bytes"),
    ("neutral-r", KEY, MESSAGE, "01000000000000000000000000000000000000000000000000000000000000005988fda31108c96b92a4e201a66dbf0510126572d155d9ab8db98927d1ffcd04", "R is the neutral element and the equation holds: a signer who draws no number gives the key away"),
    ("neutral-r-in-another-form", KEY, MESSAGE, "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f38cbef27d2265cfc809f70b31892d7af29e6718b75919cfb13b2b80f32377c07", "the neutral element written as p + 1"),
    ("neutral-r-minus-zero", KEY, MESSAGE, "01000000000000000000000000000000000000000000000000000000000000807bd266a0209801c36a7335d3a0a9f2288362241c1d0b4beaa948274900c8c602", "the neutral element with the sign of a zero"),
    ("small-order-key", "0100000000000000000000000000000000000000000000000000000000000000", MESSAGE, "edc876d6831fd2105d0b4389ca2e283166469289146e2ce06faefe98b22548df0500000000000000000000000000000000000000000000000000000000000000", "under the neutral element as a key this signature fits every message"),
    ("order-eight-key", "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", MESSAGE, "430308c9654a61ce0065d28151d3227089cc3fef5133ecb5d88a276c60e185af5ee6c7c93662cc70e61cb0b23514023b3945e007c1a98fe07ab57147d733f300", "a key of order eight, and a signature that fits one message of eight"),
    ("zero-signature", KEY, MESSAGE, "00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000", "64 zero bytes"),
    ("short", KEY, MESSAGE, "7bde40661420f0b7dea18c0294d28e5205fbac5cce43520f86b71c6d52fccb37e59a9da1ac0049e3b9a5e256c5b0e4715ea2965f271c51edee73a2a257b208", "63 bytes"),
    ("long", KEY, MESSAGE, "7bde40661420f0b7dea18c0294d28e5205fbac5cce43520f86b71c6d52fccb37e59a9da1ac0049e3b9a5e256c5b0e4715ea2965f271c51edee73a2a257b2080100", "65 bytes"),
    ("empty", KEY, MESSAGE, "", "no bytes"),
    ("other-message", KEY, "53756f7262", "7bde40661420f0b7dea18c0294d28e5205fbac5cce43520f86b71c6d52fccb37e59a9da1ac0049e3b9a5e256c5b0e4715ea2965f271c51edee73a2a257b20801", "another message"),
    ("other-r", KEY, MESSAGE, "7ade40661420f0b7dea18c0294d28e5205fbac5cce43520f86b71c6d52fccb37e59a9da1ac0049e3b9a5e256c5b0e4715ea2965f271c51edee73a2a257b20801", "a bit of R is changed"),
    ("other-s", KEY, MESSAGE, "7bde40661420f0b7dea18c0294d28e5205fbac5cce43520f86b71c6d52fccb37e49a9da1ac0049e3b9a5e256c5b0e4715ea2965f271c51edee73a2a257b20801", "a bit of S is changed"),
    ("halves-swapped", KEY, MESSAGE, "e59a9da1ac0049e3b9a5e256c5b0e4715ea2965f271c51edee73a2a257b208017bde40661420f0b7dea18c0294d28e5205fbac5cce43520f86b71c6d52fccb37", "S before R"),
    ("with-context", KEY, MESSAGE, "46257bcd3315fa8d3c4c124635927afd3ea795578c075de77e9e59541b60bbda4f567a1607e06ac4e978e0fc07fb4ae9d9ceffcfa7e294d5490b7b90a2f1890d", "Ed25519ctx, another algorithm"),
    ("prehashed", KEY, MESSAGE, "2a2db3b4dbb8aa47eb325b63672047b6dafc93c91a9d9bca1e5857ea764f1c46953321d48033345d7da795640c6ebebb3dafe4a9b2df47e40d27007570b35d08", "Ed25519ph, another algorithm"),
];

/// Makes the file.
pub fn make() -> Result<Vectors, Fault> {
    let mut vectors = Vectors::new("documents", "signature", "spec/documents.md, section 3");
    vectors.format.extend([
        ("public", "the Ed25519 public key"),
        ("message", "the bytes that were signed"),
        ("signature", "R and S, or what claims to be them"),
    ]);
    vectors.verification = vec![
        "Check that the public key may be used at all (section 2).",
        "Verify the signature by RFC 8032, section 5.1.7, without the cofactor; refuse a key or an R of small order, and an S that is not below the order of the group.",
    ];
    for (name, public, message, signature, comment) in VALID {
        let case = json!({"public": public, "message": message, "signature": signature});
        vectors.valid(name, comment, case);
    }
    for (name, public, message, signature, reason) in INVALID {
        let case = json!({"public": public, "message": message, "signature": signature});
        vectors.invalid(name, Code::BadSignature, reason, case);
    }
    Ok(vectors)
}

/// Verifies a case.
pub fn verify(case: &Case) -> Result<Facts, Fault> {
    let key = PeerId::checked(fixed(case, "public")?)?;
    key.verify(&bytes(case, "message")?, &bytes(case, "signature")?)?;
    Ok(Facts::new())
}
