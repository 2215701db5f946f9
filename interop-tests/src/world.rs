//! Real engines and hub on a virtual clock.
