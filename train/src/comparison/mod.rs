//! `train report`: records of several models joined into the thesis' tables and plots.
//!
//! ```text
//! records (train evaluate --json) -> the same data and mixtures? -> by method: mean and interval over training seeds
//!                                                                   by seed: difference from the baseline
//! runs (metrics.jsonl) ---------------------------------------------> training curves
//!                                        -> report.md with figures, report.html in one piece
//! ```
//!
//! Every model of a report has met the same mixtures, so two models of one training seed can be subtracted and what the
//! mixtures have in common falls away. Intervals are Student's, 95 %, over training seeds.

mod curves;
mod page;
mod plot;
mod statistics;
mod thesis;

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::eval::record::{Condition, Record, Setting};
use crate::eval::report::{Level, Summary, Tags};
use crate::run::{METRICS_FILE, write_atomically};
use curves::Curves;
use page::{Block, Page};
use plot::{Chart, Point, Series};
use statistics::Estimate;

/// Name of the record inside a run's folder.
pub const EVALUATION_FILE: &str = "evaluation.json";

/// Arguments of `train report`.
#[derive(Clone, Debug, clap::Args)]
pub struct ReportArgs {
    /// Records that `train evaluate --json FILE` wrote, or runs with such a record in evaluation.json.
    #[arg(value_name = "RESULT", required = true)]
    pub results: Vec<PathBuf>,
    /// Folder for report.md with its figures and for report.html.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Method that the others are compared with.
    #[arg(long, value_name = "METHOD", default_value = "baseline")]
    pub baseline: String,
    /// Method whose gain over the baseline is the whole of which shares are given.
    #[arg(long, value_name = "METHOD", default_value = "supervised")]
    pub supervised: String,
    /// What is scored.
    #[arg(long, value_enum, default_value_t = Level::Clip)]
    pub level: Level,
    /// Tags that count.
    #[arg(long, value_enum, default_value_t = Tags::Frequent)]
    pub tags: Tags,
}

impl ReportArgs {
    /// A report on `results` in the folder `out`, everything else by default.
    pub fn new(results: Vec<PathBuf>, out: PathBuf) -> Self {
        let [baseline, supervised] = ["baseline", "supervised"].map(str::to_owned);
        Self { results, out, baseline, supervised, level: Level::Clip, tags: Tags::Frequent }
    }
}

/// One of the two measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    RocAuc,
    AveragePrecision,
}

impl Measure {
    const BOTH: [Self; 2] = [Self::RocAuc, Self::AveragePrecision];

    fn name(self) -> &'static str {
        match self {
            Self::RocAuc => "macro ROC-AUC",
            Self::AveragePrecision => "macro average precision",
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::RocAuc => "roc-auc",
            Self::AveragePrecision => "average-precision",
        }
    }

    fn of(self, summary: &Summary) -> f64 {
        match self {
            Self::RocAuc => summary.roc_auc_macro,
            Self::AveragePrecision => summary.average_precision_macro,
        }
    }
}

/// A column: clean, or an SNR of one noise.
type Place<'a> = Option<(&'a str, f32)>;

/// A record and the file it came from.
#[derive(Clone, Debug)]
struct Entry {
    origin: String,
    record: Record,
}

/// Records that may be compared.
#[derive(Clone, Debug)]
struct Comparison {
    entries: Vec<Entry>,
    level: Level,
    tags: Tags,
    baseline: String,
    supervised: String,
}

