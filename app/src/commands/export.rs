//! `earmark export`: the record of a set as what other programs read.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use earmark_core::live::{Chapter, GapCause, Session};
use serde_json::json;

use super::Exit;
use crate::args::{ExportArgs, ExportFormat};
use crate::inputs::shown;
use crate::output::{Destination, SPEC_VERSION};

/// Reads the record and writes it in another form.
///
/// # Errors
/// A record that cannot be read, or a place that cannot be written.
pub fn run(args: &ExportArgs) -> Result<Exit> {
    let secs = args.min_chapter_secs;
    ensure!(secs.is_finite() && secs >= 0.0, "min-chapter-secs is {secs}; it must be a number of seconds, at least 0");
    let session = Session::read(&args.session)?;
    let out = Some(args.out.as_path()).filter(|out| out.as_os_str() != "-");
    let mut destination = Destination::open(out)?;
    let written = write(&mut destination, args, &session).and_then(|()| destination.commit());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.with_context(|| format!("cannot write {}", shown(&args.out)))?,
    }
    Ok(Exit::Done)
}

fn write(out: &mut dyn Write, args: &ExportArgs, session: &Session) -> io::Result<()> {
    let chapters = || session.chapters(args.min_chapter_secs);
    match args.format {
        ExportFormat::Csv => csv(out, session, &source_name(args, session)),
        ExportFormat::Json => json(out, session, &chapters()),
        ExportFormat::Audacity => audacity(out, session),
        ExportFormat::Cue => cue(out, session, &chapters()),
        ExportFormat::Chapters => metadata(out, &chapters()),
        ExportFormat::Description => description(out, &chapters()),
    }
}

/// The file that rows are about: the recorded sound, or the record itself.
fn source_name(args: &ExportArgs, session: &Session) -> String {
    session.header.audio.clone().unwrap_or_else(|| args.session.to_string_lossy().into_owned())
}

fn csv(out: &mut dyn Write, session: &Session, file: &str) -> io::Result<()> {
    let mut rows = csv::Writer::from_writer(out);
    rows.write_record(["file", "start_s", "end_s", "tag", "confidence"])?;
    for segment in &session.segments {
        let start = format!("{:.3}", segment.start_s);
        let end = format!("{:.3}", segment.end_s);
        let confidence = format!("{:.4}", segment.confidence);
        rows.write_record([file, &start, &end, &segment.tag, &confidence])?;
    }
    rows.flush()
}

fn json(out: &mut dyn Write, session: &Session, chapters: &[Chapter]) -> io::Result<()> {
    let chapters: Vec<_> = chapters
        .iter()
        .map(|chapter| json!({ "start_s": chapter.start_s, "end_s": chapter.end_s, "title": chapter.title }))
        .collect();
    let value = json!({
        "spec_version": SPEC_VERSION,
        "session": session.header,
        "duration_s": session.secs(),
        "complete": session.end.is_some(),
        "segments": session.segments,
        "gaps": session.gaps,
        "chapters": chapters,
        "sources": session.sources,
        "seconds": session.tags,
    });
    serde_json::to_writer(&mut *out, &value)?;
    writeln!(out)
}

fn audacity(out: &mut dyn Write, session: &Session) -> io::Result<()> {
    for segment in &session.segments {
        writeln!(out, "{:.6}\t{:.6}\t{}", segment.start_s, segment.end_s, segment.tag)?;
    }
    for gap in &session.gaps {
        let cause = match gap.cause {
            GapCause::Device => "no device",
            GapCause::Missing => "sound missing",
            GapCause::Overrun => "not kept up with",
        };
        writeln!(out, "{:.6}\t{:.6}\t[{cause}]", gap.start_s, gap.end_s)?;
    }
    Ok(())
}

/// Most tracks that a cue sheet holds.
const MAX_TRACKS: usize = 99;

/// Tracks begin in frames of a compact disc, 75 per second.
fn cue(out: &mut dyn Write, session: &Session, chapters: &[Chapter]) -> io::Result<()> {
    // Quotation marks cannot be escaped in a cue sheet.
    let quoted = |text: &str| text.replace('"', "'");
    let file = session.header.audio.as_deref().unwrap_or("set.flac");
    let name = Path::new(file).file_name().map_or_else(|| file.to_owned(), |name| name.to_string_lossy().into_owned());
    writeln!(out, "REM COMMENT \"{}, {}\"", quoted(&session.header.program), quoted(&session.header.created))?;
    writeln!(out, "FILE \"{}\" WAVE", quoted(&name))?;
    for (index, chapter) in chapters.iter().take(MAX_TRACKS).enumerate() {
        let frames = (chapter.start_s * 75.0).round() as u64;
        writeln!(out, "  TRACK {:02} AUDIO", index + 1)?;
        writeln!(out, "    TITLE \"{}\"", quoted(&chapter.title))?;
        writeln!(out, "    INDEX 01 {:02}:{:02}:{:02}", frames / 75 / 60, frames / 75 % 60, frames % 75)?;
    }
    Ok(())
}

/// ffmpeg's metadata file.
fn metadata(out: &mut dyn Write, chapters: &[Chapter]) -> io::Result<()> {
    writeln!(out, ";FFMETADATA1")?;
    for chapter in chapters {
        let ms = |secs: f64| (secs * 1_000.0).round() as u64;
        let mut title = String::new();
        for character in chapter.title.chars() {
            if ['=', ';', '#', '\\'].contains(&character) {
                title.push('\\');
            }
            title.push(character);
        }
        writeln!(
            out,
            "[CHAPTER]\nTIMEBASE=1/1000\nSTART={}\nEND={}\ntitle={title}",
            ms(chapter.start_s),
            ms(chapter.end_s)
        )?;
    }
    Ok(())
}

/// Time and title, as sites for videos read them: the first at 0:00.
fn description(out: &mut dyn Write, chapters: &[Chapter]) -> io::Result<()> {
    for chapter in chapters {
        // Rounded down: a chapter must not begin after its music.
        writeln!(out, "{} {}", crate::progress::clock(chapter.start_s.floor()), chapter.title)?;
    }
    Ok(())
}
