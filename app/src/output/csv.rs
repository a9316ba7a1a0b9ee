//! One row per window and tag.

use std::io::{self, Write};

use super::{Report, Run};
use crate::tagging::TaggedFile;

/// The columns, fixed for those who read them.
const COLUMNS: [&str; 5] = ["file", "start_s", "end_s", "tag", "confidence"];

/// One row per window and tag, best first within a window. A window ends with its file at the latest; silent windows
/// have no rows.
pub struct Csv<'a> {
    run: Run<'a>,
}

impl<'a> Csv<'a> {
    pub fn new(run: Run<'a>) -> Self {
        Self { run }
    }
}

impl Report for Csv<'_> {
    fn start(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let mut rows = csv::Writer::from_writer(out);
        rows.write_record(COLUMNS)?;
        rows.flush()
    }

    fn file_completed(&mut self, out: &mut dyn Write, _index: usize, file: &TaggedFile) -> io::Result<()> {
        let mut rows = csv::Writer::from_writer(out);
        let name = file.path.to_string_lossy();
        for window in file.taggram.windows().filter(|window| !window.silent) {
            let start = format!("{:.3}", window.start_s);
            let end = format!("{:.3}", window.end_s.min(file.duration_s));
            for tag in self.run.wanted(window.probabilities) {
                let confidence = format!("{:.4}", tag.confidence);
                rows.write_record([&name, start.as_str(), &end, self.run.name(tag.index), &confidence])?;
            }
        }
        rows.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fixture, file, written};
    use super::*;

    #[test]
    fn one_row_per_window_and_wanted_tag() {
        let fixture = Fixture::new();
        let files = [file("a, \"b\".wav", &[Some([0.25, 0.5, 0.75]), None, Some([0.9, 0.1, 0.2])])];
        let run = Run { min_confidence: Some(0.2), ..fixture.run() };
        assert_eq!(
            written(&mut Csv::new(run), &files),
            "file,start_s,end_s,tag,confidence\n\
             \"a, \"\"b\"\".wav\",0.000,2.678,harp,0.7500\n\
             \"a, \"\"b\"\".wav\",0.000,2.678,no vocals,0.5000\n\
             \"a, \"\"b\"\".wav\",5.356,8.034,rock,0.9000\n\
             \"a, \"\"b\"\".wav\",5.356,8.034,harp,0.2000\n"
        );
    }

    #[test]
    fn a_run_without_files_has_its_header() {
        let fixture = Fixture::new();
        assert_eq!(written(&mut Csv::new(fixture.run()), &[]), "file,start_s,end_s,tag,confidence\n");
    }
}
