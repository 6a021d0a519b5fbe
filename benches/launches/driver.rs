//! A stand-in for the CUDA driver that needs no GPU. It allocates host memory, accepts kernels, computes
//! nothing, and counts the launches of each kernel. The time of a step is then the time of the host alone.
//!
//! ```sh
//! rustc --edition 2024 -O --crate-type cdylib -o libcuda.so benches/launches/driver.rs
//! cargo bench --bench networks --no-run --features cuda-plain            # needs CUDA's compiler, not a GPU
//! python benches/launches/count.py --network resnet50 --mode train
//! ```
//!
//! Only the functions that Burn's backend calls are implemented. When the program exits, the driver writes a
//! line for each kernel, with its launches, threads and name, to the file in the environment variable
//! `LAUNCHES`. If `KERNELS` names a folder, the driver writes the PTX code of the kernels there;
//! `ptxas -arch=sm_90a --verbose` assembles it.

#![allow(non_snake_case, reason = "the names of the CUDA driver API")]

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

/// The result of a driver call; 0 means success.
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
    for kernel in KERNELS.lock().expect("an unpoisoned lock").iter() {
        let (launches, threads) = (kernel.launches.load(Relaxed), kernel.threads.load(Relaxed));
        writeln!(text, "{launches} {threads} {}", kernel.name).expect("a string");
    }
    if let Err(error) = fs::write(&path, text) {
        eprintln!("{}: {error}", path.display());
    }
}

/// Functions that do nothing and return success. They take any arguments.
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

