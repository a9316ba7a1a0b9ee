//! From data sets on disk to batches: layouts, audio in memory, augmentation.

pub mod batches;
pub mod clips;
pub mod mtat;
pub mod npy;
pub mod soft_labels;
