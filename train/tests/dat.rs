//! The three stages of domain adversarial training on clips made here: from audio files to a model file.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use burn::module::Module;
use burn::tensor::Device;
use earmark_core::adapt::DatNetworks;
use earmark_core::model_file::Model;
use earmark_train::config::Config;
use earmark_train::dataset::{Dataset, LoadedDataset};
use earmark_train::progress::Progress;
use earmark_train::run::{RunFolder, Stage};
use earmark_train::stages::networks::{dat_networks, dc_networks, load_feature_extractor};
use earmark_train::stages::validation::{self, Which};
use earmark_train::stages::{Outcome, dat, dc, fe};

const CONFIG: &str = r#"
seed = 3
[model]
width = 0.0625
last_kernel = 3
head_hidden = 8
[data]
targets = "soft"
hard_share = 0.25
[noise]
train = "noise/train"
valid = "noise/valid"
num_noises = 2
[fe]
epochs = 2
batch = 5
projection_len = 8
[dc]
epochs = 2
batch = 4
hidden = 6
strategy = "easy_to_hard"
epochs_per_db = 1
[dat]
epochs = 5
batch = 4
learning_rate = 1e-3
lambda = 0.5
validate_every_epochs = 2
"#;

/// Losses of the first ten steps of `--stage dat` after the other two stages of [`CONFIG`], as the test printed them.
/// They change with anything that changes what is learnt; another order of summation moves them by less than the
/// tolerance.
const PINNED_LABEL_LOSSES: [f64; 10] =
    [0.857682, 0.658747, 0.683496, 0.735386, 0.794949, 0.587942, 0.645714, 0.704111, 0.668393, 0.657019];
const PINNED_DOMAIN_LOSSES: [f64; 10] =
    [0.725984, 0.725756, 0.706020, 0.686231, 0.705758, 0.725975, 0.703425, 0.710811, 0.792714, 0.756220];
const PINNED_TOLERANCE: f64 = 2e-3;

/// A folder in MagnaTagATune's layout: ten training, two validation and two test clips of 3.2 s, in pairs of two `tone`
/// and two `hiss`, so that both domains hold both; a teacher that is nearly sure; and noise.
fn write_fixture(root: &Path) {
    let mut annotations = "\"clip_id\"\t\"tone\"\t\"hiss\"\t\"mp3_path\"\n".to_owned();
    let mut soft = "clip_id,tone,hiss\n".to_owned();
    for (id, folder) in ["0", "1", "2", "3", "4", "5", "6", "7", "a", "b", "c", "c", "d", "e"].iter().enumerate() {
        let tone = if id < 10 { id / 2 % 2 == 0 } else { id % 2 == 0 };
        let path = format!("{folder}/clip-{id}.wav");
        write_wav(&root.join(&path), &waveform(tone, id as u32, 70_560));
        annotations += &format!("\"{id}\"\t\"{}\"\t\"{}\"\t\"{path}\"\n", u8::from(tone), u8::from(!tone));
        let (yes, no) = if tone { (0.9, 0.1) } else { (0.1, 0.9) };
        soft += &format!("{id},{yes},{no}\n");
    }
    std::fs::write(root.join("annotations_final.csv"), annotations).expect("written");
    std::fs::write(root.join("soft_labels.csv"), soft).expect("written");
    for (split, id, len) in [("train", 21, 30_000), ("train", 23, 90_000), ("valid", 25, 40_000)] {
        write_wav(&root.join(format!("noise/{split}/noise-{id}.wav")), &waveform(id % 4 == 1, id, len));
    }
}

fn waveform(tone: bool, id: u32, len: u32) -> Vec<f32> {
    let mut state = id.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..len)
        .map(|n| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
            let sine = (std::f32::consts::TAU * (150.0 + 20.0 * id as f32) * n as f32 / 22_050.0).sin();
            if tone { 0.4 * sine + 0.01 * noise } else { 0.3 * noise }
        })
        .collect()
}

