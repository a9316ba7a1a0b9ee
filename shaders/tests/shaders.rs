//! Every kernel, as it stands and as it is launched, through the compiler that wgpu uses.

use earmark_shaders::{ALL, INFER_BLOCK, INFER_DENSE, MIX_SNR, Shader, TRAIN_CONV};
use naga::{
    AddressSpace, Module, StorageAccess,
    front::wgsl,
    valid::{Capabilities, ValidationFlags, Validator},
};

/// Constants as the networks set them, beside the defaults in the text.
fn instances(shader: &Shader) -> Vec<Vec<(&'static str, u32)>> {
    let mut instances = vec![vec![]];
    if *shader == INFER_BLOCK {
        for (in_channels, out_channels, first_module) in [(128, 128, 1), (128, 256, 0), (256, 512, 0), (12, 4, 0)] {
            instances.push(vec![
                ("IN_CHANNELS", in_channels),
                ("OUT_CHANNELS", out_channels),
                ("FIRST_MODULE", first_module),
            ]);
        }
    }
    if *shader == INFER_DENSE {
        for (in_channels, out_channels, relu) in [(512, 512, 1), (512, 52, 0)] {
            instances.push(vec![("IN_CHANNELS", in_channels), ("OUT_CHANNELS", out_channels), ("RELU", relu)]);
        }
    }
    if *shader == MIX_SNR {
        instances.extend([1, 2, 4].map(|num_noises| vec![("NUM_NOISES", num_noises)]));
    }
    if *shader == TRAIN_CONV {
        for pass in 0..3 {
            for (kernel, stride, pad) in [(3, 1, 1), (3, 3, 0), (1, 1, 0)] {
                instances.push(vec![("PASS", pass), ("KERNEL", kernel), ("STRIDE", stride), ("PAD", pad)]);
            }
        }
    }
    instances
}

/// Parses and validates with what every WebGPU device offers, and no more.
fn validated(name: &str, source: &str) -> Module {
    let module = wgsl::parse_str(source).unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(source)));
    if let Err(error) = Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(&module) {
        panic!("{name}: {}", error.emit_to_string(source));
    }
    module
}

#[test]
fn every_shader_is_valid_and_within_the_default_limits() {
    for shader in ALL {
        for constants in instances(shader) {
            let name = format!("{} with {constants:?}", shader.name);
            let module = validated(&name, &shader.with(&constants));

            let [entry] = &module.entry_points[..] else { panic!("{name}: more or less than one entry point") };
            assert_eq!(entry.name, "main", "{name}");
            assert_eq!(entry.workgroup_size, shader.workgroup_size, "{name}");
            assert!(entry.workgroup_size.iter().product::<u32>() <= 256, "{name}: too many invocations");
            assert!(entry.workgroup_size[2] <= 64, "{name}: too many invocations along z");

            let in_space = |space: fn(AddressSpace) -> bool| {
                module.global_variables.iter().map(|(_, variable)| variable).filter(move |v| space(v.space))
            };
            let shared: u32 = in_space(|space| space == AddressSpace::WorkGroup)
                .map(|variable| module.types[variable.ty].inner.size(module.to_ctx()))
                .sum();
            assert!(shared <= 16_384, "{name}: {shared} bytes of workgroup memory");
            let num_buffers = in_space(|space| matches!(space, AddressSpace::Storage { .. })).count();
            assert!(num_buffers <= 8, "{name}: {num_buffers} storage buffers");

            // The bindings are 0, 1, 2, ... and only the last, `params`, is read-only.
            let mut bindings: Vec<_> = in_space(|space| matches!(space, AddressSpace::Storage { .. }))
                .map(|variable| {
                    let binding = variable.binding.as_ref().expect("a storage buffer is bound");
                    assert_eq!(binding.group, 0, "{name}");
                    let writes = AddressSpace::Storage { access: StorageAccess::LOAD | StorageAccess::STORE };
                    let read_only = variable.space != writes;
                    assert_eq!(read_only, variable.name.as_deref() == Some("params"), "{name}: {:?}", variable.name);
                    (binding.binding, read_only)
                })
                .collect();
            bindings.sort_unstable();
            for (index, (binding, read_only)) in bindings.iter().enumerate() {
                assert_eq!(*binding as usize, index, "{name}: a gap in the bindings");
                assert!(!read_only || index + 1 == bindings.len(), "{name}: params is the last binding");
            }
        }
    }
}

#[test]
fn every_file_is_listed_and_has_a_header() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").path());
    let mut names: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "wgsl"))
        .map(|path| path.file_stem().expect("named").to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    let mut listed: Vec<&str> = ALL.iter().map(|shader| shader.name).collect();
    listed.sort_unstable();
    assert_eq!(names, listed);
    for shader in ALL {
        let header: String = shader.source.lines().take_while(|line| line.starts_with("//")).collect();
        for word in ["Shapes", "Bindings", "Dispatch", "Limits", "Source"] {
            assert!(header.contains(word), "{}: the header says nothing of its {word}", shader.name);
        }
    }
}

#[test]
fn constants_are_replaced_by_name() {
    let shader =
        Shader { name: "test", source: "const A: u32 = 1u;\nconst AB: u32 = 2u;\n", workgroup_size: [1, 1, 1] };
    assert_eq!(shader.with(&[("AB", 7)]), "const A: u32 = 1u;\nconst AB: u32 = 7u;");
    assert!(std::panic::catch_unwind(|| shader.with(&[("B", 7)])).is_err());
}
