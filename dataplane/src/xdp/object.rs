//! Loading an embedded BPF object: its settings, its maps.

use crate::engine::EngineError;
use crate::xdp::kernel_words::{errno_of, listen, refused};
use libbpf_rs::{MapCore, MapHandle, Object, ObjectBuilder, OpenObject, ProgramMut};
use zerocopy::{Immutable, IntoBytes};

/// ELF headers are read in place: they must be aligned.
#[repr(align(8))]
pub(crate) struct Elf<T: ?Sized>(pub(crate) T);

/// Opens `elf` and writes its `config` (the object's only read-only data).
pub(crate) fn open<T>(elf: &Elf<[u8]>, config: &T) -> Result<OpenObject, EngineError>
where
    T: IntoBytes + Immutable,
{
    let (object, heard) = listen(|| ObjectBuilder::default().open_memory(&elf.0));
    let mut object = object.map_err(|error| failure("open the BPF object", &error, &heard))?;
    let mut maps = object.maps_mut();
    let rodata = maps.find(|map| map.name().to_string_lossy().ends_with(".rodata"));
    let place = rodata.and_then(|mut map| {
        map.initial_value_mut().map(|value| {
            let bytes = config.as_bytes();
            value.len() == bytes.len() && {
                value.copy_from_slice(bytes);
                true
            }
        })
    });
    drop(maps);
    match place {
        Some(true) => Ok(object),
        _ => Err(refused("configure the BPF object", libc::EINVAL, Some("no such settings"))),
    }
}

/// Has the kernel verify and load `object`.
pub(crate) fn load(object: OpenObject) -> Result<Object, EngineError> {
    let (object, heard) = listen(|| object.load());
    object.map_err(|error| failure("load the BPF object", &error, &heard))
}

/// The loaded map `name`.
pub(crate) fn map(object: &Object, name: &str) -> Result<MapHandle, EngineError> {
    let what = || format!("open the BPF map {name}");
    let map = object.maps().find(|map| map.name() == name);
    let map = map.ok_or_else(|| refused(what(), libc::ENOENT, None))?;
    MapHandle::try_from(&map).map_err(|error| refused(what(), errno_of(&error), None))
}

/// The loaded program `name`.
pub(crate) fn program<'a>(object: &'a Object, name: &str) -> Result<ProgramMut<'a>, EngineError> {
    let program = object.progs_mut().find(|program| program.name() == name);
    program.ok_or_else(|| refused(format!("open the BPF program {name}"), libc::ENOENT, None))
}

/// The error of a call that libbpf refused, with the words that it said meanwhile.
pub(super) fn failure(what: &str, error: &libbpf_rs::Error, heard: &str) -> EngineError {
    let words = heard.trim();
    refused(what, errno_of(error), (!words.is_empty()).then_some(words))
}
