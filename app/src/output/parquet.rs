//! Two typed tables for DuckDB, Polars, Spark and pandas: one row per window and tag, and one of tracks beside it.
//!
//! ```text
//! windows   file, start_s, end_s, tag, confidence                 the rows of csv
//! tracks    file, duration_s, silent, error, tag, confidence      a row per track and tag, best first; a track
//!                                                                 without tags has one row, whose tag is null
//! ```
//!
//! Rows are gathered into row groups of a fixed number, so where a group ends follows from the rows alone: equal results
//! are equal bytes, however the work was divided.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FloatType};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use serde_json::json;

use super::json::SPEC_VERSION;
use super::{CONFIDENCE_DECIMALS, Report, Run, Summary, TIME_DECIMALS, rounded};
use crate::tagging::TaggedFile;

/// Rows of a row group, all but the last: some megabytes in memory, and enough for readers to work in parallel.
const ROWS_PER_GROUP: usize = 1 << 17;

const WINDOWS_SCHEMA: &str = "message windows {
    required byte_array file (string);
    required double start_s;
    required double end_s;
    required byte_array tag (string);
    required float confidence;
}";

const TRACKS_SCHEMA: &str = "message tracks {
    required byte_array file (string);
    optional double duration_s;
    optional boolean silent;
    optional byte_array error (string);
    optional byte_array tag (string);
    optional float confidence;
}";

/// Both tables of a run.
pub struct Parquet<'a> {
    run: Run<'a>,
    /// Tag names as values.
    names: Vec<ByteArray>,
    windows: Table<Windows>,
    tracks: Table<Tracks>,
}

impl<'a> Parquet<'a> {
    /// # Errors
    /// If the writers do not want to begin.
    pub fn new(run: Run<'a>) -> io::Result<Self> {
        Ok(Self {
            names: run.vocabulary.names().iter().map(|name| name.as_str().into()).collect(),
            windows: Table::new(WINDOWS_SCHEMA, &run)?,
            tracks: Table::new(TRACKS_SCHEMA, &run)?,
            run,
        })
    }
}

impl Report for Parquet<'_> {
    fn file_completed(&mut self, out: &mut dyn Write, _index: usize, file: &TaggedFile) -> io::Result<()> {
        let name = ByteArray::from(&*file.path.to_string_lossy());
        for window in file.taggram.windows().filter(|window| !window.silent) {
            let start_s = rounded(window.start_s, TIME_DECIMALS);
            let end_s = rounded(window.end_s.min(file.duration_s), TIME_DECIMALS);
            for tag in self.run.wanted(window.probabilities) {
                let Windows { files, starts, ends, tags, confidences } = &mut self.windows.rows;
                files.push(name.clone());
                starts.push(start_s);
                ends.push(end_s);
                tags.push(self.names[tag.index].clone());
                confidences.push(confidence(tag.confidence));
                self.windows.flush_if_full()?;
            }
        }
        let tags = file.clip_probabilities.as_deref().map_or_else(Vec::new, |clip| self.run.wanted(clip));
        let of_tag = |tag: &earmark_core::tags::TagConfidence| {
            (Some(self.names[tag.index].clone()), Some(confidence(tag.confidence)))
        };
        let mut rows: Vec<_> = tags.iter().map(of_tag).collect();
        if rows.is_empty() {
            rows.push((None, None));
        }
        for (tag, confidence) in rows {
            self.tracks.rows.push(Track {
                file: name.clone(),
                duration_s: Some(rounded(file.duration_s, TIME_DECIMALS)),
                silent: Some(file.clip_probabilities.is_none()),
                error: None,
                tag,
                confidence,
            });
            self.tracks.flush_if_full()?;
        }
        out.write_all(&self.windows.take())
    }

    fn file_failed(&mut self, _: &mut dyn Write, _: Option<usize>, path: &Path, cause: &str) -> io::Result<()> {
        self.tracks.rows.push(Track {
            file: (&*path.to_string_lossy()).into(),
            error: Some(cause.into()),
            ..Track::default()
        });
        self.tracks.flush_if_full()
    }

    fn finish(&mut self, out: &mut dyn Write, _summary: &Summary) -> io::Result<()> {
        self.windows.finish()?;
        self.tracks.finish()?;
        out.write_all(&self.windows.take())
    }

    fn take_beside(&mut self) -> Vec<u8> {
        self.tracks.take()
    }
}

