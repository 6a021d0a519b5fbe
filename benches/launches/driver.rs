//! A driver of CUDA without a card: it takes memory and kernels, computes nothing, and counts what is
//! launched, by kernel. A step is then as long as the host needs for it.
//!
//! ```sh
//! rustc --edition 2024 -O --crate-type cdylib -o libcuda.so benches/launches/driver.rs
//! cargo bench --bench networks --no-run --features cuda-plain            # needs CUDA's compiler, not a card
//! python benches/launches/count.py --network resnet50 --mode train
//! ```
//!
//! What is here is what Burn's backend asks for. The variable `LAUNCHES` names the file that is written at the
//! end: launches, threads and name of each kernel, a line each; `KERNELS` names a folder for their texts, which
//! `ptxas -arch=sm_90a --verbose` assembles.

#![allow(non_snake_case, reason = "the driver's names")]

use std::{
    alloc::{Layout, alloc, dealloc},
    collections::HashMap,
    ffi::{CStr, c_char, c_int, c_uint},
    fmt::Write,
    fs,
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

/// 0 is success.
type Status = c_int;

unsafe extern "C" {
    fn atexit(function: extern "C" fn()) -> c_int;
}

pub struct Kernel {
    name: String,
    launches: AtomicU64,
    threads: AtomicU64,
}

static KERNELS: Mutex<Vec<&'static Kernel>> = Mutex::new(Vec::new());
static MEMORY: Mutex<Option<HashMap<usize, Layout>>> = Mutex::new(None);
static HANDLES: AtomicUsize = AtomicUsize::new(0x100);

extern "C" fn report() {
    let Some(path) = std::env::var_os("LAUNCHES") else {
        return;
    };
    let mut text = String::new();
    for kernel in KERNELS.lock().expect("no panic before").iter() {
        let (launches, threads) = (kernel.launches.load(Relaxed), kernel.threads.load(Relaxed));
        writeln!(text, "{launches} {threads} {}", kernel.name).expect("a string");
    }
    if let Err(error) = fs::write(&path, text) {
        eprintln!("{}: {error}", path.display());
    }
}

/// Functions that have nothing to do, whatever they are given.
macro_rules! nothing {
    ($($name:ident)+) => { $(#[unsafe(no_mangle)] pub extern "C" fn $name() -> Status { 0 })+ };
}

nothing! {
    cuDevicePrimaryCtxRelease_v2 cuDevicePrimaryCtxSetFlags_v2 cuCtxSetCurrent cuCtxPushCurrent_v2
    cuCtxPopCurrent_v2 cuCtxSynchronize cuCtxSetLimit cuStreamDestroy_v2 cuStreamSynchronize cuStreamQuery
    cuStreamWaitEvent cuEventRecord cuEventSynchronize cuEventQuery cuEventDestroy_v2 cuMemHostRegister_v2
    cuMemHostUnregister cuMemcpyHtoDAsync_v2 cuMemcpyHtoD_v2 cuMemcpyDtoDAsync_v2 cuMemcpy2DAsync_v2
    cuMemsetD8Async cuMemcpyPeerAsync cuModuleUnload cuFuncSetAttribute cuFuncSetCacheConfig
    cuDeviceCanAccessPeer cuMemPoolSetAttribute cuMemPoolGetAttribute cuMemPoolTrimTo
}

/// Functions that write one value to where their first argument points.
macro_rules! gives {
    ($($name:ident: $type:ty = $value:expr;)+) => {
        $(#[unsafe(no_mangle)] pub unsafe extern "C" fn $name(to: *mut $type) -> Status {
            // SAFETY: the caller gives room for the answer.
            unsafe { *to = $value };
            0
        })+
    };
}

gives! {
    cuDriverGetVersion: c_int = 13_000;
    cuDeviceGetCount: c_int = 1;
    cuDeviceTotalMem_v2: usize = 140 << 30;
    cuDevicePrimaryCtxRetain: usize = 0x10;
    cuCtxGetCurrent: usize = 0x10;
    cuCtxGetDevice: c_int = 0;
    cuStreamCreate: usize = HANDLES.fetch_add(1, Relaxed);
    cuStreamCreateWithPriority: usize = HANDLES.fetch_add(1, Relaxed);
    cuEventCreate: usize = HANDLES.fetch_add(1, Relaxed);
    cuEventElapsedTime: f32 = 0.01;
    cuEventElapsedTime_v2: f32 = 0.01;
    cuModuleLoadDataEx: usize = HANDLES.fetch_add(1, Relaxed);
    cuFuncGetAttribute: c_int = 32;
    cuDeviceGetDefaultMemPool: usize = 0x20;
    cuDeviceGetMemPool: usize = 0x20;
}

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(_flags: c_uint) -> Status {
    // SAFETY: `report` takes nothing and returns.
    unsafe { atexit(report) };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGet(to: *mut c_int, device: c_int) -> Status {
    // SAFETY: the caller gives room for the answer.
    unsafe { *to = 0 };
    if device == 0 { 0 } else { 101 }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetName(
    to: *mut c_char,
    _length: c_int,
    _device: c_int,
) -> Status {
    // SAFETY: names of devices have more than five letters.
    unsafe { to.copy_from_nonoverlapping(c"none".as_ptr(), 5) };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetPCIBusId(
    to: *mut c_char,
    _length: c_int,
    _device: c_int,
) -> Status {
    // SAFETY: there is room for such a name, which has 13 letters.
    unsafe { to.copy_from_nonoverlapping(c"0000:01:00.0".as_ptr(), 13) };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetUuid_v2(to: *mut u8, _device: c_int) -> Status {
    // SAFETY: an identifier has 16 bytes.
    unsafe { to.write_bytes(1, 16) };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetUuid(to: *mut u8, device: c_int) -> Status {
    // SAFETY: as above.
    unsafe { cuDeviceGetUuid_v2(to, device) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetLuid(to: *mut u8, mask: *mut c_uint, _device: c_int) -> Status {
    // SAFETY: an identifier has 8 bytes.
    unsafe {
        to.write_bytes(1, 8);
        *mask = 1;
    }
    0
}

/// The attributes of an H200.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetAttribute(to: *mut c_int, of: c_int, _device: c_int) -> Status {
    let value = match of {
        1..=3 => 1024,
        4 => 64,
        5 => c_int::MAX,
        6 | 7 => 65_535,
        8 => 49_152,
        9 | 12 | 82 => 65_536,
        10 | 106 => 32,
        13 => 1_980_000,
        14 => 512,
        16 => 132,
        38 => 60 << 20,
        39 => 2048,
        75 => 9,
        76 => 0,
        81 => 233_472,
        97 => 232_448,
        _ => 1,
    };
    // SAFETY: the caller gives room for the answer.
    unsafe { *to = value };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxGetStreamPriorityRange(
    least: *mut c_int,
    most: *mut c_int,
) -> Status {
    // SAFETY: the caller gives room for both.
    unsafe { (*least, *most) = (0, -5) };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamIsCapturing(_stream: usize, to: *mut c_int) -> Status {
    // SAFETY: the caller gives room for the answer.
    unsafe { *to = 0 };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamGetCaptureInfo_v2(_stream: usize, to: *mut c_int) -> Status {
    // SAFETY: the caller gives room for the answer.
    unsafe { *to = 0 };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, all: *mut usize) -> Status {
    // SAFETY: the caller gives room for both.
    unsafe { (*free, *all) = (139 << 30, 140 << 30) };
    0
}

/// The system's memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAlloc_v2(to: *mut usize, bytes: usize) -> Status {
    let Ok(layout) = Layout::from_size_align(bytes.max(1), 512) else {
        return 2;
    };
    // SAFETY: the layout is not empty; the caller gives room for the answer.
    let address = unsafe { alloc(layout) } as usize;
    unsafe { *to = address };
    if address == 0 {
        return 2;
    }
    let mut memory = MEMORY.lock().expect("no panic before");
    memory.get_or_insert_default().insert(address, layout);
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemFree_v2(address: usize) -> Status {
    let mut memory = MEMORY.lock().expect("no panic before");
    if let Some(layout) = memory.get_or_insert_default().remove(&address) {
        // SAFETY: it was given out with this layout, and is given back once.
        unsafe { dealloc(address as *mut u8, layout) };
    }
    0
}

/// All kinds of memory are one.
macro_rules! memory {
    (taken: $($take:ident)+; given: $($give:ident)+) => {
        $(#[unsafe(no_mangle)] pub unsafe extern "C" fn $take(to: *mut usize, bytes: usize) -> Status {
            // SAFETY: the caller gives room for the answer.
            unsafe { cuMemAlloc_v2(to, bytes) }
        })+
        $(#[unsafe(no_mangle)] pub unsafe extern "C" fn $give(address: usize) -> Status {
            // SAFETY: as there.
            unsafe { cuMemFree_v2(address) }
        })+
    };
}

memory! {
    taken: cuMemAllocAsync cuMemAllocHost_v2 cuMemHostAlloc;
    given: cuMemFreeAsync cuMemFreeHost
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoH_v2(to: *mut u8, _from: usize, bytes: usize) -> Status {
    // SAFETY: the caller gives room for so many.
    unsafe { to.write_bytes(0, bytes) };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoHAsync_v2(to: *mut u8, from: usize, bytes: usize) -> Status {
    // SAFETY: as above.
    unsafe { cuMemcpyDtoH_v2(to, from, bytes) }
}

/// Keeps the kernel's text, for `ptxas`, if it is told where.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleLoadData(to: *mut usize, image: *const c_char) -> Status {
    let module = HANDLES.fetch_add(1, Relaxed);
    if let Some(folder) = std::env::var_os("KERNELS") {
        let path = std::path::Path::new(&folder).join(format!("{module}.ptx"));
        // SAFETY: texts end with a zero.
        let text = unsafe { CStr::from_ptr(image) };
        if let Err(error) = fs::write(&path, text.to_bytes()) {
            eprintln!("{}: {error}", path.display());
        }
    }
    // SAFETY: the caller gives room for the answer.
    unsafe { *to = module };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleGetFunction(
    to: *mut *const Kernel,
    _module: usize,
    name: *const c_char,
) -> Status {
    // SAFETY: names end with a zero.
    let name = unsafe { CStr::from_ptr(name) }
        .to_string_lossy()
        .into_owned();
    let kernel: &Kernel = Box::leak(Box::new(Kernel {
        name,
        launches: AtomicU64::new(0),
        threads: AtomicU64::new(0),
    }));
    KERNELS.lock().expect("no panic before").push(kernel);
    // SAFETY: the caller gives room for the answer.
    unsafe { *to = kernel };
    0
}

/// Blocks and threads of a block, in three directions each.
unsafe fn launched(kernel: *const Kernel, sizes: [c_uint; 6]) -> Status {
    // SAFETY: it is one of those given out, which live to the end.
    let kernel = unsafe { &*kernel };
    let threads = sizes.iter().map(|&size| u64::from(size)).product();
    kernel.launches.fetch_add(1, Relaxed);
    kernel.threads.fetch_add(threads, Relaxed);
    0
}

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments, reason = "the driver's")]
pub unsafe extern "C" fn cuLaunchKernel(
    kernel: *const Kernel,
    blocks_x: c_uint,
    blocks_y: c_uint,
    blocks_z: c_uint,
    threads_x: c_uint,
    threads_y: c_uint,
    threads_z: c_uint,
) -> Status {
    let sizes = [
        blocks_x, blocks_y, blocks_z, threads_x, threads_y, threads_z,
    ];
    // SAFETY: as there.
    unsafe { launched(kernel, sizes) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLaunchKernelEx(
    sizes: *const [c_uint; 6],
    kernel: *const Kernel,
) -> Status {
    // SAFETY: a configuration begins with them.
    unsafe { launched(kernel, *sizes) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorName(_error: c_int, to: *mut *const c_char) -> Status {
    // SAFETY: the caller gives room for the answer.
    unsafe { *to = c"none".as_ptr() };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorString(_error: c_int, to: *mut *const c_char) -> Status {
    // SAFETY: the caller gives room for the answer.
    unsafe { *to = c"no card".as_ptr() };
    0
}
