//! A teacher's probabilities as training targets: `soft_labels.csv` (one row per clip) and, optionally,
//! `soft_windows.npy` with `soft_windows_index.csv` (one row per 3 s window of a clip).

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use earmark_core::SAMPLE_RATE_HZ;
use serde::Deserialize;

use super::npy::{self, Matrix};

/// Probabilities per clip.
pub const CLIPS_FILE: &str = "soft_labels.csv";
/// Probabilities per window, `[rows, num_tags]`.
pub const WINDOWS_FILE: &str = "soft_windows.npy";
/// Which rows of [`WINDOWS_FILE`] belong to which clip.
pub const INDEX_FILE: &str = "soft_windows_index.csv";

/// Length of the window that one row of [`WINDOWS_FILE`] describes.
const TEACHER_WINDOW_SECS: f64 = 3.0;

/// A teacher's probabilities for the clips of a data set.
#[derive(Clone, Debug)]
pub struct SoftLabels {
    clips: HashMap<String, Vec<f32>>,
    windows: Option<SoftWindows>,
}

#[derive(Clone, Debug)]
struct SoftWindows {
    probabilities: Matrix,
    clips: HashMap<String, ClipRows>,
}

#[derive(Clone, Copy, Debug)]
struct ClipRows {
    first_row: usize,
    rows: usize,
    hop_secs: f64,
}

#[derive(Deserialize)]
struct IndexRow {
    clip_id: u64,
    first_row: usize,
    rows: usize,
    hop_seconds: f64,
}

impl SoftLabels {
    /// Reads the clip probabilities in `root` and, where `with_windows` asks for them, the window probabilities.
    ///
    /// # Errors
    /// Names file and line: unreadable, other tags than `tags`, a value outside 0 to 1, rows that the matrix lacks.
    pub fn open(root: &Path, tags: &[String], with_windows: bool) -> Result<Self> {
        let path = root.join(CLIPS_FILE);
        let text = std::fs::read(&path).with_context(|| {
            format!("{}: cannot be read; set data.targets = \"hard\" to train without a teacher", path.display())
        })?;
        let clips = parse_clips(&text, tags).with_context(|| format!("{}", path.display()))?;
        let windows = if with_windows { Some(SoftWindows::open(root, tags.len())?) } else { None };
        Ok(Self { clips, windows })
    }

    /// Probabilities of a clip, `[num_tags]`; `None` if the teacher has not heard it.
    pub fn clip(&self, clip_id: &str) -> Option<&[f32]> {
        self.clips.get(clip_id).map(Vec::as_slice)
    }

    /// Probabilities of the teacher's window whose centre is nearest to `centre` (samples at 22,050 Hz from the start
    /// of the clip), `[num_tags]`; `None` without window probabilities.
    pub fn window(&self, clip_id: &str, centre: f64) -> Option<&[f32]> {
        let windows = self.windows.as_ref()?;
        let clip = windows.clips.get(clip_id)?;
        let centre_secs = centre / f64::from(SAMPLE_RATE_HZ);
        let nearest = ((centre_secs - TEACHER_WINDOW_SECS / 2.0) / clip.hop_secs).round();
        let row = nearest.clamp(0.0, (clip.rows - 1) as f64) as usize;
        Some(windows.probabilities.row(clip.first_row + row))
    }
}

fn parse_clips(text: &[u8], tags: &[String]) -> Result<HashMap<String, Vec<f32>>> {
    let mut reader = csv::Reader::from_reader(text);
    let header = reader.headers().context("line 1 is not text")?;
    if header.get(0) != Some("clip_id") || header.iter().skip(1).ne(tags.iter().map(String::as_str)) {
        bail!("line 1: expected the columns clip_id and the {} tags of the annotation file in its order", tags.len());
    }
    let mut clips = HashMap::new();
    for record in reader.into_records() {
        let record = record.map_err(|error| {
            let line = error.position().map_or(0, csv::Position::line);
            anyhow::anyhow!("line {line}: {error}")
        })?;
        let line = record.position().map_or(0, csv::Position::line);
        let id: u64 = record[0].parse().with_context(|| format!("line {line}: clip_id '{}'", &record[0]))?;
        let probabilities = record
            .iter()
            .skip(1)
            .map(|field| match field.parse::<f32>() {
                Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
                _ => bail!("line {line}: '{field}' is not a probability (0 to 1)"),
            })
            .collect::<Result<Vec<f32>>>()?;
        if clips.insert(id.to_string(), probabilities).is_some() {
            bail!("line {line}: clip_id {id} occurs a second time");
        }
    }
    Ok(clips)
}

