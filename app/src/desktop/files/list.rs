//! Which files are shown, and in which order.
//!
//! ```text
//! entries, search words, order -> numbers of entries, as rows
//!
//! sitar            sitar was heard, or it is in the name or the folder
//! sitar -vocals    and no vocals were heard, nor are they in the name
//! rock>0.6         the model is that sure of rock for the file as a whole
//! "no vocals"      words that belong together
//! ```

use super::queue::{Entry, State, TagSet};

/// What rows are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// The order in which files came.
    Added,
    /// Name.
    Name,
    /// Folder, then name.
    Folder,
    /// Duration.
    Length,
    /// What was heard: the surest thing, by its name, then how sure.
    Heard,
    /// How sure of the tag that is searched for, or of the surest thing.
    Confidence,
}

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// By what.
    pub by: Column,
    /// From the end.
    pub reverse: bool,
}

impl Order {
    /// The order after a click on the head of `column`: forwards first, or backwards where the largest is what one looks for.
    pub fn clicked(self, column: Column) -> Self {
        let first = Self { by: column, reverse: matches!(column, Column::Length | Column::Confidence) };
        if self.by == column { Self { reverse: !self.reverse, ..self } } else { first }
    }
}

/// One thing that is searched for.
#[derive(Clone, Debug, PartialEq)]
struct Term {
    text: String,
    excluded: bool,
    /// Least probability of the tag `text`.
    at_least: Option<f32>,
}

/// What is searched for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Search {
    terms: Vec<Term>,
}

impl Search {
    /// Reads what was typed. Everything means something; nothing is an error.
    pub fn new(text: &str) -> Self {
        Self { terms: words(text).into_iter().filter_map(|word| Term::new(&word)).collect() }
    }

    fn holds(&self, entry: &Entry, tags: &TagSet) -> bool {
        self.terms.iter().all(|term| term.holds(entry, tags) != term.excluded)
    }

    /// The first thing searched for, if it is a tag.
    pub fn tag(&self, tags: &TagSet) -> Option<&str> {
        let term = self.terms.iter().find(|term| !term.excluded)?;
        (!term.tags(tags).is_empty()).then_some(&term.text)
    }

    /// The tags that the first thing searched for means, if it is one.
    fn tags(&self, tags: &TagSet) -> Vec<usize> {
        let term = self.terms.iter().find(|term| !term.excluded);
        term.map_or_else(Vec::new, |term| term.tags(tags))
    }
}

impl Term {
    fn new(word: &str) -> Option<Self> {
        let (excluded, word) = match word.strip_prefix('-') {
            Some(rest) if !rest.is_empty() => (true, rest),
            _ => (false, word),
        };
        let limit = word.rsplit_once('>').and_then(|(text, limit)| Some((text.trim(), limit.trim().parse().ok()?)));
        let (text, at_least) = limit.map_or((word, None), |(text, limit): (&str, f32)| (text, Some(limit)));
        let text = text.trim().to_lowercase();
        (!text.is_empty()).then_some(Self { text, excluded, at_least })
    }

    /// Tags called so, or meaning the thing called so.
    fn tags(&self, tags: &TagSet) -> Vec<usize> {
        let group = tags.groups.iter().find(|group| group.name == self.text);
        group.map_or_else(|| tags.vocabulary.index_of(&self.text).into_iter().collect(), |group| group.tags.clone())
    }

    fn holds(&self, entry: &Entry, tags: &TagSet) -> bool {
        let Some(at_least) = self.at_least else { return entry.words.contains(&self.text) };
        confidence(entry, &self.tags(tags)).is_some_and(|confidence| confidence >= at_least)
    }
}

/// Words, those in quotes together. A quote that is not closed reaches to the end.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => words.push(String::new()),
            c => words.last_mut().expect("there is one from the start").push(c),
        }
    }
    words
}

/// The largest probability of `tags` in the file as a whole.
fn confidence(entry: &Entry, tags: &[usize]) -> Option<f32> {
    let clip = &entry.summary()?.clip_probabilities;
    tags.iter().filter_map(|&tag| clip.get(tag)).copied().reduce(f32::max)
}

