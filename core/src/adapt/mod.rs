//! Domain adversarial training: its losses, its schedules and one update, shared by the trainer and the app; and the
//! app's use of it, adapting a model to a room on the user's machine.
//!
//! ```text
//!                                            +-- LabelPredictor ------------------------> label loss (eq. 3.2)
//! source [n, 59049] -+                       |     source alone, or source and target
//!                    +- SampleCnn -> z [n+m] +
//! target [m, 59049] -+                       +-- gradient_reversal -> DomainClassifier -> domain loss (eq. 3.2)
//!                                                  x -alpha lambda      source and target
//! ```
//!
//! The source domain is clean music with tags, the target domain is noisy music without. The domain classifier learns
//! to tell them apart; the feature extractor, trained on its reversed gradient, learns to leave nothing by which it
//! could, so that what the label predictor learns on clean music holds for noisy music too (Ganin et al. 2016; eqs. 3.3
//! and 3.4).
//!
//! # On the device
//!
//! [`adapt`] goes from a folder of music and recordings of a room to a model with a noise meter and, if wanted, tags that
//! hold in that room. [`Material`] is looked at before anything is learnt, a guard compares before and after on what
//! nothing was learnt from, and [`Profiles`] keeps what was accepted.
//!
//! # Batch norm
//!
//! The thesis does not say over which domain the feature extractor's batch norm takes its statistics;
//! [`BatchStatistics`] names the readings. By default one forward pass holds both domains, and a batch is normalised by
//! what the running statistics estimate. But then the noisy domain is heard where nothing is learnt from it: with a
//! lambda of 0, `proposed` is not `baseline`. By the statistics of the source it is, and the target meets the function
//! that it will meet in inference; so it is with statistics that stay as stage 1 left them. A pass per
//! domain (DANN's reference code) hides from both heads every difference between the domains that is a shift or a scale
//! of a channel, but inference, which does not know the domain, then uses statistics that no batch was trained with.

mod control;
#[cfg(feature = "burn")]
mod dat;
mod disk;
#[cfg(feature = "burn")]
mod domain;
#[cfg(feature = "burn")]
mod examples;
#[cfg(feature = "burn")]
mod guard;
#[cfg(feature = "burn")]
mod losses;
mod material;
#[cfg(feature = "burn")]
mod mixing;
#[cfg(feature = "burn")]
mod optimiser;
mod profile;
mod report;
#[cfg(feature = "burn")]
mod room;
mod schedule;
#[cfg(feature = "burn")]
mod session;
#[cfg(test)]
mod testing;

pub use control::{Control, Stop};
#[cfg(feature = "burn")]
pub use dat::{
    Adversarial, AdversarialLoss, AdversaryHealth, BatchStatistics, Consistency, DatHealth, DatNetworks, DatUpdate,
    Labels, Supervision, dat_gradients, dat_update, domain_gradients, take_gradients,
};
#[cfg(feature = "burn")]
pub use losses::{NT_XENT_TEMPERATURE, binary_cross_entropy_with_logits, domain_accuracy, domain_loss, nt_xent};
pub use material::{
    Block, Finding, MAX_SIDE_SECS, MIN_SIDE_SECS, Material, MaterialReport, Part, Recording, Side, SideFigures, divide,
    read,
};
#[cfg(feature = "burn")]
pub use optimiser::{StateError, adam, network_from_bytes, network_to_bytes, optimiser_from_bytes, optimiser_to_bytes};
pub use profile::{BUILT_IN, Profile, ProfileError, Profiles, check_name};
pub use report::{
    AdaptError, AdaptEvent, AdaptSettings, Agreement, DomainEpoch, DomainSettings, Figures, GUARD_SNR_DB, Limits,
    MeterFigures, Report, RoomSettings, RoomStep, Stages,
};
pub use schedule::{Alpha, SnrOrder, SnrRange, SnrSchedule};
#[cfg(feature = "burn")]
pub use session::{Adapted, Plan, adapt, inspect};

/// Where a window comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Domain {
    /// Clean music.
    Source,
    /// Noisy music.
    Target,
}

impl Domain {
    /// The domain classifier's target: 0 for the source, 1 for the target domain.
    pub fn label(self) -> f32 {
        match self {
            Self::Source => 0.0,
            Self::Target => 1.0,
        }
    }

    /// The one of the two that this is not.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Source => Self::Target,
            Self::Target => Self::Source,
        }
    }

    /// The domain of example `index` of a data set: even ones are clean, odd ones noisy, so that each half holds half
    /// of every album. It depends on nothing else and is therefore the same in every epoch and in every stage.
    pub fn of_index(index: usize) -> Self {
        if index.is_multiple_of(2) { Self::Source } else { Self::Target }
    }
}
