//! Measures training on a GPU: every convolution and both its gradients, on the WGSL kernel and on the backend's own;
//! whole training steps with either; mixing.
//!
//! ```text
//! cargo run --release --example gpu_train -- [--batch 48] [--width 1.0] [--last-kernel 1] [--seconds 0.5] [--gemm 4096]
//!                                            [--software]
//! ```
//!
//! The peak is the backend's own f32 product of square matrices of `--gemm` rows. The least bytes are those of the three
//! tensors of a pass, once each; the kernel's workgroups ask for so many times that, and what they ask for twice the
//! caches may answer. Below the table stand the lines for `MEASURED_FASTER` in `core/src/kernels/wgpu/conv.rs`: the layers
//! where the kernel wins a pass by more than 5 %. The step of forward, backward and Adam is then measured with the
//! backend's convolutions, with the kernel's, and with the faster of each pass.
//!
//! A software adapter is refused unless `--software` says that only the program is being tried. The device is the one wgpu
//! prefers; `CUBECL_WGPU_DEFAULT_DEVICE` names another.

use std::{error::Error, time::Instant};

use burn::{
    optim::{AdamConfig, GradientsParams},
    prelude::*,
    tensor::{Distribution, activation::log_sigmoid, wgpu::wgpu::DeviceType},
};
use earmark_core::{
    WINDOW_SAMPLES,
    kernels::{
        mix_snr,
        wgpu::{ConvChoice, ConvShape, conv, conv_input_grad, conv_weight_grad},
    },
    model::Tagger,
    weights::{Architecture, NUM_MODULES},
};

/// Noises per window in the measurement of mixing.
const NUM_NOISES: usize = 4;

/// Calls enqueued at once; their results take memory.
const MAX_QUEUED: usize = 4;

/// How much faster the kernel must be to be proposed.
const MARGIN: f64 = 1.05;

struct Options {
    batch: usize,
    width: f64,
    last_kernel: usize,
    seconds: f64,
    gemm: usize,
    software: bool,
}

impl Options {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let mut options = Self { batch: 48, width: 1.0, last_kernel: 1, seconds: 0.5, gemm: 4096, software: false };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--batch" => options.batch = value()?.parse()?,
                "--width" => options.width = value()?.parse()?,
                "--last-kernel" => options.last_kernel = value()?.parse()?,
                "--seconds" => options.seconds = value()?.parse()?,
                "--gemm" => options.gemm = value()?.parse()?,
                "--software" => options.software = true,
                other => return Err(format!("unknown option {other}").into()),
            }
        }
        if options.batch < 2 || options.gemm == 0 {
            return Err("--batch must be at least 2 (batch norm measures over it) and --gemm positive".into());
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
    println!("{} ({:?}, {:?}, {} {})", info.name, info.device_type, info.backend, info.driver, info.driver_info);
    let architecture = Architecture::scaled(options.width, options.last_kernel, None, 50);
    architecture.validate()?;

    let peak = gemm_gflops(&device, &options)?;
    println!("f32 matrix product {0} x {0} x {0}: {peak:.0} GFLOP/s\n", options.gemm);
    let layers = measure_layers(&architecture, &device, peak, &options)?;

    println!();
    let faster: Vec<_> = layers.proposals().collect();
    if faster.is_empty() {
        println!("the kernel wins no pass of any layer");
    }
    for (shape, choice) in &faster {
        println!("    ({shape:?}, {choice:?}),");
    }
    let best = |shape: &ConvShape| {
        faster.iter().find(|(layer, _)| layer == shape).map_or(ConvChoice::BACKEND, |&(_, choice)| choice)
    };
    let backend = training_rate(&architecture, &device, &options, |_| ConvChoice::BACKEND)?;
    let kernel = training_rate(&architecture, &device, &options, |_| ConvChoice::KERNEL)?;
    let best = training_rate(&architecture, &device, &options, best)?;
    let mixing = mixing_rate(&device, &options)?;
    println!("\ntraining, windows/s: backend {backend:.1}, kernel {kernel:.1}, the faster of each pass {best:.1}");
    println!("mixing with {NUM_NOISES} noises, windows/s: {mixing:.0}");
    println!(
        "RESULT gpu-train backend_windows_per_s={backend:.1} kernel_windows_per_s={kernel:.1} \
         best_windows_per_s={best:.1} mix_windows_per_s={mixing:.0} gemm_gflops={peak:.0} kernel_gflops={:.0} \
         backend_gflops={:.0} kernel_peak_share={:.3}",
        layers.gflops(Measured::kernel),
        layers.gflops(Measured::backend),
        layers.gflops(Measured::kernel) / peak,
    );
    Ok(())
}

