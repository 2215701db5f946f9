//! DOOR: each network of the lab proves itself before it is used: plain sockets in its hosts
//! measure what it does, as RFC 5780 section 4 says, and it has to be what it claims.
#![expect(clippy::disallowed_methods, reason = "door: clock")]

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;

use super::echo::{ANSWER, ASK, Echo, OTHER_ADDRESS, OTHER_PORT, PORTS, greeting};
use super::kind::{Kind, Tcp};
use super::rule::Access;
use super::site::{Host, Lab, Site, fits};
use crate::peer::Failure;
use crate::world::nat::Dependence;

/// How long an answer may take, and how often it is asked for.
const WAIT: Duration = Duration::from_millis(400);
const TRIES: usize = 2;
/// How long a TCP connection may take.
const CONNECT: Duration = Duration::from_millis(700);
/// Bytes of headers of IPv4 and IPv6 with UDP.
const HEADERS: [usize; 2] = [28, 48];

/// What was measured of a network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Measured {
    /// IPv4: mapping and filtering, where an answer came at all.
    pub v4: Option<Access>,
    /// IPv6.
    pub v6: Option<Access>,
    /// Insiders reach each other by outside addresses; `None`: not asked.
    pub turns: Option<bool>,
    /// TCP to port 443 and to others.
    pub tcp: [bool; 2],
    /// Bytes of the longest IP packet on its wire, when more than fits was sent.
    pub longest: usize,
    /// TCP comes from another public address than UDP; `None`: one of them does not come.
    pub second: Option<bool>,
    /// A mapping still stood before its time was over, and no longer after; `None`: not asked.
    pub lifetime: Option<[bool; 2]>,
}

/// What to measure beside what takes no time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// Nothing.
    Quick,
    /// How long a mapping lives, where the kind says at most this.
    Lifetime(Duration),
}

fn number() -> [u8; 8] {
    // distinct in this process is enough
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
        .to_be_bytes()
}

/// A socket on a free port of a host's own address.
pub fn open(host: &Host, address: IpAddr) -> Result<UdpSocket, Failure> {
    let socket = host.namespace.udp(SocketAddr::new(address, 0))?;
    UdpSocket::from_std(socket).map_err(|error| error.to_string())
}

/// Asks an echo; the address that it saw. `None`: no answer came.
pub async fn ask(socket: &UdpSocket, to: SocketAddr, flags: u8) -> Option<SocketAddr> {
    let mut question = ASK.to_vec();
    question.push(flags);
    let nonce = number();
    question.extend(nonce);
    for _ in 0..TRIES {
        // one that cannot be sent is one that is lost
        let _ = socket.send_to(&question, to).await;
        let answered = async {
            let mut buffer = [0; 128];
            loop {
                let Ok((bytes, _)) = socket.recv_from(&mut buffer).await else {
                    continue;
                };
                let Some((head, text)) =
                    buffer.get(..bytes).and_then(|got| got.split_at_checked(11))
                else {
                    continue;
                };
                if head.starts_with(&ANSWER) && head.ends_with(&nonce) {
                    return std::str::from_utf8(text).ok()?.parse().ok();
                }
            }
        };
        if let Ok(seen) = tokio::time::timeout(WAIT, answered).await {
            return seen;
        }
    }
    None
}

/// The first four places of an echo in a family: both ports of one address, then of the other.
fn places(addresses: [IpAddr; 2]) -> [SocketAddr; 4] {
    let [one, two] = addresses;
    [(one, 0), (one, 1), (two, 0), (two, 1)]
        .map(|(address, port)| SocketAddr::new(address, PORTS[port]))
}

/// RFC 5780 sections 4.3 and 4.4, each with a socket that nobody has heard of.
async fn access(host: &Host, own: IpAddr, echo: [IpAddr; 2]) -> Result<Option<Access>, Failure> {
    let [first, port, address, both] = places(echo);
    let mapper = open(host, own)?;
    let Some(seen) = ask(&mapper, first, 0).await else {
        return Ok(None);
    };
    let mapping = if ask(&mapper, address, 0).await == Some(seen)
        && ask(&mapper, port, 0).await == Some(seen)
    {
        Dependence::Independent
    } else if ask(&mapper, address, 0).await == ask(&mapper, both, 0).await {
        Dependence::Address
    } else {
        Dependence::AddressAndPort
    };
    let filter = open(host, own)?;
    let filtering = if ask(&filter, first, OTHER_ADDRESS | OTHER_PORT)
        .await
        .is_some()
    {
        Dependence::Independent
    } else if ask(&filter, first, OTHER_PORT).await.is_some() {
        Dependence::Address
    } else {
        Dependence::AddressAndPort
    };
    Ok(Some(Access { mapping, filtering }))
}