impl SoftWindows {
    fn open(root: &Path, num_tags: usize) -> Result<Self> {
        let path = root.join(WINDOWS_FILE);
        let probabilities = npy::read_matrix(&path)?;
        if probabilities.columns != num_tags {
            bail!("{}: {} columns, there are {num_tags} tags", path.display(), probabilities.columns);
        }
        if let Some(at) = probabilities.values.iter().position(|value| !(0.0..=1.0).contains(value)) {
            let (row, value) = (at / num_tags, probabilities.values[at]);
            bail!("{}: row {row} holds {value}, which is not a probability (0 to 1)", path.display());
        }
        let path = root.join(INDEX_FILE);
        let text = std::fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let clips = parse_index(&text, probabilities.rows).with_context(|| format!("{}", path.display()))?;
        Ok(Self { probabilities, clips })
    }
}

fn parse_index(text: &[u8], available_rows: usize) -> Result<HashMap<String, ClipRows>> {
    let mut clips = HashMap::new();
    for (index, row) in csv::Reader::from_reader(text).into_deserialize::<IndexRow>().enumerate() {
        let line = index + 2;
        let row = row.with_context(|| format!("line {line}"))?;
        let end = row.first_row.checked_add(row.rows);
        if row.rows == 0 || end.is_none_or(|end| end > available_rows) {
            bail!(
                "line {line}: rows {} to {} of {available_rows}",
                row.first_row,
                row.first_row.saturating_add(row.rows)
            );
        }
        if !(row.hop_seconds.is_finite() && row.hop_seconds > 0.0) {
            bail!("line {line}: hop_seconds {} must be positive", row.hop_seconds);
        }
        let rows = ClipRows { first_row: row.first_row, rows: row.rows, hop_secs: row.hop_seconds };
        if clips.insert(row.clip_id.to_string(), rows).is_some() {
            bail!("line {line}: clip_id {} occurs a second time", row.clip_id);
        }
    }
    Ok(clips)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags() -> Vec<String> {
        vec!["guitar".to_owned(), "piano".to_owned()]
    }

    #[test]
    fn reads_probabilities_per_clip() {
        let clips = parse_clips(b"clip_id,guitar,piano\n7,0.25,1\n", &tags()).expect("a valid file");
        assert_eq!(clips["7"], [0.25, 1.0]);
    }

    #[test]
    fn a_malformed_row_is_named_by_its_line() {
        let refused = |text: &str| format!("{:#}", parse_clips(text.as_bytes(), &tags()).expect_err("must be refused"));
        assert!(refused("clip_id,piano,guitar\n").contains("in its order"));
        assert!(refused("clip_id,guitar,piano\n7,0.5,1.5\n").contains("line 2: '1.5'"));
        assert!(refused("clip_id,guitar,piano\n7,0.5,NaN\n").contains("line 2: 'NaN'"));
        assert!(refused("clip_id,guitar,piano\n7,0.5\n").contains("line 2"));
        assert!(refused("clip_id,guitar,piano\n7,0,0\n7,0,0\n").contains("line 3: clip_id 7"));
        let index = |text: &str| format!("{:#}", parse_index(text.as_bytes(), 10).expect_err("must be refused"));
        assert!(index("clip_id,first_row,rows,hop_seconds\n1,8,3,1.5\n").contains("line 2: rows 8 to 11 of 10"));
        assert!(index("clip_id,first_row,rows,hop_seconds\n1,0,3,0\n").contains("hop_seconds 0"));
    }

    #[test]
    fn the_nearest_window_is_found_by_its_centre() {
        let probabilities = Matrix { rows: 4, columns: 1, values: vec![9.0, 0.0, 0.1, 0.2] };
        let clips = HashMap::from([("5".to_owned(), ClipRows { first_row: 1, rows: 3, hop_secs: 1.5 })]);
        let windows = Some(SoftWindows { probabilities, clips });
        let soft = SoftLabels { clips: HashMap::new(), windows };
        // Windows of 3 s start at 0, 1.5 and 3 s: their centres lie at 1.5, 3 and 4.5 s.
        let at = |secs: f64| soft.window("5", secs * f64::from(SAMPLE_RATE_HZ)).expect("clip 5 has windows")[0];
        assert_eq!([at(0.0), at(2.2), at(2.3), at(3.7), at(3.8), at(29.0)], [0.0, 0.0, 0.1, 0.1, 0.2, 0.2]);
        assert!(soft.window("6", 0.0).is_none());
    }
}