/// Functions that write one value through their first argument.
macro_rules! gives {
    ($($name:ident: $type:ty = $value:expr;)+) => {
        $(#[unsafe(no_mangle)] pub unsafe extern "C" fn $name(to: *mut $type) -> Status {
            // SAFETY: the caller passes a pointer to a writable value.
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
    // SAFETY: `report` takes no arguments and returns.
    unsafe { atexit(report) };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGet(to: *mut c_int, device: c_int) -> Status {
    // SAFETY: the caller passes a pointer to a writable value.
    unsafe { *to = 0 };
    if device == 0 { 0 } else { 101 }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetName(
    to: *mut c_char,
    _length: c_int,
    _device: c_int,
) -> Status {
    // SAFETY: callers pass buffers for device names, which are longer than these five bytes.
    unsafe { to.copy_from_nonoverlapping(c"none".as_ptr(), 5) };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetPCIBusId(
    to: *mut c_char,
    _length: c_int,
    _device: c_int,
) -> Status {
    // SAFETY: callers pass a buffer for a bus id, which has 13 bytes with its terminating zero.
    unsafe { to.copy_from_nonoverlapping(c"0000:01:00.0".as_ptr(), 13) };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetUuid_v2(to: *mut u8, _device: c_int) -> Status {
    // SAFETY: the caller passes a buffer for a UUID, which has 16 bytes.
    unsafe { to.write_bytes(1, 16) };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetUuid(to: *mut u8, device: c_int) -> Status {
    // SAFETY: the contract is that of `cuDeviceGetUuid_v2`.
    unsafe { cuDeviceGetUuid_v2(to, device) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetLuid(to: *mut u8, mask: *mut c_uint, _device: c_int) -> Status {
    // SAFETY: the caller passes a buffer for an LUID, which has 8 bytes, and a pointer to the mask.
    unsafe {
        to.write_bytes(1, 8);
        *mask = 1;
    }
    0
}

/// The attributes of an H200.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetAttribute(
    to: *mut c_int,
    attribute: c_int,
    _device: c_int,
) -> Status {
    let value = match attribute {
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
    // SAFETY: the caller passes a pointer to a writable value.
    unsafe { *to = value };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxGetStreamPriorityRange(
    least: *mut c_int,
    most: *mut c_int,
) -> Status {
    // SAFETY: the caller passes pointers to two writable values.
    unsafe { (*least, *most) = (0, -5) };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamIsCapturing(_stream: usize, to: *mut c_int) -> Status {
    // SAFETY: the caller passes a pointer to a writable value.
    unsafe { *to = 0 };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamGetCaptureInfo_v2(_stream: usize, to: *mut c_int) -> Status {
    // SAFETY: the caller passes a pointer to a writable value.
    unsafe { *to = 0 };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, all: *mut usize) -> Status {
    // SAFETY: the caller passes pointers to two writable values.
    unsafe { (*free, *all) = (139 << 30, 140 << 30) };
    0
}

/// Allocates host memory instead of device memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAlloc_v2(to: *mut usize, bytes: usize) -> Status {
    let Ok(layout) = Layout::from_size_align(bytes.max(1), 512) else {
        return 2;
    };
    // SAFETY: the size of the layout is not 0.
    let address = unsafe { alloc(layout) } as usize;
    // SAFETY: the caller passes a pointer to a writable value.
    unsafe { *to = address };
    if address == 0 {
        return 2;
    }
    let mut memory = MEMORY.lock().expect("an unpoisoned lock");
    memory.get_or_insert_default().insert(address, layout);
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemFree_v2(address: usize) -> Status {
    let mut memory = MEMORY.lock().expect("an unpoisoned lock");
    if let Some(layout) = memory.get_or_insert_default().remove(&address) {
        // SAFETY: the memory was allocated with this layout, and its entry was removed, so it is freed once.
        unsafe { dealloc(address as *mut u8, layout) };
    }
    0
}

/// Functions for other kinds of memory. All of them use the same host memory.
macro_rules! memory {
    (allocate: $($allocate:ident)+; free: $($free:ident)+) => {
        $(#[unsafe(no_mangle)] pub unsafe extern "C" fn $allocate(to: *mut usize, bytes: usize) -> Status {
            // SAFETY: the caller passes a pointer to a writable value.
            unsafe { cuMemAlloc_v2(to, bytes) }
        })+
        $(#[unsafe(no_mangle)] pub unsafe extern "C" fn $free(address: usize) -> Status {
            // SAFETY: the contract is that of `cuMemFree_v2`.
            unsafe { cuMemFree_v2(address) }
        })+
    };
}

memory! {
    allocate: cuMemAllocAsync cuMemAllocHost_v2 cuMemHostAlloc;
    free: cuMemFreeAsync cuMemFreeHost
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoH_v2(to: *mut u8, _from: usize, bytes: usize) -> Status {
    // SAFETY: the caller passes a buffer of this many bytes.
    unsafe { to.write_bytes(0, bytes) };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoHAsync_v2(to: *mut u8, from: usize, bytes: usize) -> Status {
    // SAFETY: the contract is that of `cuMemcpyDtoH_v2`.
    unsafe { cuMemcpyDtoH_v2(to, from, bytes) }
}

/// Writes the PTX code of the kernel to the folder in `KERNELS`, if it is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleLoadData(to: *mut usize, image: *const c_char) -> Status {
    let module = HANDLES.fetch_add(1, Relaxed);
    if let Some(folder) = std::env::var_os("KERNELS") {
        let path = std::path::Path::new(&folder).join(format!("{module}.ptx"));
        // SAFETY: PTX code ends with a zero byte.
        let text = unsafe { CStr::from_ptr(image) };
        if let Err(error) = fs::write(&path, text.to_bytes()) {
            eprintln!("{}: {error}", path.display());
        }
    }
    // SAFETY: the caller passes a pointer to a writable value.
    unsafe { *to = module };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleGetFunction(
    to: *mut *const Kernel,
    _module: usize,
    name: *const c_char,
) -> Status {
    // SAFETY: names end with a zero byte.
    let name = unsafe { CStr::from_ptr(name) }
        .to_string_lossy()
        .into_owned();
    let kernel: &Kernel = Box::leak(Box::new(Kernel {
        name,
        launches: AtomicU64::new(0),
        threads: AtomicU64::new(0),
    }));
    KERNELS.lock().expect("an unpoisoned lock").push(kernel);
    // SAFETY: the caller passes a pointer to a writable value.
    unsafe { *to = kernel };
    0
}

/// Counts a launch. `sizes` are the numbers of blocks and of threads per block, in three dimensions each.
unsafe fn launched(kernel: *const Kernel, sizes: [c_uint; 6]) -> Status {
    // SAFETY: `cuModuleGetFunction` returned the pointer, and its kernels are never freed.
    let kernel = unsafe { &*kernel };
    let threads = sizes.iter().map(|&size| u64::from(size)).product();
    kernel.launches.fetch_add(1, Relaxed);
    kernel.threads.fetch_add(threads, Relaxed);
    0
}

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments, reason = "as in the CUDA driver API")]
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
    // SAFETY: the caller passes a kernel from `cuModuleGetFunction`.
    unsafe { launched(kernel, sizes) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLaunchKernelEx(
    sizes: *const [c_uint; 6],
    kernel: *const Kernel,
) -> Status {
    // SAFETY: a launch configuration begins with these six sizes, and the kernel is from
    // `cuModuleGetFunction`.
    unsafe { launched(kernel, *sizes) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorName(_error: c_int, to: *mut *const c_char) -> Status {
    // SAFETY: the caller passes a pointer to a writable value.
    unsafe { *to = c"none".as_ptr() };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorString(_error: c_int, to: *mut *const c_char) -> Status {
    // SAFETY: the caller passes a pointer to a writable value.
    unsafe { *to = c"no GPU".as_ptr() };
    0
}
