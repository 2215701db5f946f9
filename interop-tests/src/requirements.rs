//! Spec and tests in step.
