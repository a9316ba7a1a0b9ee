//! What the page shows, made from what the worker publishes. Nothing here draws or waits.
//!
//! ```text
//! LiveState, every 25 ms --> follow --> meter, taggram, ranking, saying   --> has anything changed that can be seen?
//! Event ------------------> event ---> timeline, gaps, messages, the set that was recorded
//! ```

use std::time::Duration;

use earmark_core::engine::Hop;
use earmark_core::live::{Event, LiveState, Record, RecordOptions, SourceChoice, SourceState};
use earmark_core::model_file::ModelMetadata;
use earmark_core::tags::{Audible, LineState, Lines, TagVocabulary, Verdict, VocabularyError};

use super::meter::Meter;
use super::timeline::Timeline;
use crate::desktop::context::Weight;
use crate::desktop::taggram::{Column, Taggram};

/// Seconds that the taggram keeps.
const KEPT_SECS: f64 = 180.0;

/// How much surer a line must be than the one above it to change places with it.
const CLEARLY: f32 = 0.08;

/// Most windows that are filled in when this thread was late.
const MAX_LATE: u64 = 8;

/// Longest time by which the picture runs ahead of the last sound that came, in seconds.
const AHEAD_SECS: f64 = 0.25;

/// Where listening stands.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Phase {
    /// Nobody listens.
    #[default]
    Idle,
    /// A worker listens, or tries to.
    Listening,
    /// The file is over.
    Ended,
    /// It could not be started, or broke off.
    Failed(String),
}

/// What is written down.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// Where to.
    pub options: RecordOptions,
    /// When it began, on the timeline.
    pub from_s: f64,
}

/// How a statement is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Calm,
    /// Something to look at.
    Warning,
    /// Something is wrong.
    Wrong,
}

/// What is said instead of tags.
#[derive(Clone, Debug, PartialEq)]
pub struct Saying {
    /// In a few words.
    pub title: String,
    /// What it means, and what helps.
    pub help: String,
    /// How it is meant.
    pub tone: Tone,
}

/// What the page shows.
pub struct View {
    /// Where listening stands.
    pub phase: Phase,
    /// What is listened to.
    pub source: Option<SourceChoice>,
    /// The last state.
    pub state: LiveState,
    /// Its level over time.
    pub meter: Meter,
    /// The last minutes.
    pub taggram: Taggram,
    /// The set so far.
    pub timeline: Timeline,
    /// Time at the right edge of the picture, in seconds.
    pub now_s: f64,
    /// The model's tags and thresholds.
    pub tags: Vec<String>,
    /// One per tag.
    pub thresholds: Vec<f32>,
    /// The lines that the model's tags make.
    pub lines: Lines,
    /// Lines that hold, surest first; neighbours change places only when it is clear.
    pub ranking: Vec<usize>,
    /// What is being recorded.
    pub recording: Option<Recording>,
    /// The set that was recorded last.
    pub set: Option<RecordOptions>,
    /// What was told since the page looked.
    pub messages: Vec<(Weight, String)>,
    asked: Option<RecordOptions>,
    last_failure: Option<String>,
    sound_at: (f64, Duration),
    shown: Option<Shown>,
}

/// What can be seen of a moment: without a change of it nothing is drawn.
#[derive(Clone, Debug, PartialEq)]
struct Shown {
    meter: [i32; 4],
    source: SourceState,
    heard: Audible,
    num_windows: u64,
    lost: (u64, u64),
    is_recording: bool,
    /// In fortieths of a second while sound comes, else in seconds.
    now: u64,
}

