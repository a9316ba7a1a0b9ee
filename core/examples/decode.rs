//! Writes what Earmark hears: decoded or resampled audio as raw little-endian f32, mono.
//!
//! `decode FILE OUT.f32` decodes to 22,050 Hz; `decode --resample IN.f32 FROM_HZ OUT.f32` resamples raw samples to
//! 22,050 Hz. The comparisons under `tests/peers` read the result.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use earmark_core::SAMPLE_RATE_HZ;
use earmark_core::audio::{AudioStream, resample};

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--resample", input, from_hz, output] => {
            let bytes = std::fs::read(input)?;
            let samples: Vec<f32> =
                bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            let mut out = BufWriter::new(File::create(output)?);
            write_samples(&mut out, &resample(&samples, from_hz.parse()?, SAMPLE_RATE_HZ)?)?;
            out.flush()?;
        }
        [input, output] => {
            let mut stream = AudioStream::open(Path::new(input))?;
            let mut out = BufWriter::new(File::create(output)?);
            while let Some(chunk) = stream.next_chunk()? {
                write_samples(&mut out, chunk)?;
            }
            out.flush()?;
            println!("{} {:.3} s, declared {:?}", stream.decoder(), stream.decoded_secs(), stream.declared_secs());
            for warning in stream.warnings() {
                println!("warning: {warning}");
            }
        }
        _ => return Err("usage: decode FILE OUT.f32 | decode --resample IN.f32 FROM_HZ OUT.f32".into()),
    }
    Ok(())
}

fn write_samples(out: &mut impl Write, samples: &[f32]) -> std::io::Result<()> {
    samples.iter().try_for_each(|sample| out.write_all(&sample.to_le_bytes()))
}