/// As it is written in the other formats.
fn confidence(value: f32) -> f32 {
    rounded(f64::from(value), CONFIDENCE_DECIMALS) as f32
}

/// Rows that wait for their row group to be full.
trait Rows: Default {
    fn len(&self) -> usize;

    /// Writes all columns.
    fn write(self, group: &mut SerializedRowGroupWriter<'_, Vec<u8>>) -> Result<(), ParquetError>;
}

/// A table on its way into a file.
struct Table<R> {
    rows: R,
    writer: SerializedFileWriter<Vec<u8>>,
}

impl<R: Rows> Table<R> {
    fn new(schema: &str, run: &Run<'_>) -> io::Result<Self> {
        let model = json!({
            "name": run.model.name,
            "licence": run.model.licence,
            "blake3": run.model_hash,
            "tags": run.vocabulary.names(),
            "thresholds": run.thresholds.iter().map(|&t| (t <= 1.0).then_some(t)).collect::<Vec<_>>(),
        });
        let metadata = [
            ("earmark.spec_version", SPEC_VERSION.to_owned()),
            ("earmark.model", model.to_string()),
            ("earmark.hop_samples", run.hop.samples().to_string()),
        ];
        let metadata = metadata.map(|(key, value)| KeyValue::new(key.to_owned(), value)).to_vec();
        let properties = WriterProperties::builder()
            .set_created_by(concat!("earmark version ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::SNAPPY)
            .set_key_value_metadata(Some(metadata))
            .build();
        let schema = Arc::new(parse_message_type(schema)?);
        Ok(Self { rows: R::default(), writer: SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))? })
    }

    fn flush_if_full(&mut self) -> io::Result<()> {
        if self.rows.len() < ROWS_PER_GROUP { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut group = self.writer.next_row_group()?;
        std::mem::take(&mut self.rows).write(&mut group)?;
        group.close()?;
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        if self.rows.len() > 0 {
            self.flush()?;
        }
        self.writer.finish()?;
        Ok(())
    }

    /// What was written since the last time. Offsets in the file are counted by the writer, not by the buffer.
    fn take(&mut self) -> Vec<u8> {
        // A buffer in memory takes everything.
        let _ = self.writer.flush();
        std::mem::take(self.writer.inner_mut())
    }
}

#[derive(Default)]
struct Windows {
    files: Vec<ByteArray>,
    starts: Vec<f64>,
    ends: Vec<f64>,
    tags: Vec<ByteArray>,
    confidences: Vec<f32>,
}

impl Rows for Windows {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn write(self, group: &mut SerializedRowGroupWriter<'_, Vec<u8>>) -> Result<(), ParquetError> {
        column::<ByteArrayType>(group, &self.files, None)?;
        column::<DoubleType>(group, &self.starts, None)?;
        column::<DoubleType>(group, &self.ends, None)?;
        column::<ByteArrayType>(group, &self.tags, None)?;
        column::<FloatType>(group, &self.confidences, None)
    }
}

#[derive(Default)]
struct Track {
    file: ByteArray,
    duration_s: Option<f64>,
    silent: Option<bool>,
    error: Option<ByteArray>,
    tag: Option<ByteArray>,
    confidence: Option<f32>,
}

type Tracks = Vec<Track>;

impl Rows for Tracks {
    fn len(&self) -> usize {
        self.len()
    }