impl View {
    /// Of a model that has not heard anything.
    ///
    /// # Errors
    /// If the model's tags cannot be used.
    pub fn new(metadata: &ModelMetadata) -> Result<Self, VocabularyError> {
        let vocabulary = TagVocabulary::new(metadata.tags.clone(), metadata.thresholds.clone())?;
        let lines = Lines::new(&vocabulary);
        let state = LiveState {
            probabilities: vec![0.0; metadata.tags.len()],
            smoothed: vec![0.0; metadata.tags.len()],
            certain: vec![false; metadata.tags.len()],
            lines: vec![LineState::default(); lines.lines().len()],
            ..LiveState::default()
        };
        Ok(Self {
            phase: Phase::Idle,
            source: None,
            state,
            meter: Meter::default(),
            taggram: Taggram::live(metadata.tags.clone(), Hop::DEFAULT.duration().as_secs_f64(), KEPT_SECS),
            timeline: Timeline::default(),
            now_s: 0.0,
            tags: metadata.tags.clone(),
            thresholds: metadata.thresholds.clone(),
            lines,
            ranking: Vec::new(),
            recording: None,
            set: None,
            messages: Vec::new(),
            asked: None,
            last_failure: None,
            sound_at: (0.0, Duration::ZERO),
            shown: None,
        })
    }

    /// A recording was asked for; whether it began is seen in the state.
    pub fn asked(&mut self, options: RecordOptions) {
        self.asked = Some(options);
    }

    /// Takes a state; whether anything changed that can be seen.
    pub fn follow(&mut self, state: &LiveState, now: Duration) -> bool {
        let num_new = state.num_windows.saturating_sub(self.state.num_windows);
        if let (true, Some(end_s)) = (num_new > 0, state.window_end_s) {
            let kind = match state.heard {
                _ if state.probabilities.iter().all(|&p| p == 0.0) => Column::Silent,
                Audible::Music => Column::Heard,
                Audible::NoMusic | Audible::Silence | Audible::Listening => Column::NoMusic,
            };
            let hop_s = Hop::DEFAULT.duration().as_secs_f64();
            // Windows that this thread was too late for look like the one that follows; they are not missing.
            let late = (num_new - 1).min(MAX_LATE);
            let since = end_s - self.state.window_end_s.unwrap_or(end_s - hop_s);
            if since < hop_s * (num_new as f64 + 0.5) {
                (1..=late).rev().for_each(|n| self.taggram.push(end_s - n as f64 * hop_s, &state.probabilities, kind));
            }
            self.taggram.push(end_s, &state.probabilities, kind);
        }
        self.state.clone_from(state);
        self.meter.push(self.has_sound().then_some(&state.level), now);
        self.rank();
        self.advance(now);
        if !state.is_recording {
            if let Some(recording) = self.recording.take() {
                self.set = Some(recording.options);
            }
        } else if self.recording.is_none() {
            let options = self.asked.take().unwrap_or_default();
            self.recording = Some(Recording { options, from_s: state.at_s });
        }
        self.has_changed()
    }

    /// Whether samples arrive.
    pub fn has_sound(&self) -> bool {
        let flows =
            matches!(self.state.source, SourceState::Live | SourceState::Silent { .. } | SourceState::Rerouted { .. });
        self.phase == Phase::Listening && flows
    }

    /// Sound comes in pieces; the picture moves evenly between them.
    fn advance(&mut self, now: Duration) {
        let at_s = self.state.at_s;
        if (at_s - self.sound_at.0).abs() > 1e-9 {
            self.sound_at = (at_s, now);
        }
        let since = now.saturating_sub(self.sound_at.1).as_secs_f64();
        let smooth = if self.has_sound() { at_s + since.min(AHEAD_SECS) } else { at_s };
        // Never backwards, unless it began anew.
        self.now_s = if smooth < self.now_s && self.now_s - smooth < 2.0 * AHEAD_SECS { self.now_s } else { smooth };
    }

