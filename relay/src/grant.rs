//! Grants for the relay's TURN (`spec/turn.md`, section 2). A user name says until when it holds and
//! for which pair, and its password follows from it and the secret (the TURN REST scheme), so
//! that nothing is kept: every shard, a second relay with the same secret and a stock server all
//! check what any of them minted. Nonces are made so too: a time, and a code over it.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::Sha256;
use suora_protocol::fault::{Code, Fault};
use suora_protocol::time::Timestamp;
use suora_protocol::wire::grant::Grant;
use zeroize::Zeroizing;

/// How long a nonce is taken after it was made (RFC 8656, section 5, wants one hour at most).
pub const NONCE_LIFE: Duration = Duration::from_secs(3_600);

/// How far the clocks of two relays of one secret may differ.
const SKEW: Duration = Duration::from_secs(60);

/// Begins every nonce: this server knows password algorithms (RFC 8489, section 9.2: the cookie, and
/// the first bit of the security features).
const COOKIE: &str = "obMatJos2gAAA";

/// What is under a nonce's code besides its time.
const NONCE_DOMAIN: &[u8] = b"suora/1 turn nonce";

/// Bytes of a nonce's code: nobody guesses 96 bits in an hour.
const CODE: usize = 12;

/// Shortest secret that is taken, in bytes of its text.
const SHORTEST: usize = 32;

/// Two ends of one consultation, whose relayed addresses may reach each other. Prints redacted: it
/// stands for people.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair([u8; 16]);

impl Pair {
    /// From its bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[pair]")
    }
}

/// A TURN user: who, and until when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct User {
    /// Whose.
    pub pair: Pair,
    /// When the grant ends; whole seconds.
    pub until: Timestamp,
}

impl User {
    /// The user name: `<unix seconds>:<32 hexadecimal digits>`.
    pub fn name(&self) -> String {
        let hex: String = self.pair.0.iter().map(|b| format!("{b:02x}")).collect();
        format!("{}:{hex}", self.until.as_secs())
    }

    /// Reads a user name, in exactly the form of [`name`](Self::name).
    pub fn parse(name: &str) -> Option<Self> {
        let (until, hex) = name.split_once(':')?;
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if until.len() > 11 || !is_digits(until) || hex.len() != 32 {
            return None;
        }
        let mut pair = [0; 16];
        for (byte, digits) in pair.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).ok()?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        let user = Self {
            pair: Pair(pair),
            until: Timestamp::from_secs(until.parse().ok()?),
        };
        (user.name() == name).then_some(user)
    }
}