    fn write(self, group: &mut SerializedRowGroupWriter<'_, Vec<u8>>) -> Result<(), ParquetError> {
        let files: Vec<ByteArray> = self.iter().map(|row| row.file.clone()).collect();
        column::<ByteArrayType>(group, &files, None)?;
        optional::<DoubleType>(group, self.iter().map(|row| row.duration_s))?;
        optional::<BoolType>(group, self.iter().map(|row| row.silent))?;
        optional::<ByteArrayType>(group, self.iter().map(|row| row.error.clone()))?;
        optional::<ByteArrayType>(group, self.iter().map(|row| row.tag.clone()))?;
        optional::<FloatType>(group, self.iter().map(|row| row.confidence))
    }
}

/// Writes the next column: `values`, and which rows have one where not all do.
fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: &[T::T],
    present: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let Some(mut column) = group.next_column()? else {
        return Err(ParquetError::General("the schema has fewer columns than its rows".to_owned()));
    };
    column.typed::<T>().write_batch(values, present, None)?;
    column.close()
}

fn optional<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: impl Iterator<Item = Option<T::T>> + Clone,
) -> Result<(), ParquetError> {
    let present: Vec<i16> = values.clone().map(|value| i16::from(value.is_some())).collect();
    let values: Vec<T::T> = values.flatten().collect();
    column::<T>(group, &values, Some(&present))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use parquet::file::metadata::RowGroupMetaData;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;

    use super::super::testing::{Fixture, file, summary};
    use super::*;

    fn tables(files: &[TaggedFile], failed: &[&str]) -> [Vec<u8>; 2] {
        let fixture = Fixture::new();
        let mut report = Parquet::new(fixture.run()).expect("begun");
        let (mut windows, mut tracks) = (Vec::new(), Vec::new());
        report.start(&mut windows).expect("written");
        for (index, file) in files.iter().enumerate() {
            report.file_completed(&mut windows, index, file).expect("written");
            tracks.extend(report.take_beside());
        }
        for path in failed {
            report.file_failed(&mut windows, None, path.as_ref(), "is empty").expect("written");
        }
        report.finish(&mut windows, &summary(files.len())).expect("written");
        tracks.extend(report.take_beside());
        [windows, tracks]
    }

    fn reader(bytes: &[u8]) -> SerializedFileReader<File> {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("written");
        SerializedFileReader::new(file).expect("a table")
    }

    fn rows(bytes: Vec<u8>) -> Vec<Vec<Field>> {
        let reader = reader(&bytes);
        let rows = reader.get_row_iter(None).expect("rows");
        rows.map(|row| row.expect("a row").into_columns().into_iter().map(|(_, field)| field).collect()).collect()
    }

    fn text(value: &str) -> Field {
        Field::Str(value.to_owned())
    }

    #[test]
    fn both_tables_have_typed_rows() {
        let files = [file("a.wav", &[Some([0.25, 0.5, 0.75]), None]), file("b.wav", &[None])];
        let [windows, tracks] = tables(&files, &["c.mp3"]);
        let window = |tag, p| vec![text("a.wav"), Field::Double(0.0), Field::Double(2.678), text(tag), Field::Float(p)];
        assert_eq!(rows(windows), [window("harp", 0.75), window("no vocals", 0.5)]);
        let track = |name, secs, silent, tag: Option<(&str, f32)>| {
            let tag = tag.map_or([Field::Null, Field::Null], |(tag, p)| [text(tag), Field::Float(p)]);
            let mut row = vec![text(name), Field::Double(secs), Field::Bool(silent), Field::Null];
            row.extend(tag);
            row
        };
        let failed = vec![text("c.mp3"), Field::Null, Field::Null, text("is empty"), Field::Null, Field::Null];
        let expected = [
            track("a.wav", 5.356, false, Some(("harp", 0.75))),
            track("a.wav", 5.356, false, Some(("no vocals", 0.5))),
            track("b.wav", 2.678, true, None),
            failed,
        ];
        assert_eq!(rows(tracks), expected);
    }

    #[test]
    fn row_groups_follow_from_the_rows_and_the_model_is_named() {
        let windows = vec![Some([0.25, 0.5, 0.75]); 30_000];
        let files = [file("a.wav", &windows), file("b.wav", &windows), file("c.wav", &windows)];
        let [bytes, _] = tables(&files, &[]);
        assert_eq!(bytes, tables(&files, &[])[0], "equal results are equal bytes");
        let reader = reader(&bytes);
        let groups: Vec<i64> = reader.metadata().row_groups().iter().map(RowGroupMetaData::num_rows).collect();
        assert_eq!(groups, [1 << 17, 180_000 - (1 << 17)]);
        let metadata = reader.metadata().file_metadata();
        let of = |key: &str| {
            let pairs = metadata.key_value_metadata().expect("metadata");
            pairs.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone()).expect(key)
        };
        let model: serde_json::Value = serde_json::from_str(&of("earmark.model")).expect("JSON");
        assert_eq!((&model["name"], &model["blake3"]), (&"three".into(), &"0123".into()));
        assert_eq!(of("earmark.hop_samples"), "59049");
    }

    #[test]
    fn a_run_without_files_is_a_table_without_rows() {
        let [windows, tracks] = tables(&[], &[]);
        assert!(rows(windows).is_empty() && rows(tracks).is_empty());
    }
}
