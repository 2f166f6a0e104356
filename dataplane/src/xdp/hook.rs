//! An interface's XDP hook: taking it, and saying why it cannot be had.
#![expect(unsafe_code, reason = "bpf_link_create with a mode: libbpf-rs's attach_xdp takes none")]

use crate::engine::{AttachMode, EngineError};
use crate::types::IfIndex;
use crate::xdp::kernel_words::{listen, netlink_message, refused};
use libbpf_rs::libbpf_sys as sys;
use std::ffi::CStr;
use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

/// A program on an interface. Dropping it detaches, as does the end of the process.
#[derive(Debug)]
pub struct AttachedProgram {
    link: OwnedFd,
    /// Native or Generic, as the kernel reports it back.
    pub mode: AttachMode,
    /// Why native was refused, where Generic is only the second choice.
    pub native_refused: Option<String>,
}

impl AttachedProgram {
    /// Whether its interface is still there. One that was removed took the program along, also
    /// where another has its number by now. True where the kernel does not tell.
    pub(crate) fn is_attached(&self) -> bool {
        // SAFETY: a link of this type fills in this member, a number; it was zeroed before.
        self.info().is_none_or(|info| unsafe { info.__bindgen_anon_1.xdp.ifindex } != 0)
    }

    /// Its number, that no other link ever gets.
    #[cfg(test)]
    pub(crate) fn id(&self) -> Option<u32> {
        self.info().map(|info| info.id)
    }

    fn info(&self) -> Option<sys::bpf_link_info> {
        let mut info = sys::bpf_link_info::default();
        let mut length = u32::try_from(size_of_val(&info)).ok()?;
        // SAFETY: `info` and `length` outlive the call; the length is that of `info`.
        let result = unsafe {
            sys::bpf_link_get_info_by_fd(self.link.as_raw_fd(), &raw mut info, &raw mut length)
        };
        (result == 0).then_some(info)
    }
}

/// Attaches `program`: with `Auto` natively, else generically.
pub(crate) fn attach(
    program: BorrowedFd<'_>,
    interface: IfIndex,
    mode: AttachMode,
) -> Result<AttachedProgram, EngineError> {
    let (link, native_refused) = match mode {
        AttachMode::Native => (attach_as(program, interface, Mode::Native)?, None),
        AttachMode::Generic => (attach_as(program, interface, Mode::Generic)?, None),
        AttachMode::Auto => match attach_as(program, interface, Mode::Native) {
            Ok(link) => (link, None),
            // Somebody else's hook: generic would fail too, with a less helpful message.
            Err(busy) if busy.errno == libc::EBUSY => return Err(busy),
            Err(refusal) => {
                let link = attach_as(program, interface, Mode::Generic)?;
                (link, Some(refusal.kernel))
            }
        },
    };
    Ok(AttachedProgram { link, mode: granted_mode(interface)?, native_refused })
}

#[derive(Clone, Copy)]
enum Mode {
    Native,
    Generic,
}

impl Mode {
    fn flag(self) -> u32 {
        match self {
            Self::Native => sys::XDP_FLAGS_DRV_MODE,
            Self::Generic => sys::XDP_FLAGS_SKB_MODE,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
        })
    }
}

fn attach_as(
    program: BorrowedFd<'_>,
    interface: IfIndex,
    mode: Mode,
) -> Result<OwnedFd, EngineError> {
    let options = sys::bpf_link_create_opts {
        sz: size_of::<sys::bpf_link_create_opts>() as sys::size_t,
        flags: mode.flag(),
        ..Default::default()
    };
    let index = interface.0.cast_signed();
    // SAFETY: `options` outlives the call; both numbers are checked by the kernel.
    let link = unsafe {
        sys::bpf_link_create(program.as_raw_fd(), index, sys::BPF_XDP, &raw const options)
    };
    if link < 0 {
        return Err(explain(program, interface, mode, link));
    }
    // SAFETY: a file descriptor that the kernel just gave us, and nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
}

fn explain(program: BorrowedFd<'_>, interface: IfIndex, mode: Mode, errno: i32) -> EngineError {
    let what = format!("attach XDP to {} in {mode} mode", name(interface));
    let mut error = match ask_by_netlink(program, interface, mode) {
        Some((errno, words)) => refused(what, errno, words.as_deref()),
        None => refused(what, errno, None),
    };
    if error.errno == libc::EBUSY || error.errno == libc::EEXIST {
        let name = name(interface);
        error.fix = attached_program(interface).map(|program| {
            format!("{program} is attached; ours needs the hook (ip link set {name} xdp off)")
        });
    }
    error
}

