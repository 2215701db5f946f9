//! Files: media, settings, keys and the relay's store. Each body gives a file the first
//! bytes by which it is known, so that no try is lost on another kind.

use std::cell::RefCell;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use ogg::writing::{PacketWriteEndInfo, PacketWriter};
use suora_node::Faults;
use suora_node::capture::{Picture, file, pattern};
use suora_node::devices::fake::list::Written;
use suora_node::encode::{Control, h264, opus};
use suora_node::engine::ports::Recalled;
use suora_node::fit::Frame;
use suora_node::intent::Intent;
use suora_node::memory::Memory;
use suora_node::play::{Sink, SoundKind};
use suora_protocol::documents::{Challenge, DeskId, TicketId};
use suora_protocol::identity::{AgencyId, PeerId};
use suora_protocol::time::Timestamp;
use suora_relay::command::descriptor::Page;
use suora_relay::command::register::Register;
use suora_relay::hub::change::{Change, Row};
use suora_relay::keys::Passphrase;
use suora_relay::store::Store;
use suora_relay::store::sqlite::Sqlite;

/// A file with these bytes, private to this thread; in memory where the system has room there.
fn with_file<T>(bytes: &[u8], read: impl FnOnce(&Path) -> T) -> T {
    thread_local! {
        static SCRATCH: RefCell<Option<tempfile::NamedTempFile>> = const { RefCell::new(None) };
    }
    SCRATCH.with_borrow_mut(|scratch| {
        let file = scratch.get_or_insert_with(|| {
            tempfile::NamedTempFile::new_in("/dev/shm")
                .or_else(|_| tempfile::NamedTempFile::new())
                .expect("a scratch file")
        });
        let handle = file.as_file_mut();
        handle.seek(SeekFrom::Start(0)).expect("seek");
        handle.set_len(0).expect("cut");
        handle.write_all(bytes).expect("write");
        read(file.path())
    })
}

/// The bytes behind these first ones.
fn headed(head: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut whole = bytes.to_vec();
    whole.resize(whole.len().max(head.len()), 0);
    whole[..head.len()].copy_from_slice(head);
    whole
}

/// Opens a file as a source, and reads a little of what it holds.
fn open(bytes: &[u8]) {
    with_file(bytes, |path| {
        let Ok(media) = file::open(path, 30, true) else {
            return;
        };
        if let Some(pictures) = media.pictures {
            assert!(pictures.period() > 0, "pictures that take no time");
            if let Ok(mut reader) = pictures.reader() {
                for time in [0, 40_000, 1_000_000] {
                    if let Some(frame) = reader.at(time) {
                        let size = Frame::size(frame.width, frame.height);
                        assert_eq!(frame.data.len(), size);
                    }
                }
            }
        }
        if let Some(sound) = media.sound {
            assert_eq!(sound.block(0).len(), sound.block(7).len());
        }
    });
}

/// MP4.
pub fn mp4(bytes: &[u8]) {
    let mut whole = headed(&[0; 8], bytes);
    whole[..4].copy_from_slice(&bytes.get(..4).map_or([0; 4], |b| [b[0], b[1], b[2], b[3]]));
    whole[4..8].copy_from_slice(b"ftyp");
    open(&whole);
}

/// Ogg Opus.
pub fn ogg(bytes: &[u8]) {
    open(&headed(b"OggS", bytes));
}

/// WAV.
pub fn wav(bytes: &[u8]) {
    let mut whole = headed(b"RIFF", bytes);
    whole.resize(whole.len().max(12), 0);
    whole[8..12].copy_from_slice(b"WAVE");
    open(&whole);
}

/// Y4M.
pub fn y4m(bytes: &[u8]) {
    open(&headed(b"YUV4MPEG2 ", bytes));
}

/// A key under a passphrase, which is its own first line, by little work:
/// `openssl pkcs8 -topk8 -scrypt -scrypt_N 16 -scrypt_r 1 -scrypt_p 1 -v2 aes-256-cbc`.
const SEALED: &str = "\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGSME4GCSqGSIb3DQEFDTBBMCAGCSsGAQQB2kcECzATBAgGe+FceO5/+gIBEAIB
AQIBATAdBglghkgBZQMEASoEEFw0iPD25Cq89E179KD7v7AEQPJ2kLPdY4kgojqr
m34Z/0uVMPxaMX89nVZMhU2Ooq0Bb31VwPfkcGEQoNqwv2E6Z4UA6gOGPDw1sBxK
Li9FzQs=
-----END ENCRYPTED PRIVATE KEY-----
";

const REGISTER: &str = r#"
[[person]]
peer = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
role = "officer"
name = "A"
desks = ["tax"]
days = 7
until = "soon"
"#;

