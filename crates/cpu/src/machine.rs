//! What the processor is and how many threads make sense on it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use realm_gguf::TensorType;
use realm_ir::WeightLayout;
use realm_quant::Level;

use crate::threads;

/// The processor as the backend sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuInfo {
    /// Name from the operating system, or the architecture where it has none.
    pub name: String,
    /// Instruction set of the kernels in use, such as `avx512vnni`.
    pub kernels: &'static str,
    /// Threads a backend uses by default: physical cores within the process's
    /// affinity and quota.
    pub default_threads: usize,
}

/// Describes this machine.
pub fn describe() -> CpuInfo {
    CpuInfo {
        name: processor_name().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        kernels: kernel_name(TensorType::Q8_0, WeightLayout::Packed).unwrap_or("scalar"),
        default_threads: default_threads(),
    }
}

/// Name of the kernel, at the best level, that multiplies with matrices of a type, kept in a layout; `None` for types
/// without kernels. Types that cannot be packed have one kernel for either.
pub fn kernel_name(ty: TensorType, layout: WeightLayout) -> Option<&'static str> {
    let format = realm_quant::format(ty)?;
    let level = Level::best();
    let packed = format.packed_kernel(level).filter(|_| layout == WeightLayout::Packed);
    Some(packed.unwrap_or_else(|| format.kernel(level)).name)
}

/// Threads to start when nobody says how many. Those available are within affinity and
/// cgroup quotas; two hardware threads of one core share the units
/// that the kernels keep busy, so only one of them counts.
pub(crate) fn default_threads() -> usize {
    let available = threads::available();
    physical_cores().map_or(available, |cores| cores.clamp(1, available))
}

/// Cores by their lists of sibling threads; `None` where the system does not say.
fn physical_cores() -> Option<usize> {
    let entries = std::fs::read_dir("/sys/devices/system/cpu").ok()?;
    let cores: HashSet<String> = entries
        .filter_map(|entry| {
            let siblings = entry.ok()?.path().join("topology/thread_siblings_list");
            std::fs::read_to_string(siblings).ok()
        })
        .collect();
    (!cores.is_empty()).then_some(cores.len())
}

/// Memory that can be taken without anybody being swapped out: what the system has
/// left, and what the control groups of this process allow. `None` where neither is said.
pub(crate) fn available_memory_bytes() -> Option<u64> {
    [system_memory_left(), group_memory_left()].into_iter().flatten().min()
}

fn system_memory_left() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("MemAvailable:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}

/// The least that any group around this process leaves (cgroup v2, or v1's own folder).
fn group_memory_left() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let number = |path: PathBuf| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let left = |folder: &Path, limit: &str, usage: &str| {
        Some(number(folder.join(limit))?.saturating_sub(number(folder.join(usage))?))
    };
    let of_line = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let (root, limit, usage) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max", "memory.current"),
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
            _ => return None,
        };
        let folder = Path::new(root).join(path.trim_start_matches('/'));
        let around = folder.ancestors().take_while(|folder| folder.starts_with(root));
        around.filter_map(|folder| left(folder, limit, usage)).min()
    };
    groups.lines().filter_map(of_line).min()
}

fn processor_name() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
