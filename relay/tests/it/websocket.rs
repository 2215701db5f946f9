//! The WebSocket listener from below: what a frame may be, and that nothing but libp2p is there.

use std::time::Duration;

use suora_protocol::limits::WEBSOCKET_MAX;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::rig::{self, Agency, PATIENCE};

/// How long a connection that should stay open is watched.
const WATCHED: Duration = Duration::from_millis(400);

/// Shakes hands as a browser would; gives the head of the answer.
async fn shake(agency: &Agency) -> (TcpStream, String) {
    let mut stream = rig::connect(agency.websocket).await;
    let request = "GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(PATIENCE, stream.read_u8()).await.unwrap();
        head.push(byte.unwrap());
    }
    (stream, String::from_utf8(head).unwrap())
}

/// The head of a binary frame that is masked by zeros.
fn head(length: usize) -> Vec<u8> {
    let mut head = vec![0x82];
    match u16::try_from(length) {
        Ok(short @ 0..126) => head.push(0x80 | u8::try_from(short).unwrap()),
        Ok(long) => {
            head.push(0x80 | 126);
            head.extend(long.to_be_bytes());
        }
        Err(_) => {
            head.push(0x80 | 127);
            head.extend(u64::try_from(length).unwrap().to_be_bytes());
        }
    }
    head.extend([0; 4]);
    head
}

/// Whether the relay closes the connection while it is watched.
async fn closes(stream: &mut TcpStream, within: Duration) -> bool {
    let mut rest = [0; 1_024];
    let end = async { while let Ok(1..) = stream.read(&mut rest).await {} };
    timeout(within, end).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_is_where_multistream_begins() {
    let agency = Agency::new();
    let _relay = agency.serve();
    let (mut stream, answer) = shake(&agency).await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    let hello = b"\x13/multistream/1.0.0\n";
    stream.write_all(&head(hello.len())).await.unwrap();
    stream.write_all(hello).await.unwrap();
    let mut said = vec![0; 2 + hello.len()];
    let read = timeout(PATIENCE, stream.read_exact(&mut said)).await;
    read.unwrap().unwrap();
    assert_eq!(said[0], 0x82);
    assert_eq!(&said[2..], hello);
}

// covers: SUORA-CTL-140
#[tokio::test(flavor = "multi_thread")]
async fn a_frame_over_its_bound_is_refused_by_its_head() {
    let agency = Agency::new();
    let _relay = agency.serve();
    for length in [WEBSOCKET_MAX + 1, 1 << 28, 1 << 62] {
        let (mut stream, _) = shake(&agency).await;
        stream.write_all(&head(length)).await.unwrap();
        assert!(closes(&mut stream, PATIENCE).await, "{length}");
    }
    let (mut stream, _) = shake(&agency).await;
    stream.write_all(&head(WEBSOCKET_MAX)).await.unwrap();
    assert!(!closes(&mut stream, WATCHED).await, "refused at its bound");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_end_is_refused() {
    let agency = Agency::new();
    let _relay = agency.serve();
    let mut stream = rig::connect(agency.websocket).await;
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    // the relay may close before all of it is out
    for number in 0..2_000 {
        let line = format!("x-{number}: more\r\n");
        if stream.write_all(line.as_bytes()).await.is_err() {
            break;
        }
    }
    assert!(closes(&mut stream, PATIENCE).await);
}