/// Two insiders send to each other's outside address: RFC 4787 section 6.
async fn turns(site: &Site, echo: SocketAddr) -> Result<Option<bool>, Failure> {
    let (one, two) = match site.hosts.as_slice() {
        [] => return Ok(None),
        [one] => (one, one),
        [one, .., two] => (one, two),
    };
    let (Some(of_one), Some(of_two)) = (one.v4, two.v4) else {
        return Ok(None);
    };
    let (one, two) = (open(one, of_one.into())?, open(two, of_two.into())?);
    let (Some(seen_one), Some(seen_two)) = (ask(&one, echo, 0).await, ask(&two, echo, 0).await)
    else {
        return Ok(None);
    };
    let nonce = number();
    for _ in 0..2 {
        let _ = two.send_to(&[0], seen_one).await;
        let _ = one.send_to(&nonce, seen_two).await;
    }
    let heard = async {
        let mut buffer = [0; 64];
        loop {
            if let Ok((bytes, from)) = two.recv_from(&mut buffer).await
                && buffer.get(..bytes) == Some(nonce.as_slice())
            {
                // section 6, REQ-9 a: the outside address is what the other sees
                return from == seen_one;
            }
        }
    };
    Ok(Some(
        tokio::time::timeout(WAIT, heard).await.unwrap_or(false),
    ))
}

/// A TCP connection; the address from which it came.
pub async fn tcp(host: &Host, to: SocketAddr) -> Option<SocketAddr> {
    let namespace = host.namespace.clone();
    let connected = tokio::task::spawn_blocking(move || namespace.connect(to, CONNECT)).await;
    let stream = tokio::net::TcpStream::from_std(connected.ok()?.ok()?).ok()?;
    let (mut read, _write) = stream.into_split();
    tokio::time::timeout(CONNECT, greeting(&mut read))
        .await
        .ok()?
        .ok()
}

/// Two mappings; one is tried before, one after its time.
async fn lifetime(
    host: &Host,
    echo: &Echo,
    lifetime: Duration,
) -> Result<Option<[bool; 2]>, Failure> {
    let Some(own) = host.v4 else {
        return Ok(None);
    };
    let relay = SocketAddr::new(echo.relay.v4[0].into(), PORTS[0]);
    let mut stood = [false; 2];
    let sockets = [open(host, own.into())?, open(host, own.into())?];
    let mut mapped = Vec::new();
    for socket in &sockets {
        match ask(socket, relay, 0).await {
            Some(seen) => mapped.push(seen),
            None => return Ok(None),
        }
    }
    let begun = tokio::time::Instant::now();
    let tries = sockets.iter().zip(mapped).zip(&mut stood);
    for (((socket, mapped), stood), share) in tries.zip([0.8, 1.25]) {
        tokio::time::sleep_until(begun + lifetime.mul_f64(share)).await;
        echo.send(mapped, &[0, b'?']).await?;
        let mut buffer = [0; 64];
        let heard = socket.recv_from(&mut buffer);
        *stood = tokio::time::timeout(WAIT, heard).await.is_ok();
    }
    Ok(Some(stood))
}

/// Measures a network from its first host.
pub async fn measure(
    lab: &Lab,
    echo: &Echo,
    site: &Site,
    depth: Depth,
) -> Result<Measured, Failure> {
    let host = site.hosts.first().ok_or("a site without hosts")?;
    let mut measured = Measured::default();
    let relay = &echo.relay;
    let four = relay.v4.map(IpAddr::from);
    let six = relay.v6.map(IpAddr::from);
    if let Some(own) = host.v4 {
        measured.v4 = access(host, own.into(), four).await?;
        if site.kind.v4.is_some_and(|routers| !routers.is_empty()) {
            measured.turns = turns(site, SocketAddr::new(four[0], PORTS[0])).await?;
        }
    }
    if let Some(own) = host.v6 {
        measured.v6 = access(host, own.into(), six).await?;
    }
    let (own, place) = match (host.v4, host.v6) {
        (Some(own), _) => (IpAddr::from(own), four[0]),
        (None, Some(own)) => (own.into(), six[0]),
        (None, None) => return Err("a host without addresses".into()),
    };
    let by_web = tcp(host, SocketAddr::new(place, 443)).await;
    let by_other = tcp(host, SocketAddr::new(place, 80)).await;
    measured.tcp = [by_web.is_some(), by_other.is_some()];
    let socket = open(host, own)?;
    let by_udp = ask(&socket, SocketAddr::new(place, PORTS[0]), 0).await;
    measured.second = by_web.zip(by_udp).map(|(web, udp)| web.ip() != udp.ip());
    // three times: the first only teaches the host how much fits
    let bytes = vec![0; 1_500 - HEADERS[usize::from(own.is_ipv6())]];
    for _ in 0..3 {
        let _ = socket
            .send_to(&bytes, SocketAddr::new(place, PORTS[0]))
            .await;
        tokio::time::sleep_until(tokio::time::Instant::now() + Duration::from_millis(30)).await;
    }
    measured.longest = lab.wires.tally(site.cable).longest[0];
    if let (Depth::Lifetime(most), Some(claimed)) = (depth, site.kind.lifetime())
        && claimed <= most
    {
        measured.lifetime = lifetime(host, echo, claimed).await?;
    }
    Ok(measured)
}

