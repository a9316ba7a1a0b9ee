//! Trains Earmark's networks and measures them.
//!
//! ```text
//! data set on disk -> clips, decoded once -> batches (seeded, made ahead) -> stage -> checkpoint -> model file
//! data::layout        data::clips, cache     data::batches                   stages    run          export
//!    |                                                                          |
//!    doctor: sound or broken?                                 validation: eval (ROC-AUC, average precision)
//! model file + split + noise -> eval::record (every condition, hashes) -> comparison (tables, plots, one page)
//! ```
//!
//! A stage is one readable loop in [`stages`]. Everything random is drawn from a stream of its own that follows from
//! the run's seed ([`rng`]), so a run repeats bit for bit on one machine, whatever the number of threads, and a resumed
//! run continues as if it had never stopped.
//!
//! Errors are `anyhow` chains that name the file, the rule it broke and the way out; the binary prints them and exits.

// Tests compare floats exactly where exactness is what they check.
#![cfg_attr(test, allow(clippy::float_cmp))]

pub mod comparison;
pub mod config;
pub mod data;
pub mod dataset;
pub mod doctor;
pub mod eval;
pub mod export;
pub mod plan;
pub mod progress;
pub mod rng;
pub mod run;
pub mod stages;
pub mod tensorboard;
pub mod weights;
