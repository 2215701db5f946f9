//! Behaviours of whole programs and of the simulated world, and the rules of the spec and
//! of the house.

mod agencies;
mod blind;
mod consultation;
mod contact;
mod demo;
mod devices;
mod doctor;
mod durable;
mod enrolment;
mod evil;
mod flood;
mod foreign;
mod fuzz;
mod house;
mod impostor;
mod judged;
mod kill;
mod lab;
mod live;
mod logs;
mod playout;
mod pq;
mod relayed;
mod repeater;
mod requirements;
mod setup;
mod supply;
mod vectors;
mod weather;
mod wire;
mod world;

use std::path::Path;

/// This crate's program, which assembles nodes and relays with faults.
fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_suora-interop"))
}

/// Tests that load the machine and tests that judge speech in real time run one at a time.
async fn alone() -> tokio::sync::MutexGuard<'static, ()> {
    static ROOM: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    ROOM.lock().await
}
