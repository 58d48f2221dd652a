//! What the compiler of a hardware GPU makes of the kernels, where there is no such GPU: registers that do not
//! suffice, or loops that load more than they compute, make a kernel many times as slow and change no number.
//!
//! RADV, Mesa's Vulkan driver for AMD, compiles for the chip that `RADV_FORCE_FAMILY` names, there or not, and
//! reports on the outcome through `VK_KHR_pipeline_executable_properties`. It reads the variable once in the life
//! of a process, so this executable runs itself again for each chip. To see the tables:
//! `cargo test --test suite compilers -- --nocapture`.

use std::collections::{BTreeMap, HashMap};
use std::env;
use std::ffi::CStr;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ash::khr::pipeline_executable_properties as reports;
use ash::vk::{self, PipelineCreateFlags as Flags, PipelineExecutableInfoKHR as Executable};
use naga::back::spv;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use tnet_gpu::op::gpu::shader::{Kernel, Shader};

use crate::common::executable::{stderr, stdout};
use crate::common::required;

/// Chips of two generations, RDNA 2 and RDNA 3; a chip has the names that versions of Mesa gave it.
const CHIPS: [&[&str]; 2] = [&["navi21"], &["gfx1100", "navi31"]];

/// What RADV counts, and the most that a kernel may have of it. With more registers too few waves are resident to
/// hide the latency of memory; WebGPU grants 16 KiB of workgroup memory.
const STATISTICS: [(&str, u64); 8] = [
    ("VGPRs", 128),
    ("SGPRs", u64::MAX),
    ("Spilled VGPRs", 0),
    ("Spilled SGPRs", 0),
    ("Scratch size", 0),
    ("LDS size", 16 << 10),
    ("Code size", u64::MAX),
    ("Subgroups per SIMD", u64::MAX),
];

/// The kernels whose loops must compute more than they load.
const DENSE_LOOPS: &[&str] =
    &["gpu/contract.wgsl", "gpu/grads_whole.wgsl", "gpu/grads.wgsl", "gpu/matmul.wgsl"];

/// The fewest multiply-adds per load from a buffer in such a loop.
const DENSE: usize = 6;

/// A kernel as a hardware GPU gets it.
struct Source {
    name: String,
    text: String,
    workgroup_size: u32,
    /// Whether naga bounds its loops.
    bounded: bool,
    /// Whether it has [`DENSE_LOOPS`].
    dense: bool,
}

/// Every kernel that a hardware GPU may get, in each variant in which it differs.
fn kernels() -> Vec<Source> {
    let mut kernels: Vec<Source> = Vec::new();
    for &shader in Shader::ALL {
        let facts = shader.facts();
        if facts.file.starts_with("software/") {
            continue;
        }
        let plain = Kernel { shader, wide: false, long: false, large: false };
        let variants = [
            ("", plain),
            (", wide", Kernel { wide: true, ..plain }),
            (", large", Kernel { large: true, ..plain }),
        ];
        for (variant, kernel) in variants {
            let text = kernel.text();
            if kernels.iter().any(|known| known.text == text) {
                continue;
            }
            kernels.push(Source {
                name: format!("{}{variant}", facts.file),
                text,
                workgroup_size: facts.workgroup_size,
                // As the program compiles them.
                bounded: false,
                dense: DENSE_LOOPS.contains(&facts.file),
            });
        }
    }
    kernels
}

#[test]
fn kernels_fit_the_registers_of_hardware_gpus() {
    for file in DENSE_LOOPS {
        let known = Shader::ALL.iter().any(|shader| shader.facts().file == *file);
        assert!(known, "{file}: there is no such kernel");
    }
    let driver = match driver_file() {
        Ok(driver) => driver,
        Err(missing) if required("TNET_REQUIRE_ADAPTER") => panic!("{missing}"),
        Err(missing) => return eprintln!("SKIPPED, NO GPU'S COMPILER WAS TRIED: {missing}"),
    };
    for names in CHIPS {
        let mut runs = names.iter().map(|name| run_for(name, &driver));
        let output = runs.find(|output| !stderr(output).contains("Unknown family"));
        let output = output.unwrap_or_else(|| panic!("RADV knows none of {names:?}"));
        let text = stdout(&output) + &stderr(&output);
        // A filter that matches no test would succeed as well.
        assert!(output.status.success() && text.contains("1 passed"), "{names:?}: {text}");
        println!("{text}");
    }
}

/// Where the Vulkan loader finds RADV, or what is missing.
fn driver_file() -> Result<PathBuf, String> {
    // SAFETY: it runs the initialisers of the system's Vulkan loader, which every program that uses Vulkan runs.
    unsafe { ash::Entry::load() }.map_err(|error| format!("no Vulkan loader: {error}"))?;
    let names = [format!("radeon_icd.{}.json", env::consts::ARCH), "radeon_icd.json".to_owned()];
    let folders = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"].map(Path::new);
    let mut files = folders.iter().flat_map(|folder| names.iter().map(|name| folder.join(name)));
    files.find(|file| file.exists()).ok_or_else(|| format!("no {} in {folders:?}", names[0]))
}

