//! Reads NumPy's `.npy` files, version 1.0, of little-endian `f32` matrices in C order.

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

fn parse_matrix(bytes: &[u8]) -> Result<Matrix> {
    if bytes.len() < 10 || &bytes[..6] != MAGIC {
        bail!("the file does not start with NumPy's magic bytes");
    }
    if bytes[6] != 1 {
        bail!("format version {}.{}, this reader knows 1.0", bytes[6], bytes[7]);
    }
    let header_len = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let Some(header) = bytes.get(10..10 + header_len) else { bail!("the header is cut off") };
    let header = std::str::from_utf8(header).context("the header is not text")?;
    if !header.contains("'descr': '<f4'") {
        bail!("the values are not '<f4': {}", header.trim());
    }
    if !header.contains("'fortran_order': False") {
        bail!("the matrix is not in C order: {}", header.trim());
    }
    let (rows, columns) = parse_shape(header).with_context(|| format!("the shape is not (rows, columns): {header}"))?;
    let data = &bytes[10 + header_len..];
    let expected = rows.checked_mul(columns).and_then(|count| count.checked_mul(4));
    if expected != Some(data.len()) {
        bail!("the header declares {rows} x {columns} values, the file holds {} bytes of them", data.len());
    }
    let values = data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Ok(Matrix { rows, columns, values })
}

/// `'shape': (rows, columns)` out of the header's Python literal.
fn parse_shape(header: &str) -> Option<(usize, usize)> {
    let inner = header.split_once("'shape': (")?.1.split_once(')')?.0;
    let mut sizes = inner.split(',').map(str::trim).filter(|text| !text.is_empty()).map(str::parse::<usize>);
    let (rows, columns) = (sizes.next()?.ok()?, sizes.next()?.ok()?);
    sizes.next().is_none().then_some((rows, columns))
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
}
