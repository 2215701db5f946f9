//! Behaviours seen from outside the crate: the hub on a virtual clock, then the real
//! program with real nodes.

mod agency;
mod capacity;
mod commands;
mod crowd;
mod desk;
mod doctor;
mod durable;
mod enrolment;
mod entrance;
mod issuing;
mod model;
mod offers;
mod officers;
mod paths;
mod process;
mod rig;
mod rooted;
mod stage;
mod stolen;
mod turn;
mod turns;
mod websocket;
