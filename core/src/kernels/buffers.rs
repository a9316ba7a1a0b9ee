//! Activation buffers that outlive a training step.
//!
//! A step needs half a gigabyte of activations in a dozen sizes, the same in every step. Returned to the system and
//! asked for again, each page would be faulted in and zeroed anew; kept here, it is not.

use std::sync::{Mutex, PoisonError};

/// Numbers kept at most: 512 MiB of `f32`, the activations of 16 windows at full width.
const MAX_KEPT: usize = 128 << 20;

static KEPT: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// A buffer of `len` numbers with any content.
pub fn take(len: usize) -> Vec<f32> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    match kept.iter().rposition(|buffer| buffer.len() == len) {
        Some(index) => kept.remove(index),
        None => {
            drop(kept);
            vec![0.0; len]
        }
    }
}

/// Gives a buffer back; the oldest ones are freed beyond the limit.
pub fn give(buffer: Vec<f32>) {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.push(buffer);
    let mut total: usize = kept.iter().map(Vec::capacity).sum();
    while total > MAX_KEPT {
        total -= kept.remove(0).capacity();
    }
}

/// Frees all kept buffers, e.g. when training is over and the program goes on.
pub fn release() {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).clear();
}
