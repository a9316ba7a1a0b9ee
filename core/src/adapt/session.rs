//! An adaptation from its material to a model, with a way back at every step.
//!
//! ```text
//! files -> Material -> report, refusal? -> blocks -> embeddings, once -> stage 2 -> noise meter -----------+
//!                                                         |                                               |
//!                            dat only:  teacher's tags ---+-> stage 3, step by step <-> state file        |
//!                                                              '-> as much of it as clean music allows    |
//!                                                                   '-> embeddings again -> stage 2 again +
//!                                                                                                         v
//!                                                             model with lineage, or a refusal <- Guard: before, after
//! ```
//!
//! What is kept between two runs is stage 3's networks alone: everything before it takes seconds and comes out the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::control::{Control, Stop};
use super::disk::{RealDisk, put, take_away};
use super::domain;
use super::examples::{ByPart, Examples, collect};
use super::guard::Guard;
use super::material::{Block, MAX_SIDE_SECS, Material, MaterialReport, Part, Side, divide, read};
use super::optimiser::StateError;
use super::report::{AdaptError, AdaptEvent, AdaptSettings, Agreement, Figures, MeterFigures, Report, Stages};
use super::room::{RoomBatches, RoomState, RoomTraining};
use crate::engine::{CpuEngine, DeviceChoice, Engine, NoiseMeter, Notify, open_for_training};
use crate::model_file::{MeterMetadata, Model};
use crate::weights::{DomainWeights, Weights};

/// Version of the file between two runs.
const STATE_VERSION: u32 = 1;

/// Largest such file that is read, in bytes: three times the size of the largest network with its optimiser.
const MAX_STATE_BYTES: u64 = 1 << 30;

/// Updates between two of them.
const KEEP_EVERY: u64 = 50;

/// Tonal share of a room's sound from which on there is music in it, as [`crate::tags::Presence`] has it.
const MUSICAL: f64 = 0.03;

/// How much of what stage 3 has changed is tried, from all of it down.
const SHARES: [f32; 10] = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1];

/// What is to be done.
#[derive(Clone)]
pub struct Plan {
    /// The model that is adapted.
    pub base: Model,
    /// BLAKE3 hash of its file.
    pub base_blake3: String,
    /// The user's music.
    pub clean: Vec<PathBuf>,
    /// Recordings of the room.
    pub room: Vec<PathBuf>,
    /// Name of the result.
    pub name: String,
    /// How.
    pub settings: AdaptSettings,
    /// Where stage 3 computes.
    pub device: DeviceChoice,
    /// Threads of the engine that listens.
    pub threads: usize,
    /// Where stage 3 is kept between two runs.
    pub state: Option<PathBuf>,
    /// Moment of the start, RFC 3339, for the lineage.
    pub created: String,
    /// Program and version, for the lineage.
    pub program: String,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Adapted {
    /// The adapted model, also if it is refused.
    pub model: Model,
    /// Before, after, and whether it is accepted.
    pub report: Report,
}

/// A file of the material, as it was when the work began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct FileIdentity {
    path: PathBuf,
    bytes: u64,
    modified_s: u64,
}

/// What the kept state belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct StateIdentity {
    version: u32,
    base_blake3: String,
    settings: AdaptSettings,
    clean: Vec<FileIdentity>,
    room: Vec<FileIdentity>,
}

/// Runs `plan` to its end. `control` pauses and stops it; `told` hears how it goes. The kept state is taken up where there
/// is one, and gone when the work is done or cancelled.
///
/// # Errors
/// [`AdaptError`]; a refusal by the guard is no error but part of the report.
pub fn adapt(
    plan: &Plan,
    control: &Control,
    notify: &Notify,
    told: &mut dyn FnMut(AdaptEvent),
) -> Result<Adapted, AdaptError> {
    plan.settings.validate().map_err(AdaptError::Settings)?;
    let result = run(plan, control, notify, told);
    let is_over = match &result {
        Ok(_) => true,
        Err(AdaptError::Stopped(stop)) => *stop == Stop::Cancel,
        Err(_) => false,
    };
    if let Some(state) = plan.state.as_deref().filter(|_| is_over) {
        take_away(&RealDisk, state).map_err(|error| state_error(state, error))?;
    }
    result
}

