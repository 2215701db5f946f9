//! What writing and reading a control message costs.

use divan::{Bencher, black_box};
use suora_protocol::documents::{Challenge, DeskId, TicketId};
use suora_protocol::wire::{self, Framer, citizen};

fn main() {
    divan::main();
}

fn message() -> citizen::ToRelay {
    citizen::ToRelay::Join {
        // the name is a constant that fits
        desk: DeskId::new("advice").unwrap_or_else(|fault| unreachable!("{fault}")),
        challenge: Challenge::from_bytes([7; 16]),
        ticket: Some(TicketId::from_bytes([9; 16])),
        work: None,
    }
}

#[divan::bench]
fn write_a_message(bencher: Bencher<'_, '_>) {
    let message = message();
    bencher.bench(|| wire::encode(black_box(&message)));
}

#[divan::bench]
fn read_a_message(bencher: Bencher<'_, '_>) {
    let bytes = wire::encode(&message()).unwrap_or_default();
    bencher.bench(|| {
        let mut framer = Framer::new();
        framer.push(black_box(&bytes));
        match framer.next_message() {
            Ok(Some(body)) => wire::decode::<citizen::ToRelay>(&body),
            other => unreachable!("{other:?}"),
        }
    });
}
