//! What the kernel offers: its clock, its lock, its memory, behind safe names.

use aya_ebpf::{Global, bindings, helpers};
use limiter_common::{abi::NOBODY, limit::bpf_spin_lock, settings::Settings};

const _: () = assert!(NOBODY == u32::MAX, "one more than it fits in no 32 bits");

#[unsafe(no_mangle)]
static HAVE_COARSE_CLOCK: Global<u8> = Global::new(0);

/// The clock that everything is reckoned by, ns: the kernel's monotonic one, and what a test puts in
/// front of it.
#[inline(always)]
pub fn now_ns(settings: &Settings) -> u64 {
    monotonic_ns().wrapping_add(settings.clock_offset_ns)
}

/// The kernel's monotonic clock, ns. The coarse one, a tick behind at most, where there is one.
#[inline(always)]
fn monotonic_ns() -> u64 {
    if HAVE_COARSE_CLOCK.load() != 0 {
        // SAFETY: takes nothing; the agent looked that it exists.
        unsafe { helpers::generated::bpf_ktime_get_coarse_ns() }
    } else {
        // SAFETY: takes nothing.
        unsafe { helpers::generated::bpf_ktime_get_ns() }
    }
}

/// Takes a lock. Until [`unlock`] nothing may be called: no look-up, no helper.
///
/// # Safety
///
/// `lock` is the lock in a map value that this program looked up, and none is held.
#[inline(always)]
pub unsafe fn lock(lock: *mut bpf_spin_lock) {
    // SAFETY: as the caller promises; both types are the kernel's `struct bpf_spin_lock`.
    unsafe { helpers::generated::bpf_spin_lock(lock.cast::<bindings::bpf_spin_lock>()) };
}

/// Gives a lock back.
///
/// # Safety
///
/// This program holds it.
#[inline(always)]
pub unsafe fn unlock(lock: *mut bpf_spin_lock) {
    // SAFETY: as the caller promises.
    unsafe { helpers::generated::bpf_spin_unlock(lock.cast::<bindings::bpf_spin_lock>()) };
}

/// The same value, written to the stack and read back: the compiler does not know it any more.
#[inline(always)]
fn through_memory<T: Copy>(value: T) -> T {
    let mut place = core::mem::MaybeUninit::uninit();
    // SAFETY: written, then read. Volatile, so that it goes through memory.
    unsafe {
        core::ptr::write_volatile(place.as_mut_ptr(), value);
        core::ptr::read_volatile(place.as_ptr())
    }
}

/// The same number, of which the verifier knows that it fits in 16 bits: before 6.13 it forgets
/// that when bytes are swapped, and the compiler would take a mask away.
#[inline(always)]
pub fn bounded(number: u16) -> u16 {
    through_memory(number)
}

/// The same place, reckoned once: what the compiler reckoned anew the verifier would not know.
#[inline(always)]
pub fn opaque(place: usize) -> usize {
    through_memory(place)
}

/// 1 for this number, 0 for all others, without a question: the verifier goes one way on, as long
/// as the compiler does not know what is added to.
#[inline(always)]
pub fn is_nobody(number: u32) -> u32 {
    (through_memory(u64::from(number)).wrapping_add(1) >> 32) as u32
}

/// Makes the verifier forget what it learnt of a value on the stack while it was computed: the ways
/// that led there are one way from here on. Reading memory over itself changes nothing else.
#[inline(always)]
pub fn forget<T: Copy>(value: &mut T) {
    let place: *mut T = value;
    #[expect(clippy::cast_possible_truncation, reason = "it is on the stack")]
    // SAFETY: the value's own memory, read and written as bytes.
    unsafe {
        helpers::generated::bpf_probe_read_kernel(
            place.cast(),
            size_of::<T>() as u32,
            place.cast(),
        );
    }
}

/// Where a pointer of the context's points. The verifier knows it as what it is and allows no
/// arithmetic on it; read back from the stack it is a number.
#[inline(always)]
pub fn address_of<T>(pointer: *const T) -> u64 {
    let mut place = core::mem::MaybeUninit::uninit();
    // SAFETY: a place on this stack. Volatile, so that it is really there.
    unsafe { core::ptr::write_volatile(place.as_mut_ptr(), pointer) };
    read(place.as_ptr() as u64).unwrap_or(0)
}

/// Reads kernel memory; `None` if the address is not mapped.
#[inline(always)]
pub fn read<T: Copy>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address and fails instead of faulting; the types read here
    // are integers, for which every bit pattern is valid.
    unsafe { helpers::bpf_probe_read_kernel(address as *const T) }.ok()
}
