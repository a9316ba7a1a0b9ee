//! Any bytes as a model file: an error, or a model that passes its own checks and survives writing and reading.
#![no_main]

use earmark_core::model_file::Model;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(model) = Model::from_bytes(data, "fuzz") else { return };
    model.validate().expect("what was read is valid");
    let bytes = model.to_bytes().expect("what was read can be written");
    Model::from_bytes(&bytes, "again").expect("what was written can be read");
});
