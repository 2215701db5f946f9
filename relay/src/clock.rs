//! UTC that never steps back.
