//! Compiles `bpf/*.bpf.c` to BPF objects that the benchmarks embed.

use libbpf_cargo::SkeletonBuilder;
use std::error::Error;
use std::path::PathBuf;
use std::{env, process};

fn main() {
    println!("cargo::rerun-if-changed=bpf");
    for name in ["blast", "bare", "ends", "prototype", "sink"] {
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

/// Debian keeps the kernel's `asm/` headers in the multiarch folder.
fn clang_args() -> Vec<String> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    vec![
        format!("-I/usr/include/{arch}-linux-gnu"),
        "-Wall".into(),
        "-Wextra".into(),
        "-Werror".into(),
    ]
}