    fn has_changed(&mut self) -> bool {
        let state = &self.state;
        let in_seconds = |source: &SourceState| match source {
            SourceState::Silent { secs, digital } => SourceState::Silent { secs: secs.floor(), digital: *digital },
            SourceState::Stalled { secs } => SourceState::Stalled { secs: secs.floor() },
            other => other.clone(),
        };
        let per_second = if self.has_sound() { 40.0 } else { 1.0 };
        let shown = Some(Shown {
            meter: self.meter.shown(),
            source: in_seconds(&state.source),
            heard: state.heard,
            num_windows: state.num_windows,
            lost: (state.num_gaps, (state.lost_s * 10.0) as u64),
            is_recording: state.is_recording,
            now: (self.now_s * per_second) as u64,
        });
        let has_changed = self.shown != shown;
        self.shown = shown;
        has_changed
    }

    /// Orders the lines that hold.
    fn rank(&mut self) {
        let lines = &self.state.lines;
        let holds = |line: &usize| self.lines.lines()[*line].label(lines[*line].verdict).is_some();
        self.ranking.retain(holds);
        for line in (0..lines.len()).filter(holds) {
            if !self.ranking.contains(&line) {
                self.ranking.push(line);
            }
        }
        // Insertion sort that moves a line only past one that is clearly less sure.
        for place in 1..self.ranking.len() {
            let mut place = place;
            while place > 0 {
                let (above, below) = (self.ranking[place - 1], self.ranking[place]);
                if lines[below].confidence < lines[above].confidence + CLEARLY {
                    break;
                }
                self.ranking.swap(place - 1, place);
                place -= 1;
            }
        }
    }

    /// Takes what was told.
    pub fn event(&mut self, event: Event) {
        match event {
            Event::Record(record) => match *record {
                Record::Tags(tags) => self.timeline.tags(&tags),
                Record::Gap(gap) => self.timeline.gap(&gap),
                Record::Header(_) | Record::Segment(_) | Record::Source(_) | Record::End(_) => {}
            },
            Event::Notice(text) => self.messages.push((Weight::Note, text)),
            Event::Failure(text) => {
                self.asked = None;
                self.last_failure = Some(text.clone());
                self.messages.push((Weight::Error, text));
            }
        }
    }

    /// The worker has ended by itself.
    pub fn over(&mut self, now: Duration) {
        if let Some(recording) = self.recording.take() {
            self.set = Some(recording.options);
        }
        self.phase = match self.last_failure.take() {
            // The message says it already, in the place where one looks.
            Some(reason) => {
                self.messages.retain(|(_, text)| *text != reason);
                Phase::Failed(reason)
            }
            None => Phase::Ended,
        };
        self.quiet(now);
    }

    /// Nobody listens any more.
    pub fn stopped(&mut self, now: Duration) {
        if let Some(recording) = self.recording.take() {
            self.set = Some(recording.options);
        }
        self.phase = Phase::Idle;
        self.quiet(now);
    }

    fn quiet(&mut self, now: Duration) {
        self.meter.rest(now);
        self.ranking.clear();
        self.state.is_recording = false;
        self.state.lines.fill(LineState::default());
        self.state.smoothed.fill(0.0);
        self.state.certain.fill(false);
        self.asked = None;
        self.shown = None;
    }

    /// Listening begins; what was heard before stays to be seen until something new is heard.
    pub fn begin(&mut self, source: SourceChoice, metadata: &ModelMetadata) -> Result<(), VocabularyError> {
        let (set, messages) = (self.set.take(), std::mem::take(&mut self.messages));
        *self = Self { set, messages, phase: Phase::Listening, source: Some(source), ..Self::new(metadata)? };
        Ok(())
    }

