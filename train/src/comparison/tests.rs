use super::*;
use crate::data::items::Split;
use crate::eval::metrics::Metrics;
use crate::eval::record::{FORMAT_VERSION, FilesIdentity, ModelIdentity, NoiseIdentity, Projection, Speed};
use crate::eval::report::Report;

/// A record whose ROC-AUC is `clean` on clean clips and `noisy` at 10 and 0 dB of noise `hiss`; average precision is
/// half of it.
fn record(method: &str, seed: Option<u64>, clean: f64, noisy: [f64; 2]) -> Record {
    let files = |name: &str| FilesIdentity { blake3: format!("hash of {name}"), num_files: 3, minutes: 1.5 };
    let condition = |noise: Option<&str>, snr_db, roc_auc_macro| {
        let summary = Summary { roc_auc_macro, average_precision_macro: roc_auc_macro / 2.0, num_tags: 2 };
        let metrics = Metrics { roc_auc_macro, ..Metrics::new(&[0.5], &[true], &["guitar".to_owned()], 1) };
        let report = Report {
            split: "test".to_owned(),
            min_positives: 5,
            clip: metrics.clone(),
            clip_min_positives: summary.clone(),
            window: metrics,
            window_min_positives: summary,
        };
        Condition { noise: noise.map(str::to_owned), snr_db, num_unmixed_windows: 0, report }
    };
    Record {
        format_version: FORMAT_VERSION,
        model: ModelIdentity {
            name: "m".to_owned(),
            method: method.to_owned(),
            seed,
            weights: format!("weights {method} {seed:?}"),
            num_parameters: 7,
        },
        setting: Setting {
            split: Split::Test.to_string(),
            tags: vec!["guitar".to_owned()],
            clips: files("clips"),
            tag_targets: "truth".to_owned(),
            min_positives: 5,
            noises: vec![NoiseIdentity { name: "internal".to_owned(), files: files("internal") }],
            num_noises: 1,
            seed: 1,
        },
        conditions: vec![
            condition(None, None, clean),
            condition(Some("internal"), Some(10.0), noisy[0]),
            condition(Some("internal"), Some(0.0), noisy[1]),
        ],
        kinds: Vec::new(),
        projections: Vec::new(),
        speed: Speed { device: "cpu".to_owned(), num_windows: 3, secs: 1.0 },
        version: "0".to_owned(),
        commit: None,
    }
}

fn comparison(records: Vec<Record>) -> Comparison {
    let entries = records.into_iter().enumerate();
    Comparison {
        entries: entries.map(|(index, record)| Entry { origin: format!("{index}.json"), record }).collect(),
        level: Level::Clip,
        tags: Tags::Frequent,
        baseline: "baseline".to_owned(),
        supervised: "supervised".to_owned(),
    }
}

/// Three seeds of three methods, written so that every figure can be checked by hand.
fn nine() -> Comparison {
    comparison(vec![
        record("baseline", Some(1), 0.90, [0.70, 0.60]),
        record("baseline", Some(2), 0.90, [0.72, 0.60]),
        record("baseline", Some(3), 0.90, [0.74, 0.60]),
        record("supervised", Some(1), 0.89, [0.80, 0.70]),
        record("supervised", Some(2), 0.89, [0.82, 0.70]),
        record("supervised", Some(3), 0.89, [0.84, 0.70]),
        record("proposed", Some(1), 0.90, [0.77, 0.66]),
        record("proposed", Some(2), 0.90, [0.80, 0.66]),
        record("proposed", Some(3), 0.90, [0.83, 0.66]),
    ])
}

fn row(block: &Block, name: &str) -> Vec<String> {
    let Block::Table { rows, .. } = block else { panic!("not a table: {block:?}") };
    rows.iter().find(|row| row[0] == name).expect("a row of that name")[1..].to_vec()
}

#[test]
fn means_and_intervals_by_hand() {
    let comparison = nine();
    comparison.check().expect("comparable");
    assert!(comparison.gaps().is_empty());
    let table = comparison.table("internal", Measure::RocAuc);
    let Block::Table { header, .. } = &table else { panic!("a table") };
    assert_eq!(header[..], ["method", "clean", "10 dB", "0 dB", "mean in noise"]);
    // t(2) = 4.302653; standard errors 0.02/sqrt(3) and 0.01/sqrt(3).
    assert_eq!(row(&table, "baseline"), [".900 ± .000", ".720 ± .050", ".600 ± .000", ".660 ± .025"]);
    let precision = comparison.table("internal", Measure::AveragePrecision);
    assert_eq!(row(&precision, "baseline")[1], ".360 ± .025");
}

#[test]
fn differences_are_paired_by_seed() {
    let comparison = nine();
    let table = comparison.difference_table("internal", Measure::RocAuc).expect("pairs");
    // The seeds' common spread falls away: 0.10 at each seed for supervised; 0.07, 0.08, 0.09 for proposed.
    assert_eq!(row(&table, "supervised"), ["−.010 ± .000", "+.100 ± .000", "+.100 ± .000", "+.100 ± .000"]);
    assert_eq!(row(&table, "proposed"), ["+.000 ± .000", "+.080 ± .025", "+.060 ± .000", "+.070 ± .012"]);
    let (share, of_seeds) = comparison.share("proposed", &comparison.noisy_places()).expect("a gain");
    assert!((share - 0.7).abs() < 1e-9, "{share}");
    let expected = [(1, 0.65), (2, 0.70), (3, 0.75)];
    assert!(
        of_seeds.iter().zip(expected).all(|(found, wanted)| found.0 == wanted.0 && (found.1 - wanted.1).abs() < 1e-9)
    );
}

