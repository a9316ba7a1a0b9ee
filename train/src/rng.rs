//! Independent random streams from one seed.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The stream for one `purpose` and two counters (epoch and example, say). Whatever is drawn from one stream leaves
/// every other as it is, so batches do not depend on the order or the thread in which they are made, and a resumed run
/// needs no generator state.
pub fn stream(seed: u64, purpose: &str, first: u64, second: u64) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    for number in [seed, first, second] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(purpose.as_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let first = |seed, purpose, a, b| stream(seed, purpose, a, b).random::<u64>();
        assert_eq!(first(1, "crop", 2, 3), first(1, "crop", 2, 3));
        let others = [first(2, "crop", 2, 3), first(1, "drop", 2, 3), first(1, "crop", 3, 3), first(1, "crop", 2, 4)];
        assert!(others.iter().all(|&other| other != first(1, "crop", 2, 3)));
    }
}