/// Reads both sides and looks at them, without learning anything.
///
/// # Errors
/// If it is to stop.
pub fn inspect(
    clean: &[PathBuf],
    room: &[PathBuf],
    control: &Control,
    told: &mut dyn FnMut(AdaptEvent),
) -> Result<(Material, MaterialReport), AdaptError> {
    let mut material = Material::default();
    for (side, files, into) in [(Side::Clean, clean, &mut material.clean), (Side::Room, room, &mut material.room)] {
        let (recordings, failed) =
            read(files, MAX_SIDE_SECS, control, &mut |secs| told(AdaptEvent::Reading(side, secs)))?;
        failed.into_iter().for_each(|cause| told(AdaptEvent::Note(cause)));
        *into = recordings;
    }
    let report = MaterialReport::new(&material, control)?;
    told(AdaptEvent::Material(report.clone()));
    Ok((material, report))
}

fn run(
    plan: &Plan,
    control: &Control,
    notify: &Notify,
    told: &mut dyn FnMut(AdaptEvent),
) -> Result<Adapted, AdaptError> {
    let Plan { base, settings, .. } = plan;
    let identity = StateIdentity {
        version: STATE_VERSION,
        base_blake3: plan.base_blake3.clone(),
        settings: settings.clone(),
        clean: plan.clean.iter().map(|path| file_identity(path)).collect(),
        room: plan.room.iter().map(|path| file_identity(path)).collect(),
    };
    // What cannot be taken up is said before anything is done.
    let kept = match (&plan.state, settings.stages) {
        (Some(state), Stages::Dat) => load_state(state, &identity)?,
        _ => None,
    };
    let (material, material_report) = inspect(&plan.clean, &plan.room, control, told)?;
    if material_report.refuses() {
        return Err(AdaptError::Material(Box::new(material_report)));
    }
    let (clean_blocks, room_blocks) = (divide(&material.clean), divide(&material.room));
    let blocks = (&clean_blocks[..], &room_blocks[..]);
    let unchanged = CpuEngine::new(base, plan.threads)?;
    let mut listened = |share| told(AdaptEvent::Listening(share));
    let examples = collect(&unchanged, &material, blocks, settings.seed, control, &mut listened)?;

    let meter_before = unchanged.noise_meter().map(|meter| domain::judge(meter, &examples.test));
    let untrained =
        || DomainWeights::untrained(base.metadata.architecture.embedding_len(), settings.domain.hidden, settings.seed);
    let start = base.domain_classifier.clone().unwrap_or_else(untrained);
    let mut model = base.clone();
    let mut meter_after = learn_domain(&mut model, &start, &examples, plan, control, told)?;
    told(AdaptEvent::Meter(meter_before.clone(), meter_after.clone()));

    let mut share = None;
    if settings.stages == Stages::Dat {
        let has_music = material_report.room.tonality >= MUSICAL;
        let batches = RoomBatches::new(&unchanged, &material, blocks, has_music, settings.seed)?;
        let (device, device_name) = open_for_training(base, plan.device, notify)?;
        told(AdaptEvent::Note(format!("training on {device_name}")));
        let classifier = model.domain_classifier.clone().unwrap_or_else(untrained);
        let mut training = RoomTraining::new(base, &classifier, &device);
        if let Some(kept) = kept {
            let path = plan.state.as_deref().unwrap_or(Path::new("")).display().to_string();
            let cause =
                |error: StateError| AdaptError::State { path, cause: format!("{error}; start anew with --fresh") };
            training = training.resume(kept).map_err(cause)?;
            told(AdaptEvent::Note(format!("going on after step {}", training.step)));
        }
        train_room(&mut training, &batches, plan, &identity, control, told)?;
        crate::kernels::release_buffers();
        told(AdaptEvent::Judging);
        let (chosen, weights) = choose(plan, &unchanged, &training.weights(), &material, blocks, control, told)?;
        (share, model.weights) = (Some(chosen), weights);
        // Its noise meter reads other embeddings now.
        let classifier = training.classifier().unwrap_or(classifier);
        let changed = CpuEngine::new(&model, plan.threads)?;
        let mut listened = |share| told(AdaptEvent::Listening(share));
        let examples = collect(&changed, &material, blocks, settings.seed, control, &mut listened)?;
        meter_after = learn_domain(&mut model, &classifier, &examples, plan, control, told)?;
    }

    told(AdaptEvent::Judging);
    let meters = (meter_before, meter_after);
    let report = compare(plan, &unchanged, &model, share, &material, blocks, material_report, meters, control)?;
    describe(&mut model, plan, &report);
    model.validate()?;
    Ok(Adapted { model, report })
}