/// How sure the model is of what is searched for, or of the surest thing heard.
pub fn shown_confidence(entry: &Entry, search: &Search, tags: &TagSet) -> Option<f32> {
    let wanted = search.tags(tags);
    if wanted.is_empty() {
        return entry.summary()?.heard.first().map(|heard| heard.confidence);
    }
    confidence(entry, &wanted)
}

/// Numbers of the entries that are shown, in their order. Files without a result come last in orders that need one.
pub fn rows(entries: &[Entry], search: &Search, order: Order, tags: &TagSet) -> Vec<u32> {
    let mut rows: Vec<u32> =
        (0..entries.len()).filter(|&index| search.holds(&entries[index], tags)).map(|index| index as u32).collect();
    let entry = |row: &u32| &entries[*row as usize];
    match order.by {
        Column::Added => {}
        Column::Name => rows.sort_by_cached_key(|row| entry(row).name.to_lowercase()),
        Column::Folder => rows.sort_by(|a, b| entry(a).input.path.cmp(&entry(b).input.path)),
        Column::Length => sort_known(&mut rows, order, |row| entry(row).summary().map(|summary| summary.duration_s)),
        Column::Confidence => {
            sort_known(&mut rows, order, |row| shown_confidence(entry(row), search, tags).map(f64::from));
        }
        Column::Heard => {
            let first = |row: &u32| entry(row).summary().and_then(|summary| summary.heard.first());
            let name = |row: &u32| first(row).map_or("", |heard| &tags.groups[heard.group].name);
            let sure = |row: &u32| first(row).map_or(0.0, |heard| heard.confidence);
            rows.sort_by(|a, b| name(a).cmp(name(b)).then(sure(b).total_cmp(&sure(a))));
            if !order.reverse {
                // Nothing heard comes last.
                let num_nothing = rows.iter().take_while(|row| first(row).is_none()).count();
                rows.rotate_left(num_nothing);
            }
        }
    }
    if order.reverse && !matches!(order.by, Column::Length | Column::Confidence) {
        rows.reverse();
    }
    rows
}

/// Orders by a number; rows without one come last, whatever the direction.
fn sort_known(rows: &mut [u32], order: Order, key: impl Fn(&u32) -> Option<f64>) {
    rows.sort_by(|a, b| match (key(a), key(b)) {
        (Some(a), Some(b)) if order.reverse => b.total_cmp(&a),
        (Some(a), Some(b)) => a.total_cmp(&b),
        (Some(_), None) => std::cmp::Ordering::Less,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (None, None) => std::cmp::Ordering::Equal,
    });
}

