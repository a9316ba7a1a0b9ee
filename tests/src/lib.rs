//! Tests that cross crates; they live in `tests/all.rs`. Comparisons with other software are scripts in `peers/`.