/// One pass of one layer.
struct Measured {
    layer: ConvShape,
    pass: ConvChoice,
    kernel_seconds: f64,
    backend_seconds: f64,
}

impl Measured {
    fn kernel(&self) -> f64 {
        self.kernel_seconds
    }

    fn backend(&self) -> f64 {
        self.backend_seconds
    }
}

struct Layers(Vec<Measured>);

impl Layers {
    /// GFLOP/s over all passes of all layers.
    fn gflops(&self, seconds: impl Fn(&Measured) -> f64) -> f64 {
        let flop: f64 = self.0.iter().map(|measured| measured.layer.flop()).sum();
        flop / self.0.iter().map(seconds).sum::<f64>() / 1e9
    }

    /// Layers where the kernel is faster in some pass.
    fn proposals(&self) -> impl Iterator<Item = (ConvShape, ConvChoice)> {
        self.0.chunk_by(|a, b| a.layer == b.layer).filter_map(|passes| {
            let wins =
                || passes.iter().filter(|pass| pass.kernel_seconds * MARGIN < pass.backend_seconds).map(|win| win.pass);
            let choice = ConvChoice {
                forward: wins().any(|pass| pass.forward),
                input_grad: wins().any(|pass| pass.input_grad),
                weight_grad: wins().any(|pass| pass.weight_grad),
            };
            (choice != ConvChoice::BACKEND).then_some((passes[0].layer, choice))
        })
    }
}

/// Prints and returns every pass of every layer; of module 1 the input's gradient is not needed.
fn measure_layers(
    architecture: &Architecture,
    device: &Device,
    peak: f64,
    options: &Options,
) -> Result<Layers, Box<dyn Error>> {
    println!("batch {}", options.batch);
    println!(
        "{:>6} {:>12} {:>7} {:>15} | {:^24} | {:^24} |",
        "module", "channels", "length", "pass", "kernel", "backend"
    );
    println!(
        "{:>43} | {:>9} {:>8} {:>5} | {:>9} {:>8} {:>5} | {:>6} | {:>9} {:>6}",
        "", "ms", "GFLOP/s", "peak", "ms", "GFLOP/s", "peak", "ratio", "least MB", "asked"
    );
    let mut layers = Vec::new();
    for index in 0..NUM_MODULES {
        let (in_channels, out_channels, kernel) = architecture.conv_shape(index);
        let (stride, padding) = if index == 0 { (3, 0) } else { (1, kernel / 2) };
        let len_in = WINDOW_SAMPLES / 3_usize.pow(index as u32);
        let layer = ConvShape { batch: options.batch, in_channels, out_channels, len_in, kernel, stride, padding };
        let random = |shape| Tensor::<3>::random(shape, Distribution::Normal(0.0, 0.1), device);
        let (input, weight, output_grad) = (random(layer.input()), random(layer.weight()), random(layer.output()));
        let bias = Tensor::<1>::zeros([out_channels], device);

        let forward = |choice| conv(input.clone(), weight.clone(), bias.clone(), layer, choice);
        let input_grad = |choice| conv_input_grad(weight.clone(), output_grad.clone(), layer, choice);
        let weight_grad = |choice| conv_weight_grad(input.clone(), output_grad.clone(), layer, choice);
        let none = ConvChoice::BACKEND;
        let passes: [(_, _, &dyn Fn(ConvChoice) -> Tensor<3>); 3] = [
            ("forward", ConvChoice { forward: true, ..none }, &forward),
            ("input gradient", ConvChoice { input_grad: true, ..none }, &input_grad),
            ("weight gradient", ConvChoice { weight_grad: true, ..none }, &weight_grad),
        ];
        for (name, pass, run) in passes {
            if index == 0 && pass.input_grad {
                continue;
            }
            let kernel_seconds = device_seconds(device, options.seconds, || run(ConvChoice::KERNEL))?;
            let backend_seconds = device_seconds(device, options.seconds, || run(ConvChoice::BACKEND))?;
            let cell = |seconds: f64| {
                let gflops = layer.flop() / seconds / 1e9;
                format!("{:>9.3} {gflops:>8.0} {:>4.0}%", seconds * 1e3, 100.0 * gflops / peak)
            };
            let (least, asked) = bytes(&layer, pass);
            println!(
                "{:>6} {in_channels:>4} -> {out_channels:>4} {len_in:>7} {name:>15} | {} | {} | {:>5.2}x | {:>9.2} {:>5.1}x",
                index + 1,
                cell(kernel_seconds),
                cell(backend_seconds),
                backend_seconds / kernel_seconds,
                least / 1e6,
                asked / least
            );
            layers.push(Measured { layer, pass, kernel_seconds, backend_seconds });
        }
    }
    Ok(Layers(layers))
}

