//! Compiles the kernel side: `bpf/*.bpf.c` to BPF objects that the library embeds.

use libbpf_cargo::SkeletonBuilder;
use std::error::Error;
use std::path::PathBuf;
use std::{env, process};

fn main() {
    println!("cargo::rerun-if-changed=bpf");
    for name in ["steer", "road", "guard"] {
        if let Err(error) = compile(name) {
            eprintln!("failed to compile bpf/{name}.bpf.c: {error}");
            process::exit(1);
        }
    }
}

fn compile(name: &str) -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    SkeletonBuilder::new()
        .source(format!("bpf/{name}.bpf.c"))
        .obj(out.join(format!("{name}.bpf.o")))
        .clang_args(clang_args())
        .build()?;
    Ok(())
}

/// The kernel's headers want `asm/`, which Debian keeps in the multiarch folder; clang looks there
/// only when it compiles for the host.
fn clang_args() -> Vec<String> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    vec![
        format!("-I/usr/include/{arch}-linux-gnu"),
        "-Wall".into(),
        "-Wextra".into(),
        "-Werror".into(),
    ]
}