/// What was heard in a file in one line, or what has become of it.
pub fn line(entry: &Entry, tags: &TagSet) -> String {
    let summary = match &entry.state {
        State::Waiting => return "waiting".to_owned(),
        State::Running => return "listening".to_owned(),
        State::Stopped => return "not tagged yet".to_owned(),
        State::Failed(cause) => return cause.clone(),
        State::Done(summary) => summary,
    };
    if summary.clip_probabilities.is_empty() {
        return "silent".to_owned();
    }
    let names = |whole: bool| {
        let heard = summary.heard.iter().filter(|heard| heard.whole_track == whole);
        heard.map(|heard| tags.groups[heard.group].name.as_str()).collect::<Vec<_>>().join(", ")
    };
    match (names(true), names(false)) {
        (whole, parts) if whole.is_empty() && parts.is_empty() => "no tag is certain".to_owned(),
        (whole, parts) if parts.is_empty() => whole,
        (whole, parts) if whole.is_empty() => format!("in parts: {parts}"),
        (whole, parts) => format!("{whole}; in parts: {parts}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::testing::{queue, settle, tone};
    use super::super::queue::{Queue, Summary};
    use super::*;
    use crate::inputs::Input;

    /// Three files: a loud one, a soft one and one that is none.
    fn library(folder: &std::path::Path) -> Queue {
        let music = folder.join("Music");
        std::fs::create_dir(&music).expect("made");
        tone(&music.join("Zeta.wav"), 4.0, 0.9);
        tone(&music.join("alpha.wav"), 6.0, 0.01);
        std::fs::write(music.join("Broken.wav"), "no music").expect("written");
        let mut queue = queue(folder);
        queue.add(vec![music]);
        settle(&mut queue);
        queue
    }

    #[test]
    fn searches_find_names_and_tags() {
        let folder = tempfile::tempdir().expect("a folder");
        let queue = library(folder.path());
        let order = Order { by: Column::Name, reverse: false };
        let found = |text: &str| {
            let rows = rows(queue.entries(), &Search::new(text), order, queue.tags());
            rows.iter().map(|&row| queue.entries()[row as usize].name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(found(""), ["alpha.wav", "Broken.wav", "Zeta.wav"]);
        assert_eq!(found("ALPHA"), ["alpha.wav"]);
        assert_eq!(found("rock"), ["Zeta.wav"]);
        assert_eq!(found("\"no vocals\" -harp"), ["Zeta.wav"]);
        assert_eq!(found("music -rock"), ["alpha.wav", "Broken.wav"]);
        assert_eq!(found("rock>0.5"), ["Zeta.wav"]);
        assert_eq!(found("rock>0.05"), ["alpha.wav", "Zeta.wav"]);
        assert_eq!(found("rock>x"), Vec::<String>::new());
        assert_eq!(found("-"), Vec::<String>::new(), "a dash alone is searched for");
    }

    #[test]
    fn orders_put_what_has_no_result_last() {
        let folder = tempfile::tempdir().expect("a folder");
        let queue = library(folder.path());
        let ordered = |by, reverse, text: &str| {
            let rows = rows(queue.entries(), &Search::new(text), Order { by, reverse }, queue.tags());
            rows.iter().map(|&row| queue.entries()[row as usize].name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(ordered(Column::Added, false, ""), ["Broken.wav", "Zeta.wav", "alpha.wav"]);
        assert_eq!(ordered(Column::Length, false, ""), ["Zeta.wav", "alpha.wav", "Broken.wav"]);
        assert_eq!(ordered(Column::Length, true, ""), ["alpha.wav", "Zeta.wav", "Broken.wav"]);
        assert_eq!(ordered(Column::Heard, false, ""), ["alpha.wav", "Zeta.wav", "Broken.wav"]);
        assert_eq!(ordered(Column::Confidence, true, "rock>0"), ["Zeta.wav", "alpha.wav"]);
        assert_eq!(ordered(Column::Folder, true, ""), ["alpha.wav", "Zeta.wav", "Broken.wav"]);
        let order = Order { by: Column::Name, reverse: false };
        assert_eq!(order.clicked(Column::Name), Order { by: Column::Name, reverse: true });
        assert_eq!(order.clicked(Column::Length), Order { by: Column::Length, reverse: true });
    }

    #[test]
    fn a_line_says_what_was_heard_or_what_became_of_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let queue = library(folder.path());
        let line_of = |name: &str| {
            let entry = queue.entries().iter().find(|entry| entry.name == name).expect("there");
            line(entry, queue.tags())
        };
        assert_eq!(line_of("Zeta.wav"), "rock, no vocals");
        assert!(line_of("Broken.wav").contains("not audio"), "{}", line_of("Broken.wav"));
        let mut silent = queue.entries()[1].clone();
        let summary = Summary {
            duration_s: 1.0,
            clip_probabilities: Box::default(),
            heard: Box::default(),
            warnings: Vec::new(),
        };
        silent.state = State::Done(Box::new(summary));
        assert_eq!(line(&silent, queue.tags()), "silent");
    }

    #[test]
    fn ten_thousand_files_are_searched_and_ordered_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let queue = library(folder.path());
        let done = queue.entries()[1].clone();
        let entries: Vec<Entry> = (0..10_000)
            .map(|n| {
                let name = format!("{:05} track.wav", n * 7_919 % 10_000);
                let input = Input { path: name.clone().into(), ..done.input.clone() };
                Entry { words: name.clone() + "|rock|", name, input, ..done.clone() }
            })
            .collect();
        for by in [Column::Name, Column::Folder, Column::Length, Column::Heard, Column::Confidence] {
            let began = std::time::Instant::now();
            let found = rows(&entries, &Search::new("track rock"), Order { by, reverse: true }, queue.tags());
            let took = began.elapsed();
            assert_eq!(found.len(), 10_000);
            assert!(took.as_millis() < 200, "{by:?}: {took:?}");
        }
    }
}