fn write_wav(path: &Path, samples: &[f32]) {
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    let format = hound::SampleFormat::Int;
    let spec = hound::WavSpec { channels: 1, sample_rate: 22_050, bits_per_sample: 16, sample_format: format };
    let mut writer = hound::WavWriter::create(path, spec).expect("a file");
    for sample in samples {
        writer.write_sample((sample * 32_767.0) as i16).expect("written");
    }
    writer.finalize().expect("written");
}

/// Exchanges the tags of the training clips of one domain, in the annotations and in the teacher's probabilities.
fn exchange_tags(root: &Path, remainder: usize) {
    let exchange = |file: &str, separator: char| {
        let text = std::fs::read_to_string(root.join(file)).expect("readable");
        let rows = text.lines().enumerate().map(|(line, row)| {
            let mut cells: Vec<&str> = row.split(separator).collect();
            if (1..=10).contains(&line) && (line - 1) % 2 == remainder {
                cells.swap(1, 2);
            }
            cells.join(&separator.to_string()) + "\n"
        });
        std::fs::write(root.join(file), rows.collect::<String>()).expect("written");
    };
    exchange("annotations_final.csv", '\t');
    exchange("soft_labels.csv", ',');
}

struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        write_fixture(folder.path());
        Self { folder }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn load(&self, config: &Config) -> LoadedDataset {
        let dataset = Dataset::open(self.folder.path(), config).expect("labels");
        dataset.load(config, Progress::Hidden, &AtomicBool::new(false)).expect("audio")
    }

    /// Trains a stage; with `stop`, one step at a time, each resumed from the checkpoint of the one before.
    fn train(&self, stage: Stage, name: &str, overrides: &[&str], stop: bool) -> RunFolder {
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        let config = Config::parse(CONFIG, &overrides).expect("valid");
        let identity = self.load(&config).identity(&config, stage).expect("identity");
        let run = RunFolder::create(&self.at(name), &config, &identity).expect("created");
        let (data, flag) = (|| self.load(&config), AtomicBool::new(stop));
        let start = dat::Start { feature_extractor: self.at("fe"), domain_classifier: Some(self.at("dc")) };
        let (device, hidden) = (Device::flex(), Progress::Hidden);
        let once = || match stage {
            Stage::Fe => fe::train(&run, &config, &data().into_pairs(&config).expect("pairs"), &device, hidden, &flag),
            Stage::Dc => {
                let data = data().into_domains(&config).expect("domains");
                dc::train(&run, &config, &data, &self.at("fe"), &device, hidden, &flag)
            }
            _ => {
                let data = data().into_dat(&config).expect("data");
                dat::train(&run, &config, &data, &start, &device, hidden, &flag)
            }
        };
        while once().expect("trains") == Outcome::Interrupted {}
        run
    }
}

fn metrics_text(run: &RunFolder) -> String {
    std::fs::read_to_string(run.path().join("metrics.jsonl")).expect("metrics")
}

fn steps(run: &RunFolder, key: &str) -> Vec<f64> {
    metrics_text(run)
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .filter(|line| line["event"] == "step")
        .map(|line| line[key].as_f64().expect("a number"))
        .collect()
}

fn networks(run: &RunFolder) -> DatNetworks {
    dat_networks(run, &Device::flex()).expect("networks")
}

/// Every number of a module, running statistics included, bit for bit.
fn bits<M: Module>(module: M) -> Vec<u32> {
    #[derive(Default)]
    struct Bits(Vec<u32>);
    impl burn::module::ModuleVisitor for Bits {
        fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<burn::tensor::Tensor<D>>) {
            self.0.extend(param.val().into_data().iter::<f32>().map(f32::to_bits));
        }
    }
    let mut bits = Bits::default();
    module.visit(&mut bits);
    assert!(!bits.0.is_empty());
    bits.0
}

