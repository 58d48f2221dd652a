//! The WGSL files agree with the Rust side that launches them (workgroup sizes, bindings, parameters,
//! constants) and keep to WebGPU's default limits.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, Literal, Module, Scalar, StorageAccess, TypeInner};
use tnet_gpu::op::gpu::shader::{
    Kernel, LANE_SAMPLES, MATMUL_COLUMNS, MATMUL_I, MATMUL_J, MATMUL_ROWS, RESIZE_PIECE,
    START_BIAS, START_Y, START_ZERO, Shader, TILE_W, TILED_P, TILED_Q, TILED_V, TILED_W,
};

fn parse(shader: Shader) -> Module {
    let module = naga::front::wgsl::parse_str(shader.text());
    module.unwrap_or_else(|error| panic!("{}: {}", shader.file(), error.message()))
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
    let files: BTreeSet<String> = ["", "software/"].into_iter().flat_map(named).collect();
    let kernels = Shader::ALL.iter().map(|shader| shader.file());
    // Shared by the tiled ones.
    assert_eq!(files, kernels.chain(["software/blocks.wgsl"]).map(str::to_owned).collect());
}

/// With no capability beyond WebGPU's own, subgroup operations among them.
#[test]
fn every_kernel_is_valid_wgsl() {
    for shader in Shader::ALL {
        let mut validator = Validator::new(ValidationFlags::all(), Capabilities::empty());
        if let Err(error) = validator.validate(&parse(shader)) {
            panic!("{}: {error:?}", shader.file());
        }
    }
}

#[test]
fn every_kernel_is_valid_with_its_other_constants() {
    for shader in Shader::ALL {
        let one = Kernel::from(shader);
        assert_eq!(one.text(), shader.text());
        let wide = Kernel { wide: true, ..one };
        assert_eq!(shader.text().contains("array<Element>"), wide.text() != shader.text());
        let long = Kernel { long: true, ..one };
        assert_eq!(shader.text().contains("array<Quad>"), long.text() != shader.text());
        // Each is launched only where the device has the capability.
        let capabilities = [Capabilities::empty(), Capabilities::SHADER_INT64];
        for (kernel, capabilities) in [wide, long].into_iter().zip(capabilities) {
            let module = naga::front::wgsl::parse_str(&kernel.text());
            let module = module.unwrap_or_else(|error| panic!("{kernel:?}: {}", error.message()));
            let mut validator = Validator::new(ValidationFlags::all(), capabilities);
            if let Err(error) = validator.validate(&module) {
                panic!("{kernel:?}: {error:?}");
            }
        }
    }
}

#[test]
fn workgroups_have_the_size_that_is_launched() {
    for shader in Shader::ALL {
        let module = parse(shader);
        let [entry] = &module.entry_points[..] else { panic!("{}: one entry", shader.file()) };
        assert_eq!(entry.name, "main", "{}", shader.file());
        assert_eq!(entry.workgroup_size, [shader.workgroup_size(), 1, 1], "{}", shader.file());
        assert!(shader.workgroup_size() <= 256, "WebGPU's limit on invocations per workgroup");
    }
}

#[test]
fn bindings_are_in_the_order_of_the_launch() {
    for shader in Shader::ALL {
        let module = parse(shader);
        let mut bindings = Vec::new();
        for (_, variable) in module.global_variables.iter() {
            if variable.space == AddressSpace::WorkGroup {
                let size = module.types[variable.ty].inner.size(module.to_ctx());
                assert!(size <= 16 << 10, "{}: WebGPU has 16 KiB per workgroup", shader.file());
                continue;
            }
            let binding = variable.binding.as_ref();
            let binding = binding.unwrap_or_else(|| panic!("{}: not a buffer", shader.file()));
            assert_eq!(binding.group, 0, "{}", shader.file());
            // Pooled tensors may share one buffer, which must then have one kind of access.
            let access = StorageAccess::LOAD | StorageAccess::STORE;
            assert_eq!(variable.space, AddressSpace::Storage { access }, "{}", shader.file());
            bindings.push((binding.binding, variable.name.clone().unwrap()));
        }
        bindings.sort();
        let expected = (0..).zip(shader.bindings().iter().map(|name| (*name).to_owned()));
        assert_eq!(bindings, expected.collect::<Vec<_>>(), "{}", shader.file());
        assert!(bindings.len() <= 7, "{}: WebGPU has 8, Burn keeps one", shader.file());
    }
}

#[test]
fn parameters_are_in_the_order_of_the_launch() {
    for shader in Shader::ALL {
        let module = parse(shader);
        let mut found = false;
        for (_, kind) in module.types.iter() {
            if kind.name.as_deref() != Some("Params") {
                continue;
            }
            let TypeInner::Struct { members, .. } = &kind.inner else { panic!("a struct") };
            let names: Vec<_> =
                members.iter().map(|member| member.name.as_deref().unwrap()).collect();
            assert_eq!(names, shader.params(), "{}", shader.file());
            for (index, member) in members.iter().enumerate() {
                let inner = &module.types[member.ty].inner;
                assert_eq!(*inner, TypeInner::Scalar(Scalar::U32), "{}", shader.file());
                assert_eq!(member.offset as usize, 4 * index, "{}", shader.file());
            }
            found = true;
        }
        assert!(found, "{} has no Params", shader.file());
    }
}

#[test]
fn constants_are_those_of_the_rust_side() {
    let known = [
        ("TILE_W", TILE_W),
        ("RESIZE_PIECE", RESIZE_PIECE),
        ("LANE_SAMPLES", LANE_SAMPLES),
        ("TILED_P", TILED_P),
        ("TILED_Q", TILED_Q),
        ("TILED_V", TILED_V),
        ("TILED_W", TILED_W),
        ("MATMUL_I", MATMUL_I),
        ("MATMUL_J", MATMUL_J),
        ("MATMUL_ROWS", MATMUL_ROWS),
        ("MATMUL_COLUMNS", MATMUL_COLUMNS),
        ("START_ZERO", START_ZERO as u32),
        ("START_BIAS", START_BIAS as u32),
        ("START_Y", START_Y as u32),
    ];
    let mut seen = BTreeSet::new();
    for shader in Shader::ALL {
        let module = parse(shader);
        for (_, constant) in module.constants.iter() {
            let name = constant.name.clone().unwrap();
            // Constants of one kernel alone.
            if ["OFFSETS", "WIDTH"].contains(&name.as_str()) {
                continue;
            }
            let naga::Expression::Literal(Literal::U32(value)) =
                module.global_expressions[constant.init]
            else {
                panic!("{}: {name} is no u32", shader.file())
            };
            if name == "WORKGROUP_SIZE" {
                assert_eq!(value, shader.workgroup_size(), "{}", shader.file());
                continue;
            }
            let expected = known.iter().find(|(known, _)| *known == name);
            assert_eq!(expected.map(|(_, value)| *value), Some(value), "{}: {name}", shader.file());
            seen.insert(name);
        }
    }
    assert_eq!(seen, known.iter().map(|(name, _)| (*name).to_owned()).collect());
}
