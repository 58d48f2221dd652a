//! The WGSL files agree with the Rust side that launches them (workgroup sizes, bindings, parameters,
//! constants) and keep to WebGPU's default limits.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, Literal, Module, Scalar, StorageAccess, TypeInner};
use tnet_gpu::mps::tiles::{CONTRACT_F, CONTRACT_G, CONTRACT_X, GRADS_F, GRADS_X, WHOLE_ROOM};
use tnet_gpu::op::gpu::params::{CoreModes, Member, Role, View, Window};
use tnet_gpu::op::gpu::shader::{
    Facts, GRAD_TILED_S, GRAD_TILED_W, Kernel, LANE_SAMPLES, MASKED_A, MASKED_B, MATMUL_COLUMNS,
    MATMUL_I, MATMUL_J, MATMUL_ROWS, Prelude, RESIZE_PIECE, START_BIAS, START_OUTPUT, START_ZERO,
    Shader, TILE_W, TILED_V, TILED_W,
};

/// Each kernel with its facts, parsed with the preludes that every device takes.
fn each_kernel(check: impl Fn(&'static Facts, Module)) {
    for &shader in Shader::ALL {
        let facts = shader.facts();
        check(facts, parse(Kernel { shader, wide: false, long: false, large: false }));
    }
}

fn parse(kernel: Kernel) -> Module {
    let module = naga::front::wgsl::parse_str(&kernel.text());
    module.unwrap_or_else(|error| panic!("{kernel:?}: {}", error.message()))
}

#[test]
fn every_file_is_a_kernel_and_every_kernel_a_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let named = |prefix: &str| {
        let files = fs::read_dir(folder.join(prefix)).unwrap().map(Result::unwrap);
        let files = files.filter(|file| file.path().is_file());
        files
            .map(|file| format!("{prefix}{}", file.file_name().to_str().unwrap()))
            .collect::<Vec<_>>()
    };
    let files: BTreeSet<String> = ["", "gpu/", "software/"].into_iter().flat_map(named).collect();
    assert_eq!(files, Shader::ALL.iter().map(|shader| shader.facts().file.to_owned()).collect());
}

/// In each of its variants, with no capability beyond WebGPU's own, subgroup operations among them; integers of
/// 64 bits are used where the device has them.
#[test]
fn every_kernel_is_valid_wgsl() {
    for &shader in Shader::ALL {
        let plain = Kernel { shader, wide: false, long: false, large: false };
        let variants = [
            plain,
            Kernel { wide: true, ..plain },
            Kernel { long: true, ..plain },
            Kernel { large: true, ..plain },
        ];
        for kernel in variants {
            let capabilities =
                if kernel.long { Capabilities::SHADER_INT64 } else { Capabilities::empty() };
            let mut validator = Validator::new(ValidationFlags::all(), capabilities);
            if let Err(error) = validator.validate(&parse(kernel)) {
                panic!("{kernel:?}: {error:?}");
            }
            let preludes = shader.facts().preludes;
            let varies = (kernel.wide && preludes.contains(&Prelude::Element))
                || (kernel.long && preludes.contains(&Prelude::Quad))
                || (kernel.large && preludes.contains(&Prelude::Side));
            assert_eq!(kernel.text() != plain.text(), varies, "{kernel:?}");
        }
    }
}

#[test]
fn workgroups_have_the_size_that_is_launched() {
    each_kernel(|facts, module| {
        let [entry] = &module.entry_points[..] else { panic!("{}: one entry", facts.file) };
        assert_eq!(entry.name, "main", "{}", facts.file);
        assert_eq!(entry.workgroup_size, [facts.workgroup_size, 1, 1], "{}", facts.file);
        assert!(facts.workgroup_size <= 256, "WebGPU's limit on invocations per workgroup");
    });
}

#[test]
fn bindings_are_in_the_order_of_the_launch() {
    each_kernel(|facts, module| {
        let mut bindings = Vec::new();
        for (_, variable) in module.global_variables.iter() {
            if variable.space == AddressSpace::WorkGroup {
                let size = module.types[variable.ty].inner.size(module.to_ctx());
                assert!(size <= 16 << 10, "{}: WebGPU has 16 KiB per workgroup", facts.file);
                continue;
            }
            if variable.space == AddressSpace::Private {
                continue;
            }
            let binding = variable.binding.as_ref();
            let binding = binding.unwrap_or_else(|| panic!("{}: not a buffer", facts.file));
            assert_eq!(binding.group, 0, "{}", facts.file);
            // Pooled tensors may share one buffer, which must then have one kind of access.
            let access = StorageAccess::LOAD | StorageAccess::STORE;
            assert_eq!(variable.space, AddressSpace::Storage { access }, "{}", facts.file);
            bindings.push((binding.binding, variable.name.clone().unwrap()));
        }
        bindings.sort();
        let expected = (0..).zip(facts.bindings.iter().map(|name| (*name).to_owned()));
        assert_eq!(bindings, expected.collect::<Vec<_>>(), "{}", facts.file);
        assert!(bindings.len() <= 8, "{}: WebGPU has 8", facts.file);
    });
}

