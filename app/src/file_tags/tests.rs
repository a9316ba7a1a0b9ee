//! Every container on damaged files: nothing panics, and what is changed can be changed back.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use proptest::prelude::*;

use super::*;

fn fixtures() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tags");
    let entries = fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").path());
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut fixtures: Vec<_> = entries
        .map(|path| (name(&path), fs::read(&path).expect("readable")))
        .filter(|(name, _)| is_audio(name))
        .collect();
    fixtures.sort();
    fixtures
}

fn is_audio(name: &str) -> bool {
    ![".sh", ".py"].iter().any(|ending| name.ends_with(ending))
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("written");
    file
}

/// Sets fields of `len` characters, and checks that what comes out reads back and leads back.
fn there_and_back(name: &str, bytes: &[u8], len: usize) -> Result<()> {
    let mut old = file(bytes);
    let mut tags = open(&mut old)?;
    let (others, value) = (tags.others(), vec!["x".repeat(len), "y=0.50".to_owned()]);
    for field in [Field::Mood, Field::Instrument] {
        tags.set(field, &value);
    }
    let splices = tags.splices(&mut old)?;
    assert!(splices.is_sorted_by(|a, b| a.start + a.old_len <= b.start), "{name}: {splices:?}");
    let mut new = Vec::new();
    splice::apply(&mut old, &splices, &mut new)?;
    let mut new_file = file(&new);
    let again = open(&mut new_file).unwrap_or_else(|error| panic!("{name} cannot be read again: {error:#}"));
    assert_eq!(again.get(Field::Mood), value, "{name}");
    assert_eq!(again.get(Field::Instrument), value, "{name}");
    assert_eq!(again.others(), others, "{name}");
    let back = splice::inverse(&mut old, &splices)?;
    let mut restored = Vec::new();
    splice::apply(&mut new_file, &back, &mut restored)?;
    assert!(restored == bytes, "{name}: the inverse does not lead back");
    Ok(())
}

#[test]
fn fields_of_any_length_lead_back() {
    for (name, bytes) in fixtures() {
        for len in [1, 200, 600, 1500, 70_000] {
            let result = there_and_back(&name, &bytes, len);
            assert_eq!(result.is_ok(), name != "v22.mp3", "{name}, {len} characters: {result:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damaged_files_are_refused_or_lead_back(
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        len in 1_usize..3000,
    ) {
        let fixtures = fixtures();
        let (name, bytes) = &fixtures[which.index(fixtures.len())];
        let mut bytes = bytes.clone();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        // An error is as good as a way there and back.
        let _ = there_and_back(name, &bytes, len);
    }
}
