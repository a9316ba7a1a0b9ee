//! `earmark devices`: what `--device` can name, and whether it computes what it should.

use std::fmt::Write as _;
use std::thread;

use anyhow::Result;
use earmark_core::engine::adapters::{self, Adapter};
use earmark_core::engine::{CpuEngine, Engine, Hop, TestedGpu, self_test};
use earmark_core::model_file::Model;
use serde::Serialize;

use super::Exit;
use crate::args::DevicesArgs;
use crate::output::SPEC_VERSION;

/// The whole answer.
#[derive(Debug, Serialize)]
struct Listing {
    spec_version: &'static str,
    devices: Vec<Row>,
    /// A graphics driver failed while it was asked for adapters.
    #[serde(skip_serializing_if = "Option::is_none")]
    driver_failure: Option<&'static str>,
}

/// One device, as a row of the table.
#[derive(Debug, Serialize)]
struct Row {
    /// What `--device` takes.
    device: String,
    name: String,
    /// `cpu`, `discrete GPU`, ...
    kind: String,
    graphics_api: Option<String>,
    driver: Option<String>,
    usable: bool,
    /// Why it is not usable.
    reason: Option<String>,
    /// Largest difference of a logit from the CPU engine's in the self-test.
    max_logit_difference: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    windows_per_s: Option<f64>,
    /// Its speed over the CPU engine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio_to_cpu: Option<f64>,
}

/// Lists and tests the devices of this machine.
///
/// # Errors
/// If the model cannot be read or the list cannot be written. A device that fails is in the list.
pub fn run(args: &DevicesArgs) -> Result<Exit> {
    let model = super::load_model(args.model.as_deref())?;
    let cpu = CpuEngine::new(&model, thread::available_parallelism().map_or(1, usize::from))?;
    let cpu_speed = args.bench.then(|| self_test::windows_per_sec(&cpu, Hop::DEFAULT)).transpose()?;
    let mut devices = vec![Row {
        device: "cpu".to_owned(),
        name: cpu.device().trim_start_matches("cpu (").trim_end_matches(')').to_owned(),
        kind: "cpu".to_owned(),
        graphics_api: None,
        driver: None,
        usable: true,
        reason: None,
        max_logit_difference: Some(0.0),
        windows_per_s: cpu_speed,
        ratio_to_cpu: cpu_speed.map(|_| 1.0),
    }];
    let listed = adapters::list();
    for adapter in listed.unwrap_or_default() {
        let mut row = Row::new(adapter);
        row.reason = row.test(adapter, &model, &cpu, cpu_speed).err();
        row.usable = row.reason.is_none();
        devices.push(row);
    }
    let listing = Listing { spec_version: SPEC_VERSION, devices, driver_failure: listed.err() };
    let text = if args.json { serde_json::to_string_pretty(&listing)? + "\n" } else { listing.text() };
    super::print(text.as_bytes())?;
    Ok(Exit::Done)
}

impl Row {
    /// What an adapter says of itself.
    fn new(adapter: &Adapter) -> Self {
        Self {
            device: format!("wgpu:{}", adapter.index()),
            name: adapter.name().to_owned(),
            kind: adapter.kind().to_string(),
            graphics_api: Some(adapter.graphics_api()),
            driver: Some(adapter.driver()),
            usable: false,
            reason: None,
            max_logit_difference: None,
            windows_per_s: None,
            ratio_to_cpu: None,
        }
    }

    /// Runs the self-test and, where there is a speed to compare with, measures.
    ///
    /// # Errors
    /// Why the adapter is not used.
    fn test(
        &mut self,
        adapter: &Adapter,
        model: &Model,
        cpu: &CpuEngine,
        cpu_speed: Option<f64>,
    ) -> Result<(), String> {
        adapter.is_usable()?;
        let gpu = TestedGpu::new(model, adapter, cpu)?;
        self.max_logit_difference = Some(gpu.max_logit_difference);
        if let Some(cpu_speed) = cpu_speed {
            let speed = self_test::windows_per_sec(&gpu.engine, Hop::DEFAULT).map_err(|error| error.to_string())?;
            (self.windows_per_s, self.ratio_to_cpu) = (Some(speed), Some(speed / cpu_speed));
        }
        Ok(())
    }

    fn what(&self) -> String {
        match &self.graphics_api {
            Some(api) => format!("{} ({}, {api})", self.name, self.kind),
            None => self.name.clone(),
        }
    }

    fn verdict(&self) -> String {
        let mut text = match (&self.reason, self.max_logit_difference) {
            (Some(reason), _) => return format!("not used: {reason}"),
            (None, Some(difference)) if self.graphics_api.is_some() => {
                format!("self-test passed (largest difference {difference:.1e})")
            }
            (None, _) => "always there".to_owned(),
        };
        if let (Some(speed), Some(ratio)) = (self.windows_per_s, self.ratio_to_cpu) {
            let _ = write!(text, ", {speed:.0} windows/s, {ratio:.2} x cpu");
        }
        text
    }
}

impl Listing {
    fn text(&self) -> String {
        let rows: Vec<[String; 3]> = self.devices.iter().map(|d| [d.device.clone(), d.what(), d.verdict()]).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (device_width, what_width) = (width(0), width(1));
        let mut text = String::new();
        for [device, what, verdict] in &rows {
            let _ = writeln!(text, "{device:device_width$}  {what:what_width$}  {verdict}");
        }
        if let Some(failure) = self.driver_failure {
            let _ = writeln!(text, "A graphics driver failed while it was asked for adapters: {failure}");
        } else if self.devices.len() == 1 {
            text += "No graphics adapter was found (Vulkan, Metal or Direct3D 12).\n";
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(device: &str, graphics_api: Option<&str>) -> Row {
        Row {
            device: device.to_owned(),
            name: "A card".to_owned(),
            kind: "discrete GPU".to_owned(),
            graphics_api: graphics_api.map(str::to_owned),
            driver: None,
            usable: true,
            reason: None,
            max_logit_difference: Some(2e-6),
            windows_per_s: None,
            ratio_to_cpu: None,
        }
    }

    #[test]
    fn the_table_says_what_is_used_and_why_not() {
        let cpu = device("cpu", None);
        let fast = Row { windows_per_s: Some(400.0), ratio_to_cpu: Some(2.5), ..device("wgpu:0", Some("Vulkan")) };
        let wrong = Row { reason: Some("it is wrong".to_owned()), ..device("wgpu:1", Some("Metal")) };
        let listing = Listing { spec_version: SPEC_VERSION, devices: vec![cpu, fast, wrong], driver_failure: None };
        let text = listing.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[0], "cpu     A card                         always there");
        assert!(lines[1].starts_with("wgpu:0  A card (discrete GPU, Vulkan)  self-test passed"), "{text}");
        assert!(lines[1].ends_with("(largest difference 2.0e-6), 400 windows/s, 2.50 x cpu"), "{text}");
        assert_eq!(lines[2], "wgpu:1  A card (discrete GPU, Metal)   not used: it is wrong");
    }

    #[test]
    fn no_adapter_and_a_broken_driver_are_said() {
        let alone =
            |driver_failure| Listing { spec_version: SPEC_VERSION, devices: vec![device("cpu", None)], driver_failure };
        assert!(alone(None).text().contains("No graphics adapter"));
        assert!(alone(Some("no entry point")).text().ends_with("adapters: no entry point\n"));
    }
}
