//! Reads NumPy's `.npy` files, version 1.0: little-endian `f32` matrices in C order, and lists of strings.

use std::path::Path;

use anyhow::{Context, Result, bail};

const MAGIC: &[u8] = b"\x93NUMPY";

/// A matrix as stored in an `.npy` file.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub columns: usize,
    /// Row-major values, `[rows, columns]`.
    pub values: Vec<f32>,
}

impl Matrix {
    /// Row `index`, `[columns]`.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.columns..(index + 1) * self.columns]
    }
}

/// Reads a matrix.
///
/// # Errors
/// Names the file and the rule it breaks: unreadable, not `.npy` 1.0, not `<f4` in C order with two dimensions, or a
/// size other than the header declares.
pub fn read_matrix(path: &Path) -> Result<Matrix> {
    let bytes = std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    parse_matrix(&bytes).with_context(|| {
        format!("{}: expected a float32 matrix saved by numpy.save (little-endian, C order)", path.display())
    })
}

/// Reads a list of strings.
///
/// # Errors
/// Names the file and the rule it breaks: unreadable, not `.npy` 1.0, not `<U` with one dimension, a size other than
/// the header declares, or a character that is none.
pub fn read_strings(path: &Path) -> Result<Vec<String>> {
    let bytes = std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    parse_strings(&bytes)
        .with_context(|| format!("{}: expected a list of strings saved by numpy.save (little-endian)", path.display()))
}

fn parse_strings(bytes: &[u8]) -> Result<Vec<String>> {
    let (header, data) = parse_header(bytes)?;
    let characters = header.split_once("'descr': '<U").and_then(|(_, rest)| rest.split_once('\''));
    let characters: usize = characters
        .and_then(|(count, _)| count.parse().ok())
        .filter(|&count| count > 0)
        .with_context(|| format!("the values are not '<U': {}", header.trim()))?;
    let [rows] = parse_shape(header)[..] else { bail!("the shape is not (rows,): {}", header.trim()) };
    let row_bytes = characters.checked_mul(4).context("the strings are too long")?;
    if rows.checked_mul(row_bytes) != Some(data.len()) {
        bail!("the header declares {rows} strings of {characters}, the file holds {} bytes of them", data.len());
    }
    let character = |b: &[u8]| char::from_u32(u32::from_le_bytes([b[0], b[1], b[2], b[3]])).context("not a character");
    // Shorter strings are filled up with zeros.
    let string = |row: &[u8]| row.chunks_exact(4).map(character).filter(|c| !matches!(c, Ok('\0'))).collect();
    data.chunks_exact(row_bytes).map(string).collect()
}

/// A file of strings, as `numpy.save` writes it.
#[cfg(test)]
pub(super) fn string_file(rows: &[&str]) -> Vec<u8> {
    let characters = rows.iter().map(|row| row.chars().count()).max().unwrap_or(1);
    let mut header = format!("{{'descr': '<U{characters}', 'fortran_order': False, 'shape': ({},), }}", rows.len());
    header += &" ".repeat(117 - header.len());
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(format!("{header}\n").as_bytes());
    for row in rows {
        let padded = row.chars().chain(std::iter::repeat('\0')).take(characters);
        bytes.extend(padded.flat_map(|character| (character as u32).to_le_bytes()));
    }
    bytes
}

/// The header's text and the bytes behind it.
fn parse_header(bytes: &[u8]) -> Result<(&str, &[u8])> {
    if bytes.len() < 10 || &bytes[..6] != MAGIC {
        bail!("the file does not start with NumPy's magic bytes");
    }
    if bytes[6] != 1 {
        bail!("format version {}.{}, this reader knows 1.0", bytes[6], bytes[7]);
    }
    let header_len = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let Some(header) = bytes.get(10..10 + header_len) else { bail!("the header is cut off") };
    let header = std::str::from_utf8(header).context("the header is not text")?;
    Ok((header, &bytes[10 + header_len..]))
}

fn parse_matrix(bytes: &[u8]) -> Result<Matrix> {
    let (header, data) = parse_header(bytes)?;
    if !header.contains("'descr': '<f4'") {
        bail!("the values are not '<f4': {}", header.trim());
    }
    if !header.contains("'fortran_order': False") {
        bail!("the matrix is not in C order: {}", header.trim());
    }
    let [rows, columns] = parse_shape(header)[..] else { bail!("the shape is not (rows, columns): {header}") };
    let expected = rows.checked_mul(columns).and_then(|count| count.checked_mul(4));
    if expected != Some(data.len()) {
        bail!("the header declares {rows} x {columns} values, the file holds {} bytes of them", data.len());
    }
    let values = data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Ok(Matrix { rows, columns, values })
}

/// The sizes in `'shape': (...)` of the header's Python literal; none where there is no such thing.
fn parse_shape(header: &str) -> Vec<usize> {
    let inner =
        header.split_once("'shape': (").and_then(|(_, rest)| rest.split_once(')')).map_or("", |(inner, _)| inner);
    let sizes = inner.split(',').map(str::trim).filter(|text| !text.is_empty()).map(str::parse::<usize>);
    sizes.collect::<Result<_, _>>().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `numpy.save` writes for a `<f4` matrix: magic, version 1.0, header padded to a multiple of 64 bytes.
    fn npy(header: &str, values: &[f32]) -> Vec<u8> {
        let mut header = header.to_owned();
        while !(10 + header.len() + 1).is_multiple_of(64) {
            header.push(' ');
        }
        header.push('\n');
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, 0]);
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        bytes
    }

    #[test]
    fn reads_rows_in_order() {
        let bytes = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", &[1., 2., 3., 4., 5., 6.]);
        let matrix = parse_matrix(&bytes).expect("a valid file");
        assert_eq!((matrix.rows, matrix.columns), (2, 3));
        assert_eq!(matrix.row(1), [4., 5., 6.]);
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
        let refused = |bytes: &[u8]| parse_matrix(bytes).expect_err("must be refused").to_string();
        assert!(refused(b"\x93NUMPX\x01\x00\x00\x00").contains("magic"));
        assert!(refused(&npy(good, &[1.; 5])).contains("2 x 3"));
        assert!(refused(&npy(&good.replace("<f4", "<f8"), &[1.; 6])).contains("<f4"));
        assert!(refused(&npy(&good.replace("False", "True"), &[1.; 6])).contains("C order"));
        assert!(refused(&npy(&good.replace("(2, 3)", "(6,)"), &[1.; 6])).contains("shape"));
        let huge = good.replace("(2, 3)", "(9999999999999, 9999999999999)");
        assert!(refused(&npy(&huge, &[])).contains("declares"));
        let mut cut = npy(good, &[]);
        cut.truncate(40);
        assert!(refused(&cut).contains("cut off"));
    }

    #[test]
    fn strings_read_back_without_their_padding() {
        let bytes = string_file(&["0\tf/é.mp3", "", "10\ta/b.mp3"]);
        assert_eq!(parse_strings(&bytes).expect("a valid file"), ["0\tf/é.mp3", "", "10\ta/b.mp3"]);
        let refused = |bytes: &[u8]| parse_strings(bytes).expect_err("must be refused").to_string();
        assert!(refused(&bytes[..bytes.len() - 4]).contains("declares 3 strings"));
        assert!(refused(&npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", &[1.; 2])).contains("'<U'"));
        let mut surrogate = string_file(&["a"]);
        let at = surrogate.len() - 4;
        surrogate[at..].copy_from_slice(&0xD800_u32.to_le_bytes());
        assert!(refused(&surrogate).contains("not a character"));
    }
}