/// The fewest bytes that a pass can move, and those that the kernel's workgroups ask for.
fn bytes(layer: &ConvShape, pass: ConvChoice) -> (f64, f64) {
    let count = |shape: [usize; 3]| shape.iter().product::<usize>();
    let (inputs, weights, outputs) = (count(layer.input()), count(layer.weight()), count(layer.output()));
    let (positions_in, positions_out) = (inputs / layer.in_channels, outputs / layer.out_channels);
    let (in_taps, out_taps) = (layer.in_channels * layer.kernel, layer.out_channels * layer.kernel);
    let [rows, depth, columns] = if pass.forward {
        [layer.out_channels, in_taps, positions_out]
    } else if pass.input_grad {
        [layer.in_channels, out_taps, positions_in]
    } else {
        [layer.out_channels, positions_out, in_taps]
    };
    // A workgroup reads, for every step of the depth, one value per row and per column of its 64 x 128 results.
    let asked = depth * (rows * columns.div_ceil(128) + columns * rows.div_ceil(64)) + rows * columns;
    (4.0 * (inputs + weights + outputs) as f64, 4.0 * asked as f64)
}

/// Windows per second of whole training steps: forward, backward and Adam.
fn training_rate(
    architecture: &Architecture,
    device: &Device,
    options: &Options,
    choose: impl Fn(&ConvShape) -> ConvChoice,
) -> Result<f64, Box<dyn Error>> {
    let device = device.clone().autodiff();
    device.seed(0);
    let windows = Tensor::<2>::random([options.batch, WINDOW_SAMPLES], Distribution::Normal(0.0, 0.1), &device);
    let targets = Tensor::<2>::random([options.batch, 50], Distribution::Bernoulli(0.1), &device);
    let mut tagger = Tagger::new(architecture, &device);
    let mut optimizer = AdamConfig::new().with_epsilon(1e-8).init();
    let seconds = fastest(options.seconds, || {
        let embedding = tagger.feature_extractor.forward_choosing(windows.clone(), &choose);
        let logits = tagger.label_predictor.forward(embedding);
        let positive = log_sigmoid(logits.clone()) * targets.clone();
        let negative = log_sigmoid(logits.neg()) * (targets.clone().neg() + 1.0);
        let grads = GradientsParams::from_grads((positive + negative).mean().neg().backward(), &tagger);
        tagger = optimizer.step(3e-4, tagger.clone(), grads);
        Ok(device.sync()?)
    })?;
    Ok(options.batch as f64 / seconds)
}

/// Windows per second of [`mix_snr`].
fn mixing_rate(device: &Device, options: &Options) -> Result<f64, Box<dyn Error>> {
    let normal = Distribution::Normal(0.0, 0.1);
    let clean = Tensor::<2>::random([options.batch, WINDOW_SAMPLES], normal, device);
    let noises = Tensor::<3>::random([options.batch, NUM_NOISES, WINDOW_SAMPLES], normal, device);
    let snr_db = Tensor::<1>::zeros([options.batch], device);
    let mix = || mix_snr(clean.clone(), noises.clone(), snr_db.clone());
    Ok(options.batch as f64 / device_seconds(device, options.seconds, mix)?)
}

/// GFLOP/s of the backend's own f32 matrix product.
fn gemm_gflops(device: &Device, options: &Options) -> Result<f64, Box<dyn Error>> {
    let [a, b] = [(); 2].map(|()| Tensor::<2>::random([options.gemm; 2], Distribution::Default, device));
    let seconds = device_seconds(device, options.seconds, || a.clone().matmul(b.clone()))?;
    Ok(2e-9 * (options.gemm as f64).powi(3) / seconds)
}

/// Seconds of one call of `body`, which enqueues work on the device: the device is given several at once, so that it
/// never waits for us.
fn device_seconds<const D: usize>(
    device: &Device,
    seconds: f64,
    body: impl Fn() -> Tensor<D>,
) -> Result<f64, Box<dyn Error>> {
    let time = |count: usize, seconds| {
        fastest(seconds, || {
            let _outputs: Vec<_> = (0..count).map(|_| body()).collect();
            Ok(device.sync()?)
        })
    };
    let once = time(1, 0.0)?;
    let count = ((seconds / 4.0 / once) as usize).clamp(1, MAX_QUEUED);
    Ok(time(count, seconds)? / count as f64)
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