const PAGE: &str = r#"
domain = "a.example"
sequence = 1
relays = []
keys = [{ id = "a", use = "issuing", public = "b" }]
desks = [{ id = "tax", address_policy = "open", names = { en = "T", fi = "", sv = "" } }]
[names]
en = "A"
fi = ""
sv = ""
"#;

/// What people and programs write: settings, key files, registers, pages to be signed, what a
/// node remembers, made-up devices, intents.
pub fn config(bytes: &[u8]) {
    with_file(bytes, |path| {
        // both kinds of key file: one that is taken is written in one way
        let node = suora_node::keys::load(path);
        let relay = suora_relay::keys::load(path);
        if node.is_ok() {
            assert!(relay.is_ok(), "two readers of one form differ");
        }
        // under a passphrase too: the file is read as what opens it
        let opened = suora_relay::keys::open(path, || Passphrase::read(path));
        if let (Ok(relay), Ok(opened)) = (relay, opened) {
            assert_eq!(relay.peer_id(), opened.peer_id());
        }
    });
    let _ = suora_node::memory::parse(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(config) = suora_relay::config::Config::parse(text) {
        assert!(config.control.port() != 0 && config.connections > 0);
    }
    let _ = (Register::parse(text), Page::parse(text));
    let _ = serde_json::from_str::<Written>(text);
    if let Ok(intent) = serde_json::from_str::<Intent>(text) {
        let again = serde_json::to_string(&intent).expect("an intent that was read");
        assert_eq!(serde_json::from_str::<Intent>(&again).ok(), Some(intent));
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

/// A relay's store: whatever the file holds, it opens with all that it says, or it is refused.
pub fn store(bytes: &[u8]) {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = runtime();
    }
    // a folder of its own: what a store leaves beside its file belongs to no other try
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let dir = dir.expect("a scratch folder");
    let path = dir.path().join("relay.db");
    std::fs::write(&path, bytes).expect("write");
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let examined = Sqlite::examine(&path).await;
            if let Ok(mut store) = Sqlite::open(&path).await {
                let loaded = store.load().await;
                if let (Ok(tickets), Ok(snapshot)) = (examined, &loaded) {
                    assert_eq!(usize::try_from(tickets).ok(), Some(snapshot.rows.len()));
                }
                let _ = store.close().await;
            }
        });
    });
}

/// What a node remembers of an agency.
fn memory() -> Result<Vec<u8>, String> {
    let dir = tempfile::tempdir().map_err(text)?;
    let agency = "https://a.example".parse().map_err(text)?;
    let memory = Memory::of(&agency, dir.path().into());
    let recalled = Recalled {
        root: AgencyId::from_bytes([1; 32]),
        bytes: vec![0; 8].into(),
        fetched: at(0),
    };
    memory.keep(&recalled).map_err(text)?;
    let folder = std::fs::read_dir(dir.path().join("agencies")).map_err(text)?;
    let file = folder.flatten().next().ok_or("nothing is remembered")?;
    std::fs::read(file.path()).map_err(text)
}

/// Small whole examples of a target's files.
pub fn examples(target: &str) -> Result<Vec<Vec<u8>>, String> {
    Ok(match target {
        "mp4" => vec![movie(true)?, movie(false)?],
        "ogg" => vec![sound()?],
        "wav" => vec![waves(16, 48_000)?, waves(24, 44_100)?],
        "y4m" => vec![
            [&b"YUV4MPEG2 W16 H16 F25:1 Ip A1:1 C420jpeg\nFRAME\n"[..], &[128; 384]].concat(),
            [&b"YUV4MPEG2 W2 H2\nFRAME\n"[..], &[1; 6], b"FRAME\n", &[2; 6]].concat(),
        ],
        "h264" => pictures()?,
        "opus" => packets()?,
        "config" => [
            suora_relay::config::Config::template([127, 0, 0, 1].into(), 1, Some(2), 0, 3, Some(4)),
            format!("{}\n", "0f".repeat(32)),
            SEALED.into(),
            REGISTER.into(),
            PAGE.into(),
            r#"{"cameras": [{"name": "A", "source": "pattern", "answer": "busy"}]}"#.into(),
            r#"{"microphones": [{"name": "B", "source": "a.wav", "rate": 44100}]}"#.into(),
            r#"{"intent": "chat", "text": "hello"}"#.into(),
            r#"{"intent": "status", "status": "wrap-up"}"#.into(),
        ]
        .map(String::into_bytes)
        .into_iter()
        .chain([memory()?])
        .collect(),
        "names" => [
            "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA",
            "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
            "tax",
            "https://agency.example/suora.cose?v=1",
            "http://127.0.0.1:8080#root=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        ]
        .map(|text| text.as_bytes().to_vec())
        .into(),
        "store" => vec![tickets(&[])?, tickets(&rows()?)?],
        _ => Vec::new(),
    })
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_795_525_200_000 + millis)
}

