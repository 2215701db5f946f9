//! Assemblies with one rule broken.
