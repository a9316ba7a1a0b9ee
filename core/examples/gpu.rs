//! Measures inference on a GPU: windows per second, and each block of the network for itself.
//!
//! ```text
//! cargo run --release --example gpu -- [--width 1.0] [--pushes 1,4,16,128] [--seconds 1.0] [--gemm 4096]
//!                                      [--modules] [--software]
//! ```
//!
//! The first table is the engine from samples in memory to logits in memory. A row is a stream that is given so many
//! windows' samples per push, once with windows side by side and once at the default hop with shared activations; one
//! window per push is what live tagging does. `--modules` adds Burn's own operations on the same device.
//!
//! The second table is each block on its own, with 16 windows side by side. Its peak is the backend's own f32 product of
//! square matrices of `--gemm` rows. The bytes are what must move at least (input, weights and output once), and how
//! many times that the workgroups ask for: tiles overlap, and what they ask for twice the caches may answer.
//!
//! A software adapter is refused unless `--software` says that only the program is being tried. The device is the one wgpu
//! prefers; `CUBECL_WGPU_DEFAULT_DEVICE` names another.

use std::{error::Error, time::Instant};

use burn::{
    prelude::*,
    tensor::{Distribution, wgpu::wgpu::DeviceType},
};
use earmark_core::{
    WINDOW_SAMPLES,
    engine::{BurnEngine, Engine, Hop, WindowStream},
    kernels::wgpu::{InferBlock, RowLayout},
    model_file::Model,
    weights::{Architecture, NUM_MODULES},
};

/// Windows in the second table.
const WINDOWS: usize = 16;

struct Options {
    width: f64,
    pushes: Vec<usize>,
    seconds: f64,
    gemm: usize,
    modules: bool,
    software: bool,
}

impl Options {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let mut options =
            Self { width: 1.0, pushes: vec![1, 4, 16, 128], seconds: 1.0, gemm: 4096, modules: false, software: false };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--width" => options.width = value()?.parse()?,
                "--pushes" => options.pushes = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?,
                "--seconds" => options.seconds = value()?.parse()?,
                "--gemm" => options.gemm = value()?.parse()?,
                "--modules" => options.modules = true,
                "--software" => options.software = true,
                other => return Err(format!("unknown option {other}").into()),
            }
        }
        if options.pushes.is_empty() || options.pushes.contains(&0) || options.gemm == 0 {
            return Err("--pushes and --gemm take positive numbers".into());
        }
        Ok(options)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse()?;
    let (device, setup) = Device::wgpu_options().init_with_setup()?;
    let info = setup.adapter.get_info();
    if info.device_type == DeviceType::Cpu && !options.software {
        return Err(format!(
            "{} is a software adapter: its speed says nothing of a GPU; --software tries the program anyway",
            info.name
        )
        .into());
    }
    let name =
        format!("{} ({:?}, {:?}, {} {})", info.name, info.device_type, info.backend, info.driver, info.driver_info);
    println!("{name}");

    let architecture = Architecture::scaled(options.width, 3, Some(512), 50);
    architecture.validate()?;
    let model = Model::random(architecture.clone(), 0);
    let kernels = BurnEngine::on(&model, device.clone(), name.clone())?;
    let modules = if options.modules { Some(BurnEngine::modules_on(&model, device.clone(), name)?) } else { None };
    let [plain, sliding, live_ms] = engines(&kernels, modules.as_ref(), &options)?;

    let peak = gemm_rate(&device, options.gemm, options.seconds)?;
    println!("\nf32 matrix product {0} x {0} x {0}: {peak:.0} GFLOP/s", options.gemm);
    let (gflops, bytes_ratio) = blocks(&architecture, &device, peak, options.seconds)?;
    println!(
        "RESULT gpu plain_windows_per_s={plain:.1} sliding_windows_per_s={sliding:.1} live_ms={live_ms:.3} \
         gemm_gflops={peak:.0} block_gflops={gflops:.0} peak_share={:.3} bytes_ratio={bytes_ratio:.1}",
        gflops / peak
    );
    Ok(())
}

/// Prints the first table; returns the best rate side by side and at the default hop, and the milliseconds between a
/// single window's last sample and its result.
fn engines(kernels: &BurnEngine, modules: Option<&BurnEngine>, options: &Options) -> Result<[f64; 3], Box<dyn Error>> {
    println!("\n{:>17} | {:>33}", "", "windows/s");
    println!("{:>17} | {:>12} {:>20} {:>12}", "windows per push", "side by side", "hop 6,561 (speed-up)", "modules");
    let (mut best_plain, mut best_sliding, mut live_ms) = (0.0_f64, 0.0_f64, f64::NAN);
    for &windows in &options.pushes {
        let plain = rate(&mut *kernels.plain_stream(Hop::NON_OVERLAPPING), Hop::NON_OVERLAPPING, windows, options)?;
        let sliding = rate(&mut *kernels.stream(Hop::DEFAULT), Hop::DEFAULT, windows, options)?;
        let modules = match modules {
            Some(engine) => {
                let mut stream = engine.plain_stream(Hop::NON_OVERLAPPING);
                format!("{:.1}", rate(&mut *stream, Hop::NON_OVERLAPPING, windows, options)?)
            }
            None => "-".into(),
        };
        println!("{windows:>17} | {plain:>12.1} {sliding:>12.1} ({:>4.1}x) {modules:>12}", sliding / plain);
        (best_plain, best_sliding) = (best_plain.max(plain), best_sliding.max(sliding));
        if windows == 1 {
            live_ms = 1e3 / sliding;
        }
    }
    Ok([best_plain, best_sliding, live_ms])
}

