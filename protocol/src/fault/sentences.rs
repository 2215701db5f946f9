//! What people read of each code: `locales/codes.*.ftl`, in the Fluent format. `code-<text>` is a
//! sentence that says what happened, and its attribute `next` one that says what to do.

/// In Finnish.
pub const FI: &str = include_str!("../../locales/codes.fi.ftl");
/// In Swedish.
pub const SV: &str = include_str!("../../locales/codes.sv.ftl");
/// In English.
pub const EN: &str = include_str!("../../locales/codes.en.ftl");