/// Stage 2: gives `model` a noise meter, and tells what it is worth.
fn learn_domain(
    model: &mut Model,
    start: &DomainWeights,
    examples: &ByPart<Examples>,
    plan: &Plan,
    control: &Control,
    told: &mut dyn FnMut(AdaptEvent),
) -> Result<MeterFigures, AdaptError> {
    let settings = &plan.settings;
    let mut each = |epoch| told(AdaptEvent::Domain(epoch));
    let (train, valid) = (&examples.train, &examples.valid);
    let trained = domain::train(start, train, valid, &settings.domain, settings.seed, control, &mut each)?;
    let (scale, offset) = domain::calibrate(&trained, valid);
    let figures = domain::judge(&NoiseMeter::new(&trained).scaled(scale, offset), &examples.test);
    let meter = MeterMetadata { hidden: trained.hidden_len(), scale, offset, accuracy: Some(figures.accuracy) };
    model.set_noise_meter(trained, meter);
    Ok(figures)
}

/// Stage 3, step by step.
fn train_room(
    training: &mut RoomTraining,
    batches: &RoomBatches<'_>,
    plan: &Plan,
    identity: &StateIdentity,
    control: &Control,
    told: &mut dyn FnMut(AdaptEvent),
) -> Result<(), AdaptError> {
    let settings = &plan.settings.room;
    let keep = |training: &RoomTraining, told: &mut dyn FnMut(AdaptEvent)| -> Result<(), AdaptError> {
        let Some(path) = &plan.state else { return Ok(()) };
        save_state(path, identity, training)?;
        told(AdaptEvent::Kept(training.step));
        Ok(())
    };
    while training.step < settings.steps && !batches.is_empty() {
        if control.is_paused() {
            // A pause may become the end of the program.
            keep(training, told)?;
        }
        if let Err(stop) = control.look() {
            if stop == Stop::Leave {
                keep(training, told)?;
            }
            return Err(stop.into());
        }
        let step = training.update(batches.batch(training.step, settings), settings)?;
        told(AdaptEvent::Step(step));
        if training.step.is_multiple_of(KEEP_EVERY) && training.step < settings.steps {
            keep(training, told)?;
        }
    }
    Ok(())
}

/// As much of stage 3's change as the limits allow on the validation part, where it must help in the room too; the least
/// that is tried if nothing is allowed, which the test part then refuses with its figures.
fn choose(
    plan: &Plan,
    unchanged: &CpuEngine,
    trained: &Weights,
    material: &Material,
    blocks: (&[Block], &[Block]),
    control: &Control,
    told: &mut dyn FnMut(AdaptEvent),
) -> Result<(f32, Weights), AdaptError> {
    let Plan { base, settings, threads, .. } = plan;
    let thresholds = &base.metadata.thresholds;
    let guard = Guard::new(unchanged, material, blocks, Part::Valid, thresholds, settings.seed, control)?;
    let before = guard.noisy(unchanged, control)?;
    let mut candidate = base.clone();
    let mut tried = SHARES[0];
    for share in SHARES {
        (tried, candidate.weights) = (share, base.weights.toward(trained, share));
        let engine = CpuEngine::new(&candidate, *threads)?;
        let clean = guard.clean(&engine, control)?;
        if settings.limits.allow(clean)
            && Agreement::mean(&guard.noisy(&engine, control)?).distance < Agreement::mean(&before).distance
        {
            break;
        }
    }
    told(AdaptEvent::Note(format!("{:.0} % of what was learnt for the tags is used", 100.0 * tried)));
    Ok((tried, candidate.weights))
}