/// Checks a WGSL struct against the members of its twin in Rust.
fn check_struct(module: &Module, file: &str, name: &str, expected: &[Member]) {
    let found = module.types.iter().find(|(_, kind)| kind.name.as_deref() == Some(name));
    let (_, kind) = found.unwrap_or_else(|| panic!("{file} has no {name}"));
    let TypeInner::Struct { members, .. } = &kind.inner else { panic!("{file}: {name}: a struct") };
    let members = members.iter().map(|member| {
        let kind = match &module.types[member.ty].inner {
            TypeInner::Scalar(scalar) if *scalar == Scalar::U32 => "u32",
            TypeInner::Scalar(scalar) if *scalar == Scalar::F32 => "f32",
            _ => module.types[member.ty].name.as_deref().unwrap(),
        };
        (member.name.as_deref().unwrap(), kind, member.offset as usize)
    });
    let expected: Vec<_> =
        expected.iter().map(|member| (member.name, member.kind, member.offset)).collect();
    assert_eq!(members.collect::<Vec<_>>(), expected, "{file}: {name}");
}

#[test]
fn parameters_are_those_of_the_rust_side() {
    each_kernel(|facts, module| {
        check_struct(&module, facts.file, "Params", facts.params);
        if facts.params.iter().any(|member| member.kind == "Role") {
            check_struct(&module, facts.file, "Role", Role::MEMBERS);
        }
        if facts.preludes.contains(&Prelude::View) {
            check_struct(&module, facts.file, "View", View::MEMBERS);
        }
        if facts.preludes.contains(&Prelude::Window) {
            check_struct(&module, facts.file, "Window", Window::MEMBERS);
        }
        if facts.preludes.contains(&Prelude::CoreModes) {
            check_struct(&module, facts.file, "CoreModes", CoreModes::MEMBERS);
        }
    });
}

#[test]
fn constants_are_those_of_the_rust_side() {
    let known = [
        ("TILE_W", TILE_W),
        ("RESIZE_PIECE", RESIZE_PIECE),
        ("LANE_SAMPLES", LANE_SAMPLES),
        ("GRAD_TILED_W", GRAD_TILED_W),
        ("GRAD_TILED_S", GRAD_TILED_S),
        ("TILED_V", TILED_V),
        ("TILED_W", TILED_W),
        ("MATMUL_I", MATMUL_I),
        ("MATMUL_J", MATMUL_J),
        ("MATMUL_ROWS", MATMUL_ROWS),
        ("MATMUL_COLUMNS", MATMUL_COLUMNS),
        ("CONTRACT_X", CONTRACT_X as u32),
        ("CONTRACT_F", CONTRACT_F as u32),
        ("CONTRACT_G", CONTRACT_G as u32),
        ("GRADS_X", GRADS_X as u32),
        ("GRADS_F", GRADS_F as u32),
        ("ROOM", WHOLE_ROOM as u32),
        ("MASKED_A", MASKED_A),
        ("MASKED_B", MASKED_B),
        ("START_ZERO", START_ZERO),
        ("START_BIAS", START_BIAS),
        ("START_OUTPUT", START_OUTPUT),
    ];
    let seen = std::cell::RefCell::new(BTreeSet::new());
    each_kernel(|facts, module| {
        for (_, constant) in module.constants.iter() {
            let name = constant.name.clone().unwrap();
            // Of a prelude, or made of other constants: they have no twin in Rust.
            const OWN: [&str; 10] = [
                "OFFSETS", "WIDTH", "SIDE", "TILE", "SLICE", "SLICES", "STEP", "ROW", "AT_ONCE",
                "IN_TILE",
            ];
            if OWN.contains(&name.as_str()) {
                continue;
            }
            let naga::Expression::Literal(Literal::U32(value)) =
                module.global_expressions[constant.init]
            else {
                panic!("{}: {name} is no u32", facts.file)
            };
            if name == "WORKGROUP_SIZE" {
                assert_eq!(value, facts.workgroup_size, "{}", facts.file);
                continue;
            }
            let expected = known.iter().find(|(known, _)| *known == name);
            assert_eq!(expected.map(|(_, value)| *value), Some(value), "{}: {name}", facts.file);
            seen.borrow_mut().insert(name);
        }
    });
    let known = known.iter().map(|(name, _)| (*name).to_owned());
    assert_eq!(seen.into_inner(), known.collect());
}