#[test]
fn the_stages_train_resume_and_leave_alone_what_is_frozen() {
    let fixture = Fixture::new();
    let device = Device::flex();
    for stage in [Stage::Fe, Stage::Dc, Stage::Dat] {
        let whole = fixture.train(stage, stage.name(), &[], false);
        let pieces = fixture.train(stage, &format!("{stage}-pieces"), &[], true);
        assert_eq!(metrics_text(&whole), metrics_text(&pieces), "stage {stage}, resumed after every step");
    }
    let (label_losses, domain_losses) = {
        let run = RunFolder::open(&fixture.at("dat")).expect("a run");
        (steps(&run, "label_loss"), steps(&run, "domain_loss"))
    };
    println!("{:?}\n{:?}", &label_losses[..10], &domain_losses[..10]);
    for (found, pinned) in
        label_losses.iter().zip(PINNED_LABEL_LOSSES).chain(domain_losses.iter().zip(PINNED_DOMAIN_LOSSES))
    {
        assert!((found - pinned).abs() < PINNED_TOLERANCE, "{found}, pinned {pinned}");
    }

    let extractor = |run: &str| {
        let config = Config::parse(CONFIG, &[]).expect("valid");
        load_feature_extractor(&fixture.at(run), &config, &device).expect("a feature extractor")
    };
    let classifier = |run: &str| {
        let run = RunFolder::open(&fixture.at(run)).expect("a run");
        dc_networks(&run, &device).expect("networks").domain_classifier
    };
    let trained = networks(&RunFolder::open(&fixture.at("dat")).expect("a run"));
    assert_eq!(bits(extractor("fe")), bits(extractor("dc")), "stage 2 leaves the feature extractor alone");
    assert_ne!(bits(extractor("fe")), bits(trained.feature_extractor), "stage 3 trains it");
    let frozen = trained.domain_classifier.expect("a classifier");
    assert_eq!(bits(classifier("dc")), bits(frozen.clone()), "a frozen classifier stays");
    let statistics = |classifier: &earmark_core::model::DomainClassifier| {
        let norm = &classifier.batch_norm;
        [norm.running_mean.value_sync().to_data(), norm.running_var.value_sync().to_data()]
    };
    assert_eq!(statistics(&classifier("dc")), statistics(&frozen), "its running statistics too");

    let finetuned = fixture.train(Stage::Dat, "finetuned", &["dat.domain_classifier=finetune"], false);
    let finetuned = networks(&finetuned).domain_classifier.expect("a classifier");
    assert_ne!(bits(classifier("dc")), bits(finetuned.clone()), "a fine-tuned one moves");
    assert_ne!(statistics(&classifier("dc")), statistics(&finetuned));
}

#[test]
fn proposed_never_reads_a_label_of_the_noisy_domain() {
    let methods = ["baseline", "supervised", "proposed"];
    let train_all = |exchanged: Option<usize>| {
        let fixture = Fixture::new();
        fixture.train(Stage::Fe, "fe", &["fe.epochs=1"], false);
        fixture.train(Stage::Dc, "dc", &["dc.epochs=1"], false);
        if let Some(remainder) = exchanged {
            exchange_tags(fixture.folder.path(), remainder);
        }
        methods.map(|method| {
            let run = fixture.train(Stage::Dat, method, &[&format!("dat.method={method}"), "dat.epochs=2"], false);
            let validated = validation::validated(&run, Which::Newest).expect("a validation");
            (metrics_text(&run), validated.weights, validated.validation)
        })
    };
    let (plain, target, source) = (train_all(None), train_all(Some(1)), train_all(Some(0)));
    for (index, method) in methods.iter().enumerate() {
        let reads_target = plain[index].1 != target[index].1;
        assert_eq!(reads_target, *method == "supervised", "{method}");
        if !reads_target {
            assert_eq!(plain[index], target[index], "{method}: losses, weights, validation and thresholds");
        }
        assert_ne!(plain[index].1, source[index].1, "{method} reads the labels of the clean domain");
    }
}

#[test]
fn without_lambda_proposed_learns_what_the_baseline_learns() {
    let fixture = Fixture::new();
    fixture.train(Stage::Fe, "fe", &["fe.epochs=1"], false);
    fixture.train(Stage::Dc, "dc", &["dc.epochs=1"], false);
    for statistics in ["source", "fixed", "joint"] {
        let run = |method: &str, lambda: &str| {
            let statistics_key = format!("dat.batch_statistics={statistics}");
            let (method_key, lambda_key) = (format!("dat.method={method}"), format!("dat.lambda={lambda}"));
            let overrides = [&statistics_key, &method_key, &lambda_key, "dat.domain_classifier=finetune"];
            steps(
                &fixture.train(Stage::Dat, &format!("{statistics}-{method}-{lambda}"), &overrides, false),
                "label_loss",
            )
        };
        let (baseline, without) = (run("baseline", "0"), run("proposed", "0"));
        // Later steps differ by what Adam makes of rounding, so only the first can be compared that closely.
        let distance = (without[0] - baseline[0]).abs();
        assert_eq!(distance < 1e-6, statistics != "joint", "{statistics}: {distance}");
    }
}