/// The grant secret. Its text is the key, as stock servers have it (`static-auth-secret`).
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl Secret {
    /// A new one of 32 random bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(Zeroizing::new(STANDARD.encode(seed)))
    }

    /// Out of a file; white space around it does not count. A short one, or one of several words, is
    /// [`Code::BadConfig`].
    pub fn read(text: &str) -> Result<Self, Fault> {
        let text = text.trim();
        if text.len() < SHORTEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Fault::new(Code::BadConfig).with(format!(
                "a grant secret is one word of {SHORTEST} characters or more: make one with head -c 32 /dev/urandom | base64"
            )));
        }
        Ok(Self(Zeroizing::new(text.into())))
    }

    /// The text that its file holds.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The password of a user name: base64 of HMAC-SHA-1 under the secret.
    pub fn password(&self, user: &str) -> String {
        // HMAC takes keys of every length
        let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(self.0.as_bytes()) else {
            return String::new();
        };
        mac.update(user.as_bytes());
        STANDARD.encode(mac.finalize().into_bytes())
    }

    /// A grant for a pair; the hub adds where the servers are.
    pub fn mint(&self, now: Timestamp, pair: Pair, lasts: Duration, realm: &str) -> Grant {
        let until = Timestamp::from_secs((now + lasts).as_secs());
        let user = User { pair, until }.name();
        Grant {
            password: self.password(&user),
            user,
            realm: realm.into(),
            nonce: self.nonce(now),
            lasts_s: lasts.as_secs(),
            servers: Vec::new(),
        }
    }

    fn code(&self, secs: [u8; 8]) -> Option<[u8; CODE]> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_bytes()).ok()?;
        mac.update(NONCE_DOMAIN);
        mac.update(&secs);
        mac.finalize().into_bytes().first_chunk().copied()
    }

    /// A nonce of this second, the same on every shard.
    pub fn nonce(&self, now: Timestamp) -> String {
        let secs = now.as_secs().to_be_bytes();
        let mut bytes = secs.get(3..).unwrap_or_default().to_vec();
        bytes.extend(self.code(secs).unwrap_or_default());
        format!("{COOKIE}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Whether a nonce was made with this secret, within [`NONCE_LIFE`].
    pub fn takes(&self, now: Timestamp, nonce: &str) -> bool {
        let Some(rest) = nonce.strip_prefix(COOKIE) else {
            return false;
        };
        let mut bytes = [0; 5 + CODE + 3];
        let Ok(5..) = URL_SAFE_NO_PAD.decode_slice(rest, &mut bytes) else {
            return false;
        };
        let [a, b, c, d, e, ..] = bytes;
        let secs = [0, 0, 0, a, b, c, d, e];
        let made = Timestamp::from_secs(i64::from_be_bytes(secs));
        // made again rather than compared in parts, so that there is one spelling of it
        let is_ours = self.nonce(made) == nonce;
        is_ours && now.since(made) <= NONCE_LIFE && made.since(now) <= SKEW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn secret(seed: u8) -> Secret {
        Secret::from_seed(&[seed; 32])
    }

    fn pair() -> Pair {
        Pair::from_bytes([0xab; 16])
    }

    // covers: SUORA-TRN-001
    #[test]
    fn a_password_is_that_of_the_rest_scheme() {
        let secret = Secret::read("north-north-north-north-north-42\n").unwrap();
        // printf 1800003600:abab… | openssl dgst -sha1 -hmac north-… -binary | base64
        let grant = secret.mint(NOW, pair(), Duration::from_secs(3_600), "agency.example");
        assert_eq!(grant.user, format!("1800003600:{}", "ab".repeat(16)));
        assert_eq!(grant.password, "lppuWgMiNnk7M7uZoEfmWUYSj5w=");
        assert_eq!(grant.lasts_s, 3_600);
        assert_eq!(grant.realm, "agency.example");
        assert!(secret.takes(NOW, &grant.nonce));
    }

    // covers: SUORA-TRN-001
    #[test]
    fn a_user_name_has_one_spelling() {
        let user = User {
            pair: pair(),
            until: NOW,
        };
        assert_eq!(User::parse(&user.name()), Some(user));
        let hex = "ab".repeat(16);
        for other in [
            format!("01800000000:{hex}"),
            format!("+1800000000:{hex}"),
            format!("-1:{hex}"),
            format!("999999999999:{hex}"),
            format!("1800000000:{}", hex.to_uppercase()),
            format!("1800000000:{hex}0"),
            format!("1800000000:+{}", &hex[1..]),
            "1800000000".into(),
            format!("1800000000:{}é", &hex[2..]),
        ] {
            assert_eq!(User::parse(&other), None, "{other}");
        }
    }

    // covers: SUORA-TRN-002
    #[test]
    fn a_nonce_holds_an_hour_wherever_the_secret_is() {
        let (one, other) = (secret(1), secret(1));
        let nonce = one.nonce(NOW);
        assert!(nonce.starts_with("obMatJos2") && nonce.len() < 64);
        assert!(other.takes(NOW, &nonce) && other.takes(NOW + NONCE_LIFE, &nonce));
        let late = NOW + NONCE_LIFE + Duration::from_secs(1);
        assert!(!other.takes(late, &nonce));
        assert!(!secret(2).takes(NOW, &nonce));
        let early = |secs: i64| one.takes(Timestamp::from_secs(NOW.as_secs() - secs), &nonce);
        assert!(early(60) && !early(61));
        // each character counts
        for at in 0..nonce.len() {
            let mut changed = nonce.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(!one.takes(NOW, &changed), "{at}");
        }
        for bad in [
            "",
            "obMatJos2",
            "obMatJos2gAAA",
            &nonce[..30],
            &nonce.repeat(3),
        ] {
            assert!(!one.takes(NOW, bad), "{bad}");
        }
    }

    #[test]
    fn a_weak_secret_is_refused_and_none_is_printed() {
        assert!(Secret::read("short").is_err());
        assert!(Secret::read(&"two words ".repeat(9)).is_err());
        let secret = secret(7);
        assert_eq!(Secret::read(secret.text()).unwrap().text(), secret.text());
        let grant = secret.mint(NOW, pair(), NONCE_LIFE, "r");
        let printed = format!("{secret:?} {grant:?} {:?}", pair());
        assert_eq!(printed, "[secret] Grant(3600 s) [pair]");
    }
}