/// Runs [`compile_for_the_forced_family`] in a process of its own.
fn run_for(family: &str, driver: &Path) -> Output {
    let (_, module) = module_path!().split_once("::").unwrap_or_default();
    let mut command = Command::new(must(env::current_exe(), "this executable"));
    command.arg(format!("{module}::compile_for_the_forced_family"));
    command.args(["--exact", "--ignored", "--nocapture"]);
    command.env("RADV_FORCE_FAMILY", family).env("RADV_DEBUG", "nocache");
    command.env("RUST_BACKTRACE", "0");
    // The loader's older versions know only the second variable.
    command.env("VK_DRIVER_FILES", driver).env("VK_ICD_FILENAMES", driver);
    must(command.output(), "this executable")
}

#[test]
#[ignore = "run by the test above, once for each family of chips"]
fn compile_for_the_forced_family() {
    let Ok(family) = env::var("RADV_FORCE_FAMILY") else {
        return println!("nothing to do: kernels_fit_the_registers_of_hardware_gpus runs this");
    };
    let compiler = Compiler::open();
    assert!(compiler.chip.to_lowercase().contains(&family), "{} is no {family}", compiler.chip);
    let (mut table, mut problems) = (Compiled::header(), Vec::new());
    for kernel in kernels() {
        let compiled = compiler.compile(&kernel);
        table += &compiled.line(&kernel);
        problems.extend(compiled.problems(&kernel));
    }
    println!("\n{}\n{table}", compiler.chip);
    assert!(problems.is_empty(), "{}:\n{}", compiler.chip, problems.join("\n"));
}

/// What a call returned; where that is an error, the test has failed.
#[track_caller]
fn must<T>(result: Result<T, impl Display>, what: &str) -> T {
    result.unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// What RADV made of a kernel.
struct Compiled {
    /// In the order of [`STATISTICS`].
    statistics: [u64; STATISTICS.len()],
    total: Instructions,
    /// Those that multiply and add.
    loops: Vec<Instructions>,
}

impl Compiled {
    fn header() -> String {
        let names = STATISTICS.map(|(name, _)| name).join("  ");
        let counts = "multiply-adds/buffer loads/LDS loads in all, then in each loop";
        format!("{:28}  workgroup  {names}  {counts}\n", "kernel")
    }

    fn line(&self, kernel: &Source) -> String {
        let numbers = STATISTICS.iter().zip(self.statistics);
        let numbers = numbers.map(|((name, _), number)| format!("  {number:>0$}", name.len()));
        let numbers: String = numbers.collect();
        let counts = [&self.total].into_iter().chain(&self.loops);
        let counts =
            counts.map(|c| format!("  {}/{}/{}", c.multiply_adds, c.buffer_loads, c.lds_loads));
        let counts: String = counts.collect();
        format!("{:28}  {:>9}{numbers}{counts}\n", kernel.name, kernel.workgroup_size)
    }

    fn problems(&self, kernel: &Source) -> Vec<String> {
        let mut problems = Vec::new();
        for ((name, limit), number) in STATISTICS.into_iter().zip(self.statistics) {
            if number > limit {
                problems.push(format!("{}: {name} {number}, more than {limit}", kernel.name));
            }
        }
        if kernel.dense && self.loops.is_empty() {
            problems.push(format!("{}: no loop multiplies and adds", kernel.name));
        }
        for body in &self.loops {
            if kernel.dense && body.multiply_adds < DENSE * body.buffer_loads {
                problems.push(format!("{}: too many loads in a loop: {body:?}", kernel.name));
            }
        }
        problems
    }
}

/// How many instructions there are of the kinds that matter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Instructions {
    /// In f32; a packed one is two.
    multiply_adds: usize,
    /// However many numbers an instruction loads.
    buffer_loads: usize,
    /// From workgroup memory.
    lds_loads: usize,
}

impl Instructions {
    /// Counts a line of a disassembly. RDNA 3 may have two instructions in one.
    fn count(&mut self, line: &str) {
        for instruction in line.split("::") {
            let name = instruction.split_whitespace().next().unwrap_or_default();
            let is = |kinds: &[&str]| usize::from(kinds.iter().any(|kind| name.starts_with(kind)));
            let float = usize::from(name.contains("_f32"));
            self.multiply_adds += float * is(&["v_fma", "v_mac_", "v_mad", "v_dual_fma"]);
            self.multiply_adds += float * is(&["v_pk_fma"]) * 2;
            self.buffer_loads += is(&["buffer_load_", "global_load_", "flat_load_"]);
            self.lds_loads += is(&["ds_read", "ds_load"]);
        }
    }
}