#[allow(clippy::too_many_arguments)]
fn compare(
    plan: &Plan,
    unchanged: &CpuEngine,
    model: &Model,
    share: Option<f32>,
    material: &Material,
    blocks: (&[Block], &[Block]),
    material_report: MaterialReport,
    (meter_before, meter_after): (Option<MeterFigures>, MeterFigures),
    control: &Control,
) -> Result<Report, AdaptError> {
    let settings = &plan.settings;
    let thresholds = &plan.base.metadata.thresholds;
    let guard = Guard::new(unchanged, material, blocks, Part::Test, thresholds, settings.seed, control)?;
    let compare = |engine: &CpuEngine, meter| -> Result<Figures, AdaptError> {
        Ok(Figures { meter, clean: guard.clean(engine, control)?, noisy: guard.noisy(engine, control)? })
    };
    let before = compare(unchanged, meter_before)?;
    let after = match settings.stages {
        // The tagger is the same to the bit.
        Stages::Dc => Figures { meter: Some(meter_after), ..before.clone() },
        Stages::Dat => compare(&CpuEngine::new(model, plan.threads)?, Some(meter_after))?,
    };
    let mut report = Report {
        stages: settings.stages,
        material: material_report,
        share,
        before,
        after,
        num_clips: guard.num_clips(),
        limits: settings.limits.clone(),
        refusals: Vec::new(),
    };
    report.judge();
    Ok(report)
}

/// The lineage. What was measured of the unchanged tagger does not hold for a changed one.
fn describe(model: &mut Model, plan: &Plan, report: &Report) {
    let metadata = &mut model.metadata;
    let base = &plan.base.metadata;
    metadata.name.clone_from(&plan.name);
    metadata.training = json!({
        "adapted": {
            "created": plan.created,
            "program": plan.program,
            "settings": plan.settings,
            "report": report,
        },
        "adapted_from": {
            "name": base.name, "blake3": plan.base_blake3, "training": base.training, "metrics": base.metrics,
        },
    });
    if plan.settings.stages == Stages::Dat {
        metadata.calibration = None;
        metadata.metrics = serde_json::Value::Null;
    }
}

fn file_identity(path: &Path) -> FileIdentity {
    let metadata = fs::metadata(path).ok();
    let modified = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
    FileIdentity {
        path: path.to_path_buf(),
        bytes: metadata.map_or(0, |metadata| metadata.len()),
        modified_s: modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |time| time.as_secs()),
    }
}

fn state_error(path: &Path, cause: impl ToString) -> AdaptError {
    AdaptError::State { path: path.display().to_string(), cause: cause.to_string() }
}

/// Names of the parts of a state file.
const STATE_PARTS: [&str; 3] = ["networks", "optimiser", "domain_optimiser"];

/// Key of the identity in its header.
const STATE_KEY: &str = "earmark-adapt";

#[derive(Serialize, Deserialize)]
struct StateHeader {
    step: u64,
    identity: StateIdentity,
}

fn save_state(path: &Path, identity: &StateIdentity, training: &RoomTraining) -> Result<(), AdaptError> {
    let state = training.state().map_err(|error| state_error(path, error))?;
    let parts = STATE_PARTS.into_iter().zip([&state.networks, &state.optimiser, &state.domain_optimiser]);
    let views: Result<Vec<_>, _> = parts
        .map(|(name, bytes)| TensorView::new(Dtype::U8, vec![bytes.len()], bytes).map(|view| (name, view)))
        .collect();
    let header = StateHeader { step: state.step, identity: identity.clone() };
    let json = serde_json::to_string(&header).map_err(|error| state_error(path, error))?;
    let header = std::collections::HashMap::from([(STATE_KEY.to_owned(), json)]);
    let bytes = views
        .and_then(|views| safetensors::serialize(views, Some(header)))
        .map_err(|error| state_error(path, error))?;
    put(&RealDisk, path, &bytes).map_err(|error| state_error(path, format!("{error}; nothing is kept of this run")))
}

