//! Suora's node as a library.

pub mod capture;
pub mod clock;
pub mod command;
pub mod config;
pub mod decode;
pub mod encode;
pub mod endpoint;
pub mod engine;
pub mod fetch;
pub mod intent;
pub mod keys;
pub mod link;
pub mod path;
pub mod play;
pub mod remote;
pub mod report;
pub mod run;
pub mod session;
pub mod status;
pub mod text;
pub mod view;
pub mod worker;