/// Why a driver refuses a program comes by netlink only, never with a link. So ask again there: a
/// refusal is expected, and returned as errno and words. Should it be granted now, it is undone: a
/// program attached by netlink would outlive us.
fn ask_by_netlink(
    program: BorrowedFd<'_>,
    interface: IfIndex,
    mode: Mode,
) -> Option<(i32, Option<String>)> {
    let (index, fd) = (interface.0.cast_signed(), program.as_raw_fd());
    let flags = mode.flag() | sys::XDP_FLAGS_UPDATE_IF_NOEXIST;
    let (result, heard) = listen(|| {
        // SAFETY: no options; both numbers are checked by the kernel.
        unsafe { sys::bpf_xdp_attach(index, fd, flags, ptr::null()) }
    });
    if result < 0 {
        return Some((result, netlink_message(&heard).map(str::to_owned)));
    }
    let options = sys::bpf_xdp_attach_opts {
        sz: size_of::<sys::bpf_xdp_attach_opts>() as sys::size_t,
        old_prog_fd: fd,
        ..Default::default()
    };
    // SAFETY: `options` outlives the call. Detaches our program only (`old_prog_fd`).
    let _ = unsafe { sys::bpf_xdp_detach(index, mode.flag(), &raw const options) };
    None
}

/// What is on the hook now.
fn query(interface: IfIndex) -> Result<sys::bpf_xdp_query_opts, EngineError> {
    let mut options = sys::bpf_xdp_query_opts {
        sz: size_of::<sys::bpf_xdp_query_opts>() as sys::size_t,
        ..Default::default()
    };
    // SAFETY: `options` outlives the call and says its own size.
    let result = unsafe { sys::bpf_xdp_query(interface.0.cast_signed(), 0, &raw mut options) };
    let what = || format!("read the XDP mode of {}", name(interface));
    if result < 0 { Err(refused(what(), result, None)) } else { Ok(options) }
}

/// The mode that the kernel reports back.
fn granted_mode(interface: IfIndex) -> Result<AttachMode, EngineError> {
    match u32::from(query(interface)?.attach_mode) {
        sys::XDP_ATTACHED_DRV => Ok(AttachMode::Native),
        sys::XDP_ATTACHED_SKB => Ok(AttachMode::Generic),
        other => {
            let what = format!("attach XDP to {}", name(interface));
            Err(refused(what, 0, Some(&format!("mode {other} is reported back"))))
        }
    }
}

/// Name and number of the program on the hook.
fn attached_program(interface: IfIndex) -> Option<String> {
    let hook = query(interface).ok()?;
    let ids = [hook.drv_prog_id, hook.skb_prog_id, hook.hw_prog_id, hook.prog_id];
    let id = ids.into_iter().find(|id| *id != 0)?;
    let name = program_name(id).unwrap_or_default();
    Some(format!("program `{name}` id {id}"))
}

fn program_name(id: u32) -> Option<String> {
    // SAFETY: takes a number, checked by the kernel.
    let fd = unsafe { sys::bpf_prog_get_fd_by_id(id) };
    if fd < 0 {
        return None;
    }
    // SAFETY: a file descriptor that the kernel just gave us, and nobody else has.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut info = sys::bpf_prog_info::default();
    let mut length = u32::try_from(size_of_val(&info)).ok()?;
    // SAFETY: `info` and `length` outlive the call; the length is that of `info`.
    let result =
        unsafe { sys::bpf_prog_get_info_by_fd(fd.as_raw_fd(), &raw mut info, &raw mut length) };
    let bytes = info.name.map(i8::cast_unsigned);
    let name = CStr::from_bytes_until_nul(&bytes).ok()?;
    (result == 0).then(|| name.to_string_lossy().into_owned())
}

/// The interface's name, or its number where it has gone.
fn name(interface: IfIndex) -> String {
    interface_name(interface).unwrap_or_else(|| format!("interface {}", interface.0))
}

/// The interface's name now; none where it has gone.
pub(crate) fn interface_name(interface: IfIndex) -> Option<String> {
    let mut buffer = [0; libc::IF_NAMESIZE];
    // SAFETY: `buffer` has the size that the call asks for.
    let found = unsafe { libc::if_indextoname(interface.0, buffer.as_mut_ptr()) };
    let bytes = buffer.map(i8::cast_unsigned);
    let name = CStr::from_bytes_until_nul(&bytes).ok()?;
    (!found.is_null()).then(|| name.to_string_lossy().into_owned())
}