/// Writes the report that `args` asks for and returns the paths of its two files.
///
/// # Errors
/// If a record cannot be read, two cannot be compared, or the folder cannot be written.
pub fn run(args: &ReportArgs) -> Result<[PathBuf; 2]> {
    let (mut entries, mut curves, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for path in &args.results {
        let file = if path.is_dir() { path.join(EVALUATION_FILE) } else { path.clone() };
        let record = if path.is_dir() && !file.is_file() { None } else { Some(Record::read(&file)?) };
        if path.join(METRICS_FILE).is_file() {
            let name = record.as_ref().map_or_else(|| path.display().to_string(), name_of);
            curves.push(Curves::read(&path.join(METRICS_FILE), name)?);
        } else if record.is_none() {
            bail!("{}: neither a run nor a folder with {EVALUATION_FILE}", path.display());
        }
        match record {
            Some(record) => entries.push(Entry { origin: file.display().to_string(), record }),
            None => notes.push(format!(
                "{}: not evaluated yet, only its training curves are shown; write its record with train evaluate --run \
                 RUN --json RUN/{EVALUATION_FILE}.",
                path.display()
            )),
        }
    }
    let comparison = Comparison {
        entries,
        level: args.level,
        tags: args.tags,
        baseline: args.baseline.clone(),
        supervised: args.supervised.clone(),
    };
    comparison.check()?;
    let page = comparison.page(notes, &curves);
    std::fs::create_dir_all(&args.out).with_context(|| format!("{}: cannot be created", args.out.display()))?;
    for (name, chart) in page.figures() {
        write_atomically(&args.out.join(format!("{name}.svg")), chart.svg().as_bytes())?;
    }
    let paths = ["report.md", "report.html"].map(|name| args.out.join(name));
    write_atomically(&paths[0], page.markdown().as_bytes())?;
    write_atomically(&paths[1], page.html().as_bytes())?;
    Ok(paths)
}

/// Method and seed.
fn name_of(record: &Record) -> String {
    match record.model.seed {
        Some(seed) => format!("{}, seed {seed}", record.model.method),
        None => record.model.method.clone(),
    }
}

impl Comparison {
    /// Refuses records that were not made on the same data and mixtures, and a method with the same seed twice.
    fn check(&self) -> Result<()> {
        let Some(first) = self.entries.first() else {
            bail!("there is no record to report on; write one with train evaluate --json FILE");
        };
        for (index, entry) in self.entries.iter().enumerate() {
            if let Some(what) = difference(&first.record.setting, &entry.record.setting) {
                bail!(
                    "{} and {}: {what} differ, so their figures cannot be compared; evaluate both alike, or report on \
                     them separately",
                    first.origin,
                    entry.origin
                );
            }
            let (model, earlier) = (&entry.record.model, &self.entries[..index]);
            let same = |other: &&Entry| {
                let other = &other.record.model;
                let same_training =
                    if model.seed.is_some() { other.seed == model.seed } else { other.weights == model.weights };
                other.method == model.method && same_training
            };
            if let Some(other) = earlier.iter().find(same) {
                bail!(
                    "{} and {}: both are {}; name one of them with train evaluate --method, or leave it out",
                    other.origin,
                    entry.origin,
                    name_of(&entry.record)
                );
            }
        }
        Ok(())
    }

    fn setting(&self) -> &Setting {
        &self.entries[0].record.setting
    }

    /// Methods in the order of the command line.
    fn methods(&self) -> Vec<&str> {
        distinct(self.entries.iter().map(|entry| entry.record.model.method.as_str()))
    }

    fn noises(&self) -> Vec<&str> {
        distinct(self.entries.iter().flat_map(|entry| &entry.record.setting.noises).map(|noise| noise.name.as_str()))
    }

    /// SNRs of `noise` in any record, from easy to hard.
    fn snrs_db(&self, noise: &str) -> Vec<f32> {
        let mut snrs_db = distinct(self.entries.iter().flat_map(|entry| entry.record.snrs_db(noise)));
        snrs_db.sort_by(|a, b| b.total_cmp(a));
        snrs_db
    }

    /// Clean, then the SNRs of `noise`.
    fn places<'a>(&self, noise: &'a str) -> Vec<Place<'a>> {
        let noisy = self.snrs_db(noise).into_iter().map(|snr_db| Some((noise, snr_db)));
        std::iter::once(None).chain(noisy).collect()
    }

    /// The noisy places of every noise.
    fn noisy_places(&self) -> Vec<Place<'_>> {
        self.noises().into_iter().flat_map(|noise| self.places(noise).split_off(1)).collect()
    }

    fn value(&self, record: &Record, place: Place<'_>, measure: Measure) -> Option<f64> {
        let condition: Option<&Condition> = match place {
            None => record.clean(),
            Some((noise, snr_db)) => record.condition(noise, snr_db),
        };
        Some(measure.of(&condition?.report.summary(self.level, self.tags)))
    }

    /// Mean over `places` of every record of `method` that has them all, with its seed.
    fn values(&self, method: &str, places: &[Place<'_>], measure: Measure) -> Vec<(Option<u64>, f64)> {
        let of_method = self.entries.iter().filter(|entry| entry.record.model.method == method);
        of_method
            .filter_map(|Entry { record, .. }| {
                let values: Option<Vec<f64>> = places.iter().map(|&place| self.value(record, place, measure)).collect();
                let values = values.filter(|values| !values.is_empty())?;
                Some((record.model.seed, values.iter().sum::<f64>() / values.len() as f64))
            })
            .collect()
    }

    fn estimate(&self, method: &str, places: &[Place<'_>], measure: Measure) -> Option<Estimate> {
        let values: Vec<f64> = self.values(method, places, measure).into_iter().map(|(_, value)| value).collect();
        Estimate::of(&values)
    }

    /// `method` minus `other` on each seed that both have.
    fn differences(&self, method: &str, other: &str, places: &[Place<'_>], measure: Measure) -> Vec<(u64, f64)> {
        let others = self.values(other, places, measure);
        let values = self.values(method, places, measure).into_iter();
        values
            .filter_map(|(seed, value)| {
                let (_, other) = others.iter().find(|(other, _)| seed.is_some() && *other == seed)?;
                Some((seed?, value - other))
            })
            .collect()
    }

    /// Methods that share a seed with the baseline.
    fn paired(&self, measure: Measure) -> Vec<&str> {
        let others = self.methods().into_iter().filter(|method| *method != self.baseline);
        others.filter(|method| !self.differences(method, &self.baseline, &[None], measure).is_empty()).collect()
    }

    /// `method` minus the baseline over the seeds that both have.
    fn estimate_difference(&self, method: &str, places: &[Place<'_>], measure: Measure) -> Option<Estimate> {
        let differences = self.differences(method, &self.baseline, places, measure).into_iter();
        Estimate::of(&differences.map(|(_, difference)| difference).collect::<Vec<_>>())
    }

    /// Share of the supervised method's gain over the baseline that `method` reaches, over the seeds that all three
    /// have: mean gain over mean gain, with the share of each seed. `None` where there is no gain to share.
    fn share(&self, method: &str, places: &[Place<'_>]) -> Option<(f64, Vec<(u64, f64)>)> {
        let gains = self.differences(method, &self.baseline, places, Measure::RocAuc);
        let whole = self.differences(&self.supervised, &self.baseline, places, Measure::RocAuc);
        let pairs: Vec<(u64, f64, f64)> = gains
            .into_iter()
            .filter_map(|(seed, gain)| {
                whole.iter().find(|(other, _)| *other == seed).map(|(_, whole)| (seed, gain, *whole))
            })
            .collect();
        let (gain, whole) = pairs.iter().fold((0.0, 0.0), |sum, (_, gain, whole)| (sum.0 + gain, sum.1 + whole));
        let of_seeds = pairs.iter().filter(|(.., whole)| *whole > 0.0).map(|(seed, gain, whole)| (*seed, gain / whole));
        (whole > 0.0).then(|| (gain / whole, of_seeds.collect()))
    }

    /// What a reader must know before comparing: missing conditions, seeds and partners.
    fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        for Entry { origin, record } in &self.entries {
            let missing: Vec<String> = self
                .noises()
                .into_iter()
                .flat_map(|noise| self.places(noise).split_off(1))
                .flatten()
                .filter(|(noise, snr_db)| record.condition(noise, *snr_db).is_none())
                .map(|(noise, snr_db)| format!("{noise} {} dB", number(snr_db)))
                .collect();
            if !missing.is_empty() {
                gaps.push(format!("{} ({origin}) was not measured at: {}.", name_of(record), missing.join(", ")));
            }
        }
        let seeds = |method: &str| -> BTreeSet<u64> {
            self.values(method, &[None], Measure::RocAuc).into_iter().filter_map(|(seed, _)| seed).collect()
        };
        let all: BTreeSet<u64> = self.methods().into_iter().flat_map(seeds).collect();
        for method in self.methods() {
            let missing: Vec<String> = all.difference(&seeds(method)).map(ToString::to_string).collect();
            if !missing.is_empty() {
                gaps.push(format!("{method} has no training seed {}.", missing.join(", ")));
            }
        }
        for role in [&self.baseline, &self.supervised] {
            if !self.methods().contains(&role.as_str()) {
                gaps.push(format!("There is no record of the method '{role}', so nothing is given relative to it."));
            }
        }
        gaps
    }

    fn page(&self, notes: Vec<String>, curves: &[Curves]) -> Page {
        let setting = self.setting();
        let mut blocks = vec![Block::Paragraph(self.introduction())];
        blocks.extend(self.gaps().into_iter().chain(notes).map(Block::Paragraph));
        for noise in self.noises() {
            blocks.push(Block::Heading(format!("Noise: {noise}")));
            let charts = Measure::BOTH.into_iter().map(|measure| Some(self.chart(noise, measure)));
            let gains = Measure::BOTH.into_iter().map(|measure| self.difference_chart(noise, measure));
            blocks.push(Block::Figures(charts.chain(gains).flatten().collect()));
            blocks.extend(Measure::BOTH.map(|measure| self.table(noise, measure)));
            blocks.push(Block::Paragraph(self.monotony(noise)));
            blocks.extend(Measure::BOTH.into_iter().filter_map(|measure| self.difference_table(noise, measure)));
        }
        if self.noises().is_empty() {
            blocks.push(Block::Heading("Clean".to_owned()));
            blocks.extend(Measure::BOTH.map(|measure| self.table("", measure)));
        }
        blocks.extend(self.share_blocks());
        blocks.extend(self.thesis_blocks());
        blocks.extend(curves::blocks(curves));
        blocks.extend(self.projection_blocks());
        blocks.push(Block::Heading("What was compared".to_owned()));
        blocks.push(self.records_table());
        Page { title: format!("Music tagging in noise: {} split", setting.split), blocks }
    }

    fn introduction(&self) -> String {
        let setting = self.setting();
        let clean = self.entries[0].record.clean();
        let level = match self.level {
            Level::Clip => "A clip's score is the mean of its windows' probabilities.",
            Level::Window => "Every window is scored by itself, with its clip's tags.",
        };
        let num_tags = clean.map_or(0, |condition| condition.report.summary(self.level, self.tags).num_tags);
        let rule = match self.tags {
            Tags::Frequent => format!("with at least {} positive clips", setting.min_positives),
            Tags::All => "with a positive and a negative clip".to_owned(),
        };
        format!(
            "{} on {} clips ({:.0} min); means over the {num_tags} of {} tags {rule}. {level} The \
             signal-to-noise ratio holds over each window of 2.7 s, which meets {}; every model meets \
             the same mixtures (seed {}). \u{b1} is half the 95 % interval of Student's t over training seeds; without \
             it there is one seed.",
            counted(self.entries.len(), "model"),
            setting.clips.num_files,
            setting.clips.minutes,
            setting.tags.len(),
            counted(setting.num_noises, "noise"),
            setting.seed
        )
    }

    fn header(&self, noise: &str) -> Vec<String> {
        let snrs_db = self.snrs_db(noise).into_iter().map(|snr_db| format!("{} dB", number(snr_db)));
        let noisy_mean = (!self.snrs_db(noise).is_empty()).then(|| "mean in noise".to_owned());
        ["method", "clean"].map(str::to_owned).into_iter().chain(snrs_db).chain(noisy_mean).collect()
    }

    /// One cell per column of [`header`](Self::header) behind the name.
    fn cells(&self, noise: &str, cell: impl Fn(&[Place<'_>]) -> String) -> Vec<String> {
        let places = self.places(noise);
        let single = places.iter().map(|&place| cell(&[place]));
        let mean = (places.len() > 1).then(|| cell(&places[1..]));
        single.chain(mean).collect()
    }

    fn table(&self, noise: &str, measure: Measure) -> Block {
        let rows = self.methods().into_iter().map(|method| {
            let cells = self.cells(noise, |places| shown(self.estimate(method, places, measure)));
            std::iter::once(method.to_owned()).chain(cells).collect()
        });
        let of_noise = if noise.is_empty() { String::new() } else { format!(", {noise} noise") };
        let caption = format!("{}{of_noise}", capitalised(measure.name()));
        Block::Table { caption, header: self.header(noise), rows: rows.collect() }
    }

    /// `None` if no method can be paired with the baseline.
    fn difference_table(&self, noise: &str, measure: Measure) -> Option<Block> {
        let rows: Vec<Vec<String>> = self
            .paired(measure)
            .into_iter()
            .map(|method| {
                let estimate = |places: &[Place<'_>]| self.estimate_difference(method, places, measure);
                let cells = self.cells(noise, |places| shown_signed(estimate(places)));
                std::iter::once(method.to_owned()).chain(cells).collect()
            })
            .collect();
        let caption =
            format!("{}, {noise} noise: difference from {} by seed", capitalised(measure.name()), self.baseline);
        (!rows.is_empty()).then(|| Block::Table { caption, header: self.header(noise), rows })
    }

    fn monotony(&self, noise: &str) -> String {
        let sentences = self.methods().into_iter().filter_map(|method| {
            let values: Vec<(String, f64)> = self
                .places(noise)
                .into_iter()
                .filter_map(|place| {
                    let name = place.map_or_else(|| "clean".to_owned(), |(_, snr_db)| format!("{} dB", number(snr_db)));
                    Some((name, self.estimate(method, &[place], Measure::RocAuc)?.mean))
                })
                .collect();
            let rise = values.windows(2).find(|pair| pair[1].1 > pair[0].1);
            match rise {
                _ if values.len() < 2 => None,
                None => Some(format!("{method} falls at every step.")),
                Some(pair) => {
                    Some(format!("{method} rises from {} to {} by {:.3}.", pair[0].0, pair[1].0, pair[1].1 - pair[0].1))
                }
            }
        });
        format!("ROC-AUC against growing noise: {}", sentences.collect::<Vec<_>>().join(" "))
    }

    fn chart(&self, noise: &str, measure: Measure) -> (String, Chart) {
        let description = format!("{} against the signal-to-noise ratio, {noise} noise", capitalised(measure.name()));
        let estimate = |method: &str, place: Place<'_>| self.estimate(method, &[place], measure);
        let chart = self.line_chart(noise, description, format!("{} (0 to 1)", measure.name()), estimate);
        (format!("{}-{}", measure.file(), file_name(noise)), chart)
    }

    /// `None` if no method can be paired with the baseline.
    fn difference_chart(&self, noise: &str, measure: Measure) -> Option<(String, Chart)> {
        if self.paired(measure).is_empty() {
            return None;
        }
        let estimate = |method: &str, place: Place<'_>| self.estimate_difference(method, &[place], measure);
        let description =
            format!("{} above that of {}, paired by seed, {noise} noise", capitalised(measure.name()), self.baseline);
        let y_label = format!("difference in {}", measure.name());
        let chart = self.line_chart(noise, description, y_label, estimate);
        Some((format!("{}-gain-{}", measure.file(), file_name(noise)), chart))
    }

    fn line_chart(
        &self,
        noise: &str,
        description: String,
        y_label: String,
        estimate: impl Fn(&str, Place<'_>) -> Option<Estimate>,
    ) -> Chart {
        let places = self.places(noise);
        let series = self.methods().into_iter().map(|method| {
            let points = places.iter().enumerate().filter_map(|(index, &place)| {
                let Estimate { mean, half_width, .. } = estimate(method, place)?;
                Some(Point { x: index as f64, y: mean, half_width })
            });
            Series { name: method.to_owned(), points: points.collect() }
        });
        let name = |place: &Place<'_>| place.map_or_else(|| "clean".to_owned(), |(_, snr_db)| number(snr_db));
        Chart {
            description,
            x_label: "signal-to-noise ratio over the window (dB)".to_owned(),
            y_label,
            x_names: places.iter().map(name).collect(),
            series: series.collect(),
            is_scatter: false,
        }
    }

    fn share_blocks(&self) -> Vec<Block> {
        let all = self.noisy_places();
        let mut header = vec!["method".to_owned()];
        header.extend(self.noises().into_iter().map(|noise| format!("{noise} noise")));
        header.extend(["all".to_owned(), "by seed".to_owned()]);
        let others = self.methods().into_iter().filter(|method| *method != self.baseline && *method != self.supervised);
        let rows: Vec<Vec<String>> = others
            .filter_map(|method| {
                let (share, of_seeds) = self.share(method, &all)?;
                let mut row = vec![method.to_owned()];
                row.extend(self.noises().into_iter().map(|noise| {
                    let of_noise = self.share(method, &self.places(noise)[1..]);
                    of_noise.map_or_else(|| "\u{2013}".to_owned(), |(share, _)| percent(share))
                }));
                row.push(percent(share));
                let of_seeds = of_seeds.into_iter().map(|(seed, share)| format!("{seed}: {}", percent(share)));
                row.push(of_seeds.collect::<Vec<_>>().join(", "));
                Some(row)
            })
            .collect();
        if rows.is_empty() {
            return Vec::new();
        }
        let text = format!(
            "Share of the gain of {} over {} in noise that a method reaches: mean difference in ROC-AUC over all SNRs \
             and common seeds, divided by that of {}.",
            self.supervised, self.baseline, self.supervised
        );
        vec![
            Block::Heading("Share of the supervised gain".to_owned()),
            Block::Paragraph(text),
            Block::Table { caption: "Share of the supervised gain".to_owned(), header, rows },
        ]
    }

    fn thesis_blocks(&self) -> Vec<Block> {
        let rows = thesis::rows();
        let mut tables = Vec::new();
        for noise in self.noises() {
            let found: Vec<Vec<String>> = rows
                .iter()
                .filter(|row| row.split == self.setting().split && row.noise == noise)
                .map(|row| {
                    let figures = row.figures.iter().map(|(auc, ap)| format!("{}/{}", decimals(*auc), decimals(*ap)));
                    let name = [row.method.clone(), row.training_noises.to_string()];
                    let share = row.share(&rows).map_or_else(|| "\u{2013}".to_owned(), percent);
                    name.into_iter().chain(figures).chain([decimals(row.noisy_roc_auc()), share]).collect()
                })
                .collect();
            if found.is_empty() {
                continue;
            }
            let mut header = ["method", "noises", "clean"].map(str::to_owned).to_vec();
            header.extend(thesis::SNRS_DB.map(|snr_db| format!("{} dB", number(snr_db))));
            header.extend(["mean AUC", "share"].map(str::to_owned));
            tables.push(Block::Table {
                caption: format!(
                    "Thesis, {noise} noise: AUC/AP by the number of noises in training; mean AUC in noise; share of \
                     the supervised gain"
                ),
                header,
                rows: found,
            });
        }
        if tables.is_empty() {
            return tables;
        }
        let text = "The thesis' own numbers (tables 4.3 to 4.5 for validation, figures 4.7 and 4.8 for the test), as \
            printed: MagnaTagATune with AudioSet (internal) and MUSAN (external) noise. Levels compare only on the \
            same data; on other data, look at the order of the methods and at the shares. Some figures are evident \
            misprints (an average precision above .7 in table 4.4), and AUC at 10 dB below that at 5 dB, as in the \
            test tables, is explained by no way of mixing.";
        [Block::Heading("Beside the thesis".to_owned()), Block::Paragraph(text.to_owned())]
            .into_iter()
            .chain(tables)
            .collect()
    }

    /// One panel per method and noise, of its first record that has one.
    fn projection_blocks(&self) -> Vec<Block> {
        let mut figures = Vec::new();
        for method in self.methods() {
            let of_method = self.entries.iter().filter(|entry| entry.record.model.method == method);
            let Some(entry) = of_method.into_iter().find(|entry| !entry.record.projections.is_empty()) else {
                continue;
            };
            for projection in &entry.record.projections {
                let points = |points: &[[f32; 2]]| {
                    let point = |&[x, y]: &[f32; 2]| Point { x: f64::from(x), y: f64::from(y), half_width: None };
                    points.iter().map(point).collect()
                };
                let (noise, snr_db) = (&projection.noise, projection.snr_db);
                let chart = Chart {
                    description: format!(
                        "t-SNE of the embeddings of {} windows, clean and with {noise} noise at {} dB: {}",
                        projection.clean.len(),
                        number(snr_db),
                        name_of(&entry.record)
                    ),
                    x_label: "t-SNE, first axis (no unit)".to_owned(),
                    y_label: "t-SNE, second axis (no unit)".to_owned(),
                    x_names: Vec::new(),
                    series: vec![
                        Series { name: "clean".to_owned(), points: points(&projection.clean) },
                        Series {
                            name: format!("{noise} noise, {} dB", number(snr_db)),
                            points: points(&projection.noisy),
                        },
                    ],
                    is_scatter: true,
                };
                figures.push((format!("t-sne-{}-{}", file_name(method), file_name(noise)), chart));
            }
        }
        if figures.is_empty() {
            return Vec::new();
        }
        let text = "Where the two clouds lie apart, the embedding tells clean from noisy music; where they mix, it \
            does not (figure 2.3 of the thesis). Distances between clusters mean nothing in t-SNE.";
        vec![
            Block::Heading("Embeddings of clean and noisy windows".to_owned()),
            Block::Paragraph(text.to_owned()),
            Block::Figures(figures),
        ]
    }

    fn records_table(&self) -> Block {
        let rows = self.entries.iter().map(|Entry { record, .. }| {
            let model = &record.model;
            vec![
                name_of(record),
                model.name.clone(),
                model.num_parameters.to_string(),
                short(&model.weights),
                short(&record.setting.clips.blake3),
                record.commit.as_deref().map_or_else(|| "\u{2013}".to_owned(), short),
            ]
        });
        let header = ["method", "model", "parameters", "weights", "clips", "commit"].map(str::to_owned).to_vec();
        Block::Table {
            caption: "Records, with the beginnings of their hashes".to_owned(),
            header,
            rows: rows.collect(),
        }
    }
}

/// What keeps two settings from being comparable; `None` if nothing does. A noise or an SNR that only one has is a gap,
/// not a difference.
fn difference(a: &Setting, b: &Setting) -> Option<String> {
    let fixed = [
        ("the splits", a.split != b.split),
        ("the tags", a.tags != b.tags),
        ("the clips", a.clips.blake3 != b.clips.blake3),
        ("the clips' labels", a.tag_targets != b.tag_targets),
        ("the positives that a tag needs (--min-positives)", a.min_positives != b.min_positives),
        ("the noises in each window (--num-noises)", a.num_noises != b.num_noises),
        ("the seeds of the mixtures (--seed)", a.seed != b.seed),
    ];
    let noises = a.noises.iter().flat_map(|noise| b.noises.iter().map(move |other| (noise, other)));
    let mut noises =
        noises.filter(|(noise, other)| noise.name == other.name && noise.files.blake3 != other.files.blake3);
    let found = fixed.into_iter().find(|(_, differ)| *differ).map(|(what, _)| what.to_owned());
    found.or_else(|| noises.next().map(|(noise, _)| format!("the files of noise '{}'", noise.name)))
}

fn distinct<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for item in items {
        if !found.contains(&item) {
            found.push(item);
        }
    }
    found
}

/// A number of decibels, with a true minus sign.
fn number(snr_db: f32) -> String {
    snr_db.to_string().replace('-', "\u{2212}")
}

/// Three decimals without the zero in front, as the literature prints them.
fn decimals(value: f64) -> String {
    format!("{value:.3}").replacen("0.", ".", 1)
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

fn shown(estimate: Option<Estimate>) -> String {
    estimate.map_or_else(|| "\u{2013}".to_owned(), |estimate| decimals(estimate.mean) + &interval(estimate))
}

fn shown_signed(estimate: Option<Estimate>) -> String {
    estimate.map_or_else(
        || "\u{2013}".to_owned(),
        |estimate| {
            let sign = if estimate.mean < 0.0 { "\u{2212}" } else { "+" };
            format!("{sign}{}{}", decimals(estimate.mean.abs()), interval(estimate))
        },
    )
}

fn interval(estimate: Estimate) -> String {
    estimate.half_width.map_or_else(String::new, |half_width| format!(" \u{b1} {}", decimals(half_width)))
}

/// A number of things.
fn counted(count: usize, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Part of a file name.
fn file_name(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

/// Beginning of a hash.
fn short(hash: &str) -> String {
    hash.chars().take(10).collect()
}

#[cfg(test)]
mod tests;