/// The loops of a disassembly, in the order of their first lines. An instruction is counted for the innermost loop
/// around it, so that those of an unrolled loop belong to the one around that. A loop is what lies between a label
/// and the last branch back to it: ACO, RADV's compiler, keeps the blocks of a loop together.
fn inner_loops(disassembly: &str) -> Vec<Instructions> {
    let lines: Vec<&str> = disassembly.lines().map(str::trim).collect();
    let (mut labels, mut ends) = (HashMap::new(), BTreeMap::new());
    for (at, line) in lines.iter().enumerate() {
        if let Some(label) = line.strip_suffix(':') {
            labels.insert(label, at);
        } else if line.starts_with("s_branch") || line.starts_with("s_cbranch") {
            let target = line.split_whitespace().nth(1).and_then(|label| labels.get(label));
            ends.extend(target.map(|&start| (start, at)));
        }
    }
    let loops = ends.into_iter().map(|(start, end)| (start..=end, Instructions::default()));
    let mut loops: Vec<_> = loops.collect();
    for (at, line) in lines.iter().enumerate() {
        // They are nested, and in order: the last around a line is the innermost.
        if let Some((_, body)) = loops.iter_mut().rfind(|(lines, _)| lines.contains(&at)) {
            body.count(line);
        }
    }
    loops.into_iter().map(|(_, body)| body).collect()
}

#[test]
fn instructions_are_counted_for_the_innermost_loop() {
    let disassembly = "BB0:\n\tv_fma_f32 v0, v1, v2, v0 ; d54b0000\n\
        BB1:\n\tbuffer_load_dwordx4 v[0:3], v4, s[0:3], 0 offen\n\ts_cbranch_scc1 BB4\n\
        BB2:\n\tv_fmac_f32_e32 v0, v1, v2\n\tv_pk_fma_f32 v[0:1], v[2:3], v[4:5], v[0:1]\n\
        \tv_dual_fmac_f32 v0, v1, v2 :: v_dual_mul_f32 v3, v1, v2\n\tv_mad_u32_u24 v0, v1, v2, v3\n\
        \tds_read_b128 v[0:3], v4\n\tds_write_b128 v4, v[0:3]\n\ts_cbranch_scc0 BB2\n\
        BB3:\n\tglobal_load_b32 v0, v[1:2], off\n\ts_branch BB1\n\
        BB4:\n\ts_endpgm\n";
    let outer = Instructions { buffer_loads: 2, ..Instructions::default() };
    let inner = Instructions { multiply_adds: 4, buffer_loads: 0, lds_loads: 1 };
    assert_eq!(inner_loops(disassembly), [outer, inner]);
}

/// A kernel as wgpu hands it to a Vulkan driver for cubecl, and its bindings, which are buffers. naga's default is
/// not to check bounds.
fn spirv(kernel: &Source) -> (Vec<u32>, Vec<vk::DescriptorSetLayoutBinding<'static>>) {
    let module = naga::front::wgsl::parse_str(&kernel.text);
    let module = must(module.map_err(|e| e.emit_to_string(&kernel.text)), &kernel.name);
    let info = Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module);
    let info = must(info.map_err(|e| e.emit_to_string(&kernel.text)), &kernel.name);
    let options = spv::Options {
        lang_version: (1, 6),
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: kernel.bounded,
        emit_int_div_checks: false,
        ..spv::Options::default()
    };
    let words = must(spv::write_vec(&module, &info, &options, None), &kernel.name);
    let numbers = module.global_variables.iter().filter_map(|(_, variable)| variable.binding);
    let bindings = numbers.map(|number| {
        vk::DescriptorSetLayoutBinding::default()
            .binding(number.binding)
            .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
            .descriptor_count(1)
            .stage_flags(vk::ShaderStageFlags::COMPUTE)
    });
    (words, bindings.collect())
}

/// RADV on a chip that is not there. Nothing is destroyed: the process ends with the test.
struct Compiler {
    chip: String,
    device: ash::Device,
    reports: reports::Device,
    /// Keeps the loader's library in memory.
    _loader: ash::Entry,
}

