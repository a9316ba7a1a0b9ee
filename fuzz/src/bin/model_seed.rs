//! Writes the smallest model there is, the seed of the target `model_file`: `model_seed OUT`.

use earmark_core::model_file::Model;
use earmark_core::weights::Architecture;

fn main() {
    let path = std::env::args().nth(1).expect("usage: model_seed OUT");
    let architecture = Architecture { widths: [1; 11], last_kernel: 1, head_hidden: None, num_tags: 2 };
    let model = Model::random(architecture, 1);
    let bytes = model.to_bytes().expect("the seed is a valid model");
    std::fs::write(path, bytes).expect("the seed can be written");
}