#[test]
fn one_command_trains_all_stages_to_a_model_file() {
    let fixture = Fixture::new();
    std::fs::write(fixture.at("config.toml"), CONFIG).expect("written");
    let command = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
        let output = command
            .args(arguments)
            .stdin(Stdio::null())
            .env("EARMARK_CACHE", "none")
            .current_dir(fixture.folder.path())
            .output();
        let output = output.expect("the binary runs");
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code(), text)
    };
    let all = ["--stage", "all", "--config", "config.toml", "--data", ".", "--out", "run", "--no-progress"];
    let (code, text) = command(&all);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("stage fe is done") && text.contains("validation ROC-AUC"), "{text}");

    let (code, text) =
        command(&["export", "--run", "run/seed-3/proposed", "--out", "model.safetensors", "--name", "fixture"]);
    assert_eq!(code, Some(0), "{text}");
    let model = Model::load(&fixture.at("model.safetensors")).expect("a model");
    assert_eq!(model.metadata.training["identity"]["stage"], "dat");

    // The supervised method, on the feature extractor of the model file.
    let again =
        ["--stage", "dat", "--fe", "model.safetensors", "--set", "dat.method=supervised", "--set", "dat.epochs=1"];
    let (code, text) = command(&[&again[..], &all[2..6], &["--out", "again", "--no-progress"]].concat());
    assert_eq!(code, Some(0), "{text}");

    // With the head of that file a tagger goes on where it was.
    let first_loss = |run: &str| steps(&RunFolder::open(&fixture.at(run)).expect("a run"), "label_loss")[0];
    let keep = ["--set", "dat.label_predictor=keep", "--out", "kept", "--no-progress"];
    let (code, text) = command(&[&again[..], &all[2..6], &keep].concat());
    assert_eq!(code, Some(0), "{text}");
    assert!(first_loss("kept") < first_loss("again"), "{} {}", first_loss("kept"), first_loss("again"));
    let begun = RunFolder::open(&fixture.at("kept")).and_then(|run| run.identity()).expect("a run").started_from;
    assert!(begun.contains_key("label_predictor"), "{begun:?}");

    for (arguments, rule) in [
        (
            vec!["--stage", "dat", "--fe", "run/seed-3/fe", "--set", "dat.label_predictor=keep"],
            "no label predictor to keep",
        ),
        (
            vec!["--stage", "dat", "--fe", "model.safetensors", "--set", "dat.label_predictor=keep"]
                .into_iter()
                .chain(["--set", "model.head_hidden=9"])
                .collect(),
            "a head of layers",
        ),
        (vec!["--stage", "fe", "--set", "dat.label_predictor=keep", "--set", "model.embedding=projector"], "encoder"),
        (vec!["--stage", "dc"], "--fe RUN"),
        (vec!["--stage", "dat", "--fe", "run/seed-3/fe"], "--stage dc"),
        (vec!["--stage", "dat", "--fe", "run/seed-3/fe", "--dc", "run/seed-3/fe"], "not of stage dc"),
        (vec!["--stage", "dc", "--fe", "run/seed-3/fe", "--set", "model.width=0.125"], "the same [model]"),
        (vec!["--stage", "fe", "--set", "noise.num_noises=3"], "1, 2 or 4"),
    ] {
        let (code, text) = command(&[&arguments[..], &all[2..6], &["--out", "refused", "--no-progress"]].concat());
        assert!(code != Some(0) && text.contains(rule), "{arguments:?}: {text}");
        let _ = std::fs::remove_dir_all(fixture.at("refused"));
    }
}