/// Where a network is not what it claims to be.
pub fn differences(kind: &Kind, measured: &Measured) -> Vec<String> {
    let mut found = Vec::new();
    let mut differ = |what: &str, claimed: String, seen: String| {
        if claimed != seen {
            found.push(format!("{what}: claimed {claimed}, measured {seen}"));
        }
    };
    let words = |access: Option<Access>| match access {
        Some(access) => format!(
            "{} mapping, {} filtering",
            access.mapping.word(),
            access.filtering.word()
        ),
        None => "nothing comes back".into(),
    };
    let udp = |access: Option<Access>| words(access.filter(|_| kind.udp));
    differ("IPv4", udp(kind.access()), words(measured.v4));
    differ("IPv6", udp(kind.access6()), words(measured.v6));
    let tcp = [true, kind.tcp == Tcp::All];
    differ(
        "TCP to 443 and to 80",
        format!("{tcp:?}"),
        format!("{:?}", measured.tcp),
    );
    if let Some(seen) = measured.turns {
        let turns = kind.turns().unwrap_or(false);
        differ("turns packets round", turns.to_string(), seen.to_string());
    }
    if let Some(seen) = measured.second {
        differ(
            "a second public address",
            kind.second.to_string(),
            seen.to_string(),
        );
    }
    if kind.udp && !fits(kind, measured.longest) {
        differ(
            "longest packet",
            kind.mtu.to_string(),
            measured.longest.to_string(),
        );
    }
    if let Some(seen) = measured.lifetime {
        differ(
            "a mapping stands before and after its time",
            format!("{:?}", [true, false]),
            format!("{seen:?}"),
        );
    }
    found
}

/// What came of a proof.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The kind that was claimed.
    pub kind: &'static Kind,
    /// What was seen.
    pub measured: Measured,
    /// Where they differ.
    pub differences: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// All sites prove themselves, at once.
pub async fn all(lab: &Lab, echo: &Echo, depth: Depth) -> Result<Vec<Proof>, Failure> {
    let proofs = lab.sites.iter().map(|site| async move {
        let begun = Instant::now();
        let measured = measure(lab, echo, site, depth).await?;
        Ok(Proof {
            kind: site.kind,
            measured,
            differences: differences(site.kind, &measured),
            took: begun.elapsed(),
        })
    });
    futures::future::try_join_all(proofs).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::kind::KINDS;

    /// What a network that is what it says shows.
    fn honest(kind: &Kind) -> Measured {
        Measured {
            v4: kind.access().filter(|_| kind.udp),
            v6: kind.access6().filter(|_| kind.udp),
            turns: kind.turns(),
            tcp: [true, kind.tcp == Tcp::All],
            longest: usize::from(kind.mtu),
            second: Some(kind.second),
            lifetime: None,
        }
    }

    #[test]
    fn a_kind_passes_as_itself_and_as_no_other_that_differs() {
        for kind in KINDS {
            assert_eq!(differences(kind, &honest(kind)), [""; 0], "{}", kind.name);
            for other in KINDS {
                let same = honest(other) == honest(kind);
                let found = differences(other, &honest(kind));
                assert_eq!(
                    found.is_empty(),
                    same,
                    "{} as {}: {found:?}",
                    kind.name,
                    other.name
                );
            }
        }
    }

    #[test]
    fn a_mapping_that_outlives_its_time_is_caught() {
        let kind = crate::lab::kind::named("three").unwrap();
        let lives = |lifetime| Measured {
            lifetime: Some(lifetime),
            ..honest(kind)
        };
        assert!(differences(kind, &lives([true, false])).is_empty());
        assert_eq!(differences(kind, &lives([true, true])).len(), 1);
        assert_eq!(differences(kind, &lives([false, false])).len(), 1);
    }
}