    /// Lines that both sides claim.
    pub fn disputed(&self) -> impl Iterator<Item = usize> + '_ {
        let lines = self.state.lines.iter().enumerate();
        lines.filter(|(_, state)| state.verdict == Verdict::Disputed).map(|(line, _)| line)
    }

    /// What is said instead of tags; `None` if there are tags to show.
    pub fn saying(&self) -> Option<Saying> {
        let say = |tone, title: &str, help: String| Some(Saying { title: title.to_owned(), help, tone });
        let calm = |title: &str, help: &str| say(Tone::Calm, title, help.to_owned());
        match &self.phase {
            Phase::Idle => return calm("Not listening", "Press Listen, or the space bar."),
            Phase::Ended => {
                return calm("The file is over", "Press Listen to hear it again, or choose another source.");
            }
            Phase::Failed(reason) => return say(Tone::Wrong, "Listening broke off", reason.clone()),
            Phase::Listening => {}
        }
        let help = self.state.source.message().unwrap_or_default();
        match &self.state.source {
            SourceState::Opening => {
                let source = self.source.as_ref().map_or_else(String::new, SourceChoice::to_string);
                calm(&format!("Opening {source} …"), "")
            }
            SourceState::Lost { .. } => {
                let back = if help.contains("taken again") { "" } else { " Listening goes on when it is back." };
                say(Tone::Wrong, "The source is gone", format!("{}{back}", sentence(&help)))
            }
            SourceState::Denied { .. } => say(Tone::Wrong, "Not allowed to listen", sentence(&help)),
            SourceState::Stalled { .. } => say(
                Tone::Warning,
                "Nothing comes from the source",
                format!("{} If it lasts, the device is opened anew; another source may help.", sentence(&help)),
            ),
            SourceState::Silent { digital: true, .. } => say(
                Tone::Warning,
                "Silence, to the last bit",
                format!("{} Unmute it, or choose another source.", sentence(&help)),
            ),
            SourceState::Silent { digital: false, .. } => {
                say(Tone::Calm, "Silence", format!("{} Turn the input up if there should be.", sentence(&help)))
            }
            SourceState::Ended => calm("The file is over", "Press Listen to hear it again, or choose another source."),
            SourceState::Live | SourceState::Rerouted { .. } => match self.state.heard {
                Audible::Listening => calm("Listening …", "The first tags come after 2.7 seconds of sound."),
                Audible::Silence => calm("Silence", "Nothing is louder than -60 dB of full scale."),
                Audible::NoMusic => calm(
                    "No music heard",
                    "There is sound, but nothing in it that is clearly music. No tags are shown, rather than a guess.",
                ),
                Audible::Music if self.ranking.is_empty() => {
                    calm("Music", "No tag is certain. The raw scores show what comes closest.")
                }
                Audible::Music => None,
            },
        }
    }
}

/// A message as a sentence.
fn sentence(text: &str) -> String {
    let text = text.replace(" (earmark live --list)", "");
    let mut letters = text.chars();
    let first: String = letters.next().map(|letter| letter.to_uppercase().collect()).unwrap_or_default();
    let rest = letters.as_str().trim_end_matches('.');
    format!("{first}{rest}.")
}

#[cfg(test)]
mod tests {
    use earmark_core::weights::Architecture;

    use super::*;

    fn view() -> View {
        let tags = ["rock", "vocals", "no vocals", "harp"].map(str::to_owned).to_vec();
        let metadata = ModelMetadata::new("test", Architecture::scaled(0.05, 3, None, tags.len()), tags);
        let mut view = View::new(&metadata).expect("valid tags");
        view.begin(SourceChoice::File("set.wav".into()), &metadata).expect("valid tags");
        view
    }

    fn state(lines: [(Verdict, f32); 3]) -> LiveState {
        LiveState {
            source: SourceState::Live,
            heard: Audible::Music,
            probabilities: vec![0.1; 4],
            smoothed: vec![0.1; 4],
            certain: vec![false; 4],
            lines: lines.map(|(verdict, confidence)| LineState { verdict, confidence }).to_vec(),
            ..LiveState::default()
        }
    }

