//! Loading the embedded programs.

use anyhow::{Context as _, Result, anyhow};
use libbpf_rs::{MapCore as _, MapFlags, Object, ObjectBuilder, ProgramMut};
use zerocopy::{FromBytes, Immutable, IntoBytes as _, KnownLayout};

/// ELF headers are read in place: they must be aligned.
#[repr(align(8))]
pub(crate) struct Elf<T: ?Sized = [u8]>(pub(crate) T);

/// Has the kernel load `elf`, its read-only data being `config`.
pub(crate) fn load(elf: &Elf, config: Option<&[u8]>) -> Result<Object> {
    let mut object = ObjectBuilder::default().open_memory(&elf.0).context("open a BPF object")?;
    if let Some(config) = config {
        let mut maps = object.maps_mut();
        let rodata = maps.find(|map| map.name().to_string_lossy().ends_with(".rodata"));
        let mut rodata = rodata.context("find the BPF object's settings")?;
        let value = rodata.initial_value_mut().context("write the BPF object's settings")?;
        anyhow::ensure!(value.len() == config.len(), "the BPF object's settings differ in size");
        value.copy_from_slice(config);
    }
    object.load().context("load a BPF object")
}

/// The loaded program `name`.
pub(crate) fn program<'a>(object: &'a Object, name: &str) -> Result<ProgramMut<'a>> {
    object.progs_mut().find(|program| program.name() == name).context("find the BPF program")
}

/// The variables of the object, which begin with a `T`.
pub(crate) fn state<T: FromBytes + Immutable + KnownLayout>(object: &Object) -> Result<T> {
    let map = object.maps().find(|map| map.name().to_string_lossy().ends_with(".bss"));
    let map = map.context("find the BPF object's state")?;
    let bytes = map.lookup(0u32.as_bytes(), MapFlags::ANY)?.context("read its state")?;
    let (state, _) = T::read_from_prefix(&bytes).map_err(|_short| anyhow!("its state is short"))?;
    Ok(state)
}
