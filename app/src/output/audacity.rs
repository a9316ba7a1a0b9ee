//! A label track for Audacity: `start<TAB>end<TAB>label` per line, times in seconds.

use std::io::{self, Write};

use earmark_core::tags::{Hysteresis, Segment, TagConfidence, top};

use super::{Report, Run};
use crate::inputs::shown;
use crate::tagging::TaggedFile;

/// Stretches of time in which a tag sounds, of at most `top_n` tags per file: the most confident over the whole file
/// among those that sound somewhere. Labels of several files lie in one track, so there each begins with its file.
pub struct Audacity<'a> {
    run: Run<'a>,
}

impl<'a> Audacity<'a> {
    pub fn new(run: Run<'a>) -> Self {
        Self { run }
    }

    fn labels(&self, file: &TaggedFile) -> Vec<(Segment, usize)> {
        let Some(clip_probabilities) = &file.clip_probabilities else { return Vec::new() };
        let segments: Vec<Vec<Segment>> = (0..file.taggram.num_tags())
            .map(|tag| file.taggram.segments(tag, file.duration_s, &Hysteresis::around(self.run.threshold(tag))))
            .collect();
        // A tag that sounds nowhere is out of reach.
        let minimum = |tag: usize| if segments[tag].is_empty() { f32::INFINITY } else { 0.0 };
        let mut labels: Vec<(Segment, usize)> = top(clip_probabilities, self.run.top_n, minimum)
            .into_iter()
            .flat_map(|TagConfidence { index, .. }| segments[index].iter().map(move |&segment| (segment, index)))
            .collect();
        labels.sort_by(|(a, tag_a), (b, tag_b)| a.start_s.total_cmp(&b.start_s).then(tag_a.cmp(tag_b)));
        labels
    }
}

impl Report for Audacity<'_> {
    fn file_completed(&mut self, out: &mut dyn Write, _index: usize, file: &TaggedFile) -> io::Result<()> {
        let prefix = if self.run.num_files > 1 { format!("{}: ", shown(&file.path)) } else { String::new() };
        for (Segment { start_s, end_s, .. }, tag) in self.labels(file) {
            writeln!(out, "{start_s:.6}\t{end_s:.6}\t{prefix}{}", self.run.name(tag))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fixture, file, written};
    use super::*;

    #[test]
    fn windows_of_a_tag_merge_into_labels() {
        let fixture = Fixture::new();
        let high = Some([0.9, 0.1, 0.1]);
        let low = Some([0.1, 0.1, 0.8]);
        let files = [file("a.wav", &[high, high, low])];
        // 59,049 samples per window: 5.356 s for two, 8.034 s for three.
        assert_eq!(
            written(&mut Audacity::new(fixture.run()), &files),
            "0.000000\t5.355918\trock\n5.355918\t8.033878\tharp\n"
        );
        let one = Run { top_n: 1, ..fixture.run() };
        assert_eq!(written(&mut Audacity::new(one), &files), "0.000000\t5.355918\trock\n");
        let strict = Run { min_confidence: Some(0.85), ..fixture.run() };
        assert_eq!(written(&mut Audacity::new(strict), &files), "0.000000\t5.355918\trock\n");
    }

    #[test]
    fn labels_of_several_files_begin_with_their_file() {
        let fixture = Fixture::new();
        let files = [file("a.wav", &[Some([0.9, 0.1, 0.1])]), file("silent.wav", &[None])];
        let run = Run { num_files: 2, ..fixture.run() };
        assert_eq!(written(&mut Audacity::new(run), &files), "0.000000\t2.677959\ta.wav: rock\n");
    }
}