impl Compiler {
    /// With the device features that decide what is compiled as wgpu has them: accesses to buffers are checked.
    fn open() -> Self {
        let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
        let instance = vk::InstanceCreateInfo::default().application_info(&application);
        let queues = [vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0])];
        let extensions = [reports::NAME, c"VK_EXT_robustness2"].map(CStr::as_ptr);
        let features = vk::PhysicalDeviceFeatures::default().robust_buffer_access(true);
        let mut robust =
            vk::PhysicalDeviceRobustness2FeaturesEXT::default().robust_buffer_access2(true);
        let mut subgroups =
            vk::PhysicalDeviceVulkan13Features::default().subgroup_size_control(true);
        let mut executables = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default()
            .pipeline_executable_info(true);
        let device = vk::DeviceCreateInfo::default()
            .queue_create_infos(&queues)
            .enabled_extension_names(&extensions)
            .enabled_features(&features)
            .push_next(&mut robust)
            .push_next(&mut subgroups)
            .push_next(&mut executables);
        // SAFETY: the structures are valid and outlive the calls, and `_loader` the handles.
        unsafe {
            let loader = must(ash::Entry::load(), "the Vulkan loader");
            let instance = must(loader.create_instance(&instance, None), "an instance");
            let chips = must(instance.enumerate_physical_devices(), "the chips");
            let chip = *chips.first().unwrap_or_else(|| panic!("RADV has no chip"));
            let device = must(instance.create_device(chip, &device, None), "a device");
            let properties = instance.get_physical_device_properties(chip);
            let name = must(properties.device_name_as_c_str(), "the chip's name");
            Self {
                chip: name.to_string_lossy().into_owned(),
                reports: reports::Device::new(&instance, &device),
                device,
                _loader: loader,
            }
        }
    }

    fn compile(&self, kernel: &Source) -> Compiled {
        // Its first executable, which is its only one.
        let executable = Executable::default().pipeline(self.pipeline(kernel));
        let disassembly = self.disassembly(&executable);
        assert!(disassembly.contains("s_endpgm"), "{}: no disassembly", kernel.name);
        let mut total = Instructions::default();
        disassembly.lines().for_each(|line| total.count(line));
        let mut loops = inner_loops(&disassembly);
        loops.retain(|body| body.multiply_adds > 0);
        Compiled { statistics: self.statistics(&executable), total, loops }
    }

    fn pipeline(&self, kernel: &Source) -> vk::Pipeline {
        let (words, bindings) = spirv(kernel);
        let set = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
        let module = vk::ShaderModuleCreateInfo::default().code(&words);
        // SAFETY: the structures are valid and outlive the calls; naga has validated the module that they hold.
        unsafe {
            let sets = [must(self.device.create_descriptor_set_layout(&set, None), "a layout")];
            let layout = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .flags(vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE)
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(must(self.device.create_shader_module(&module, None), &kernel.name))
                .name(c"main");
            let pipeline = vk::ComputePipelineCreateInfo::default()
                .flags(Flags::CAPTURE_STATISTICS_KHR | Flags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR)
                .stage(stage)
                .layout(must(self.device.create_pipeline_layout(&layout, None), "a layout"));
            let cache = vk::PipelineCache::null();
            let pipelines = self.device.create_compute_pipelines(cache, &[pipeline], None);
            must(pipelines.map_err(|(_, error)| error), &kernel.name)[0]
        }
    }

    fn statistics(&self, executable: &Executable<'_>) -> [u64; STATISTICS.len()] {
        // SAFETY: the pipeline was made with `CAPTURE_STATISTICS_KHR`.
        let known = unsafe { self.reports.get_pipeline_executable_statistics(executable) };
        let known = must(known, "the statistics");
        STATISTICS.map(|(name, _)| {
            let named = known.iter().find(|known| {
                known.name_as_c_str().is_ok_and(|known| known.to_bytes() == name.as_bytes())
                    && known.format == vk::PipelineExecutableStatisticFormatKHR::UINT64
            });
            let named = named.unwrap_or_else(|| panic!("RADV does not tell {name}"));
            // SAFETY: its format says that it is this member.
            unsafe { named.value.u64 }
        })
    }

    fn disassembly(&self, executable: &Executable<'_>) -> String {
        let known = &self.reports;
        // SAFETY: the pipeline was made with `CAPTURE_INTERNAL_REPRESENTATIONS_KHR`.
        let texts = unsafe { known.get_pipeline_executable_internal_representations(executable) };
        let mut texts = must(texts, "the representations");
        let assembly = texts.iter_mut().find(|text| text.name_as_c_str() == Ok(c"Assembly"));
        let assembly = assembly.unwrap_or_else(|| panic!("RADV gives no assembly"));
        let mut bytes = vec![0; assembly.data_size];
        assembly.p_data = bytes.as_mut_ptr().cast();
        let mut count = texts.len() as u32;
        let get = known.fp().get_pipeline_executable_internal_representations_khr;
        // SAFETY: `texts` has `count` elements, and the one with a pointer the size of what is pointed to.
        let result = unsafe { get(known.device(), executable, &mut count, texts.as_mut_ptr()) };
        must(result.result(), "the assembly");
        must(CStr::from_bytes_until_nul(&bytes), "the assembly").to_string_lossy().into_owned()
    }
}