fn frames() -> Vec<suora_protocol::media::EncodedFrame> {
    let pattern = pattern::Pattern::new(64, 64, 30);
    let mut encoder = h264::Encoder::new(30);
    let control = Control::new(100_000);
    let encode = |n: u64| {
        let picture = Picture {
            captured: at(i64::try_from(n).unwrap_or(0) * 33),
            width: 64,
            height: 64,
            data: pattern.draw(n),
        };
        encoder.encode(&picture, &control)
    };
    (0..2).filter_map(encode).collect()
}

fn pictures() -> Result<Vec<Vec<u8>>, String> {
    Ok(frames()
        .into_iter()
        .map(|frame| frame.data.to_vec())
        .collect())
}

fn packets() -> Result<Vec<Vec<u8>>, String> {
    let mut encoder = opus::Encoder::new().map_err(text)?;
    Ok((0..3)
        .filter_map(|n| encoder.encode(&pattern::beep(n)))
        .collect())
}

/// A recording of two pictures, and with sound of 60 ms.
fn movie(with_sound: bool) -> Result<Vec<u8>, String> {
    let dir = tempfile::tempdir().map_err(text)?;
    let file = dir.path().join("a.mp4");
    let (sink, recorder) = Sink::record(file, Faults::default()).map_err(text)?;
    for (n, frame) in (0..).zip(frames()) {
        sink.picture(frame, at(n * 33), true).map_err(text)?;
    }
    for n in 0..if with_sound { 3 } else { 0 } {
        let shown = at(i64::try_from(n).map_err(text)? * 20);
        sink.sound(pattern::beep(n), shown, SoundKind::Packet)
            .map_err(text)?;
    }
    let file = recorder.finish().map_err(text)?.ok_or("no recording")?;
    std::fs::read(file).map_err(text)
}

/// 60 ms of Ogg Opus.
fn sound() -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut writer = PacketWriter::new(std::io::Cursor::new(&mut bytes));
    let page = PacketWriteEndInfo::EndPage;
    let head = b"OpusHead\x01\x01\x38\x01\x80\xbb\x00\x00\x00\x00\x00".to_vec();
    writer.write_packet(head, 1, page, 0).map_err(text)?;
    let tags = b"OpusTags\x00\x00\x00\x00\x00\x00\x00\x00".to_vec();
    writer.write_packet(tags, 1, page, 0).map_err(text)?;
    for (n, packet) in (1..).zip(packets()?) {
        let end = match n {
            3 => PacketWriteEndInfo::EndStream,
            _ => PacketWriteEndInfo::NormalPacket,
        };
        writer.write_packet(packet, 1, end, n * 960).map_err(text)?;
    }
    drop(writer);
    Ok(bytes)
}

fn waves(bits: u16, rate: u32) -> Result<Vec<u8>, String> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: rate,
        bits_per_sample: bits,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::new(&mut bytes, spec).map_err(text)?;
    for sample in 0..64 {
        writer.write_sample(sample * 100).map_err(text)?;
    }
    writer.finalize().map_err(text)?;
    Ok(bytes.into_inner())
}

fn rows() -> Result<Vec<Row>, String> {
    let row = |order: u8| -> Result<Row, String> {
        Ok(Row {
            ticket: TicketId::from_bytes([order; 16]),
            desk: DeskId::new("tax").map_err(text)?,
            guest: PeerId::from_bytes([7; 32]),
            challenge: Challenge::from_bytes([8; 16]),
            order: order.into(),
            joined: at(0),
            attempt: 2,
            officer: (order == 2).then(|| PeerId::from_bytes([9; 32])),
        })
    };
    [1, 2].into_iter().map(row).collect()
}

fn tickets(rows: &[Row]) -> Result<Vec<u8>, String> {
    let dir = tempfile::tempdir().map_err(text)?;
    let path = dir.path().join("relay.db");
    let changes: Vec<Change> = rows.iter().cloned().map(Change::Put).collect();
    runtime().block_on(async {
        let mut store = Sqlite::open(&path).await.map_err(text)?;
        store.commit(&changes).await.map_err(text)?;
        store.close().await.map_err(text)
    })?;
    std::fs::read(path).map_err(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: SUORA-SEC-140
    #[test]
    fn the_examples_of_files_are_taken_whole() {
        with_file(SEALED.as_bytes(), |path| {
            suora_relay::keys::open(path, || Passphrase::read(path)).unwrap();
        });
        Register::parse(REGISTER).unwrap();
        Page::parse(PAGE).unwrap();
        suora_node::memory::parse(&memory().unwrap()).unwrap();
    }
}
