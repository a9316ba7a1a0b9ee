//! What an adaptation was worth, as a table for a musician.
//!
//! ```text
//!                                                    before   after
//! noise meter is right                                    -    94 %   at least 75 %
//! tags of clean music that stay                       100 %    96 %   at least 90 %
//! tags that are as on the record, in the room
//!   soft (10 dB under the music)                       71 %    83 %
//! ```

use std::fmt::Write as _;

use earmark_core::adapt::{Figures, GUARD_SNR_DB, MeterFigures, Report, Stages};

/// Takes one figure of the meter.
type Get = fn(&MeterFigures) -> f64;

/// Width of the first column.
const LABEL: usize = 46;

/// One line of the comparison, for a terminal as for a screen.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What is compared.
    pub label: String,
    /// As it was; empty if there was nothing.
    pub before: String,
    /// As it would be.
    pub after: String,
    /// What is asked of it.
    pub limit: String,
    /// It belongs to the line without indent above it.
    pub is_detail: bool,
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

/// How loud a room is, in words.
pub fn loudness(snr_db: i32) -> String {
    match snr_db {
        10 => "soft, 10 dB under the music".to_owned(),
        5 => "5 dB under the music".to_owned(),
        0 => "as loud as the music".to_owned(),
        -5 => "5 dB over the music".to_owned(),
        -10 => "loud, 10 dB over the music".to_owned(),
        other => format!("{other} dB"),
    }
}

/// The comparison, line by line.
pub fn lines(report: &Report) -> Vec<Line> {
    let Report { before, after, limits, stages, .. } = report;
    let line = |label: &str, before: String, after: String, limit: String, is_detail| Line {
        label: label.to_owned(),
        before,
        after,
        limit,
        is_detail,
    };
    let meter = |of: &Figures, get: fn(&MeterFigures) -> f64| of.meter.as_ref().map_or("-".into(), |m| percent(get(m)));
    let mut lines = vec![line(
        "noise meter is right",
        meter(before, |m| m.accuracy),
        meter(after, |m| m.accuracy),
        format!("at least {}", percent(limits.min_meter_accuracy)),
        false,
    )];
    let parts: [(&str, Get); 5] = [
        ("on your clean music", |m| m.clean),
        ("on the room by itself", |m| m.room),
        ("on music with a soft room", |m| m.mixed[0]),
        ("on music with the room as loud", |m| m.mixed[1]),
        ("on music with a loud room", |m| m.mixed[2]),
    ];
    for (label, get) in parts {
        lines.push(line(label, meter(before, get), meter(after, get), String::new(), true));
    }
    if *stages == Stages::Dc {
        lines.push(line("tags", "as they are".into(), "the same".into(), String::new(), false));
        return lines;
    }
    if let Some(share) = report.share {
        let label = "of what was learnt for the tags is used";
        lines.push(line(label, String::new(), percent(f64::from(share)), String::new(), false));
    }
    lines.push(line(
        "certain tags of clean music that stay",
        percent(before.clean.kept),
        percent(after.clean.kept),
        format!("at least {}", percent(limits.min_clean_kept)),
        false,
    ));
    lines.push(line(
        "change of a tag's probability there",
        format!("{:.3}", before.clean.distance),
        format!("{:.3}", after.clean.distance),
        format!("at most {:.3}", limits.max_clean_change),
        true,
    ));
    let (was, is) = (before.mean_noisy(), after.mean_noisy());
    lines.push(line(
        "certain tags as on the record, with the room",
        percent(was.kept),
        percent(is.kept),
        String::new(),
        false,
    ));
    for (snr_db, (was, is)) in GUARD_SNR_DB.into_iter().zip(before.noisy.iter().zip(&after.noisy)) {
        lines.push(line(&loudness(snr_db), percent(was.kept), percent(is.kept), String::new(), true));
    }
    lines.push(line(
        "distance of a tag's probability there",
        format!("{:.3}", was.distance),
        format!("{:.3}", is.distance),
        "must fall".into(),
        false,
    ));
    lines
}

/// The comparison and the verdict.
pub fn table(report: &Report) -> String {
    let mut text = format!("{:LABEL$} {:>11} {:>9}\n", "", "before", "after");
    for Line { label, before, after, limit, is_detail } in lines(report) {
        let label = if is_detail { format!("  {label}") } else { label };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", format!("{label:LABEL$} {before:>11} {after:>9}   {limit}").trim_end());
    }
    let clips = format!("{} clips of your music that nothing was learnt from", report.num_clips);
    if report.is_accepted() {
        let _ = writeln!(text, "\naccepted, measured on {clips}");
    } else {
        let _ = writeln!(text, "\nrefused, measured on {clips}:");
        for refusal in &report.refusals {
            let _ = writeln!(text, "- {refusal}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use earmark_core::adapt::{Agreement, Limits, MaterialReport};

    use super::*;

    fn report(stages: Stages) -> Report {
        let noisy = |kept| GUARD_SNR_DB.map(|_| Agreement { distance: 0.1, kept }).to_vec();
        let meter = MeterFigures {
            accuracy: 0.936,
            clean: 0.9,
            noisy: 0.97,
            room: 1.0,
            mixed: [0.8, 0.9, 1.0],
            calibration_error: 0.02,
        };
        Report {
            stages,
            material: MaterialReport::default(),
            share: Some(0.5),
            before: Figures { meter: None, clean: Agreement { distance: 0.0, kept: 1.0 }, noisy: noisy(0.5) },
            after: Figures { meter: Some(meter), clean: Agreement { distance: 0.012, kept: 0.96 }, noisy: noisy(0.7) },
            num_clips: 4,
            limits: Limits::default(),
            refusals: Vec::new(),
        }
    }

    #[test]
    fn the_table_sets_before_beside_after() {
        let text = table(&report(Stages::Dat));
        let found = |start: &str| text.lines().find(|line| line.trim_start().starts_with(start)).unwrap_or_default();
        let words = |start| found(start).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words("noise meter"), "noise meter is right - 94 % at least 75 %");
        assert_eq!(words("certain tags of"), "certain tags of clean music that stay 100 % 96 % at least 90 %");
        assert_eq!(words("soft"), "soft, 10 dB under the music 50 % 70 %");
        assert!(text.ends_with("accepted, measured on 4 clips of your music that nothing was learnt from\n"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() < 100), "{text}");
    }

    #[test]
    fn a_refusal_lists_its_reasons_and_stage_2_says_that_tags_stay() {
        let mut refused = report(Stages::Dc);
        refused.refusals = vec!["it is worse".to_owned()];
        let text = table(&refused);
        assert!(text.contains("refused, measured on 4 clips") && text.ends_with("- it is worse\n"), "{text}");
        assert!(text.contains("the same") && !text.contains("on the record"), "{text}");
    }
}
