//! A small kernel that an adapter must compute right before it is used. Drivers exist that offer compute shaders and
//! then lose the device, answer nothing, or write nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use wgpu::util::{BufferInitDescriptor, DeviceExt};

/// Text of the kernel.
const TEXT: &str = include_str!("../../shaders/device/probe.wgsl");

/// Elements of a row: the workgroup's invocations.
const WIDTH: usize = 64;

/// Workgroups.
const GROUPS: usize = 16;

/// How long the answer may take. It takes a millisecond; a software adapter on a busy machine may need seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether a kernel is being tried. A panic is then one that is caught here.
static RUNNING: AtomicBool = AtomicBool::new(false);

/// Whether a panic is one of an adapter that is being tried, and that is passed over then.
#[cfg(feature = "cli")]
pub(crate) fn is_running() -> bool {
    RUNNING.load(Ordering::Relaxed)
}

/// Runs the kernel; the error says what went wrong.
pub(super) fn run(device: &wgpu::Device, queue: &wgpu::Queue) -> Result<(), String> {
    RUNNING.store(true, Ordering::Relaxed);
    // wgpu panics where a device is lost while it is waited for.
    let outcome = catch_unwind(AssertUnwindSafe(|| try_kernel(device, queue)));
    RUNNING.store(false, Ordering::Relaxed);
    outcome.unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map_or("a panic", String::as_str);
        Err(format!("its driver fails at a compute shader ({message})"))
    })
}

fn try_kernel(device: &wgpu::Device, queue: &wgpu::Queue) -> Result<(), String> {
    let filters = [
        wgpu::ErrorFilter::Validation,
        wgpu::ErrorFilter::Internal,
        wgpu::ErrorFilter::OutOfMemory,
    ];
    let scopes = filters.map(|filter| device.push_error_scope(filter));
    let [x, w] = operands();
    let answer = submit(device, queue, &x, &w);
    // All are closed, the one that was opened last first, whatever they hold.
    let errors = scopes.into_iter().rev().filter_map(|scope| pollster::block_on(scope.pop()));
    if let Some(error) = errors.collect::<Vec<_>>().first() {
        return Err(format!("it cannot run a compute shader ({error})"));
    }

    let wait = wgpu::PollType::Wait { submission_index: None, timeout: Some(PATIENCE) };
    device.poll(wait).map_err(|error| format!("a compute shader does not end ({error})"))?;
    let (buffer, mapped) = answer;
    match mapped.try_recv() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(format!("a compute shader ends without a result ({error})")),
        Err(_) => return Err("a compute shader ends without a result".into()),
    }
    let view = buffer.slice(..).get_mapped_range().map_err(|error| error.to_string())?;
    let y: Vec<f32> = bytemuck::pod_collect_to_vec(&view);
    let expected = product(&x, &w);
    let wrong = y.iter().zip(&expected).filter(|(got, expected)| got != expected).count();
    if wrong == 0 && y.len() == expected.len() {
        return Ok(());
    }
    Err(format!("a compute shader gives {wrong} wrong numbers of {}", expected.len()))
}

/// Whole numbers, so small that every sum of products is exact in f32: at most 64 · 63 · 31.
fn operands() -> [Vec<f32>; 2] {
    let numbers = |count: usize, factor: usize, below: usize| {
        (0..count).map(|at| (at * factor % below) as f32).collect()
    };
    [numbers(GROUPS * WIDTH, 37, 64), numbers(WIDTH * WIDTH, 29, 32)]
}

/// What the kernel must give.
fn product(x: &[f32], w: &[f32]) -> Vec<f32> {
    let rows = x.chunks_exact(WIDTH);
    rows.flat_map(|row| (0..WIDTH).map(|i| (0..WIDTH).map(|k| row[k] * w[k * WIDTH + i]).sum()))
        .collect()
}

/// A buffer that will hold the result, and the message that it does.
type Answer = (wgpu::Buffer, mpsc::Receiver<Result<(), wgpu::BufferAsyncError>>);

fn submit(device: &wgpu::Device, queue: &wgpu::Queue, x: &[f32], w: &[f32]) -> Answer {
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some("probe"),
        source: wgpu::ShaderSource::Wgsl(TEXT.into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some("probe"),
        layout: None,
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    let filled = |numbers: &[f32]| {
        device.create_buffer_init(&BufferInitDescriptor {
            label: Some("probe"),
            contents: bytemuck::cast_slice(numbers),
            usage: wgpu::BufferUsages::STORAGE,
        })
    };
    let empty = |usage: wgpu::BufferUsages| {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("probe"),
            size: size_of_val(x) as u64,
            usage,
            mapped_at_creation: false,
        })
    };
    let y = empty(wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC);
    let result = empty(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
    let (x, w) = (filled(x), filled(w));
    let buffers = [&x, &w, &y];
    let entries: [_; 3] = std::array::from_fn(|binding| wgpu::BindGroupEntry {
        binding: binding as u32,
        resource: buffers[binding].as_entire_binding(),
    });
    let bindings = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some("probe"),
        layout: &pipeline.get_bind_group_layout(0),
        entries: &entries,
    });
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    pass.set_pipeline(&pipeline);
    pass.set_bind_group(0, &bindings, &[]);
    pass.dispatch_workgroups(GROUPS as u32, 1, 1);
    drop(pass);
    encoder.copy_buffer_to_buffer(&y, 0, &result, 0, None);
    queue.submit([encoder.finish()]);
    let (sender, mapped) = mpsc::channel();
    result.map_async(wgpu::MapMode::Read, .., move |outcome| {
        let _ = sender.send(outcome);
    });
    (result, mapped)
}