#[test]
fn missing_seeds_and_conditions_are_told_and_left_out_of_pairs() {
    let mut incomplete = record("proposed", Some(2), 0.90, [0.80, 0.66]);
    incomplete.conditions.pop();
    let records = vec![
        record("baseline", Some(1), 0.90, [0.70, 0.60]),
        record("baseline", Some(2), 0.90, [0.74, 0.60]),
        incomplete,
        record("other", None, 0.90, [0.80, 0.70]),
    ];
    let comparison = comparison(records);
    let gaps = comparison.gaps().join("\n");
    assert!(gaps.contains("proposed, seed 2 (2.json) was not measured at: internal 0 dB."), "{gaps}");
    assert!(gaps.contains("proposed has no training seed 1."), "{gaps}");
    assert!(gaps.contains("no record of the method 'supervised'"), "{gaps}");
    let table = comparison.table("internal", Measure::RocAuc);
    assert_eq!(row(&table, "proposed"), [".900", ".800", "–", "–"]);
    let differences = comparison.difference_table("internal", Measure::RocAuc).expect("one pair");
    assert_eq!(row(&differences, "proposed"), ["+.000", "+.060", "–", "–"]);
    // Without a seed there is no pair.
    assert!(matches!(&differences, Block::Table { rows, .. } if rows.len() == 1));
    assert!(comparison.share("proposed", &comparison.noisy_places()).is_none());
}

#[test]
fn records_of_other_data_or_mixtures_are_refused() {
    type Change = fn(&mut Record);
    let changes: [(&str, Change); 8] = [
        ("the splits", |record| record.setting.split = "valid".to_owned()),
        ("the tags", |record| record.setting.tags.push("cello".to_owned())),
        ("the clips differ", |record| record.setting.clips.blake3 = "other".to_owned()),
        ("labels", |record| record.setting.tag_targets = "other".to_owned()),
        ("--min-positives", |record| record.setting.min_positives = 1),
        ("--num-noises", |record| record.setting.num_noises = 4),
        ("--seed", |record| record.setting.seed = 2),
        ("'internal'", |record| record.setting.noises[0].files.blake3 = "other".to_owned()),
    ];
    for (what, change) in changes {
        let mut other = record("proposed", Some(1), 0.9, [0.8, 0.7]);
        change(&mut other);
        let error = comparison(vec![record("baseline", Some(1), 0.9, [0.8, 0.7]), other]).check().expect_err("refused");
        let error = error.to_string();
        assert!(error.contains(what) && error.contains("0.json") && error.contains("1.json"), "{what}: {error}");
    }
    let twice = vec![record("baseline", Some(1), 0.9, [0.8, 0.7]), record("baseline", Some(1), 0.8, [0.8, 0.7])];
    assert!(comparison(twice).check().expect_err("refused").to_string().contains("both are baseline, seed 1"));
    assert!(comparison(Vec::new()).check().expect_err("refused").to_string().contains("no record"));
}

#[test]
fn a_rise_against_noise_is_told() {
    let text = nine().monotony("internal");
    assert!(text.contains("baseline falls at every step."), "{text}");
    let rising = comparison(vec![record("baseline", Some(1), 0.80, [0.60, 0.65])]);
    assert!(rising.monotony("internal").contains("baseline rises from 10 dB to 0 dB by 0.050."));
}

#[test]
fn the_report_is_written_in_one_piece() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut results = Vec::new();
    for Entry { origin, mut record } in nine().entries {
        let points = vec![[0.0, 1.0], [2.0, -1.0]];
        record.projections =
            vec![Projection { noise: "internal".to_owned(), snr_db: 0.0, clean: points.clone(), noisy: points }];
        let path = folder.path().join(origin);
        std::fs::write(&path, serde_json::to_string(&record).expect("JSON")).expect("written");
        assert_eq!(Record::read(&path).expect("a record"), record);
        results.push(path);
    }
    let run = folder.path().join("run");
    std::fs::create_dir(&run).expect("created");
    std::fs::write(run.join(METRICS_FILE), "{\"event\":\"step\",\"step\":1,\"loss\":0.5}\n").expect("written");
    results.push(run);
    let args = ReportArgs {
        results,
        out: folder.path().join("report"),
        baseline: "baseline".to_owned(),
        supervised: "supervised".to_owned(),
        level: Level::Clip,
        tags: Tags::Frequent,
    };
    let [markdown, html] = run_report(&args);
    for text in [&markdown, &html] {
        for expected in
            ["70 %", "1: 65 %", "+.080 ± .025", "proposed, freeze, alpha schedule", "59 %", "not evaluated yet"]
        {
            assert!(text.contains(expected), "{expected} is missing in {text}");
        }
    }
    // AUC and AP, their gains, the loss, t-SNE of three methods.
    assert_eq!(html.matches("<svg").count(), 8);
    for outside in ["<script", "http://", "https://", "url(", "src="] {
        let html = html.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
        assert!(!html.contains(outside), "the page refers to something outside: {outside}");
    }
    let linked: Vec<&str> =
        markdown.lines().filter_map(|line| line.strip_suffix(")")?.rsplit_once("](")).map(|l| l.1).collect();
    assert_eq!(linked.len(), 8);
    assert!(linked.iter().all(|file| args.out.join(file).is_file()), "{linked:?}");

    let other = folder.path().join("other.json");
    std::fs::write(&other, "{\"format_version\": 99}").expect("written");
    assert!(Record::read(&other).expect_err("another version").to_string().contains("format 99"));
    std::fs::write(&other, "{}").expect("written");
    assert!(Record::read(&other).expect_err("no record").to_string().contains("not a record"));
}

fn run_report(args: &ReportArgs) -> [String; 2] {
    run(args).expect("a report").map(|path| std::fs::read_to_string(path).expect("readable"))
}
