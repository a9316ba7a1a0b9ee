//! The metrics of a run as TensorBoard reads them, beside `metrics.jsonl` and from the same lines.
//!
//! ```text
//! {"event":"step","step":7,"loss":0.5} -> Event { wall_time, step: 7, summary: [{ tag: "step/loss", simple_value: 0.5 }] }
//! record: length u64 | masked CRC-32C of the length | bytes of the event | masked CRC-32C of the bytes
//! ```
//!
//! The events are protocol buffers of TensorFlow's `event.proto` and `summary.proto`; of these, three fields are needed.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::Value;

/// Name of the file; TensorBoard looks for `tfevents` in it.
pub const EVENTS_FILE: &str = "events.out.tfevents.earmark";

/// What the first record of a file must say.
const FILE_VERSION: &str = "brain.Event:2";

/// Appends to the file of events.
#[derive(Debug)]
pub struct EventsLog {
    file: File,
    path: PathBuf,
}

impl EventsLog {
    /// Opens the file in the folder of a run for appending, after cutting off what lies behind `step` and half a record;
    /// a new one begins with its version.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn open(folder: &Path, step: u64) -> Result<Self> {
        let path = folder.join(EVENTS_FILE);
        let failed = || format!("{}: cannot be written", path.display());
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            read => read.with_context(|| format!("{}: cannot be read", path.display()))?,
        };
        let kept = kept_len(&bytes, step);
        let file = OpenOptions::new().create(true).append(true).open(&path).with_context(failed)?;
        file.set_len(kept as u64).with_context(failed)?;
        let mut log = Self { file, path: path.clone() };
        if kept == 0 {
            let mut event = event(now_secs(), 0);
            put_bytes(&mut event, 3, FILE_VERSION.as_bytes());
            log.append(&event)?;
        }
        Ok(log)
    }

    /// Appends the numbers of a line of `metrics.jsonl`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&mut self, line: &Value) -> Result<()> {
        let scalars = scalars(line);
        if scalars.is_empty() {
            return Ok(());
        }
        let mut summary = Vec::new();
        for (tag, number) in scalars {
            let mut value = Vec::new();
            put_bytes(&mut value, 1, tag.as_bytes());
            put_key(&mut value, 2, Wire::Fixed32);
            value.extend((number as f32).to_le_bytes());
            put_bytes(&mut summary, 1, &value);
        }
        let mut event = event(now_secs(), line["step"].as_u64().unwrap_or_default());
        put_bytes(&mut event, 5, &summary);
        self.append(&event)
    }

    fn append(&mut self, event: &[u8]) -> Result<()> {
        let length = (event.len() as u64).to_le_bytes();
        let mut record = length.to_vec();
        record.extend(masked_crc(&length).to_le_bytes());
        record.extend(event);
        record.extend(masked_crc(event).to_le_bytes());
        self.file.write_all(&record).with_context(|| format!("{}: cannot be written", self.path.display()))
    }
}

/// Name and value of each number in a line; measures in noise are named by their SNR.
fn scalars(line: &Value) -> Vec<(String, f64)> {
    let kind = line["event"].as_str().unwrap_or("run");
    let mut found = Vec::new();
    for (key, value) in line.as_object().into_iter().flatten() {
        match value {
            Value::Number(number) if key != "step" => {
                found.extend(number.as_f64().map(|number| (format!("{kind}/{key}"), number)));
            }
            Value::Array(items) => {
                for item in items.iter().filter(|item| item["snr_db"].is_number()) {
                    for (key, value) in item.as_object().into_iter().flatten().filter(|(key, _)| *key != "snr_db") {
                        let tag = format!("{kind}/{key} at {} dB", item["snr_db"]);
                        found.extend(value.as_f64().map(|number| (tag, number)));
                    }
                }
            }
            _ => (),
        }
    }
    found
}

