//! Every bound of the protocol, in one table (`spec/registries.md`, section 5).

use std::time::Duration;

/// Longest control message, in bytes, without its length prefix.
pub const MESSAGE_MAX: usize = 65_536;
/// Longest signed document, in bytes.
pub const DOCUMENT_MAX: usize = 49_152;
/// Deepest nesting of CBOR items.
pub const CBOR_DEPTH_MAX: usize = 8;
/// Most addresses in an invite, and that a citizen's node tells.
pub const ADDRESSES_MAX: usize = 8;
/// Most TURN servers in a descriptor or a grant.
pub const TURN_MAX: usize = 8;
/// How long a grant holds; the next of the same consultation comes after half of it.
pub const GRANT: Duration = Duration::from_secs(7_200);
/// Most candidates that an end tells of itself.
pub const CANDIDATES_MAX: usize = 16;
/// Most relays in a descriptor.
pub const RELAYS_MAX: usize = 8;
/// Most keys in a descriptor.
pub const KEYS_MAX: usize = 16;
/// Most desks in a descriptor or a credential.
pub const DESKS_MAX: usize = 256;
/// Most revoked peer ids in a descriptor.
pub const REVOKED_MAX: usize = 1_024;
/// Most channels, languages or versions in a list.
pub const ITEMS_MAX: usize = 32;
/// Longest chat text, in bytes of UTF-8.
pub const CHAT_MAX: usize = 4_000;
/// Longest text in a document and longest free text in a message, in bytes.
pub const TEXT_MAX: usize = 256;
/// How long an offer waits for the officer's answer.
pub const OFFER: Duration = Duration::from_secs(30);
/// How long a ticket outlives its owner's link.
pub const GRACE: Duration = Duration::from_secs(120);
/// From invite to welcome; after this the invite is dead.
pub const INVITE_WELCOME: Duration = Duration::from_secs(10);
/// A session that waits for the accept and heard nothing for this long has ended.
pub const WARM_SILENCE: Duration = Duration::from_secs(10);
/// A consultation in which nothing was heard for this long has ended: two people wait
/// out a tunnel or a lift.
pub const SILENCE: Duration = Duration::from_secs(60);
/// QUIC's own idle timeout; over [`SILENCE`], so that the session decides.
pub const IDLE: Duration = Duration::from_secs(90);
/// QUIC keep-alive interval.
pub const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Heartbeat of a node on its desk stream.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// Heartbeat while something is wrong with a consultation.
pub const HEARTBEAT_TROUBLED: Duration = Duration::from_secs(1);
/// The least time between two messages of quality.
pub const QUALITY_INTERVAL: Duration = Duration::from_secs(1);
/// A desk stream without any message for this long is dead.
pub const LINK_SILENCE: Duration = Duration::from_secs(20);
/// Clock tolerance for the validity of documents.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);
/// Longest validity of a descriptor, in days.
pub const DESCRIPTOR_DAYS_MAX: i64 = 30;
/// Longest validity of a credential, in days.
pub const CREDENTIAL_DAYS_MAX: i64 = 30;
/// Validity of an invite.
pub const INVITE_VALID: Duration = Duration::from_secs(120);
/// Clock exchanges at the start of a session.
pub const CLOCK_BURST: u32 = 5;
/// Interval of later clock exchanges.
pub const CLOCK_INTERVAL: Duration = Duration::from_secs(5);
/// How far two clocks may drift apart, in microseconds a second.
pub const CLOCK_DRIFT: i64 = 200;
/// Longest RTP or RTCP packet in a datagram, in bytes.
pub const DATAGRAM_MAX: usize = 1_100;
/// Longest encoded frame, in bytes.
pub const FRAME_MAX: usize = 1_048_576;
/// Most NAL units of one frame.
pub const NALS_MAX: usize = 64;
/// Most pictures of one track that wait for their bytes to leave.
pub const FRAMES_WAITING_MAX: usize = 8;
/// Most pictures of one track that were written and are not yet acknowledged, copies not
/// counted: at 30 pictures a second, a round trip of 0.8 s.
pub const FRAME_STREAMS_MAX: usize = 24;
/// Unidirectional streams that an end grants the other one.
pub const UNI_STREAMS_MAX: u32 = 64;
/// A frame that is older than this when its bytes could leave is reset.
pub const FRAME_STALE: Duration = Duration::from_millis(400);
/// A picture that is longer than this on its stream is sent once, in bytes.
pub const COPY_MAX: usize = 6_000;
/// A picture is sent so often at most.
pub const COPIES_MAX: usize = 3;
/// No picture leaves once no report told for this and a round trip of what was sent.
pub const UNTOLD: Duration = Duration::from_millis(300);
/// How long a guest holds media that came before it heard of the accept.
pub const EARLY_WAIT: Duration = Duration::from_secs(3);
/// Most packets that one arrival report covers on a flow.
pub const REPORT_PACKETS_MAX: usize = 256;
/// Longest frame or message of WebSocket on the control plane, in bytes.
pub const WEBSOCKET_MAX: usize = 131_072;
/// Packets of a train that asks how much a way carries.
pub const PROBE_PACKETS: u8 = 6;
/// Bytes of each of them, without the flow id.
pub const PROBE_BYTES: usize = 1_000;
/// Interval of arrival reports.
pub const REPORT_INTERVAL: Duration = Duration::from_millis(80);
/// A packet of sound is lost once one after it came this long before a report.
pub const SOUND_LATE: Duration = Duration::from_millis(30);
/// The sender's beat, at which bytes are handed to QUIC.
pub const BEAT: Duration = Duration::from_millis(5);
/// Most people waiting at one desk.
pub const QUEUE_MAX: usize = 10_000;
/// Most officers attending at one desk.
pub const OFFICERS_MAX: usize = 1_000;
/// Messages a second that a link may send on average.
pub const LINK_RATE: u32 = 20;
/// Messages that a link may send at once.
pub const LINK_BURST: u32 = 60;
/// Tickets of one address prefix (/24 of IPv4, /56 of IPv6) at one desk, those that ended in
/// the last slot of time included.
pub const PREFIX_TICKETS_MAX: usize = 256;
/// From so many tickets of one prefix at a desk on, its next ones have to be worked for.
pub const WORK_PREFIX: usize = 32;
/// From so many people waiting at a desk on, every new ticket has to be worked for.
pub const WORK_QUEUE: usize = 2_000;
/// The least work, in zero bits of a hash.
pub const WORK_BITS: u8 = 16;
/// The most work that a relay asks for and a node does, in zero bits of a hash.
pub const WORK_BITS_MAX: u8 = 22;
/// A slot of time for work; work counts in its slot and in the next.
pub const WORK_SLOT: Duration = Duration::from_secs(60);
/// Puzzles that a node solves in a row without getting a ticket.
pub const WORKS_MAX: u32 = 4;
/// Longest frame of sound, in samples at 48 kHz.
pub const SOUND_FRAME: usize = 960;
