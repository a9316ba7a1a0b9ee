//! What the pages share: the model on its engine, the settings, and a way to ask for what concerns more than one page.
//!
//! ```text
//! page -- send(Command) --> Shared -- once per frame --> Desktop does it
//! ```

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use earmark_core::engine::{self, DeviceChoice, Engine, Hop, Notify, Work};
use earmark_core::model_file::Model;

use super::dialog::{Dialogs, SystemDialogs};
use super::settings::Settings;
use crate::commands;

/// The pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// What is heard now.
    Live,
    /// Files, their tags and where they sound.
    Files,
    /// The model in use, and others.
    Model,
    /// Fitting the model to a room.
    Adapt,
    /// What is remembered.
    Settings,
}

impl Page {
    /// All of them, in the order of their shortcuts.
    pub const ALL: [Self; 5] = [Self::Live, Self::Files, Self::Model, Self::Adapt, Self::Settings];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "Live",
            Self::Files => "Files",
            Self::Model => "Model",
            Self::Adapt => "Adapt",
            Self::Settings => "Settings",
        }
    }
}

/// What a page can ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Show a page.
    Open(Page),
    /// Use another model; `None` is the built-in one. It is loaded in the background.
    LoadModel(Option<PathBuf>),
    /// Apply and keep what [`Shared::settings`] says.
    SaveSettings,
    /// Tell something.
    Tell(Toast),
}

/// How much a message matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Something was done. It goes away by itself.
    Note,
    /// Something could not be done. It stays until it is dismissed.
    Error,
}

/// A message that does not belong to any place on a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Toast {
    /// How much it matters.
    pub weight: Weight,
    /// What it says.
    pub text: String,
    /// A file that it is about; its path can be copied.
    pub file: Option<PathBuf>,
}

/// A model that is ready to run.
pub struct Loaded {
    /// The model.
    pub model: Model,
    /// Hash of its file, BLAKE3 in hexadecimal.
    pub blake3: String,
    /// Its file; `None` is the built-in model.
    pub file: Option<PathBuf>,
    /// It on a device, with one thread: enough for live tagging.
    pub engine: Arc<dyn Engine>,
    /// The device.
    pub device: String,
}

impl Loaded {
    /// Loads a model and puts it on a device.
    ///
    /// # Errors
    /// The file, and what is wrong with it; or the device.
    pub fn open(file: Option<&Path>) -> Result<Self> {
        let (model, blake3) = commands::live::load_model(file)?;
        // Whatever becomes of a device, the engine changes over to the CPU by itself.
        let notify: Notify = Arc::new(|_| ());
        let work = Work { threads: 1, hop: Hop::DEFAULT, is_long: false };
        let engine: Arc<dyn Engine> = Arc::from(engine::open(&model, DeviceChoice::Auto, work, &notify)?);
        Ok(Self::with(model, blake3, file.map(Path::to_path_buf), engine))
    }

    /// A model that runs on `engine`.
    pub fn with(model: Model, blake3: String, file: Option<PathBuf>, engine: Arc<dyn Engine>) -> Self {
        let device = engine.device();
        Self { model, blake3, file, engine, device }
    }
}

/// What the pages share.
pub struct Shared {
    /// The model in use. It is exchanged as a whole: whoever runs it keeps what it has.
    pub loaded: Arc<Loaded>,
    /// Another model is being loaded.
    pub is_loading: bool,
    /// What is remembered; send [`Command::SaveSettings`] after a change.
    pub settings: Settings,
    /// Opens file dialogs.
    pub dialogs: Box<dyn Dialogs>,
    /// How long frames took.
    pub frames: Frames,
    commands: Vec<Command>,
}

impl Shared {
    /// With this model and these settings.
    pub fn new(loaded: Loaded, settings: Settings) -> Self {
        let dialogs = Box::new(SystemDialogs);
        let (loaded, frames) = (Arc::new(loaded), Frames::default());
        Self { loaded, is_loading: false, settings, dialogs, frames, commands: Vec::new() }
    }

    /// Asks for something; it is done before the next frame.
    pub fn send(&mut self, command: Command) {
        self.commands.push(command);
    }

    /// Tells that something was done.
    pub fn note(&mut self, text: impl Into<String>) {
        self.send(Command::Tell(Toast { weight: Weight::Note, text: text.into(), file: None }));
    }

    /// Tells that something could not be done.
    pub fn error(&mut self, error: impl Into<String>) {
        self.send(Command::Tell(Toast { weight: Weight::Error, text: error.into(), file: None }));
    }

    /// What was asked for.
    pub fn take_commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }
}

/// Frames that are kept for their statistics.
const MAX_FRAMES: usize = 600;

/// How long the last frames took to compute, in milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Frames(VecDeque<f32>);

impl Frames {
    /// One more.
    pub fn push(&mut self, ms: f32) {
        if self.0.len() == MAX_FRAMES {
            self.0.pop_front();
        }
        self.0.push_back(ms);
    }

    /// Their mean; 0 without any.
    pub fn mean_ms(&self) -> f32 {
        self.0.iter().sum::<f32>() / self.0.len().max(1) as f32
    }

    /// What 95 of 100 do not exceed; 0 without any.
    pub fn p95_ms(&self) -> f32 {
        let mut sorted: Vec<f32> = self.0.iter().copied().collect();
        sorted.sort_by(f32::total_cmp);
        sorted.get((sorted.len() * 95).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0.0)
    }
}