/// Windows per second of a stream that is given `windows` hops of samples per push.
fn rate(stream: &mut dyn WindowStream, hop: Hop, windows: usize, options: &Options) -> Result<f64, Box<dyn Error>> {
    let mut state = 1_u32;
    let mut noise = |len: usize| -> Vec<f32> {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..len).map(|_| next()).collect()
    };
    let samples = noise(windows * hop.samples());
    let mut results = 0;
    stream.push(&noise(WINDOW_SAMPLES), &mut |_| {})?;
    let seconds = fastest(options.seconds, || {
        results = 0;
        stream.push(&samples, &mut |_| results += 1)?;
        Ok(())
    })?;
    if results != windows {
        return Err(format!("{results} results of {windows} windows").into());
    }
    Ok(windows as f64 / seconds)
}

/// Seconds of the fastest of the calls that fit into `seconds`, at least two; the first, which compiles, does not count.
fn fastest(seconds: f64, mut body: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    body()?;
    let (begin, mut best, mut calls) = (Instant::now(), f64::INFINITY, 0);
    while calls < 2 || begin.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        body()?;
        best = best.min(start.elapsed().as_secs_f64());
        calls += 1;
    }
    Ok(best)
}

/// Seconds of one call of `body`, which enqueues work on the device: the device is given several at once, so that it
/// never waits for us.
fn device_seconds(device: &Device, seconds: f64, mut body: impl FnMut() -> Tensor<2>) -> Result<f64, Box<dyn Error>> {
    let mut time = |count: usize, seconds| {
        fastest(seconds, || {
            let _outputs: Vec<_> = (0..count).map(|_| body()).collect();
            Ok(device.sync()?)
        })
    };
    let once = time(1, 0.0)?;
    let count = ((seconds / 4.0 / once) as usize).clamp(1, 16);
    Ok(time(count, seconds)? / count as f64)
}

/// GFLOP/s of the backend's own f32 matrix product.
fn gemm_rate(device: &Device, size: usize, seconds: f64) -> Result<f64, Box<dyn Error>> {
    let [a, b] = [(); 2].map(|()| Tensor::<2>::random([size, size], Distribution::Default, device));
    let seconds = device_seconds(device, seconds, || a.clone().matmul(b.clone()))?;
    Ok(2e-9 * (size as f64).powi(3) / seconds)
}

/// Prints the second table; returns GFLOP/s over all blocks, and the bytes asked for over the least possible.
fn blocks(architecture: &Architecture, device: &Device, peak: f64, seconds: f64) -> Result<(f64, f64), Box<dyn Error>> {
    println!("\n{WINDOWS} windows side by side; module 2 computes module 1 on the way in");
    println!(
        "{:>6} {:>12} {:>7} | {:>9} {:>9} {:>5} | {:>9} {:>9} {:>7}",
        "module", "channels", "length", "ms", "GFLOP/s", "peak", "least MB", "least GB/s", "asked"
    );
    let (mut total_seconds, mut total_flop, mut total_least, mut total_asked) = (0.0, 0.0, 0.0, 0.0);
    for index in 1..NUM_MODULES - 1 {
        let (inputs, outputs, _) = architecture.conv_shape(index);
        let len = WINDOW_SAMPLES / 3_usize.pow(index as u32);
        let random = |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Normal(0.0, 0.1), device);
        let block = InferBlock {
            weight: random([3 * inputs, outputs]).reshape([3, inputs, outputs]),
            bias: Tensor::zeros([outputs], device),
            first: (index == 1).then(|| random([4, inputs])),
        };
        let (rows, width) = (WINDOWS * len, if index == 1 { 3 } else { inputs });
        let input = random([rows.next_multiple_of(4), width]);
        let layout = RowLayout::side_by_side(WINDOWS, len);
        let seconds = device_seconds(device, seconds / 4.0, || block.forward(input.clone(), layout))?;

        let mut flop = 2.0 * (rows * 3 * inputs * outputs) as f64;
        if index == 1 {
            flop += 2.0 * (rows * 3 * inputs) as f64;
        }
        let pools = layout.output_rows();
        let (weights, output) = (3 * inputs * outputs, pools * outputs);
        let least = 4.0 * (rows * width + weights + output) as f64;
        // Each workgroup reads five rows for each of its 64 pools, and the weights of its 64 channels; samples again for
        // every 8 channels that it makes of them.
        let row = if index == 1 { 3 * inputs.div_ceil(8) } else { inputs };
        let asked = 4.0 * (outputs.div_ceil(64) * 5 * pools * row + pools.div_ceil(64) * weights + output) as f64;
        println!(
            "{:>6} {inputs:>4} -> {outputs:>4} {len:>7} | {:>9.3} {:>9.0} {:>4.0}% | {:>9.2} {:>9.1} {:>6.1}x",
            index + 1,
            seconds * 1e3,
            flop / seconds / 1e9,
            100.0 * flop / seconds / 1e9 / peak,
            least / 1e6,
            least / seconds / 1e9,
            asked / least
        );
        total_seconds += seconds;
        total_flop += flop;
        total_least += least;
        total_asked += asked;
    }
    let gflops = total_flop / total_seconds / 1e9;
    println!(
        "{:>27} | {:>9.3} {gflops:>9.0} {:>4.0}% | {:>9.2} {:>9.1} {:>6.1}x",
        "all",
        total_seconds * 1e3,
        100.0 * gflops / peak,
        total_least / 1e6,
        total_least / total_seconds / 1e9,
        total_asked / total_least
    );
    Ok((gflops, total_asked / total_least))
}
