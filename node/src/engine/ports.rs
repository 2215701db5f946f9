//! The borders of the engine: what it asks of the doors and what they tell it. The doors
//! implement these; the engine knows nothing else of sockets, streams and files.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use suora_protocol::consultation::clock::Offset;
use suora_protocol::documents::{AddressPolicy, Dcid, Server, SessionId};
use suora_protocol::fault::Fault;
use suora_protocol::identity::{AgencyId, Hash, Key};
use suora_protocol::time::Timestamp;
use suora_protocol::wire::grant::Grant;
use suora_protocol::wire::guest::Media;
use suora_protocol::wire::work::{Puzzle, Work};
use suora_protocol::wire::{citizen, officer, path};

use crate::intent::Intent;
use crate::report::{Audio, Path, Report, Security, Video, Wire};
use crate::view::{Stats, View};

/// What happens to the engine.
#[derive(Debug)]
pub enum Input {
    /// A person wants something.
    Intent(Intent),
    /// The descriptor came, or did not.
    Descriptor(Result<Fetched, Fault>),
    /// Our own endpoint stands.
    Local(Local),
    /// What our camera and microphone give now.
    Capture(Media),
    /// The control link says.
    Link(LinkEvent),
    /// The work that was asked for is done.
    Worked(Result<Work, Fault>),
    /// A session says.
    Session(SessionId, SessionEvent),
    /// The paths have this for the other end of a session.
    Path(SessionId, path::Path),
    /// Time passed.
    Tick,
}

/// A fetched descriptor, unverified.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The signed bytes.
    pub bytes: Bytes,
    /// The root that the person trusts; `None`: the file itself is trusted as given.
    pub root: Option<AgencyId>,
}

/// What is remembered of an agency, for the next run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recalled {
    /// Its root id, which is trusted from now on.
    pub root: AgencyId,
    /// The newest signed descriptor.
    pub bytes: Bytes,
    /// When its source last had it.
    pub fetched: Timestamp,
}

/// What contradicts a descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contradiction {
    /// Another descriptor of the same sequence.
    Page,
    /// An invite that names one.
    Invite,
    /// A hello that names one.
    Hello,
}

impl Contradiction {
    /// `page`, `invite` or `hello`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Invite => "invite",
            Self::Hello => "hello",
        }
    }

    /// What it proves.
    pub const fn worth(self) -> &'static str {
        match self {
            Self::Page => "the agency, or who has its root key, signed two pages of one sequence",
            Self::Invite => "an officer signed that there is another page of this sequence",
            // anybody has a key
            Self::Hello => {
                "somebody signed that there is another page of this sequence, \
                 which proves nothing against the agency until that page is shown"
            }
        }
    }
}

/// Two signed documents that cannot both be true.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proof {
    /// The agency's descriptor, as it was known.
    pub known: Bytes,
    /// What contradicts it.
    pub other: Bytes,
    /// What that is.
    pub what: Contradiction,
}

/// Our own endpoint.
#[derive(Clone, Debug)]
pub struct Local {
    /// SHA-256 of our certificate.
    pub fingerprint: Hash,
    /// Where we can be reached directly.
    pub addresses: Vec<SocketAddr>,
    /// Where we can be reached through our relay.
    pub relayed: Vec<SocketAddr>,
    /// Where servers see our packets come from; of who hides, the relayed addresses.
    pub learned: Vec<SocketAddr>,
}

/// What the control link says.
#[derive(Debug)]
pub enum LinkEvent {
    /// It stands.
    Up,
    /// It fell; the door redials.
    Down(Fault),
    /// For a citizen.
    Citizen(citizen::FromRelay),
    /// For an officer.
    Officer(officer::FromRelay),
}

/// What a session says.
#[derive(Debug)]
pub enum SessionEvent {
    /// The QUIC handshake stands.
    Connected {
        /// The TLS exporter's 32 bytes.
        binding: Hash,
        /// The negotiated ALPN.
        alpn: String,
        /// As TLS negotiated.
        security: Security,
        /// The route in use.
        path: Path,
    },
    /// A control message, without its length.
    Control {
        /// The message.
        body: Bytes,
        /// When its last byte was read.
        at: Timestamp,
    },
    /// The first sound was received.
    FirstAudio(Timestamp),
    /// The first picture was decoded.
    FirstFrame(Timestamp),
    /// Figures, each second and at the end.
    Stats(Box<SessionStats>),
    /// The recording that was asked for is not whole.
    Unrecorded(Fault),
    /// No address of the invite can be dialled from here, now or later: the session is over.
    Undialled(Fault),
    /// The session is over.
    Closed(Fault),
}

