//! What packetising and reassembling a picture costs.

use std::time::{Duration, Instant};

use divan::{Bencher, black_box};
use suora_protocol::media::receiver::{self, Receiver};
use suora_protocol::media::sender::{self, Sender};
use suora_protocol::media::{EncodedFrame, Kind, h264};
use suora_protocol::time::{Now, Timestamp};

fn main() {
    divan::main();
}

#[expect(clippy::disallowed_methods, reason = "door: the base of virtual time")]
fn base() -> Now {
    Now {
        mono: Instant::now() + Duration::from_secs(3_600),
        utc: Timestamp::from_secs(1_795_525_200),
    }
}

fn picture(now: Now, bytes: usize, keyframe: bool) -> EncodedFrame {
    let mut data = Vec::new();
    let unit = [if keyframe { 0x65 } else { 0x41 }];
    h264::join(&mut data, &[&unit[..], &vec![0xa5; bytes]].concat());
    EncodedFrame {
        kind: Kind::Video,
        captured: now.utc,
        data: data.into(),
        keyframe,
        width: 640,
        height: 360,
        duration: Duration::from_micros(33_333),
    }
}

fn packetise(sender: &mut Sender, now: Now, bytes: usize) -> Vec<(u64, bytes::Bytes)> {
    let frame = picture(now, bytes, true);
    let _ = sender.handle_input(now, sender::Input::Frame(frame));
    let _ = sender.handle_input(now, sender::Input::Beat(1 << 20));
    let mut written = Vec::new();
    loop {
        match sender.poll_output() {
            sender::Output::Write(stream, bytes) => written.push((stream, bytes)),
            sender::Output::Finish(stream) => {
                let _ = sender.handle_input(now, sender::Input::Acked(stream));
            }
            sender::Output::Wait(..) => return written,
            _ => {}
        }
    }
}

/// A picture of so many bytes becomes one stream.
#[divan::bench(args = [2_500, 20_000])]
fn packetise_a_picture(bencher: Bencher<'_, '_>, bytes: usize) {
    let now = base();
    let mut sender = Sender::new(0, [1, 2]);
    let _ = sender.handle_input(now, sender::Input::Open);
    bencher.bench_local(|| black_box(packetise(&mut sender, now, bytes)));
}

/// One stream becomes a picture of so many bytes.
#[divan::bench(args = [2_500, 20_000])]
fn reassemble_a_picture(bencher: Bencher<'_, '_>, bytes: usize) {
    let now = base();
    let mut sender = Sender::new(0, [1, 2]);
    let _ = sender.handle_input(now, sender::Input::Open);
    let mut receiver = Receiver::new(1, 0, 3);
    let _ = receiver.handle_input(now, receiver::Input::Accepted);
    bencher
        .with_inputs(|| packetise(&mut sender, now, bytes))
        .bench_local_values(|written| {
            let mut last = 0;
            for (stream, bytes) in &written {
                last = *stream;
                let _ = receiver.handle_input(now, receiver::Input::StreamData(*stream, bytes));
            }
            let _ = receiver.handle_input(now, receiver::Input::StreamEnd(last));
            loop {
                match receiver.poll_output() {
                    receiver::Output::Wait(..) => break,
                    output => drop(black_box(output)),
                }
            }
        });
}
