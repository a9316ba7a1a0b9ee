//! What the thesis reports, to stand beside what was measured.

/// Tables 4.3 to 4.5 (validation) and figures 4.7 and 4.8 (test), as printed.
const NUMBERS: &str = include_str!("thesis.csv");

/// SNRs of the columns, in dB.
pub const SNRS_DB: [f32; 5] = [10.0, 5.0, 0.0, -5.0, -10.0];

/// A row of the thesis' tables.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// `valid` or `test`.
    pub split: String,
    /// `internal` (AudioSet) or `external` (MUSAN).
    pub noise: String,
    /// Noises in each noisy training sample.
    pub training_noises: usize,
    /// Method, in this program's words.
    pub method: String,
    /// ROC-AUC and average precision: clean, then at each of [`SNRS_DB`].
    pub figures: [(f64, f64); 6],
}

impl Row {
    /// Mean ROC-AUC over the noisy columns.
    pub fn noisy_roc_auc(&self) -> f64 {
        self.figures[1..].iter().map(|(roc_auc, _)| roc_auc).sum::<f64>() / SNRS_DB.len() as f64
    }

    /// Share of the supervised model's gain over the baseline that is reached, in the mean over the noisy columns,
    /// among `rows` of the same split, noise and training. `None` where there is no gain.
    pub fn share(&self, rows: &[Self]) -> Option<f64> {
        let setting = |row: &Self| (row.split.clone(), row.noise.clone(), row.training_noises);
        let mean = |method: &str| {
            let row = rows.iter().find(|row| row.method == method && setting(row) == setting(self));
            row.map(Self::noisy_roc_auc)
        };
        let (baseline, supervised) = (mean("baseline")?, mean("supervised")?);
        (supervised > baseline).then(|| (self.noisy_roc_auc() - baseline) / (supervised - baseline))
    }
}

/// Every row.
pub fn rows() -> Vec<Row> {
    type Fields = (String, String, usize, String, [(f64, f64); 6]);
    let rows = csv::Reader::from_reader(NUMBERS.as_bytes()).into_deserialize::<Fields>();
    // The file is part of the program, and a test reads all of it.
    rows.filter_map(Result::ok)
        .map(|(split, noise, training_noises, method, figures)| Row { split, noise, training_noises, method, figures })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_read_and_spot_checks_are_as_printed() {
        let rows = rows();
        assert_eq!(rows.len(), NUMBERS.lines().count() - 1);
        let find = |split, noise, training_noises, method: &str| {
            let is_it = |row: &&Row| {
                (row.split.as_str(), row.noise.as_str(), row.training_noises) == (split, noise, training_noises)
                    && row.method == method
            };
            rows.iter().find(is_it).expect("a row").figures
        };
        assert_eq!(find("test", "internal", 1, "baseline")[2], (0.740, 0.225));
        assert_eq!(find("test", "external", 4, "proposed, freeze, alpha schedule")[5], (0.545, 0.087));
        assert_eq!(find("valid", "internal", 4, "supervised")[0], (0.769, 0.241));
        assert!(
            rows.iter().flat_map(|row| row.figures).all(|(auc, ap)| auc > 0.5 && auc < 0.9 && ap > 0.07 && ap < 1.0)
        );
    }

    #[test]
    fn shares_of_the_gain_by_hand() {
        let rows = rows();
        let share = |noise: &str, method: &str| {
            let is_it =
                |row: &&Row| (row.split.as_str(), row.noise.as_str(), row.training_noises) == ("test", noise, 1);
            let row = rows.iter().filter(is_it).find(|row| row.method == method).expect("a row");
            row.share(&rows).expect("a gain")
        };
        // Means over the noisy columns: baseline .6542, supervised .6886, proposed .6744.
        assert!((share("internal", "proposed, freeze, alpha schedule") - 0.0202 / 0.0344).abs() < 1e-9);
        // .6532, .6896, .6750.
        assert!((share("external", "proposed, freeze, alpha schedule") - 0.0218 / 0.0364).abs() < 1e-9);
        assert!(share("external", "baseline").abs() < 1e-9 && (share("external", "supervised") - 1.0).abs() < 1e-9);
    }
}
