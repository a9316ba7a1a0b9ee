//! From data sets on disk to batches: layouts, audio in memory, augmentation.
//!
//! One parser per layout ([`mtat`], [`jamendo`], [`audioset`], [`musan`], [`folder`]) gives one description
//! ([`items::Collection`]); [`layout`] tells which parser a folder is for.

pub mod audioset;
pub mod batches;
pub mod cache;
pub mod clips;
pub mod domains;
pub mod folder;
pub mod items;
pub mod jamendo;
pub mod layout;
pub mod mtat;
pub mod musan;
pub mod npy;
pub mod soft_labels;