/// Figures of a session.
#[derive(Clone, Debug, Default)]
pub struct SessionStats {
    /// Pictures so far.
    pub video: Video,
    /// Sound so far.
    pub audio: Audio,
    /// The wire so far.
    pub wire: Wire,
    /// The route in use.
    pub path: Option<Path>,
    /// How long the last second was.
    pub length: Duration,
    /// Since anything of the other end came, in ms.
    pub silent_ms: u32,
    /// The last second. The engine adds what the session does not know: the link to the
    /// relay, the clocks, and the word of quality.
    pub second: Stats,
}

/// What the engine asks of the doors.
#[derive(Debug)]
pub enum Output {
    /// Fetch the descriptor.
    Fetch,
    /// Of the control link.
    Link(LinkCommand),
    /// Solve this, which takes a while; one at a time.
    Work(Puzzle),
    /// Of the endpoint: expect a guest.
    Expect(Expected),
    /// Of the endpoint: dial a host.
    Dial(Dial),
    /// Of the endpoint: ask these how they see us.
    Servers(Vec<Server>),
    /// Of the endpoint: with this a relay lends us its TURN.
    Grant(Grant),
    /// Of the endpoint: the guest of this session is reached here.
    Permit(SessionId, Vec<SocketAddr>),
    /// Of the endpoint: this session is no longer expected.
    Forget(SessionId),
    /// Of a session.
    Session(SessionId, SessionCommand),
    /// Of the paths of a session.
    Path(SessionId, PathCommand),
    /// Show this.
    View(View),
    /// Remember this of the agency.
    Remember(Recalled),
    /// Keep this as proof.
    Prove(Proof),
    /// Keep this credential beside the key: it is newer than what was there, and verified.
    Keep(Bytes),
    /// Complete this report, write it and show it.
    Report(Box<Report>),
    /// The program ends, with this exit status.
    Finished(u8),
    /// Nothing more now.
    Wait(&'static str),
}

/// What the engine asks of the control link.
#[derive(Debug)]
pub enum LinkCommand {
    /// Connect to one of these relays, and keep connected.
    Open {
        /// Multiaddrs that end in `/p2p/<peer id>`.
        relays: Vec<String>,
        /// Our key there.
        key: Key,
        /// Whether to speak as an officer.
        officer: bool,
    },
    /// Say this, if the link stands.
    Citizen(citizen::ToRelay),
    /// Say this, if the link stands.
    Officer(officer::ToRelay),
    /// Say what is to be said, then close.
    Close,
}

/// A guest that may come.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The session.
    pub session: SessionId,
    /// The connection id of its first packet.
    pub dcid: Dcid,
    /// The hash of the invite: the exporter's context.
    pub invite: Hash,
    /// Whether only the hybrid group will do.
    pub require_pq: bool,
}

/// A host to dial.
#[derive(Clone, Debug)]
pub struct Dial {
    /// The session.
    pub session: SessionId,
    /// The connection id of our first packet.
    pub dcid: Dcid,
    /// Where the host listens.
    pub addresses: Vec<SocketAddr>,
    /// SHA-256 of its certificate.
    pub fingerprint: Hash,
    /// The hash of the invite: the exporter's context.
    pub invite: Hash,
    /// Whether only the hybrid group will do.
    pub require_pq: bool,
}

/// What the engine asks of the paths of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PathCommand {
    /// Both ends are proven.
    Begin {
        /// Whether this end is the host.
        host: bool,
        /// The desk's.
        policy: AddressPolicy,
    },
    /// The officer accepted.
    Accepted,
    /// The other end told this.
    Heard(path::Path),
}

/// What the engine asks of a session.
#[derive(Debug)]
pub enum SessionCommand {
    /// Send a framed control message.
    Send(Bytes),
    /// Both ends are proven.
    Warm,
    /// The desk is sensitive: who watches packets is to learn little of who speaks when.
    HideRhythm,
    /// The gate opens.
    Open,
    /// What the person wants to send.
    Media {
        /// Sound.
        audio: bool,
        /// Picture.
        video: bool,
    },
    /// Whether the other end sends pictures: without them nothing is frozen.
    PeerMedia {
        /// Picture.
        video: bool,
    },
    /// The other end's clock.
    Clock(Offset),
    /// Close with this code, once what was sent is out.
    Close(Fault),
}
