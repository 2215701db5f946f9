//! libFuzzer around one target, which the variable `SUORA_FUZZ` names.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use suora_interop::fuzz::{self, Target};

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("SUORA_FUZZ").unwrap_or_default();
        let Some(target) = fuzz::target(&name) else {
            eprintln!("SUORA_FUZZ names no target: {name}");
            std::process::exit(2);
        };
        let _ = TARGET.set(target);
    },
    |bytes: &[u8]| {
        if let Some(target) = TARGET.get() {
            (target.body)(bytes);
        }
    }
);