/// The state in `path`, if there is one.
fn load_state(path: &Path, identity: &StateIdentity) -> Result<Option<RoomState>, AdaptError> {
    let len = match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata.map_err(|error| state_error(path, error))?.len(),
    };
    let anew = "start anew with --fresh";
    if len > MAX_STATE_BYTES {
        return Err(state_error(path, format!("{len} bytes are more than a run keeps; {anew}")));
    }
    let bytes = fs::read(path).map_err(|error| state_error(path, error))?;
    let damaged = |cause: String| state_error(path, format!("what was kept is damaged ({cause}); {anew}"));
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| damaged(error.to_string()))?;
    let json = metadata.metadata().as_ref().and_then(|map| map.get(STATE_KEY));
    let json = json.ok_or_else(|| damaged("it is no state of an adaptation".to_owned()))?;
    let value: serde_json::Value = serde_json::from_str(json).map_err(|error| damaged(error.to_string()))?;
    let version = value["identity"]["version"].as_u64();
    if version != Some(u64::from(STATE_VERSION)) {
        let version = version.map_or_else(|| "none".to_owned(), |version| version.to_string());
        return Err(state_error(path, format!("of version {version}, where this build reads {STATE_VERSION}; {anew}")));
    }
    let header = StateHeader::deserialize(value).map_err(|error| damaged(error.to_string()))?;
    if header.identity != *identity {
        let what = difference(&header.identity, identity);
        return Err(state_error(path, format!("an adaptation was begun with {what}; go on with that one, or {anew}")));
    }
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| damaged(error.to_string()))?;
    let [networks, optimiser, domain_optimiser] =
        STATE_PARTS.map(|name| tensors.tensor(name).map(|part| part.data().to_vec()));
    let part = |part: Result<Vec<u8>, safetensors::SafeTensorError>| part.map_err(|error| damaged(error.to_string()));
    Ok(Some(RoomState {
        step: header.step,
        networks: part(networks)?,
        optimiser: part(optimiser)?,
        domain_optimiser: part(domain_optimiser)?,
    }))
}