    #[test]
    fn neighbours_change_places_only_when_it_is_clear() {
        use Verdict::{Absent, No, Yes};
        let mut view = view();
        let mut ranked = |lines| {
            view.follow(&state(lines), Duration::ZERO);
            view.ranking.clone()
        };
        assert_eq!(ranked([(Yes, 0.6), (No, 0.5), (Absent, 0.9)]), [0, 1]);
        assert_eq!(ranked([(Yes, 0.55), (No, 0.6), (Absent, 0.9)]), [0, 1]);
        assert_eq!(ranked([(Yes, 0.5), (No, 0.6), (Yes, 0.9)]), [2, 1, 0]);
        assert_eq!(ranked([(Yes, 0.5), (Absent, 0.6), (Yes, 0.9)]), [2, 0]);
    }

    #[test]
    fn every_state_of_a_source_says_something_else() {
        let mut view = view();
        let mut said = |source: SourceState, heard| {
            let quiet = state([(Verdict::Absent, 0.0); 3]);
            view.follow(&LiveState { source, heard, ..quiet }, Duration::ZERO);
            view.saying().expect("no tags")
        };
        let lost = said(SourceState::Lost { reason: "USB is gone; connect it again".into() }, Audible::Listening);
        let help = "USB is gone; connect it again. Listening goes on when it is back.";
        assert_eq!((lost.tone, lost.help.as_str()), (Tone::Wrong, help));
        let denied = said(SourceState::Denied { reason: "no".into() }, Audible::Listening);
        let stalled = said(SourceState::Stalled { secs: 3.0 }, Audible::Listening);
        let muted = said(SourceState::Silent { secs: 3.0, digital: true }, Audible::Silence);
        let silent = said(SourceState::Silent { secs: 3.0, digital: false }, Audible::Silence);
        let no_music = said(SourceState::Live, Audible::NoMusic);
        let music = said(SourceState::Live, Audible::Music);
        let all = [lost, denied, stalled, muted, silent, no_music, music];
        for (index, saying) in all.iter().enumerate() {
            assert!(
                !saying.help.is_empty() && all[..index].iter().all(|other| other.title != saying.title),
                "{saying:?}"
            );
        }
        assert_eq!(all[5].title, "No music heard");
    }

    #[test]
    fn nothing_new_is_no_change() {
        let mut view = view();
        let mut moment = state([(Verdict::Absent, 0.0); 3]);
        moment.source = SourceState::Lost { reason: "gone".into() };
        assert!(view.follow(&moment, Duration::from_secs(1)));
        assert!(!view.follow(&moment, Duration::from_secs(2)));
        moment.at_s += 1.0;
        assert!(view.follow(&moment, Duration::from_secs(3)));
    }

    #[test]
    fn a_meter_without_sound_shows_none() {
        let mut view = view();
        let mut moment = state([(Verdict::Absent, 0.0); 3]);
        moment.level.peak = 1.0;
        moment.source = SourceState::Stalled { secs: 2.0 };
        view.follow(&moment, Duration::ZERO);
        assert!(view.meter.peak_db <= super::super::meter::FLOOR_DB);
    }

    #[test]
    fn a_recording_is_a_set_when_it_is_over() {
        let mut view = view();
        let options = RecordOptions { session: Some("set.jsonl".into()), ..RecordOptions::default() };
        view.asked(options.clone());
        let mut moment = state([(Verdict::Absent, 0.0); 3]);
        (moment.at_s, moment.is_recording) = (7.0, true);
        view.follow(&moment, Duration::ZERO);
        assert_eq!(view.recording, Some(Recording { options: options.clone(), from_s: 7.0 }));
        moment.is_recording = false;
        view.follow(&moment, Duration::ZERO);
        assert_eq!((view.recording.clone(), view.set.clone()), (None, Some(options)));
    }

    #[test]
    fn a_file_that_cannot_be_played_says_why() {
        let mut view = view();
        view.event(Event::Failure("set.wav cannot be used: it is text".into()));
        view.over(Duration::ZERO);
        let saying = view.saying().expect("no tags");
        assert!(saying.help.contains("it is text") && view.messages.is_empty(), "{saying:?}");
    }
}