/// Length of the whole records up to the first one behind `step`.
fn kept_len(bytes: &[u8], step: u64) -> usize {
    let mut kept = 0;
    while let Some(header) = bytes.get(kept..kept + 12) {
        let length = header[..8].try_into().map_or(u64::MAX, u64::from_le_bytes);
        let Some(end) = usize::try_from(length).ok().and_then(|length| (kept + 16).checked_add(length)) else { break };
        let Some(event) = bytes.get(kept + 12..end.saturating_sub(4)).filter(|_| end <= bytes.len()) else { break };
        if step_of(event).is_none_or(|found| found > step) {
            break;
        }
        kept = end;
    }
    kept
}

/// The step of an event that [`event`] began: it follows the nine bytes of the time.
fn step_of(event: &[u8]) -> Option<u64> {
    let varint = event.get(10..)?;
    let len = varint.iter().position(|byte| byte & 0x80 == 0)? + 1;
    Some(varint[..len].iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f)))
}

/// The beginning of an event: its time in seconds since 1970, and its step.
fn event(wall_time_secs: f64, step: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_key(&mut bytes, 1, Wire::Fixed64);
    bytes.extend(wall_time_secs.to_le_bytes());
    put_key(&mut bytes, 2, Wire::Varint);
    put_varint(&mut bytes, step);
    bytes
}

fn now_secs() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Wire types of protocol buffers.
#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Fixed32 = 5,
}

fn put_key(bytes: &mut Vec<u8>, field: u64, wire: Wire) {
    put_varint(bytes, field << 3 | wire as u64);
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn put_bytes(bytes: &mut Vec<u8>, field: u64, content: &[u8]) {
    put_key(bytes, field, Wire::Bytes);
    put_varint(bytes, content.len() as u64);
    bytes.extend(content);
}

/// CRC-32C, turned and shifted so that a checksum of data that holds checksums stays one (TensorFlow's record format).
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_and_checksums_are_those_of_the_formats() {
        let mut event = event(1.0, 0);
        put_bytes(&mut event, 3, FILE_VERSION.as_bytes());
        assert_eq!(event[..11], [9, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x10, 0]);
        // RFC 3720, B.4: 32 bytes of zeros.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(masked_crc(&[0; 32]), 0x8a91_36aa_u32.rotate_right(15).wrapping_add(0xa282_ead8));
    }

    #[test]
    fn numbers_are_named_by_event_key_and_ratio() {
        let line = json!({
            "event": "validation", "step": 3, "score": 1.5, "domain_loss": null, "snr_db": [-10, 10],
            "noisy": [{ "snr_db": -5, "roc_auc_macro": 0.75 }],
        });
        let mut found = scalars(&line);
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let expected = [("validation/roc_auc_macro at -5 dB", 0.75), ("validation/score", 1.5)];
        assert_eq!(found, expected.map(|(tag, value)| (tag.to_owned(), value)));
    }

    #[test]
    fn resuming_cuts_behind_the_step_and_half_a_record() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(EVENTS_FILE);
        let line = |step: u64| json!({ "event": "step", "step": step, "loss": 0.5 });
        let mut log = EventsLog::open(folder.path(), 0).expect("a log");
        let mut lengths = vec![fs::metadata(&path).expect("a file").len()];
        for step in [1, 300, 70_000] {
            log.write(&line(step)).expect("written");
            lengths.push(fs::metadata(&path).expect("a file").len());
        }
        log.file.write_all(&[24, 0, 0]).expect("written");
        for (step, records) in [(70_000, 3), (69_999, 2), (300, 2), (299, 1), (0, 0)] {
            EventsLog::open(folder.path(), step).expect("a log");
            assert_eq!(fs::metadata(&path).expect("a file").len(), lengths[records], "cut behind step {step}");
        }
        EventsLog::open(folder.path(), 0).expect("a log").write(&line(1)).expect("written");
        assert_eq!(fs::metadata(&path).expect("a file").len(), lengths[1]);
    }
}