/// What differs, in words.
fn difference(kept: &StateIdentity, wanted: &StateIdentity) -> &'static str {
    if kept.base_blake3 != wanted.base_blake3 {
        "another model"
    } else if kept.settings != wanted.settings {
        "other settings"
    } else if kept.clean != wanted.clean {
        "other music"
    } else {
        "other recordings of the room"
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::adapt::testing::{music, noise, tones};
    use crate::engine::test_model;

    /// A folder with a clean and a room file.
    struct Files {
        folder: tempfile::TempDir,
    }

    impl Files {
        fn new(clean: &[f32], room: &[f32]) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            for (name, samples) in [("clean.wav", clean), ("room.wav", room)] {
                let spec = hound::WavSpec {
                    channels: 1,
                    sample_rate: crate::SAMPLE_RATE_HZ,
                    bits_per_sample: 32,
                    sample_format: hound::SampleFormat::Float,
                };
                let mut writer = hound::WavWriter::create(folder.path().join(name), spec).expect("created");
                samples.iter().for_each(|&sample| writer.write_sample(sample).expect("written"));
                writer.finalize().expect("written");
            }
            Self { folder }
        }

        fn plan(&self, stages: Stages) -> Plan {
            let mut settings = AdaptSettings { stages, seed: 1, ..AdaptSettings::default() };
            settings.room.steps = 4;
            settings.room.batch = 4;
            settings.domain.max_epochs = 3;
            // A network with random weights promises nothing.
            settings.limits =
                super::super::Limits { max_clean_change: 1.0, min_clean_kept: 0.0, min_meter_accuracy: 0.0 };
            Plan {
                base: test_model(Some(12), 3),
                base_blake3: "abc".into(),
                clean: vec![self.folder.path().join("clean.wav")],
                room: vec![self.folder.path().join("room.wav")],
                name: "club".into(),
                settings,
                device: DeviceChoice::Cpu,
                threads: 1,
                state: Some(self.folder.path().join("state/club")),
                created: "2026-01-01T00:00:00Z".into(),
                program: "test".into(),
            }
        }

        fn has_state(&self) -> bool {
            self.folder.path().join("state/club").exists()
        }
    }

    fn quiet() -> Notify {
        Arc::new(|_: &str| {})
    }

    fn run(plan: &Plan, control: &Control, told: &mut dyn FnMut(AdaptEvent)) -> Result<Adapted, AdaptError> {
        adapt(plan, control, &quiet(), told)
    }

    fn good() -> Files {
        Files::new(&music(90.0, 1), &noise(90.0, 2))
    }

    #[test]
    fn stage_2_gives_a_meter_and_leaves_the_tagger() {
        let files = good();
        let mut plan = files.plan(Stages::Dc);
        (plan.settings.domain.max_epochs, plan.settings.domain.learning_rate) = (40, 3e-3);
        let mut epochs = 0;
        let adapted = run(&plan, &Control::new(), &mut |event| {
            epochs += u32::from(matches!(event, AdaptEvent::Domain(_)));
        });
        let Adapted { model, report } = adapted.expect("done");
        assert!(epochs >= 1);
        assert_eq!(model.weights, plan.base.weights);
        // A network with random weights hears some of the hiss.
        let meter = report.after.meter.as_ref().expect("a meter");
        assert!(meter.accuracy > 0.5 && meter.room > 0.8, "{meter:?}");
        assert_eq!((&report.before.meter, report.after.clean.distance), (&None, 0.0));
        let read = Model::from_bytes(&model.to_bytes().expect("valid"), "test").expect("readable");
        assert!(NoiseMeter::of(&read).is_some());
        assert_eq!(read.metadata.name, "club");
        assert_eq!(read.metadata.training["adapted_from"]["blake3"], "abc");
    }

    #[test]
    fn a_run_that_was_left_goes_on_to_the_same_model() {
        let files = good();
        let plan = files.plan(Stages::Dat);
        let whole = run(&plan, &Control::new(), &mut |_| {}).expect("done");
        assert!(!files.has_state() && whole.model.weights != plan.base.weights);
        assert!(whole.model.metadata.calibration.is_none());

        let control = Control::new();
        let left = run(&plan, &control, &mut |event| {
            if matches!(event, AdaptEvent::Step(step) if step.step == 2) {
                control.leave();
            }
        });
        assert!(matches!(left, Err(AdaptError::Stopped(Stop::Leave))) && files.has_state());
        // Another plan is not mistaken for this one.
        let mut other = files.plan(Stages::Dat);
        other.settings.room.steps = 8;
        let message = run(&other, &Control::new(), &mut |_| {}).expect_err("refused").to_string();
        assert!(message.contains("begun with other settings"), "{message}");

        let mut steps = Vec::new();
        let resumed = run(&plan, &Control::new(), &mut |event| {
            if let AdaptEvent::Step(step) = event {
                steps.push(step.step);
            }
        });
        assert_eq!(steps, [3, 4]);
        let resumed = resumed.expect("done");
        assert!(resumed.model.weights == whole.model.weights && !files.has_state());
        assert_eq!(resumed.model.domain_classifier, whole.model.domain_classifier);
    }

    #[test]
    fn a_cancelled_run_keeps_nothing() {
        let files = good();
        let control = Control::new();
        let mut plan = files.plan(Stages::Dat);
        plan.settings.room.steps = 200;
        let cancelled = run(&plan, &control, &mut |event| {
            if matches!(event, AdaptEvent::Kept(_)) {
                control.cancel();
            }
        });
        assert!(matches!(cancelled, Err(AdaptError::Stopped(Stop::Cancel))) && !files.has_state());
    }

    #[test]
    fn rooms_that_are_none_are_refused() {
        for (room, expected) in [(tones(90.0), "tones that stand still"), (music(90.0, 5), "music rather than a room")]
        {
            let files = Files::new(&music(90.0, 1), &room);
            let mut learnt = false;
            let refused = run(&files.plan(Stages::Dat), &Control::new(), &mut |event| {
                learnt |= matches!(event, AdaptEvent::Domain(_));
            });
            let Err(AdaptError::Material(report)) = refused else { panic!("not refused: {refused:?}") };
            assert!(!learnt && report.findings[0].text.contains(expected), "{report:?}");
        }
    }

    #[test]
    fn a_damaged_state_is_told_with_the_way_out() {
        let files = good();
        let plan = files.plan(Stages::Dat);
        let state = plan.state.clone().expect("set");
        fs::create_dir_all(state.parent().expect("a folder")).expect("made");
        for bytes in [&b"nothing"[..], &[0; 64]] {
            fs::write(&state, bytes).expect("written");
            let message = run(&plan, &Control::new(), &mut |_| {}).expect_err("refused").to_string();
            assert!(message.contains("damaged") && message.contains("--fresh"), "{message}");
        }
    }
}
